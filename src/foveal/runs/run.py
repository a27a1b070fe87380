"""A run from its configuration to its result; each kind of run is a class of its own.

A run directory holds ``config.json``, ``metrics.jsonl``, TensorBoard events, ``checkpoint/`` and,
when finished, ``model.safetensors`` and ``result.json``.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from foveal import __version__
from foveal.envs import EnvConfig
from foveal.io.files import config_from_dict, read_json, write_json
from foveal.io.models import (
    CONFIG_FILE,
    FORMAT,
    RESULT_FILE,
    VERSION,
    ground_of,
    locate_model,
    read_config,
    save_model,
)
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.whole_image import ReferenceNetwork
from foveal.names import check_fields, flat_fields
from foveal.tasks.folder.listing import Listing
from foveal.tasks.folder.survey import Count, Survey
from foveal.tasks.task import Task
from foveal.training.engine import Engine
from foveal.training.journal import read_metrics
from foveal.training.machine import commit, hardware
from foveal.training.progress import Progress
from foveal.training.start import begin_with

AnyNetwork = RecurrentAttention | ReferenceNetwork
Listener = Callable[[Progress], None]
Completed = tuple["Run", Task | None]
KEPT = {"last": "last", "best": "best by validation"}  # weights, in a protocol's words


class Run(ABC):
    """Everything that decides what a run computes; a kind of run is a frozen dataclass.

    Attributes:
        start: the model whose weights training begins with.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # of each kind
    kind: ClassVar[str]  # the word for it in ``config.json``
    plays: ClassVar[bool]  # whether its model is an agent; otherwise it answers what it sees
    measure: ClassVar[str]  # what of a result is reported, in %
    compared: ClassVar[str]  # what of a validation decides between runs
    lower_is_better: ClassVar[bool]  # whether the run with less of that is the better one
    curve: ClassVar[tuple[str, ...]]  # what of each validation the result keeps
    axis: ClassVar[str] = "steps"  # what `along` counts
    searched: ClassVar[tuple[str, ...]] = ("model", "objective", "training")  # by search

    start: str | None
    model: RAMConfig  # how the model is made
    training: Any  # and how it is trained
    task: Any = None  # the images of a classifier
    env: EnvConfig | None = None  # the games of an agent

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def read(cls, content: Mapping[str, Any], directory: Path) -> Self:
        """The configuration of a run of this kind, from the content of its ``config.json``.

        Raises `ValueError` if a value is missing or makes no sense.
        """
        added = ("network", "start")  # since the first release of the format
        names = [field.name for field in dataclasses.fields(cls)]
        parts = {name: content.get(name) for name in names if name not in added or name in content}
        return config_from_dict(cls, parts, str(directory / CONFIG_FILE))

    def altered(self, **changes: Any) -> Self:
        """The same run with other values, of its parts by a dictionary each."""
        parts = {
            name: dataclasses.replace(getattr(self, name), **value)
            if type(value) is dict
            else value
            for name, value in changes.items()
        }
        return dataclasses.replace(self, **parts)

    @property
    def shape(self) -> str:
        """What tells it from other runs of its task, for the name of a directory."""
        return ""

    def along(self, step: int) -> int:
        """How far along the axis of its curves a step is."""
        return step

    @abstractmethod
    def completed(self, found: Survey | None, count: Count, device: torch.device, /) -> Completed:
        """The configuration with what follows from the data, and those data if they were read.

        Of one's own images ``found`` is what their headers say, and ``count`` is told how many of
        how many are read. Raises `OSError` or `ValueError` if there are no such data, or they do
        not fit.
        """

    @abstractmethod
    def open(self, directory: Path, device: torch.device, /, **changes: Any) -> Task | None:
        """The images that a run learns from and is judged by; those of its directory.

        The ``changes`` are values of a `TaskConfig` to replace, by name; and ``strict``, whether to
        stop at the first image that cannot be read. Raises `OSError` or `ValueError` if images are
        missing or unfit.
        """

    @abstractmethod
    def trainer(self, task: Any, /, *, drawn: bool, capture: bool, **engine: Any) -> Engine:
        """Make the model and what trains it, on what `open` or `completed` gave.

        ``drawn`` says whether TensorBoard shows where it looks, ``capture`` is for `Trainer`;
        ``engine`` has ``directory``, ``device`` and ``listener`` of an `Engine`.
        """

    def trained_on(self, _: Path) -> Listing | None:
        """Its training images, if they are one's own.

        Raises `OSError` or `ValueError` if its directory does not tell which they are.
        """
        return None

    @abstractmethod
    def judge(self, model: Any, task: Any, device: torch.device, /) -> dict[str, Any]:
        """How good the trained model is on what nothing was chosen by, and what it takes."""

    @abstractmethod
    def done(self, lines: Sequence[Mapping[str, Any]]) -> float:
        """How much of the run is done, 0 to 1, from its metrics, of which there are some."""

    @abstractmethod
    def shortened(self, seed: int, part: int) -> Self:
        """The run with another seed, at one ``part``-th of its length."""

    @abstractmethod
    def told(self, result: Mapping[str, Any]) -> list[str]:
        """What people are told at the end; ``result["run"]`` is the directory."""


