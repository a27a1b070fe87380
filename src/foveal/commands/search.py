"""``foveal search``: hyper-parameters, by many runs."""

from __future__ import annotations

import html
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

from foveal.commands.console import FAILED, Stop, bars, print_json, say, show_table, stops_explained
from foveal.commands.flags import choose_device, set_threads
from foveal.commands.training import made_ready, read_flags
from foveal.commands.workers import last_line, workers
from foveal.io.files import write_file
from foveal.names import MOST_PROCESSES, Range, check_value, printable, shell_line
from foveal.runs.run import Run
from foveal.runs.search import (
    NUMBER,
    PAPER_SPACE,
    SAMPLERS,
    file_storage,
    open_study,
    read_space,
    run_trials,
    trial_directory,
    without_password,
)
from foveal.tasks import FolderConfig
from foveal.tasks.folder.survey import Survey

if TYPE_CHECKING:
    import optuna

SHOWN = 10  # trials in the table


@dataclass(frozen=True)
class SearchOptions:
    """Search for hyper-parameters: many runs, judged by validation alone.

    Each trial is a run in a directory of its own, with values drawn at random (as the paper did) or
    guided by the trials before (tpe); one that does worse than most at the same point ends early.
    The flags of foveal train set what all trials share; give --epochs, or --decisions, a budget
    that you can pay many times. The study is kept in a file, or in a database that workers on many
    machines share with one --storage. Workers may come, go and be killed: the same command goes on.

    Your own images: foveal search folder --data DIR. Each worker reads them for itself, and the
    space is that of model, objective and training; what is done to the images all trials share.
    """

    task: Annotated[str, tyro.conf.Positional]  # what to learn: see foveal tasks
    config: Run
    recipe: str = "fast"  # fast; best: a coarse look at the whole first; paper: as published
    space: tuple[str, ...] = PAPER_SPACE  # NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C
    trials: int = 20  # of the study in all
    sampler: str = "random"  # random or tpe
    study: str | None = None  # its name; TASK-RECIPE if not given
    storage: str | None = None  # SQLAlchemy URL; a file in --out if not given
    workers: int = 1  # processes on this machine
    out: Path | None = None  # directory of the runs; runs/search/STUDY if not given
    device: str = "auto"  # cpu, cuda or auto
    threads: int = 1  # cores for arithmetic of each worker; 0 for all
    json: bool = False  # print the study as one JSON object


@dataclass(frozen=True)
class _Images(FolderConfig):
    # --workers are the search's own processes here.
    workers: Annotated[int, tyro.conf.arg(name="decoders")] = 0  # decoding processes of each worker


def _options(task: str, config: Run) -> SearchOptions:
    if config.kind == "folder":
        images = _Images(**vars(config.task) | {"workers": 0})
        config = replace(config, task=images)
    return SearchOptions(task, config)


def run(arguments: list[str]) -> None:
    options, found, reasons, _ = read_flags("search", arguments, _options)
    for line in reasons:
        say(line)
    plain = type(options.config).read(asdict(options.config), Path())
    search(replace(options, config=plain), arguments, found)


