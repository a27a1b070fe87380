"""A trained model, and what it is shown."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from foveal.commands.console import complain, counting
from foveal.names import shell_line
from foveal.runs.recipes import recipe
from foveal.runs.saved import Saved, load
from foveal.scene.preparation import Door
from foveal.tasks import FolderConfig, FolderTask, TaskConfig
from foveal.tasks.folder.listing import Listing
from foveal.tasks.task import Task


def load_model(
    model: str, device: torch.device, command: str, *, plays: bool | None = None
) -> Saved:
    """A trained model, for a command; of a run that has not finished its last checkpoint.

    The command is about agents (``plays``), about models that answer what they see, or, if that is
    None, about both; `ValueError` if the model is of the other kind.
    """
    saved = load(model, device)
    if saved.kind is not None and plays not in (None, saved.kind.plays):
        raise ValueError(
            f"{model} answers what it sees and plays no games. Try: {shell_line('look', model)}"
            if plays
            else f"{model} is an agent. See how it plays: {shell_line('play', model)}"
        )
    if not saved.finished:
        complain(command, f"{model} has not finished: it is used as it was at {saved.stands}")
    return saved


def task_shown(
    saved: Saved,
    device: torch.device,
    *,
    task: str | None = None,
    strict: bool = False,
    changes: Mapping[str, str | int | None],
) -> Task:
    """The task that a model is shown: the named one, of its own digits, or its own; changed.

    The changes are values of a `TaskConfig`, by name; None leaves one as it is. `ValueError` if the
    model names no task of its own and none is asked for.
    """
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    run = saved.run
    if task is not None:
        own, run = None if run is None else run.task, recipe(task, "best")
        if isinstance(own, TaskConfig) and isinstance(run.task, TaskConfig):
            asked = {"answer": own.answer} if saved.content.get("name") == task else {}
            given = {"digits": own.digits, **asked, **given}
    shown = None if run is None else run.open(saved.directory, device, strict=strict, **given)
    if shown is None:
        raise ValueError(
            f"{saved.name} does not say what it was trained on. Pass --task, or --data."
        )
    return shown


def images_shown(
    saved: Saved,
    device: torch.device,
    data: str,
    *,
    separator: str | None,
    door: Door,
    strict: bool,
) -> Task:
    """Images of one's own, a directory or a manifest, without those that trained the model.

    The door prepares them. The separator is that of the model's training if None.
    """
    config, trained = saved.model.config, None if saved.run is None else saved.run.task
    if separator is None:
        separator = trained.separator if isinstance(trained, FolderConfig) else ""
    with counting("reading headers") as count:
        return FolderTask.judge(
            data,
            saved.classes,
            config.num_channels,
            device,
            answers=(config.max_answers, config.with_end),
            ordered=trained is None or trained.ordered,
            separator=separator,
            door=door,
            strict=strict,
            trained_on=_trained_on(saved),
            on_progress=count,
            say=partial(complain, "evaluate"),
        )


def _trained_on(saved: Saved) -> Listing | None:
    """The images that a model was trained on, as far as that is known; says where it is not."""
    if saved.run is None:
        return None
    try:
        return saved.run.trained_on(saved.directory)
    except (OSError, ValueError) as problem:
        doubt = "if it was trained on some of these, they count, and the error flatters it"
        complain("evaluate", f"{problem} So {doubt}.")
        return None


def check_same_answers(saved: Saved, shown: Task) -> None:
    """Refuse a task of other answers than the model gives, by `ValueError`."""
    config = saved.model.config
    gives = (config.max_answers, config.with_end)
    if gives != (wanted := (shown.max_answers, shown.with_end)):
        raise ValueError(
            f"the task has {_answers(*wanted)} an image; the model gives {_answers(*gives)}. "
            "Choose another task or another model."
        )
    if len(shown.classes) != config.num_classes:
        raise ValueError(
            f"the task has {len(shown.classes)} classes; the model was made for "
            f"{config.num_classes}. Choose other digits or another model."
        )
    known = tuple(map(str, saved.content.get("classes", shown.classes)))
    for number, (theirs, ours) in enumerate(zip(shown.classes, known, strict=False)):
        if theirs != ours:
            raise ValueError(
                f"class {number} of the task is {theirs!r}, and {ours!r} to the model, which would "
                "be taken for one another. Choose other digits or another model; classes of --data "
                "go by their names."
            )


def _answers(most: int, with_end: bool) -> str:
    return f"up to {most} answers" if with_end else f"{most} answer{'s' * (most > 1)}"
