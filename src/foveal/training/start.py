"""Training that begins with the weights of another model, of fewer scales perhaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.io.files import config_from_dict, read_tensors
from foveal.io.models import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    check_finished,
    check_looks_at,
    load_state,
    of_the_model,
    read_config,
)
from foveal.model.attention import RecurrentAttention

FIRST_LAYER = "glimpse_network.from_pixels.weight"
STOP = "stop_head."
# What of a configuration may be another with the same weights.
NO_SHAPE = {
    *("num_glimpses", "scale_factor", "glimpse_gain", "scale_gain", "pixel_mean", "pixel_std"),
    *("location_std", "detach_policy", "location_gradient", "distinct", "with_end"),
}


def begin_with(directory: Path, model: nn.Module, classes: Sequence[str] = ()) -> bool:
    """Load the weights of a saved model into one that is to be trained.

    A `RecurrentAttention` may have more scales than the saved one: what its first layer makes of
    those begins at nothing, so that it answers at first as the saved one. The layer that answers is
    left as it is where the saved one answers with other classes, or with another number of them;
    so is a stop that the saved one does not have.

    Args:
        directory: with ``config.json`` and ``model.safetensors``.
        model: the model.
        classes: the names of what it is to answer; empty if they have none.

    Returns:
        Whether the layer that answers was loaded too.

    Raises:
        OSError, ValueError: if the files are missing or damaged, or otherwise of another network.
    """
    path, content, own = directory / WEIGHTS_FILE, read_config(directory), model.state_dict()
    check_finished(directory)
    if isinstance(model, RecurrentAttention):
        check_looks_at(content, directory)
    tensors, _ = read_tensors(path)
    answer = _answering(model)
    named = content.get("classes") or classes
    same = not classes or list(map(str, named)) == list(classes)
    same = same and all(tensors[name].shape == own[name].shape for name in answer & tensors.keys())
    if not same:
        tensors |= {name: own[name] for name in answer & tensors.keys()}
    # A stop may be trained for a model that had none, and left out of one that had.
    stop = {name: value for name, value in own.items() if name.startswith(STOP)}
    kept = {name: value for name, value in tensors.items() if not name.startswith(STOP)}
    tensors = kept | {name: tensors.get(name, value) for name, value in stop.items()}
    if isinstance(model, RecurrentAttention) and FIRST_LAYER in tensors:
        where = str(directory / CONFIG_FILE)
        saved, ours = (
            config_from_dict(model.config_class, content.get("model"), where),
            model.config,
        )
        if (saved.num_channels, saved.glimpse_size, saved.scale_factor) == (
            ours.num_channels,
            ours.glimpse_size,
            ours.scale_factor,
        ):
            weight, wanted = tensors[FIRST_LAYER], own[FIRST_LAYER].shape[1]
            more = max(0, wanted - weight.shape[1])
            tensors[FIRST_LAYER] = torch.cat([weight, weight.new_zeros(len(weight), more)], dim=1)
    weights = of_the_model(tensors)
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in own.items()}:
        raise ValueError(
            f"training cannot begin with {directory}: it belongs to another configuration "
            f"({_differences(content, model)}). Pass the flags that it was trained "
            "with, or --start with another model."
        )
    load_state(model, weights, path)
    return same


def _differences(content: Mapping[str, Any], model: nn.Module) -> str:
    """What a saved configuration says otherwise than a model's, of what makes other weights."""
    if not isinstance(model, RecurrentAttention):
        return "another network"
    there = asdict(config_from_dict(model.config_class, content.get("model"), CONFIG_FILE))
    here = asdict(model.config)
    found = [
        f"{name} {there[name]} there, {here[name]} here"
        for name in dict.fromkeys(("core", "core_size", *here))
        if there[name] != here[name] and name not in NO_SHAPE
    ]
    return ", ".join(found[:3]) or "another network"


def _answering(model: nn.Module) -> set[str]:
    """The names of the weights of the last layer, whose units are the classes."""
    if isinstance(model, RecurrentAttention):
        return {f"action_head.{name}" for name in model.action_head.state_dict()}
    last = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)][-1]
    return {f"{last}.weight", f"{last}.bias"}
