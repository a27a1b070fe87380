"""Training that begins with the weights of another model, of fewer scales perhaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn
from torch.nn import functional

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
from foveal.model.config import RAMConfig
from foveal.model.whole_image import ReferenceNetwork
from foveal.names import flat_fields

FIRST_LAYER = "glimpse_network.from_pixels.weight"
STOP = "stop_head."
SAME_SCALE = {"num_channels", "glimpse_size", "scale_factor"}  # of what that layer reads
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
    other: dict[str, str] | None = None
    if isinstance(model, RecurrentAttention):
        check_looks_at(content, directory)
        where = str(directory / CONFIG_FILE)
        saved = config_from_dict(model.config_class, content.get("model"), where)
        other = _differences(saved, model.config)
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
    first = FIRST_LAYER in tensors.keys() & own.keys()
    if other is not None and first and not SAME_SCALE & other.keys():
        weight = tensors[FIRST_LAYER]
        more = max(0, own[FIRST_LAYER].shape[1] - weight.shape[1])
        tensors[FIRST_LAYER] = functional.pad(weight, (0, more))
    weights = of_the_model(tensors)
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in own.items()}:
        told = [said for name, said in (other or {}).items() if name not in NO_SHAPE][:3]
        raise ValueError(
            f"training cannot begin with {directory}: it belongs to another configuration "
            f"({', '.join(told) or 'another network'}). Pass the flags that it was trained "
            "with, or --start with another model."
        )
    load_state(model, weights, path)
    return same


def _differences(saved: RAMConfig, ours: RAMConfig) -> dict[str, str]:
    """What a saved configuration says otherwise, in words by field, the core first."""
    there, here = flat_fields(saved), flat_fields(ours)
    return {
        name: f"{name} {there[name]} there, {here[name]} here"
        for name in dict.fromkeys(("core", "core_size", *here))
        if name in there and there[name] != here[name]  # of parts that both have
    }


def _answering(model: nn.Module) -> set[str]:
    """The names of the weights of the last layer, whose units are the classes."""
    # A bag has other layers behind those that answer.
    inner = f"layers.{len(model.layers) - 1}" if isinstance(model, ReferenceNetwork) else ""
    return {f"{inner or 'action_head'}.{name}" for name in ("weight", "bias")}
