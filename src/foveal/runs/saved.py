"""What was saved of a run: its kind, its configuration, its model, its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from foveal.io.files import config_from_dict, read_json, read_tensors
from foveal.io.models import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    load_state,
    load_weights,
    locate_model,
    of_the_model,
    read_config,
)
from foveal.model.attention import RecurrentAttention
from foveal.model.whole_image import make_reference_network
from foveal.names import choose
from foveal.runs.agent import AgentRun
from foveal.runs.classifier import CanvasRun
from foveal.runs.folder import FolderRun
from foveal.runs.run import Network, Run
from foveal.training.journal import read_metrics

KINDS: dict[str, type[Run]] = {kind.kind: kind for kind in (CanvasRun, FolderRun, AgentRun)}


@dataclass(frozen=True)
class Saved:
    """A model, and what its directory knows of it.

    Attributes:
        name: as it was asked for.
        directory: where it lies.
        content: of its ``config.json``.
        model: in eval mode.
        stands: of a run that has not finished, where its last checkpoint is, in words.
    """

    name: str
    directory: Path
    content: Mapping[str, Any]
    model: Network
    stands: str = ""

    @cached_property
    def run(self) -> Run | None:
        """How it was trained; None if its directory does not say.

        Raises:
            ValueError: if the configuration is damaged.
        """
        return run_of(self.content, self.directory)

    @property
    def plays(self) -> bool | None:
        """Whether it is an agent; None if its directory does not say."""
        kind = _kind_of(self.content, self.directory)
        return None if kind is None else kind.plays

    @property
    def looking(self) -> RecurrentAttention:
        """The model, if it looks.

        Raises:
            ValueError: if it sees the whole image.
        """
        if not isinstance(self.model, RecurrentAttention):
            raise ValueError(
                f"{self.name} holds a {self.content['network']} network, which sees the whole "
                "image and looks nowhere. Choose a recurrent attention model."
            )
        return self.model

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, or numbers where it knows none."""
        named = self.content.get("classes") or range(self.model.config.num_classes)
        return tuple(map(str, named))

    @property
    def result(self) -> dict[str, Any]:
        """What was measured of it; nothing where nothing was."""
        path = self.directory / RESULT_FILE
        return read_json(path) if path.exists() else {}


def run_of(content: Mapping[str, Any], directory: Path) -> Run | None:
    """The configuration of a run, from what `read_config` gives; None if that is a model alone.

    Raises:
        ValueError: if a value is missing or makes no sense.
    """
    kind = _kind_of(content, directory)
    return None if kind is None else kind.read(content, directory)


def share_done(directory: Path) -> float:
    """How much of a run is done, 0 to 1.

    Raises:
        OSError, ValueError: if its configuration is missing or damaged.
    """
    lines, run = read_metrics(directory), run_of(read_config(directory), directory)
    return run.done(lines) if run and lines else 0.0


def load(name: str | Path, device: torch.device | str = "cpu") -> Saved:
    """A trained model, of a run that has not finished its last checkpoint.

    Args:
        name: a run directory, a saved model, or the name of a pretrained one.
        device: where it is to run.

    Raises:
        OSError: if the directory or a file of it is missing.
        ValueError: if a file is damaged or another program's.
    """
    directory = locate_model(name)
    content = read_config(directory)
    model, stands = _network(content, directory), ""
    if "kind" not in content or (directory / WEIGHTS_FILE).exists():
        load_weights(directory, model)
    else:
        stands = _load_checkpoint(directory, model)
    return Saved(str(name), directory, content, model.eval().to(device), stands)


def _kind_of(content: Mapping[str, Any], directory: Path) -> type[Run] | None:
    if "kind" not in content:
        return None
    try:
        return KINDS[choose(content["kind"], KINDS, "kind of run")]
    except ValueError as problem:
        raise ValueError(f"{directory / CONFIG_FILE}: {problem}") from None


def _network(content: Mapping[str, Any], directory: Path) -> Network:
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


def _load_checkpoint(directory: Path, model: Network) -> str:
    """Load the model of a run's last checkpoint; gives the step that it is from, in words."""
    path = directory / CHECKPOINT_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{directory} is a run that has not finished. Go on with it: "
            f"foveal train --resume {directory}"
        )
    tensors, about = read_tensors(path)
    inner = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
    load_state(model, of_the_model(inner), path)
    total = f" of {about['total_steps']:,}" if "total_steps" in about else ""
    return f"at step {about['step']:,}{total}"
