"""Memory for large tensors, used again once nothing refers to it; and what is kept of a budget."""

import contextlib
import math
import mmap
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HUGE_PAGES_FROM = 4 * 2**20  # bytes; two huge pages on most systems
LARGEST_SPARE = 256 * 2**20  # bytes; more is given back to the system
THUMBNAILS = 2**30  # bytes that are kept of the thumbnails of a task


def available() -> float:
    """Bytes of memory that programs can still have, where the system says so; else endless."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, amount = line.partition(":")
            if name == "MemAvailable":
                return 1024 * int(amount.split()[0])
    return math.inf


@dataclass
class Budget:
    """Bytes that may be kept yet."""

    left: int = THUMBNAILS


class Kept(dict[int, Any]):
    """Arrays or tensors that are kept as long as the budget, which others share, has room."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def __setitem__(self, key: int, value: Any) -> None:
        if value.nbytes <= self._budget.left:
            self._budget.left -= value.nbytes
            super().__setitem__(key, value)


def empty(rows: int, columns: int, device: torch.device) -> Tensor:
    """An uninitialized float32 tensor, on a CPU in huge pages where the system has them.

    Fresh memory costs several times as much to touch as the means cost to make, in small pages
    above all, in which random look-ups also miss the page tables' cache. So the memory of the
    last tensors is used again once nothing refers to them.
    """
    size = 4 * rows * columns
    if device.type != "cpu" or size < HUGE_PAGES_FROM or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(rows, columns, device=device)
    memory = _take(size)
    if memory is None:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    array = np.frombuffer(memory, dtype=np.float32)
    weakref.finalize(array, _keep, memory).atexit = False  # when the last tensor on it is gone
    return torch.from_numpy(array).view(rows, columns)


_spare: deque[mmap.mmap] = deque(maxlen=4)  # planes and the row of passes, of two sizes of batch


def _take(size: int) -> mmap.mmap | None:
    for _ in range(len(_spare)):
        # Whatever other threads do meanwhile, each of these two has all of it or nothing.
        with contextlib.suppress(IndexError):
            memory = _spare.popleft()
            if len(memory) == size:
                return memory
            _spare.append(memory)
    return None


def _keep(memory: mmap.mmap) -> None:
    if len(memory) <= LARGEST_SPARE:
        _spare.append(memory)
