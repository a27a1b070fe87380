"""The commands, one a module: each has a ``run(arguments)``. Here is what several share."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveal.io.models import locate_model
from foveal.model.attention import RecurrentAttention
from foveal.names import choose
from foveal.randomness import rank
from foveal.runs.recipes import FolderRun, RunConfig
from foveal.runs.run import Network, load_network, open_task, run_config
from foveal.tasks import TASKS, CanvasTask, FolderTask, TaskConfig
from foveal.training.engine import TrainingDiverged, TrainingStopped
from foveal.training.machine import DeviceFailed
from foveal.training.parallel import ProcessLost

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
    except DeviceFailed as failed:
        raise Stop(f"{failed}. To go on as it was: {next_step}", FAILED) from None


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

    @functools.wraps(function, updated=())
    def later(*values: Any, **named: Any) -> Any:
        return functools.partial(function, *values, **named)

    try:
        with contextlib.redirect_stderr(complaint):
            read = tyro.cli(
                function if isinstance(function, type) else later,
                prog=f"foveal {name}",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
                **options,
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        raise ValueError(_in_one_line(complaint.getvalue(), name)) from None
    # Called here, so that what it says on standard error is heard.
    return read if isinstance(function, type) else read()


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


@contextlib.contextmanager
def counting(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for steps that can be counted; gives what to call with (done, of how many).

    On standard error where standard output goes to a file or another program.
    """
    screen = console if console.is_terminal else Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=screen,
        transient=True,
        # What is printed goes above the bar where both are on the terminal, and else where it goes.
        redirect_stdout=console.is_terminal,
        redirect_stderr=sys.stderr.isatty(),
        disable=quiet or rank() > 0 or not screen.is_terminal,
    )
    task = bar.add_task(what, total=None)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total)


def complain(name: str, text: str) -> None:
    """A line on standard error about something that does not stop the command."""
    if rank() == 0:
        print(f"foveal {name}: {' '.join(text.split())}", file=sys.stderr)


def left_out(name: str, problem: str) -> None:
    """Complain about a file that is left out."""
    complain(name, f"left out: {problem}")


def say(text: str) -> None:
    """Print a line, whole: a terminal folds it, a file keeps it."""
    console.print(text, soft_wrap=True)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object, for machines."""
    print(json.dumps(content))
