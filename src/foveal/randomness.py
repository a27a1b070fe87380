"""Random numbers, also of several processes that train together.

Each process draws the random numbers of the whole batch and uses its own rows of them, so that
together they compute what one process would.
"""

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def world_size() -> int:
    """How many processes train together; 1 unless ``torchrun`` started this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0; the first writes files and speaks."""
    return int(os.environ.get("RANK", "0"))


class SharedGenerator(torch.Generator):
    """A generator whose rows `random_rows` divides among processes, which all seed it alike."""


class OneForAll(torch.Generator):
    """A generator of which `random_rows` makes one row, the same for every element of a batch."""


def make_generator(device: torch.device, seed: int) -> torch.Generator:
    """A generator for this process, seeded."""
    kind = SharedGenerator if world_size() > 1 else torch.Generator
    return kind(device).manual_seed(seed)


def random_rows(
    kind: Callable[..., Tensor],
    shape: Sequence[int],
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    """Random numbers for a batch, one row or more an element; this process's share of them.

    They are drawn by ``kind``, such as ``torch.rand``, which takes a shape (the batch of this
    process first), a generator (PyTorch's global one of the device if None) and a device.
    """
    source = device if generator is None else generator.device
    if isinstance(generator, OneForAll):
        row: Tensor = kind((1, *shape[1:]), generator=generator, device=source)
        return row.expand(*shape).to(device)
    shared = isinstance(generator, SharedGenerator)
    rows, count = shape[0], world_size() if shared else 1
    numbers: Tensor = kind((rows * count, *shape[1:]), generator=generator, device=source)
    if shared:
        numbers = numbers[rank() * rows : (rank() + 1) * rows]
    return numbers.to(device)
