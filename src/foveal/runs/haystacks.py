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
        """See `Run`; where all classes are asked for, a set of them shares the looks."""
        answers, model = self.task.max_answers, self.model
        if answers == 1 or model.max_answers > 1:
            return self, None
        several: dict[str, Any] = {"max_answers": answers, "with_end": True, "distinct": True}
        several["num_glimpses"] = max(1, model.num_glimpses // answers)
        return self.altered(model=several | {"num_classes": model.num_classes + 1}), None

    def open(self, _: Path, device: torch.device, /, **changes: Any) -> HaystackTask:
        """See `Run`; they are drawn anew, the same each time."""
        changes.pop("strict", None)
        return HaystackTask(replace(self.task, **changes), device)
