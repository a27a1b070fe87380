"""One training on several processes, as ``torchrun`` starts them (one a device, on any machines).

Each process draws the random numbers of the whole batch and uses its own rows of them, so that
together they compute what one process would.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from foveal.machine import precision_on


def world_size() -> int:
    """How many processes train together; 1 unless ``torchrun`` started this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0; the first writes files and speaks."""
    return int(os.environ.get("RANK", "0"))


class SharedGenerator(torch.Generator):
    """A generator whose rows `random_rows` divides among processes, which all seed it alike."""


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

    Args:
        kind: such as ``torch.rand``: takes a shape, a generator and a device.
        shape: the batch of this process first.
        generator: where they come from; PyTorch's global one of the device if None.
        device: where they go.
    """
    source = device if generator is None else generator.device
    shared = isinstance(generator, SharedGenerator)
    rows, count = shape[0], world_size() if shared else 1
    numbers: Tensor = kind((rows * count, *shape[1:]), generator=generator, device=source)
    if shared:
        numbers = numbers[rank() * rows : (rank() + 1) * rows]
    return numbers.to(device)


def spread(values: Tensor) -> Tensor:
    """The standard deviation of values over the batches of all processes, without gradient."""
    values = values.detach().float()
    if not torch.distributed.is_initialized():
        return values.std()
    sums = torch.stack([values.sum(), values.square().sum(), values.new_tensor(values.numel())])
    torch.distributed.all_reduce(sums)
    total, squares, number = sums
    deviation: Tensor = ((squares - total * total / number) / (number - 1)).clamp(min=0).sqrt()
    return deviation


class ProcessLost(Exception):
    """Another process of the same training ended before its time."""


@contextmanager
def lost_processes_explained() -> Iterator[None]:
    """What the connection to a lost process says becomes a `ProcessLost`."""
    try:
        yield
    except RuntimeError as problem:
        if world_size() == 1:
            raise
        first = str(problem).strip().splitlines()[0]
        raise ProcessLost(
            f"process {rank()} of {world_size()} lost touch with the others ({first}); the last "
            "checkpoint is kept"
        ) from problem


def mean_of_all(values: Tensor) -> Tensor:
    """The mean over all processes of what each measured."""
    if world_size() > 1:
        values = values.clone()
        torch.distributed.all_reduce(values)
        values /= world_size()
    return values


def make_fabric(device: torch.device, precision: str, *, all_used: bool = True) -> Fabric:
    """The engine's device, precision and processes; joins the others, if there are any.

    Args:
        device: where this process trains.
        precision: see `foveal.machine.precision_on`.
        all_used: whether every weight gets a gradient at every step.
    """
    options: dict[str, Any] = {"devices": 1}
    if world_size() > 1:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        options = {
            "devices": here,
            "num_nodes": world_size() // here,
            "strategy": DDPStrategy(find_unused_parameters=not all_used),
        }
    elif device.type == "cuda":
        options = {"devices": [device.index or 0]}
    fabric = Fabric(
        accelerator="cuda" if device.type == "cuda" else "cpu",
        precision=precision_on(device, precision),
        **options,
    )
    fabric.launch()
    return fabric


def leave() -> None:
    """Part from the other processes, once the wrapped model is let go of.

    Without it the interpreter may end while a thread of the connection still works, which aborts.
    """
    if torch.distributed.is_initialized():
        gc.collect()  # the wrapped model keeps the connection open, and is part of a cycle
        torch.distributed.destroy_process_group()
