"""What commands print: lines, JSON, bars, and what ends them."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveal.randomness import rank
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
