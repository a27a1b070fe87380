"""What was saved of a run: its kind, its configuration, its model, its result."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from foveal.io.files import config_from_dict, read_json, read_tensors
from foveal.io.models import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    check_looks_at,
    loaded,
    locate_model,
    read_config,
    unfinished,
)
from foveal.model.attention import RecurrentAttention
from foveal.model.whole_image import make_reference_network
from foveal.names import choose
from foveal.runs.agent import AgentRun
from foveal.runs.classifier import CanvasRun
from foveal.runs.folder import FolderRun
from foveal.runs.haystacks import HaystackRun
from foveal.runs.run import AnyNetwork, Run
from foveal.training.journal import read_metrics

KINDS: dict[str, type[Run]] = {
    kind.kind: kind for kind in (CanvasRun, FolderRun, HaystackRun, AgentRun)
}


@dataclass(frozen=True)
class Saved:
    """What a directory knows of a model, which is loaded when it is first asked for."""

    name: str  # as it was asked for
    directory: Path  # where it lies
    content: Mapping[str, Any]  # of its ``config.json``
    device: torch.device | str = "cpu"  # where the model is to run

    @property
    def kind(self) -> type[Run] | None:
        """The kind of run that it is of; None for a model alone; `ValueError` if it is unknown."""
        if "kind" not in self.content:
            return None
        try:
            return KINDS[choose(self.content["kind"], KINDS, "kind of run")]
        except ValueError as problem:
            raise ValueError(f"{self.directory / CONFIG_FILE}: {problem}") from None

    @cached_property
    def run(self) -> Run | None:
        """How it was trained; None for a model alone; `ValueError` if that is damaged."""
        return None if self.kind is None else self.kind.read(self.content, self.directory)

    @property
    def finished(self) -> bool:
        """Whether the weights are there: a run writes them at its end."""
        return "kind" not in self.content or (self.directory / WEIGHTS_FILE).exists()

    @property
    def done(self) -> float:
        """How much of the run is done, 0 to 1, by its metrics."""
        lines = read_metrics(self.directory)
        return self.run.done(lines) if self.run and lines else 0.0

    @property
    def result(self) -> dict[str, Any]:
        """What was measured of it; nothing where nothing was."""
        path = self.directory / RESULT_FILE
        return read_json(path) if path.exists() else {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, or numbers where it knows none."""
        return self.model.classes

    @cached_property
    def model(self) -> AnyNetwork:
        """The model in eval mode; of a run that has not finished, as its last checkpoint has it.

        Raises `OSError` or `ValueError` if a file is missing, damaged or of another configuration.
        """
        make = partial(_network, self.content, self.directory)
        if self.finished:
            network = loaded(make, self.directory / WEIGHTS_FILE)
        else:
            network = loaded(make, self._checkpoint, "model.")
        network.about = self.content
        return network.to(self.device)

    @property
    def looking(self) -> RecurrentAttention:
        """The model, if it looks; `ValueError` if it sees the whole image. See also `model`."""
        check_looks_at(self.content, self.name)
        assert isinstance(self.model, RecurrentAttention)
        return self.model

    @property
    def stands(self) -> str:
        """Where the last checkpoint of a run that has not finished is, in words."""
        _, about = read_tensors(self._checkpoint)
        total = f" of {about['total_steps']:,}" if "total_steps" in about else ""
        return f"step {about['step']:,}{total}"

    @property
    def _checkpoint(self) -> Path:
        path = self.directory / CHECKPOINT_FILE
        if not path.exists():
            raise unfinished(self.directory)
        return path


def load(name: str | Path, device: torch.device | str = "cpu") -> Saved:
    """A run directory, a saved model, or a pretrained one by name; of a `Path`, the first two.

    Raises `OSError` if there is none, and `ValueError` if it is another program's, or of a newer
    version.
    """
    directory = name if isinstance(name, Path) else locate_model(name)
    return Saved(str(name), directory, read_config(directory), device)


def _network(content: Mapping[str, Any], directory: Path) -> AnyNetwork:
    """The untrained network of a saved one."""
    path = directory / CONFIG_FILE
    if content.get("network", "ram") == "ram":
        kind = RecurrentAttention
        return kind(config_from_dict(kind.config_class, content.get("model"), str(path)))
    try:
        (height, width), classes = content["image_size"], len(content["classes"])
        channels = content["model"]["num_channels"]
        return make_reference_network(content["network"], (height, width), classes, channels)
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(
            f"{path} must say the size and the classes of a {content['network']} network's images; "
            f"it does not ({problem!r}). Restore it from a copy."
        ) from None
