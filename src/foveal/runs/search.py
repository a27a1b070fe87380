"""Search over hyper-parameters: random, as in the paper (§4), or guided, with many workers.

A study is kept by Optuna in one storage: a file on one machine, or a database that workers on many
machines share. Every trial is a run in a directory of its own, judged by validation alone, and
ended early where it does worse than most at the same point. Workers may come and go: the trial of
one that was killed is taken up by another, from its checkpoint.
"""

from __future__ import annotations

import json
import math
import re
import time
import typing
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from foveal.io.files import fingerprint
from foveal.runs.run import Run, train_run
from foveal.tasks.task import Task
from foveal.training.progress import Progress, TrainingDiverged, TrainingStopped

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("random", "tpe")
PAPER_SPACE = ("lr=1e-4:1e-2:log", "location_std=0.03:0.5:log")  # what the paper searched over
SEEN_ALIVE, GIVEN_UP = 20, 90  # seconds between a worker's signs of life; without one it is dead
POLL = 0.5  # seconds between looks at what others do
FIRST_TRIALS = 5  # of a study, which are never ended early
NUMBER = "trial"  # the attribute of a trial that names its run


@dataclass(frozen=True)
class Dimension:
    """One hyper-parameter and where it may lie."""

    name: str  # of the field of a configuration, such as "lr"
    low: float = 0.0  # its range; unused with choices
    high: float = 0.0  # likewise
    log: bool = False  # whether factors rather than differences are uniform
    choices: tuple[Any, ...] = ()  # the values themselves, where it is not a range

    def suggest(self, trial: optuna.Trial) -> Any:
        """A value for a trial."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, self.low, int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)


def read_space(words: Sequence[str], config: Run) -> tuple[Dimension, ...]:
    """``lr=1e-4:1e-2:log`` (a range) and ``core=rnn,lstm`` (choices) as dimensions.

    `ValueError` if a name is no field of the configuration, or a value is not of its kind.
    """
    space = tuple(_read_dimension(word, config) for word in words)
    for dimension in space:  # now, and not in the trial that draws it
        for value in dimension.choices or (dimension.low, dimension.high):
            configured(config, {dimension.name: value})
    names = [dimension.name for dimension in space]
    if not space or len(set(names)) < len(names):
        raise ValueError(f"space must name different hyper-parameters; got {' '.join(words)!r}.")
    return space


def _read_dimension(word: str, config: Run) -> Dimension:
    wanted = f"space must be NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C; got {word!r}."
    name, sign, text = word.partition("=")
    name = name.replace("-", "_")
    if not sign:
        raise ValueError(wanted)
    kind = _kind_of(name, config)
    if ":" not in text:
        return Dimension(name, choices=tuple(_read(kind, part, word) for part in text.split(",")))
    low, high, *rest = text.split(":")
    if rest not in ([], ["log"]) or kind not in (int, float):
        raise ValueError(wanted if kind in (int, float) else f"{wanted} {name} is not a number.")
    ends = (_read(kind, low, word), _read(kind, high, word))
    if not ends[0] < ends[1] or (rest and ends[0] <= 0):
        raise ValueError(f"{wanted} LOW must be below HIGH, and above 0 with log.")
    return Dimension(name, *ends, log=bool(rest))


def _homes(config: Run) -> dict[str, tuple[str, str | None]]:
    """Of each hyper-parameter by name the part that has it, and which settings within that."""
    homes: dict[str, tuple[str, str | None]] = {}
    for part in config.searched:
        for field in fields(whole := getattr(config, part)):
            value = getattr(whole, field.name)
            if is_dataclass(value):  # of the glimpse network, say
                homes |= {inner.name: (part, field.name) for inner in fields(value)}
            homes[field.name] = (part, None)
    return homes


def _kind_of(name: str, config: Run) -> Any:
    """The type of a field, wherever in the configuration it is."""
    part, settings = _homes(config).get(name, (None, None))
    if part is None:
        raise ValueError(f"there is no hyper-parameter {name!r}; see foveal train TASK --help-all.")
    whole = getattr(config, part)
    kind = type(whole if settings is None else getattr(whole, settings))
    return typing.get_type_hints(kind)[name]


def _read(kind: Any, text: str, word: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float):
            value = kind(text)
            if not math.isfinite(value):
                raise ValueError
            return value
    except (ValueError, KeyError):
        raise ValueError(f"space: {text!r} in {word!r} must be a {kind.__name__}.") from None
    return text


def configured(config: Run, values: dict[str, Any]) -> Run:
    """The configuration with other values of some fields, by their names, if they make sense."""
    homes = _homes(config)
    parts: dict[str, dict[str, Any]] = {part: {} for part in config.searched}
    for name, value in values.items():
        part, settings = homes[name]
        if settings is None:
            parts[part][name] = value
        else:
            before = parts[part].get(settings, getattr(getattr(config, part), settings))
            parts[part][settings] = replace(before, **{name: value})
    return config.altered(**parts)


def file_storage(path: Path) -> str:
    """The URL of a study in a file; what a URL or Optuna would read in its name is quoted."""
    from sqlalchemy.engine import URL  # noqa: PLC0415

    return URL.create("sqlite", database=str(path)).render_as_string()


def open_study(
    storage: str, name: str, config: Run, space: Sequence[Dimension], sampler: str, seed: int
) -> optuna.Study:
    """Open a study of what every trial shares (``config``) and differs in, or begin it.

    The storage is an SQLAlchemy URL, such as ``sqlite:///study.db`` or
    ``postgresql+psycopg://user:password@host/database``; the seed is this worker's alone. Raises
    `ValueError` if the storage cannot be reached (a password in its URL is not shown), or the study
    there is of other things.
    """
    import optuna  # noqa: PLC0415 (an extra)
    import sqlalchemy.exc  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what stops a trial is ours to say
    about = {
        "config": fingerprint(asdict(config)),
        "space": [asdict(dimension) for dimension in space],
    }
    chosen = (
        optuna.samplers.RandomSampler(seed=seed)
        if sampler == "random"
        else optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    )
    trouble = (sqlalchemy.exc.SQLAlchemyError, ImportError, optuna.exceptions.OptunaError)
    for tries_left in (2, 1, 0):
        try:
            study = _open(storage, name, chosen, config)
            break
        except trouble as problem:
            if tries_left:  # workers that begin at once may get into each other's way
                time.sleep(POLL)
                continue
            raise ValueError(
                f"the storage {without_password(storage)} could not be used: "
                f"{without_password(_first_line(problem))}"
            ) from None
    known = study.user_attrs.get("about")
    if known is None:
        study.set_user_attr("about", about)
    elif known != json.loads(json.dumps(about)):  # JSON makes lists of tuples
        what = "space" if known["config"] == about["config"] else "configuration"
        raise ValueError(
            f"the study {name!r} in {without_password(storage)} is of another {what}. "
            "Choose another --study, or the flags that it was begun with."
        )
    return study


def _open(
    storage: str, name: str, sampler: optuna.samplers.BaseSampler, config: Run
) -> optuna.Study:
    import optuna  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        kept = optuna.storages.RDBStorage(
            storage,
            engine_kwargs={"connect_args": {"timeout": 60}}
            if storage.startswith("sqlite")
            else None,
            heartbeat_interval=SEEN_ALIVE,
            grace_period=GIVEN_UP,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )
    return optuna.create_study(
        storage=kept,
        study_name=name,
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS),
        direction="minimize" if config.lower_is_better else "maximize",
        load_if_exists=True,
    )


def without_password(text: str) -> str:
    """A URL, or a text with one, less the password in it."""
    return re.sub(r"(://[^:/@\s]+):[^@\s]+@", r"\1:***@", text)


def _first_line(problem: BaseException) -> str:
    causes = [problem]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    return next((line for line in str(causes[-1]).splitlines() if line.strip()), repr(problem))


def run_trials(
    study: optuna.Study,
    config: Run,
    space: Sequence[Dimension],
    trials: int,
    about: dict[str, Any],
    directory: Path,
    device: torch.device,
    listener: Callable[[int, Progress], None] | None = None,
    *,
    task: Task | None = None,
) -> None:
    """Work on a study until it has so many trials, with others or alone.

    The number counts those ended early and those in work elsewhere. Each trial has a directory of
    its own in that of the study. The listener is called with the number of the trial and the
    engine's reports. ``about`` and ``task`` are those of `train_run`.

    Raises:
        TrainingStopped: on SIGINT or SIGTERM; the trial waits to be taken up again.
        OSError, ValueError: see `foveal.runs.run.train_run`.
    """
    import optuna  # noqa: PLC0415

    def objective(trial: optuna.Trial) -> float:
        chosen = configured(config, {d.name: d.suggest(trial) for d in space})
        # A trial that takes up a dead worker's inherits this, and so goes on with its run.
        number = trial.user_attrs.get(NUMBER, trial.number)
        trial.set_user_attr(NUMBER, number)

        def report(progress: Progress) -> None:
            if listener:
                listener(number, progress)
            # The first, early validations tell too little to end a trial by.
            if progress.validated and 20 * progress.step >= progress.total_steps:
                trial.report(progress.validation[config.compared], progress.step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            place, known = trial_directory(directory, number), {**about, "changed": trial.params}
            result = train_run(chosen, known, place, device, report, judged=False, task=task)
        except TrainingDiverged:
            raise optuna.TrialPruned from None
        except TrainingStopped:
            study.enqueue_trial(trial.params, user_attrs={NUMBER: number})
            raise
        return float(result[config.compared])

    while (left := _left(study, trials)) != "none":
        if left == "elsewhere":  # whoever is at it may yet be killed
            time.sleep(POLL)
        else:
            study.optimize(objective, n_trials=1)


def trial_directory(directory: Path, number: int) -> Path:
    """The run of a trial, in the study's directory."""
    return directory / f"trial-{number}"


def _left(study: optuna.Study, trials: int) -> Literal["some", "elsewhere", "none"]:
    """Whether there are trials to begin, or only those that other workers are at, or none."""
    import optuna  # noqa: PLC0415
    from optuna.trial import TrialState  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)  # and lets them wait to be taken up
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    begun = sum(s in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING) for s in states)
    if begun < trials or TrialState.WAITING in states:
        return "some"
    return "elsewhere" if TrialState.RUNNING in states else "none"
