"""A trained model, and what it is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from foveal.commands.console import counting
from foveal.io.models import locate_model
from foveal.model.attention import RecurrentAttention
from foveal.names import choose
from foveal.runs.recipes import FolderRun, RunConfig
from foveal.runs.run import Network, load_network, open_task, run_config
from foveal.tasks import TASKS, CanvasTask, FolderTask, TaskConfig


def load_model(model: str, device: torch.device) -> tuple[RecurrentAttention, dict[str, Any]]:
    """A trained recurrent attention model and the content of its ``config.json``.

    Raises:
        OSError, ValueError: see `load_network`; also if it is another network.
    """
    network, content = load_network(model, device)
    if not isinstance(network, RecurrentAttention):
        raise ValueError(
            f"{model} holds a {content['network']} network, which sees the whole image and looks "
            "nowhere. Choose a recurrent attention model."
        )
    return network, content


def task_shown(
    network: Network,
    content: dict[str, Any],
    model: Path,
    device: torch.device,
    *,
    task: str | None = None,
    data: str | None = None,
    strict: bool = False,
    changes: Mapping[str, str | int | None] | None = None,
) -> CanvasTask | FolderTask:
    """The task that a model is shown: the named one, or its own; changed, or with other images.

    Args:
        network: the model.
        content: of its ``config.json``.
        model: as it was named on the command line.
        device: where the images go.
        task: name of a task of canvases; the model's own if None.
        data: a directory or manifest of images; the model's own if None.
        strict: whether to stop at the first image that cannot be read.
        changes: values of its `TaskConfig` to replace, by name; None leaves one as it is.

    Raises:
        ValueError: if there is no such task, or the model names none.
        OSError: if digits or images are missing.
    """
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
    if data is not None:
        if task is not None or given:
            raise ValueError(f"--data is for your own images; {flags or '--task'} for canvases.")
        channels = network.config.num_channels
        named = content.get("classes") or range(network.config.num_classes)
        classes = tuple(str(name) for name in named)
        with counting("reading headers") as count:
            return FolderTask.judge(
                data, classes, channels, device, strict=strict, on_progress=count
            )
    if task is not None:
        config: TaskConfig = TASKS[choose(task, TASKS, "task")]
    elif "env" in content:
        raise ValueError(f"{model} is an agent. See how it plays: foveal play {model}")
    elif "task" in content:
        run = run_config(content, model)
        assert isinstance(run, RunConfig)
        if isinstance(run, FolderRun):
            if given:
                raise ValueError(f"{flags} is for canvases; for your own images pass --data.")
            run = dataclasses.replace(run, task=dataclasses.replace(run.task, strict=strict))
            return open_task(run, locate_model(model), device)
        config = run.task
    else:
        raise ValueError(f"{model} does not say what it was trained on. Pass --task, or --data.")
    if "canvas_size" in given:  # of training canvases alone
        given["smallest_canvas"] = 0
    return CanvasTask(dataclasses.replace(config, **given), device)  # type: ignore[arg-type]
