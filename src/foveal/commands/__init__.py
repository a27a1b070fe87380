"""The commands, one a module: each has a ``run(arguments)``. Here is what several share."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from foveal.engine import TrainingDiverged, TrainingStopped
from foveal.model import RecurrentAttention
from foveal.parallel import ProcessLost, rank
from foveal.recipes import RunConfig, choose
from foveal.runs import load_network, run_config
from foveal.tasks import TASKS, TaskConfig

console = Console(stderr=False, highlight=False, quiet=rank() > 0)
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision


FAILED, INTERRUPTED = 1, 130  # exit codes besides 0, and 2 for wrong input


class Stop(Exception):
    """Ends a command with a message and an exit code other than that of wrong input."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def interrupt(_number: int, _frame: object) -> None:
    """A handler that makes of a signal what Ctrl-C does."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def stops_explained(next_step: str) -> Iterator[None]:
    """What ends training before its end becomes a message; ``next_step`` goes on with it."""
    try:
        yield
    except TrainingStopped as stop:
        raise Stop(f"{stop}. Go on with: {next_step}", INTERRUPTED) from None
    except TrainingDiverged as diverged:
        raise Stop(str(diverged), FAILED) from None
    except ProcessLost as lost:
        raise Stop(f"{lost}. Go on with: {next_step}", FAILED) from None


def parse(function: Any, name: str, arguments: list[str], default: Any = None) -> Any:
    """Read flags with tyro; what it refuses becomes a `ValueError` of one line.

    Args:
        function: a dataclass, or a function to be called with the flags.
        name: of the command.
        arguments: after the command's name.
        default: an instance of the dataclass with other defaults.
    """
    options: dict[str, Any] = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                function,
                prog=f"foveal {name}",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
                **options,
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        raise ValueError(_in_one_line(complaint.getvalue(), name)) from None


def _in_one_line(boxed: str, name: str) -> str:
    """What tyro says in a box of several lines, as one: its first section, and its suggestion."""
    # Without the title; where the terminal has no better than ASCII, lines make the box.
    lines = [line.strip("│╭╰╮╯|+ ") for line in boxed.splitlines()[1:]]
    rules = [set(line) <= {"─", "-"} for line in lines]
    first = rules.index(False)
    end = rules.index(True, first) if True in rules[first:] else len(lines)
    said = " ".join(" ".join(lines[first:end]).split()).rstrip(".")
    said = re.sub(r"^Error parsing config\.\w+: ", "", said)
    said = re.sub(r"^Unrecognized options: (--[^\s,=]+).*", r"unknown flag \1", said)
    near = re.search(r"Perhaps you meant:.*?(--[a-z][\w-]*)", boxed, re.DOTALL)
    hint = f" Did you mean {near[1]}?" if near else ""
    return f"{said}.{hint} See foveal {name} --help."


def choose_device(name: str) -> torch.device:
    """The device of a ``--device`` flag: "auto" takes a GPU where there is one.

    Raises:
        ValueError: if PyTorch does not know the name, or has no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun: a device for each process
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu or cuda; got {name!r}.") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda; got {name!r}.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"got device {name!r}, but PyTorch finds no GPU here. Use --device cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"got device {name!r}, but there are {torch.cuda.device_count()} GPU(s), from cuda:0."
        )
    return device


def set_threads(threads: int) -> None:
    """Arithmetic on ``threads`` cores (0: PyTorch's choice), and no time lost on denormals."""
    if threads < 0:
        raise ValueError(f"threads must be at least 0 (all cores); got {threads}.")
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


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


def task_of(
    content: dict[str, Any], task: str | None, digits: str | None, where: Path
) -> TaskConfig:
    """The task that a model is shown: the named one, or its own; with other digits if asked.

    Raises:
        ValueError: if there is no such task, or the model names none.
    """
    if task is not None:
        config = TASKS[choose(task, TASKS, "task")]
    elif "env" in content:
        raise ValueError(f"{where} is an agent. See how it plays: foveal play {where}")
    elif "task" in content:
        run = run_config(content, where)
        assert isinstance(run, RunConfig)
        config = run.task
    else:
        raise ValueError(f"{where} does not say what it was trained on. Pass --task.")
    return config if digits is None else dataclasses.replace(config, digits=digits)


@contextlib.contextmanager
def working(what: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A sign of life on a terminal, for what takes seconds but has no steps to count.

    Yields:
        What changes its words.
    """
    if quiet:
        yield lambda _: None
        return
    with console.status(what) as status:
        yield status.update


def say(text: str) -> None:
    """Print a line, whole: a terminal folds it, a file keeps it."""
    console.print(text, soft_wrap=True)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object, for machines."""
    print(json.dumps(content))
