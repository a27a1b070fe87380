"""Sums of what training steps measure, on the device, until they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from foveal.training.parallel import mean_of_all


class Measures:
    """The sums since the last reading; the host waits for the device in `read` alone.

    Attributes:
        totals: ``(N,)``, of the named measures.
        counted: how many steps are in them.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = names
        self.totals, self.counted = torch.zeros(len(names), device=device), 0
        self.known = len(names)  # of the measures, how many all those steps have

    def add(self, measured: Tensor) -> None:
        """Take in a step's."""
        self.totals += measured
        self.counted += 1

    def read(self) -> dict[str, float] | None:
        """Means over the steps of all processes, and begin anew; None if one is no number."""
        values = (mean_of_all(self.totals) / max(self.counted, 1)).tolist()
        if not all(math.isfinite(value) for value in values):
            return None
        self.totals.zero_()
        self.counted = 0
        means = dict(zip(self.names[: self.known], values, strict=False))
        self.known = len(self.names)
        return means

    def saved(self) -> Tensor:
        """The sums, for a checkpoint, which has the count too."""
        return self.totals[: self.known].contiguous()

    def resume(self, totals: Tensor, counted: int) -> None:
        """Go on from a checkpoint's.

        One from before a measure was added goes on with those that it has; the others begin with
        the next reading.
        """
        self.known = min(len(totals), len(self.names))
        self.totals.zero_()[: self.known] = totals.to(self.totals)[: self.known]
        self.counted = counted
