"""What networks cost: the numbers that they train, and the multiply-adds of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Network(nn.Module):
    """A network that answers with a class, and whose trained numbers are counted.

    Attributes:
        config: what it is made of.
        about: what its ``config.json`` says of it and of its training; nothing of a new one.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.about: Mapping[str, Any] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers where it knows none."""
        return tuple(map(str, self.about.get("classes") or range(self.config.num_classes)))

    def count_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Count multiply-adds, without gradients: half of the operations that PyTorch counts."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 (slow to import)

    # It knows the product that is added to another, but not in its place.
    def in_place(_: object, one: Sequence[int], other: Sequence[int], **__: object) -> int:
        return 2 * one[0] * one[1] * other[1]

    mapping = {torch.ops.aten.addmm_: in_place}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with torch.no_grad(), counter:
        yield lambda: int(counter.get_total_flops()) // 2
