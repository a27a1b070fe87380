"""What several tests share."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.model.config import PARTS, RAMConfig
from foveal.tasks.task import Task
from foveal.training.progress import Progress
from foveal.training.rewards import REWARDS


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1406)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # small tensors: more only wait for one another
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start


@pytest.fixture(autouse=True)
def same_numbers_each_time() -> None:
    """A test that passes today passes tomorrow, alone or after others, in whatever process."""
    torch.manual_seed(1406)


@pytest.fixture(autouse=True)
def parts_as_shipped() -> Iterator[None]:
    """A part that a test adds is gone after it."""
    registries = (REWARDS, *(parts for parts, _ in PARTS.values()))
    before = [(dict(parts), dict(parts.settings)) for parts in registries]
    yield
    for parts, (known, settings) in zip(registries, before, strict=True):
        parts.clear()
        parts.update(known)
        parts.settings.clear()
        parts.settings.update(settings)


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX format, written from its description."""
    header = b"\x00\x00\x08" + bytes([array.ndim])
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


TINY = RAMConfig(
    glimpse_size=4,
    num_glimpses=3,
    num_classes=2,
    glimpse_hidden=8,
    location_hidden=8,
    glimpse_features=16,
    core_size=16,
    location_std=0.2,
)


class Halves(Task):
    """Images lit on the left (class 0) or on the right (class 1), with noise on top."""

    def __init__(self, count: int = 160) -> None:
        generator = torch.Generator().manual_seed(7)
        self.labels = torch.arange(count) % 2
        self.images = torch.zeros(count, 1, 12, 12)
        self.images[self.labels == 0, :, :, :6] = 1
        self.images[self.labels == 1, :, :, 6:] = 1
        self.images = (self.images + torch.rand(self.images.shape, generator=generator)) / 2

    def size(self, split: str) -> int:
        return len(self.labels) if split == "train" else 40

    def batch(
        self, _split: str, indices: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        noise = torch.rand(len(indices), 1, 12, 12, generator=generator)
        return (self.images[indices] + noise) / 2, self.labels[indices]

    def fixed_batches(self, _split: str) -> Iterator[tuple[Tensor, Tensor]]:
        for first in (0, 25):
            chosen = slice(first, min(first + 25, 40))
            yield self.images[chosen], self.labels[chosen]


class StopAt:
    """A listener that sends the process a signal at the first report from a step on."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number, self.sent = step, number, False

    def __call__(self, report: Progress) -> None:
        if report.step >= self.step and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)