def train_run(
    config: Run,
    about: Mapping[str, Any],
    directory: Path,
    device: torch.device,
    listener: Listener | None = None,
    *,
    judged: bool = True,
    task: Task | None = None,
    report: Callable[[str], None] | None = None,
    tell: Callable[[str], object] = lambda _: None,
    capture: bool = True,
) -> dict[str, Any]:
    """Train from where the run directory stands to the end, and judge what it became, once.

    A classifier is judged on the test split, an agent in fresh games. A run that has finished is
    only reported.

    Args:
        config: what is trained, on what, how.
        about: what else ``config.json`` and the result should say: ``name`` (the task's),
            ``recipe``, ``command``.
        directory: of the run; created when something is written.
        device: where it trains.
        listener: see `Engine`.
        judged: whether to judge it, and draw where it looks; not where runs are only compared.
        task: what `Run.completed` gave; None opens the images of a begun run.
        report: told of images that are left out, of a task that is opened here.
        tell: told how much is to be done, and what does not begin as ``start`` has it.
        capture: see `Trainer`.

    Returns:
        The content of ``result.json``; nothing in those of several processes that do not write.

    Raises:
        OSError, ValueError: if the parts of the configuration do not fit together, files are
            damaged, the weights to start from are missing or another network's, or the directory
            holds a run of another configuration.
        TrainingStopped, TrainingDiverged, OSError: see `Engine.run`.
    """
    if (directory / CONFIG_FILE).exists():
        check_same(config, directory)
    if (directory / RESULT_FILE).exists():
        return read_json(directory / RESULT_FILE)
    if task is None:
        task = config.open(directory, device)
        if task is not None and report is not None:
            task.on_problem = report
    engine = {"directory": directory, "device": device, "listener": listener}
    trainer = config.trainer(task, drawn=judged, capture=capture, **engine)
    content = {"format": FORMAT, "version": VERSION, **about, **saved_as(config)}
    if task is not None:
        content |= {"classes": list(task.classes), "image_size": list(task.image_size)}
        content["ground"] = ground_of(content)
        content |= {"checksum": task.checksum} if task.checksum else {}
    same = True
    if not trainer.restore():
        if config.start is not None:
            classes = () if task is None else task.classes
            same = begin_with(locate_model(config.start), trainer.model, classes)
            if not same and getattr(config.training, "only_stop", False):
                raise ValueError(
                    f"only_stop trains the stop alone, and {config.start} answers with other "
                    f"classes than {', '.join(map(str, classes[:5]))}: its answers would stay "
                    "random. Leave out --only-stop."
                )
        if trainer.writes:
            if task is not None:
                task.save(directory)
            write_json(directory / CONFIG_FILE, content)
            if config.start is not None:
                trainer.save()  # it may be gone when the run goes on
    images = "" if task is None else f"{task.size('train'):,} training images; "
    steps = f"{trainer.total_steps:,} steps of {trainer.seen_per_step:,} {trainer.SEEN}"
    tell(f"{images}{steps}{f', from step {trainer.step:,} on' if trainer.step else ''}")
    if not same:
        tell(
            f"{config.start} answers with other classes: training begins with its weights, but for "
            "the layer that answers, which begins anew."
        )
    outcome = trainer.run()
    if not trainer.writes:
        return {}
    save_model(directory, trainer.model, content)
    validations = [line for line in read_metrics(directory) if config.compared in line]
    best: dict[str, Any] = {"step": outcome.kept or outcome.steps} | outcome.validation
    # Weights that are kept say theirs: a run that was killed may have lost that line, and gone on
    # otherwise. Of equals the last.
    if validations and outcome.kept is None:
        choose = min if config.lower_is_better else max
        best = choose(reversed(validations), key=lambda line: line[config.compared])
    result = {
        "task": about["name"],
        "recipe": about["recipe"],
        **(config.judge(trainer.model, task, device) if judged else {}),
        **outcome.validation,
        f"best_{config.compared}": best[config.compared],
        "best_step": best["step"],
        f"{trainer.SEEN}_seen": outcome.seen,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "processor_seconds": round(outcome.processor_seconds, 1),
        "seed": config.training.seed,
        "command": about["command"],
        "commit": commit(),
        "hardware": hardware(device),
        "versions": {"foveal": __version__, "torch": torch.__version__},
        "validation_curve": [
            [line["step"] * trainer.seen_per_step, *(line[name] for name in config.curve)]
            for line in validations
        ],
    }
    write_json(directory / RESULT_FILE, result)
    return result


def saved_as(config: Run) -> dict[str, Any]:
    """What ``config.json`` says of a configuration."""
    return {"kind": config.kind, **dataclasses.asdict(config)}


def check_same(config: Run, directory: Path) -> None:
    """Raise `ValueError` if a run directory is of another configuration, naming a difference."""
    content = read_config(directory)
    there, here = {"kind": content.get("kind")}, {"kind": config.kind}
    if there == here:
        begun = type(config).read(content, directory)
        there, here = (flat_fields(run) for run in (begun, config))
    for name, value in here.items():
        if there[name] != value:
            raise ValueError(
                f"{directory} holds a run of another configuration: {name} is {there[name]!r} "
                f"there, and {value!r} was wanted. Move it away, or choose another directory."
            )


def changes(config: Run, usual: Run) -> dict[str, Any]:
    """The values of a configuration that another of its kind has otherwise, or not at all."""
    here, there = (flat_fields(run) for run in (config, usual))
    return {name: value for name, value in here.items() if there.get(name, ...) != value}
