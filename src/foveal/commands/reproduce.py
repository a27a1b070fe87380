"""``foveal reproduce``: the rows of the paper's tables, trained and evaluated."""

import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.progress import TaskID
from rich.table import Table

from foveal.commands.console import (
    FAILED,
    INTERRUPTED,
    Stop,
    bars,
    left_out,
    print_json,
    say,
    show_table,
    stops_explained,
    training_bar,
)
from foveal.commands.flags import choose_device, set_threads
from foveal.commands.workers import Worker, last_line, workers
from foveal.io.files import read_json
from foveal.io.models import CONFIG_FILE, RESULT_FILE
from foveal.names import MOST_PROCESSES, SEEDS, Range, check_value, choose, shell_line
from foveal.runs.paper.report import (
    check_place,
    kept_runs,
    read_result,
    read_row,
    row_result,
    write_row,
    writing,
)
from foveal.runs.paper.rows import ROWS, Row
from foveal.runs.run import check_same, train_run
from foveal.runs.saved import load
from foveal.training.journal import read_metrics

QUICK = 50  # --quick trains each row for one part in this many


@dataclass(frozen=True)
class _Plan:
    """What the flags ask for."""

    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    quick: bool
    jobs: int
    threads: int
    device: str
    out: Path
    runs: Path

    def directory(self, row: Row, seed: int) -> Path:
        """The run directory of a row and a seed."""
        return self.runs / row.name / f"seed-{seed}"

    def command(self, row: Row) -> str:
        """What makes a row's result; where files lie is left out."""
        words = ["reproduce", row.name]
        if self.seeds != (0,):
            words += ["--seeds", *map(str, self.seeds)]
        if self.quick:
            words.append("--quick")
        return shell_line(*words)


