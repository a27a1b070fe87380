"""One training on several processes, as ``torchrun`` starts them (one a device, on any machines).

Each process draws the random numbers of the whole batch and uses its own rows of them, so that
together they compute what one process would.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foveal.randomness import rank, world_size
from foveal.training.machine import precision_on

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def spread(values: Tensor) -> Tensor:
    """The standard deviation of values over the batches of all processes, without gradient."""
    values = values.detach().float()
    if not torch.distributed.is_initialized():
        return values.std()
    # Filled on the device: a copy of host memory to it would wait for its work.
    count = values.new_full((), values.numel())
    sums = torch.stack([values.sum(), values.square().sum(), count])
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
        precision: see `foveal.training.machine.precision_on`.
        all_used: whether every weight gets a gradient at every step.
    """
    # Each takes a second to import, which no command that does not train should wait for.
    from lightning_fabric import Fabric  # noqa: PLC0415
    from lightning_fabric.strategies.ddp import DDPStrategy  # noqa: PLC0415

    # It announces the precision, and its import sets its level.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
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