def search(options: SearchOptions, arguments: list[str], found: Survey | None = None) -> None:
    """Work on the study, alone or with other processes; then show it.

    The ``arguments`` are those that the options were read from; what the headers of one's own
    images say was ``found``.
    """
    try:
        import optuna  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        raise ValueError(
            "foveal search needs Optuna. Install it: pip install 'foveal[search]'"
        ) from None
    check_value("trials", options.trials, int, Range(1, 1_000_000))
    check_value("workers", options.workers, int, Range(1, MOST_PROCESSES))
    if options.sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}; got {options.sampler!r}.")
    device = choose_device(options.device)
    set_threads(options.threads)
    read_space(options.space, options.config)  # before images are read
    config, task = made_ready(options.config, found, device, "search", quiet=options.json)
    space = read_space(options.space, config)
    name = options.study or f"{options.task}-{options.recipe}"
    out = options.out or Path("runs", "search", name)
    storage = options.storage or file_storage(out / "study.db")
    if options.storage is None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise ValueError(f"--out must be a directory; {out}: {problem.strerror}.") from None
    # Workers that share a sampler's seed would try the same values.
    seed = int.from_bytes(os.urandom(4)) if options.workers == 1 else 0
    study = open_study(storage, name, config, space, options.sampler, seed)
    with bars(quiet=options.json) as shown, stops_explained("the same command"):
        bar = shown.add_task(printable(name), total=options.trials, measures="")

        def update(*_: object) -> None:
            ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
            words = config.compared.replace("_", " ")
            measures = [f"best {words} {trial.value:.3f}" for trial in _ranked(study)[:1]]
            shown.update(bar, completed=ended, measures="".join(measures))

        if options.workers > 1:
            _work_together(options, arguments, out, update)
        else:
            about = {
                "name": options.task,
                "recipe": options.recipe,
                "threads": options.threads,
                "command": shell_line(*map(without_password, sys.argv[1:])),
            }
            run_trials(study, config, space, options.trials, about, out, device, update, task=task)
    _show(study, config, out, options.json)


def _work_together(
    options: SearchOptions, arguments: list[str], out: Path, update: Callable[[], None]
) -> None:
    """Processes that each work on the study as if alone; what one that dies leaves, others do."""
    words = ["search", *arguments, "--workers", "1", "--json"]
    logs = [out / f"worker-{number}.log" for number in range(options.workers)]
    with workers() as start:
        working = [start(words, log) for log in logs]
        while any(worker.poll() is None for worker in working):
            time.sleep(0.5)
            update()
    if all(worker.returncode for worker in working):
        raise Stop(f"every worker failed: {last_line(logs[0])}", FAILED)


def _ranked(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that came to their end, the best first."""
    from optuna.trial import TrialState  # noqa: PLC0415

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.direction.name == "MINIMIZE" else -1
    return sorted(ended, key=lambda trial: sign * (trial.value or 0.0))


def _show(study: optuna.Study, config: Run, out: Path, json: bool) -> None:
    ranked, measure = _ranked(study), config.compared
    trials = study.get_trials(deepcopy=False)
    early = sum(trial.state.name == "PRUNED" for trial in trials)
    page = _draw(study, out)
    rows = [
        {
            "run": str(trial_directory(out, trial.user_attrs[NUMBER])),
            measure: trial.value,
            "values": trial.params,
        }
        for trial in ranked
    ]
    if json:
        plot = None if page is None else str(page)
        print_json(study=study.study_name, trials=rows, ended_early=early, plot=plot)
        return
    table = Table("run", measure.replace("_", " "), *(ranked[0].params if ranked else ()))
    for trial, row in list(zip(ranked, rows, strict=True))[:SHOWN]:
        values = (
            f"{value:.3g}" if isinstance(value, float) else str(value)
            for value in trial.params.values()
        )
        table.add_row(Path(str(row["run"])).name, f"{trial.value:.3f}", *values)
    show_table(table)
    say(f"{len(ranked)} trials came to their end, {early} were ended early; runs in {out}")
    if page is not None:
        say(f"The study in pictures: {page}")


def _draw(study: optuna.Study, out: Path) -> Path | None:
    """One page that needs no network: what was found when, and where in the space."""
    from optuna import visualization  # noqa: PLC0415

    if len(_ranked(study)) < 2:
        return None
    figures = [visualization.plot_optimization_history(study), visualization.plot_slice(study)]
    if len(study.best_params) > 1:
        figures.append(visualization.plot_contour(study))
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, figure in enumerate(figures)
    ]
    name = html.escape(printable(study.study_name))
    title = f"<!doctype html><meta charset='utf-8'><title>{name}</title>"
    page = out / "study.html"
    write_file(page, (title + "\n".join(parts)).encode())
    return page
