"""``foveal search``: hyper-parameters, by many runs."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from foveal.commands.console import FAILED, INTERRUPTED, Stop, console, interrupt, print_json, say
from foveal.commands.flags import choose_device, parse, set_threads
from foveal.commands.train import choose_recipe, configuration_of
from foveal.commands.train_folder import examine, read_options
from foveal.io.files import write_file
from foveal.runs.recipes import AgentConfig, FolderRun, RunConfig
from foveal.runs.search import (
    NUMBER,
    PAPER_SPACE,
    SAMPLERS,
    measure_of,
    open_study,
    read_space,
    run_trials,
    trial_directory,
    without_password,
)
from foveal.tasks import FolderConfig
from foveal.tasks.folder.task import Survey
from foveal.training.engine import TrainingStopped

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
    config: RunConfig
    recipe: str = "fast"  # fast, or paper: the published optimizer and reward
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
class AgentSearchOptions(SearchOptions):
    __doc__ = SearchOptions.__doc__
    config: AgentConfig  # type: ignore[assignment]


@dataclass(frozen=True)
class _Images(FolderConfig):
    # --workers are the search's own processes here.
    workers: Annotated[int, tyro.conf.arg(name="decoders")] = 0  # decoding processes of each worker


@dataclass(frozen=True)
class _FolderRun(FolderRun):
    task: _Images = field(default_factory=_Images)


@dataclass(frozen=True)
class FolderSearchOptions(SearchOptions):
    __doc__ = SearchOptions.__doc__
    config: _FolderRun


def _folder_options(config: FolderRun, recipe: str) -> FolderSearchOptions:
    images = _Images(**vars(config.task) | {"workers": 0})
    return FolderSearchOptions("folder", _FolderRun(**vars(config) | {"task": images}), recipe)


def run(arguments: list[str]) -> None:
    if arguments[:1] == ["folder"]:
        own, found = read_options(_folder_options, "search", arguments)
        images = FolderConfig(**vars(own.config.task))
        config = FolderRun(**vars(own.config) | {"task": images})
        search(SearchOptions(**vars(own) | {"config": config}), arguments, found)
        return
    task, rest, default = choose_recipe(arguments, "search")
    kind = SearchOptions if isinstance(default, RunConfig) else AgentSearchOptions
    options: SearchOptions = parse(kind, "search", rest, kind(task=task, config=default))  # type: ignore[arg-type]
    search(options, arguments)


def search(options: SearchOptions, arguments: list[str], found: Survey | None = None) -> None:
    """Work on the study, alone or with other processes; then show it.

    Args:
        options: the flags.
        arguments: that they were read from.
        found: of one's own images, what their headers say.
    """
    try:
        import optuna  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        raise ValueError(
            "foveal search needs Optuna. Install it: pip install 'foveal[search]'"
        ) from None
    for name in ("trials", "workers"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} must be at least 1; got {getattr(options, name)}.")
    if options.sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}; got {options.sampler!r}.")
    device = choose_device(options.device)
    set_threads(options.threads)
    config, task = configuration_of(options.config), None
    if found is not None:
        assert isinstance(config, FolderRun)
        config, task = examine(config, found, device, "search", quiet=options.json)
    space = read_space(options.space, config)
    name = options.study or f"{options.task}-{options.recipe}"
    out = options.out or Path("runs", "search", name)
    storage = options.storage or f"sqlite:///{out / 'study.db'}"
    if options.storage is None:
        _make_directory(out)
    # Workers that share a sampler's seed would try the same values.
    seed = int.from_bytes(os.urandom(4)) if options.workers == 1 else 0
    study = open_study(storage, name, config, space, options.sampler, seed)
    bar = Progress(
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[best]}"),
        console=console,
        disable=options.json or not console.is_terminal,
    )
    with bar:
        shown = bar.add_task(name, total=options.trials, best="")

        def update() -> None:
            ended = [
                trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()
            ]
            bar.update(shown, completed=len(ended), best=_best_in_words(study, config))

        if options.workers > 1:
            _work_together(options, arguments, out, update)
        else:
            about = {
                "name": options.task,
                "recipe": options.recipe,
                "threads": options.threads,
                "command": shlex.join(["foveal", "search", *map(without_password, arguments)]),
            }
            try:
                run_trials(
                    study,
                    config,
                    space,
                    options.trials,
                    about,
                    out,
                    device,
                    lambda *_: update(),
                    task=task,
                )
            except TrainingStopped as stop:
                raise Stop(f"{stop}. Go on with: the same command", INTERRUPTED) from None
    _show(study, config, out, options.json)


def _make_directory(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ValueError(f"--out must be a directory; {out}: {problem.strerror}.") from None


def _work_together(options: SearchOptions, arguments: list[str], out: Path, update: Any) -> None:
    """Processes that each work on the study as if alone; what one that dies leaves, others do."""
    out.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "foveal", "search", *arguments, "--workers", "1", "--json"]
    before = signal.signal(signal.SIGTERM, interrupt)
    workers, logs = [], []
    try:
        for number in range(options.workers):
            logs.append(out / f"worker-{number}.log")
            with logs[-1].open("wb") as errors:
                workers.append(
                    subprocess.Popen(
                        words, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
                    )
                )
        while any(worker.poll() is None for worker in workers):
            time.sleep(0.5)
            update()
    except KeyboardInterrupt:
        raise Stop("stopped. Go on with: the same command", INTERRUPTED) from None
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()
        signal.signal(signal.SIGTERM, before)
    failed = [log for worker, log in zip(workers, logs, strict=True) if worker.returncode]
    if len(failed) == len(workers):
        lines = failed[0].read_text(encoding="utf-8", errors="replace").splitlines()
        raise Stop(f"every worker failed: {lines[-1] if lines else 'they were killed.'}", FAILED)


def _best_in_words(study: optuna.Study, config: RunConfig | AgentConfig) -> str:
    best = _ranked(study)
    return f"best {measure_of(config)[0].replace('_', ' ')} {best[0].value:.3f}" if best else ""


def _ranked(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that came to their end, the best first."""
    from optuna.trial import TrialState  # noqa: PLC0415

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.direction.name == "MINIMIZE" else -1
    return sorted(ended, key=lambda trial: sign * (trial.value or 0.0))


def _show(study: optuna.Study, config: RunConfig | AgentConfig, out: Path, json: bool) -> None:
    ranked, measure = _ranked(study), measure_of(config)[0]
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
        print_json(
            {
                "study": study.study_name,
                "trials": rows,
                "ended_early": early,
                "plot": None if page is None else str(page),
            }
        )
        return
    table = Table("run", measure.replace("_", " "), *(ranked[0].params if ranked else ()))
    for trial, row in list(zip(ranked, rows, strict=True))[:SHOWN]:
        values = (
            f"{value:.3g}" if isinstance(value, float) else str(value)
            for value in trial.params.values()
        )
        table.add_row(Path(str(row["run"])).name, f"{trial.value:.3f}", *values)
    console.print(table)
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
        figure.to_html(full_html=False, include_plotlyjs=place == 0)
        for place, figure in enumerate(figures)
    ]
    title = f"<!doctype html><meta charset='utf-8'><title>{study.study_name}</title>"
    page = out / "study.html"
    write_file(page, (title + "\n".join(parts)).encode())
    return page
