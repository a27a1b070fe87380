"""What commands print: lines, JSON, bars, and what ends them."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from foveal.names import on_one_line, printable
from foveal.randomness import rank
from foveal.training.machine import DeviceFailed, RunHeld
from foveal.training.parallel import ProcessLost
from foveal.training.progress import Progress as Report
from foveal.training.progress import TrainingDiverged, TrainingStopped


class Plain(Console):
    """A terminal, or what stands for one, on which text is shown as it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text of a line or of a table's cell."""
        return super().render_str(printable(text), **options)


console = Plain(quiet=rank() > 0)
FAILED, INTERRUPTED = 1, 130  # exit codes besides 0, and 2 for wrong input
WATCHED = {
    "error": "error {:.1f} %",
    "reward": "reward {:.2f}",
    "validation_error": "validation error {:.2f} %",
    "return": "return {:.2f}",
    "validation_return": "validation return {:.2f}",
    "validation_success_rate": "success {:.1f} %",
}


class Stop(Exception):
    """Ends a command with a message and an exit code other than that of wrong input."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextlib.contextmanager
def stops_explained(next_step: str) -> Iterator[None]:
    """What ends training before its end becomes a message; ``next_step`` goes on with it."""
    try:
        yield
    except (TrainingStopped, ProcessLost) as stop:
        code = INTERRUPTED if isinstance(stop, TrainingStopped) else FAILED
        raise Stop(f"{stop}. Go on with: {next_step}", code) from None
    except (TrainingDiverged, RunHeld) as problem:
        raise Stop(str(problem), FAILED) from None
    except DeviceFailed as failed:
        raise Stop(f"{failed}. To go on as it was: {next_step}", FAILED) from None


@contextlib.contextmanager
def working(what: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A sign of life on a terminal, for what takes seconds; gives what changes its words."""
    if quiet:
        yield lambda _: None
        return
    with console.status(Text(printable(what))) as status:
        yield lambda words: status.update(Text(printable(words)))


def bars(
    screen: Console = console, *, quiet: bool = False, counted: bool = True, kept: bool = True
) -> Progress:
    """Bars on a terminal, and nothing where there is none: what, how far, ``measures``, time left.

    They say how far in numbers if ``counted``, else in percent, and stay when all is done if
    ``kept``.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn() if counted else TaskProgressColumn(),
        TextColumn("{task.fields[measures]}", markup=False),
        TimeRemainingColumn(),
        console=screen,
        transient=not kept,
        # What is printed goes above the bar where both are on the terminal, and else where it goes.
        redirect_stdout=console.is_terminal,
        redirect_stderr=sys.stderr.isatty(),
        disable=quiet or rank() > 0 or not screen.is_terminal,
    )


@contextlib.contextmanager
def counting(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for steps that can be counted; gives what to call with (done, of how many).

    On standard error where standard output goes to a file or another program.
    """
    screen = console if console.is_terminal else Plain(stderr=True)
    with bars(screen, quiet=quiet, kept=False) as shown:
        bar = shown.add_task(printable(what), total=None, measures="")
        yield lambda done, total: shown.update(bar, completed=done, total=total)


@contextlib.contextmanager
def training_bar(
    title: str = "training", *, quiet: bool = False
) -> Iterator[Callable[[Report], None]]:
    """A bar for a run; gives what to call with the engine's reports.

    Where nobody watches, a line for each validation.
    """

    def show(report: Report) -> None:
        validation = _in_words(report.validation)
        if report.validated and not quiet and not console.is_terminal:
            epoch = "" if report.epoch is None else f"epoch {report.epoch + 1}, "
            done = f"step {report.step:,} of {report.total_steps:,}"
            left = timedelta(seconds=round(report.seconds_left))
            say(f"{title}: {epoch}{done}, {validation}{report.rate}, {left} left")
        if report.measures:
            measures = _in_words(report.measures) + validation + report.rate
            shown.update(bar, total=report.total_steps, completed=report.step, measures=measures)

    with bars(quiet=quiet, counted=False) as shown:
        bar = shown.add_task(printable(title), total=None, measures="")
        yield show


def _in_words(measures: dict[str, float]) -> str:
    """Those measures that people watch."""
    return "".join(
        f"{words.format(measures[name])}  " for name, words in WATCHED.items() if name in measures
    )


def complain(name: str, text: str) -> None:
    """A line on standard error about something that does not stop the command."""
    if rank() == 0:
        print(f"foveal {name}: {on_one_line(text)}", file=sys.stderr)


def left_out(name: str, problem: str) -> None:
    """Complain about a file that is left out."""
    complain(name, f"left out: {problem}")


def say(text: str) -> None:
    """Print a line, whole: a terminal folds it, a file keeps it."""
    console.print(text, soft_wrap=True)


def show_table(table: Table) -> None:
    """Print a table whole: a terminal folds what is long, a file has room; no name is cut."""
    for column in table.columns:
        column.overflow, column.no_wrap = "fold", False
    wide = Plain(quiet=console.quiet, width=10_000)
    (console if console.is_terminal else wide).print(table)


def print_json(**content: Any) -> None:
    """Print one JSON object, for machines; what is no finite number becomes null."""
    print(json.dumps(json.loads(json.dumps(content), parse_constant=lambda _: None)))
