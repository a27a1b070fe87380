"""Runs on digits hidden on large canvases."""

from dataclasses import dataclass, field
from typing import Any

from foveal.runs.classifier import DigitsRun
from foveal.runs.run import Completed
from foveal.tasks.haystacks.config import HaystackConfig
from foveal.tasks.haystacks.task import HaystackTask


@dataclass(frozen=True)
class HaystackRun(DigitsRun):
    """Everything that decides what a run on digits hidden on large canvases computes."""

    kind, makes = "haystacks", HaystackTask

    task: HaystackConfig = field(default_factory=HaystackConfig)

    def completed(self, *given: Any) -> Completed:
        """See `DigitsRun`; where all classes are asked for, a set of them shares the looks."""
        answers, model = self.task.max_answers, self.model
        if answers == 1 or model.max_answers > 1:
            return super().completed(*given)
        several: dict[str, Any] = {"max_answers": answers, "with_end": True, "distinct": True}
        several["num_glimpses"] = max(1, model.num_glimpses // answers)
        several["num_classes"] = model.num_classes + 1
        return self.altered(model=several).completed(*given)