def reproduce(
    rows: tyro.conf.Positional[tuple[str, ...]] = (),
    all: bool = False,
    to: Literal["paper"] | None = None,
    quick: bool = False,
    seeds: tuple[int, ...] = (0,),
    jobs: int = 0,
    threads: int = 1,
    device: str = "auto",
    out: Path | None = None,
    runs: Path | None = None,
    json: bool = False,
) -> None:
    """Train and evaluate rows of the paper's tables, and put our figures beside the paper's.

    Without rows it lists them: the paper's figure, ours, and how far a run is. With rows it trains
    what is missing, several at once, and goes on with what was interrupted: give the same command
    again. Each row ends as OUT/ROW.json, and OUT/README.md is made anew with the table of all.

    Args:
        rows: names of rows, such as cluttered-60-ram-8.
        all: every row.
        to: paper: those that reach the paper's figures of most glimpses soonest, and in how many
            minutes.
        quick: each row at 1/50 of its length, to try the machinery; kept apart from real results.
        seeds: one run for each; the row's figure is the mean of all seeds that there are.
        jobs: runs at once; 0 for one for every so many cores as --threads says.
        threads: cores for each run.
        device: cpu, cuda or auto.
        out: where results go; results if not given, runs/quick/results with --quick.
        runs: where the runs lie; runs/reproduce if not given, runs/quick with --quick.
        json: print the rows, or the results, as one JSON object.
    """
    asked = [*rows[:1], *(["--all"] if all else []), *(["--to paper"] if to else [])]
    if len(asked) > 1:
        raise ValueError(f"give rows, --all or --to paper, not two; got {' and '.join(asked)}.")
    check_value("jobs", jobs, int, Range(0, MOST_PROCESSES))
    check_value("threads", threads, int, Range(1, MOST_PROCESSES, "It is of each run."))
    check_value("seeds", seeds, tuple[int, ...], SEEDS)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different numbers of at least 0; got {seeds}.")
    names = rows or tuple(row.name for row in ROWS.values() if not to or row.apart == "soonest")
    plan = _Plan(
        rows=tuple(ROWS[choose(name, ROWS, "row")] for name in dict.fromkeys(names)),
        seeds=seeds,
        quick=quick,
        jobs=jobs or max(1, (os.cpu_count() or 1) // threads),
        threads=threads,
        device=device,
        out=out or (Path("runs/quick/results") if quick else Path("results")),
        runs=runs or (Path("runs/quick") if quick else Path("runs/reproduce")),
    )
    choose_device(device)
    check_place(plan.out, [row.name for row in plan.rows] if asked else [], quick=quick)
    if not asked:
        _list(plan, json)
        return
    waiting = [(row, seed) for row in plan.rows for seed in plan.seeds]
    if len(waiting) == 1:
        _train_here(plan, *waiting[0], json)
    else:
        train = _train_in_turn if plan.jobs == 1 else _train_apart
        if failed := train(plan, waiting, json):
            raise Stop(f"{len(failed)} run(s) failed: {' '.join(failed)}", FAILED)
    _show(plan, json)


def _list(plan: _Plan, json: bool) -> None:
    lines: list[dict[str, Any]] = []
    for row in plan.rows:
        result = read_row(plan.out, row.name)
        lines.append(
            {
                "row": row.name,
                "what": row.title,
                "paper": None if plan.quick else row.paper,
                "measure": row.measure,
                row.measure: None if result is None else result[row.measure],
                "interval": None if result is None else result["interval"],
                "state": _state(plan, row, result),
            }
        )
    if json:
        print_json(rows=lines)
        return
    table = Table("row", "what", "paper, %", "ours, %", "state")
    for line in lines:
        values = (line["paper"], line[line["measure"]])
        figures = ["" if value is None else f"{value:.2f}" for value in values]
        table.add_row(line["row"], line["what"], *figures, line["state"])
    show_table(table)
    say("Test errors, and of Catch the balls caught; the paper's are those of the proceedings")
    say("(NIPS 2014). Train and evaluate a row:")
    say("foveal reproduce cluttered-60-ram-8")


def _state(plan: _Plan, row: Row, result: dict[str, Any] | None) -> str:
    words = []
    if result is not None:
        words.append(f"done, {len(result['seeds'])} seed(s)")
    for seed in plan.seeds:
        if (plan.directory(row, seed) / RESULT_FILE).exists():
            continue
        try:
            share = _share(plan, row, seed)
        except (OSError, ValueError):
            words.append(f"seed {seed} cannot be read")
        else:
            words += [] if share is None else [f"seed {seed} at {100 * share:.0f} %"]
    return "; ".join(words) or "not yet"


def _share(plan: _Plan, row: Row, seed: int) -> float | None:
    """How much of a run is done; None if it has not begun."""
    directory = plan.directory(row, seed)
    return load(directory).done if (directory / CONFIG_FILE).exists() else None


def _train_here(plan: _Plan, row: Row, seed: int, json: bool) -> None:
    """Train one run in this process, and bring the row's result up to date."""
    set_threads(plan.threads)
    directory = plan.directory(row, seed)
    config = row.config.shortened(seed, QUICK if plan.quick else 1)
    about = {
        "name": row.task,
        "recipe": f"row {row.name}",
        "threads": plan.threads,
        "command": plan.command(row),
    }
    with (
        training_bar(f"{row.name}, seed {seed}", quiet=json) as show,
        stops_explained("the same command"),
    ):
        train_run(config, about, directory, choose_device(plan.device), show)
        _collect(plan, row)


def _train_in_turn(plan: _Plan, waiting: list[tuple[Row, int]], json: bool) -> list[str]:
    """Train runs one after another; those that could not be, and why."""
    failed = []
    for row, seed in waiting:
        try:
            _train_here(plan, row, seed, json)
        except (OSError, ValueError, Stop) as problem:
            if isinstance(problem, Stop) and problem.exit_code == INTERRUPTED:
                raise
            failed.append(f"{row.name}, seed {seed}: {problem}")
    return failed


def _collect(plan: _Plan, row: Row) -> None:
    """Write the row's result from those of its seeds that have finished and can be read.

    Of a seed that has no directory here the result stays that the row's file has.
    """
    part = QUICK if plan.quick else 1
    trained = replace(row, config=row.config.shortened(row.config.training.seed, part))
    with writing(plan.out):
        results = {run["seed"]: run for run in kept_runs(plan.out, trained, quick=plan.quick)}
        for directory in plan.directory(row, 0).parent.glob("seed-*"):
            number = re.fullmatch(r"seed-(0|[1-9]\d*)", directory.name)
            if number is None or not (directory / RESULT_FILE).exists():
                continue
            seed = int(number[1])
            results.pop(seed, None)
            try:
                check_same(row.config.shortened(seed, part), directory)
                results[seed] = read_result(directory / RESULT_FILE, row)
            except (OSError, ValueError) as problem:
                left_out("reproduce", str(problem))
        if not results:
            raise ValueError(f"no result of {row.name} is left to make a row of.")
        results = dict(sorted(results.items()))
        if len(results) == 1:
            command = next(iter(results.values()))["command"]
        else:
            command = replace(plan, seeds=tuple(results)).command(row)
        found = list(results.values())
        write_row(plan.out, row_result(trained, command, found, quick=plan.quick))


def _train_apart(plan: _Plan, waiting: list[tuple[Row, int]], json: bool) -> list[str]:
    """Train runs in processes of their own, ``plan.jobs`` at once; those that failed, and why."""
    waiting, failed = list(waiting), []
    running: dict[Worker, tuple[Row, int, TaskID]] = {}
    with bars(quiet=json, counted=False) as shown, workers() as start:
        while waiting or running:
            while waiting and len(running) < plan.jobs:
                row, seed = waiting.pop(0)
                bar = shown.add_task(f"{row.name}, seed {seed}", total=1.0, measures="")
                worker = start(_words(plan, row, seed), _log(plan, row, seed))
                running[worker] = (row, seed, bar)
            time.sleep(0.2)
            for worker, (row, seed, bar) in list(running.items()):
                shown.update(bar, **_progress(plan, row, seed))
                if worker.poll() is None:
                    continue
                del running[worker]
                shown.remove_task(bar)
                if worker.returncode:
                    reason = last_line(_log(plan, row, seed))
                    failed.append(f"{row.name}, seed {seed}: {reason}")
                elif not json:
                    result = read_json(plan.directory(row, seed) / RESULT_FILE)
                    say(f"{row.name}, seed {seed}: {_in_words(row, result)}")
    return failed


def _log(plan: _Plan, row: Row, seed: int) -> Path:
    directory = plan.directory(row, seed)
    return directory.with_name(f"{directory.name}.log")


def _words(plan: _Plan, row: Row, seed: int) -> list[str]:
    """What a worker that trains one run is told."""
    words = ["reproduce", row.name, "--seeds", str(seed), "--json"]
    words += ["--threads", str(plan.threads), "--device", plan.device]
    words += ["--out", str(plan.out), "--runs", str(plan.runs)]
    return [*words, "--quick"] if plan.quick else words


def _progress(plan: _Plan, row: Row, seed: int) -> dict[str, Any]:
    try:
        share = _share(plan, row, seed)
    except (OSError, ValueError):  # as the process says that trains it
        share = None
    if share is None:
        return {}
    name = f"validation_{row.measure}"
    found = [line[name] for line in read_metrics(plan.directory(row, seed)) if name in line]
    measures = f"{name.replace('_', ' ')} {found[-1]:.2f} %" if found else ""
    return {"completed": share, "measures": measures}


def _in_words(row: Row, result: dict[str, Any]) -> str:
    what = "success" if row.measure == "success_rate" else "test error"
    return f"{what} {result[row.measure]:.2f} %"


def _show(plan: _Plan, json: bool) -> None:
    results = [(row, result) for row in plan.rows if (result := read_row(plan.out, row.name))]
    if json:
        print_json(results=[result for _, result in results])
        return
    for row, result in results:
        paper = "" if result["paper"] is None else f"; the paper {result['paper']:.2f} %"
        low, high = result["interval"]
        say(
            f"{row.name}: {_in_words(row, result)} (95 % interval {low:.2f} to {high:.2f}; "
            f"{len(result['seeds'])} seed(s)){paper}; {_minutes(result)}{_of_commits(result)}"
        )
    say(f"The table of all rows: {plan.out / 'README.md'}")


def _minutes(result: dict[str, Any]) -> str:
    """How long each seed took; of results from before it was kept, by the clock."""
    spent = [run.get("processor_seconds", run["seconds"]) for run in result["runs"]]
    return f"{', '.join(f'{seconds / 60:.1f}' for seconds in spent)} minutes"


def _of_commits(result: dict[str, Any]) -> str:
    commits = result.get("commits", ())  # older files do not say it
    return f"; of different commits, {', '.join(commits)}" if len(commits) > 1 else ""
