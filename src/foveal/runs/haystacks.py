"""Runs on digits hidden on large canvases."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from foveal.runs.classifier import ClassifierRun
from foveal.runs.run import Completed
from foveal.tasks.haystacks.config import HaystackConfig
from foveal.tasks.haystacks.task import HaystackTask


@dataclass(frozen=True)
class HaystackRun(ClassifierRun):
    """Everything that decides what a run on digits hidden on large canvases computes."""

    kind = "haystacks"

    task: HaystackConfig = field(default_factory=HaystackConfig)

    def completed(self, *_: Any) -> Completed:
        """See `Run`; nothing follows from the images."""
        return self, None

    def open(self, _: Path, device: torch.device, /, **changes: Any) -> HaystackTask:
        """See `Run`; they are drawn anew, the same each time."""
        changes.pop("strict", None)
        return HaystackTask(replace(self.task, **changes), device)
