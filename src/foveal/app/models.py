"""The models that the page offers."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from foveal.envs import EnvConfig
from foveal.io.models import pretrained_models
from foveal.model.attention import RecurrentAttention
from foveal.runs.saved import load
from foveal.scene import Scene
from foveal.tasks import TaskConfig
from foveal.tasks.canvases.several import classes_of
from foveal.viz.scanpath import Scanpath, follow

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Classifier:
    """A model that answers what it sees."""

    name: str  # as it was asked for
    network: RecurrentAttention  # in eval mode, on the CPU
    classes: tuple[str, ...]  # their names
    task: TaskConfig | None  # what it was trained on, where that was digits on canvases
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def reads_digits(self) -> bool:
        """Whether a drawing of digits is what it was made for."""
        task = self.task
        return task is not None and self.classes == classes_of(task.answer, DIGITS, task.with_end)

    def look(self, image: Scene | Tensor, seed: int, name: str = "") -> Scanpath:
        """The scanpath of the mean policy; see `follow`. The first location is the seed's.

        Safe to call from several threads.
        """
        generator = torch.Generator().manual_seed(seed)
        with self._lock:
            return follow(self.network, image, classes=self.classes, name=name, generator=generator)


@dataclass(frozen=True)
class Agent:
    """A model that plays."""

    name: str  # as it was asked for
    network: RecurrentAttention  # in eval mode, on the CPU
    env: EnvConfig  # the game that it was trained in


def load_models(more: Sequence[str] = ()) -> tuple[list[Classifier], list[Agent]]:
    """The pretrained models, and those of ``more``: run directories or saved models.

    Raises `OSError` or `ValueError` if one is not there, is damaged, or sees the whole image at
    once.
    """
    classifiers: list[Classifier] = []
    agents: list[Agent] = []
    for name in dict.fromkeys([*more, *pretrained_models()]):
        saved = load(name)
        run = saved.run
        if run is not None and run.env is not None:
            agents.append(Agent(name, saved.looking, run.env))
            continue
        task = run.task if run and run.kind == "canvases" else None
        classifiers.append(Classifier(name, saved.looking, saved.classes, task))
    return classifiers, agents


def named(models: Sequence[Classifier], name: object) -> Classifier:
    """The model of a name that came from a page; `ValueError` if there is none."""
    for model in models:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in models)
    raise ValueError(f"there is no model {name!r}; choose one of {known}.")


def describe(name: str | Path) -> str:
    """What is known of a model, in a line of Markdown."""
    result = load(name).result
    if "success_rate" in result:
        return f"catches {result['success_rate']:.1f} % of the balls"
    return f"test error {result['error']:.2f} %" if "error" in result else ""
