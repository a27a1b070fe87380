from __future__ import annotations

from pathlib import Path

import torch

from foveal.commands.shown import task_shown
from foveal.runs.classifier import CanvasRun
from foveal.runs.run import saved_as
from foveal.runs.saved import Saved
from foveal.tasks import TASKS, CanvasTask
from foveal.tasks.task import Task


def test_another_task_is_shown_with_the_models_own_digits_and_its_own_with_its_answer() -> None:
    run = CanvasRun(task=TASKS["pairs"]).altered(task={"digits": "uci", "answer": "set"})
    saved = Saved("model", Path(), {"name": "pairs", **saved_as(run)})

    def shown(task: str | None, **changes: str | int | None) -> Task:
        return task_shown(saved, torch.device("cpu"), task=task, changes=changes)

    for task, answer in (("pairs", "set"), (None, "set"), ("addition", "sum")):
        found = shown(task, canvas_size=None)
        assert isinstance(found, CanvasTask)
        assert (found.config.digits, found.config.answer) == ("uci", answer)
    larger = shown("cluttered-60", canvas_size=90)
    assert larger.image_size == (90, 90)
    assert isinstance(larger, CanvasTask)
    assert larger.config.digits == "uci"
