"""``foveal runs``: the runs of a directory, in a table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from foveal.commands.console import left_out, print_json, say, show_table
from foveal.io.models import CONFIG_FILE, METRICS_FILE, RESULT_FILE
from foveal.runs.run import Run
from foveal.runs.saved import Saved, load
from foveal.training.journal import read_metrics


def runs(
    directories: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs"),), json: bool = False
) -> None:
    """List runs: task, recipe, what was changed of it, how far they are, and their validations.

    Args:
        directories: where to look, in all directories below as well.
        json: print one JSON object instead of a table.
    """
    for directory in directories:
        if not directory.is_dir():
            raise FileNotFoundError(
                f"there is no directory {str(directory)!r}. Name one that holds runs, or begin "
                "one: foveal train mnist-28"
            )
    rows, unread = find_runs(directories)
    for problem in unread:
        left_out("runs", problem)
    if json:
        print_json(runs=rows, left_out=unread)
        return
    if not rows:
        say(f"no runs in {', '.join(map(str, directories))}; foveal train begins one.")
        return
    table = Table("run", "task", "recipe", "changed", "done", "validation", "best")
    for row in rows:
        last, best = ("" if row[key] is None else f"{row[key]:.2f}" for key in ("last", "best"))
        done = "yes" if row["finished"] else f"{100 * row['done']:.0f} %"
        measure = (row["measure"] or "").removeprefix("validation_")
        changed = ", ".join(f"{name} {value}" for name, value in row["changed"].items())
        names = (row["run"], row["task"], row["recipe"], changed)
        table.add_row(*names, done, f"{measure} {last}", best)
    show_table(table)
    say("Their curves in one picture: foveal compare RUN RUN...")


def find_runs(directories: Iterable[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """What is known of each run below directories, and of which it cannot be read why not."""
    found, unread = [], []
    once: dict[Path, Path] = {}
    for path in sorted(path for place in directories for path in place.rglob(CONFIG_FILE)):
        once.setdefault(path.resolve(), path)
    for path in once.values():
        try:
            saved = load(path.parent)
            if saved.run is not None:
                found.append(_describe(saved, saved.run))
        except (ValueError, OSError, KeyError) as problem:
            if (path.parent / METRICS_FILE).exists():  # or it is no run of ours
                lacks = f"a line of {METRICS_FILE} has no {problem}"
                unread.append(f"{path.parent}: {lacks if type(problem) is KeyError else problem}")
    return found, unread


def _describe(saved: Saved, run: Run) -> dict[str, Any]:
    lines = read_metrics(saved.directory)
    values = [line[run.compared] for line in lines if run.compared in line]
    return {
        "run": str(saved.directory),
        "task": saved.content.get("name", ""),
        "recipe": saved.content.get("recipe", ""),
        "changed": saved.content.get("changed", {}),
        "finished": (saved.directory / RESULT_FILE).exists(),
        "done": saved.done,
        "measure": run.compared if values else None,
        "last": values[-1] if values else None,
        "best": (min if run.lower_is_better else max)(values, default=None),
    }
