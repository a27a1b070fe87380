"""What checkpoints of earlier versions called what they hold."""

from __future__ import annotations

from typing import Any

from torch import nn

from foveal.io.models import MOVED_TO_OBJECTIVE
from foveal.model.attention import RecurrentAttention


def identity_of_version_1(identity: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """What a checkpoint had to agree with, when what only training needs was part of the model."""
    objective, model = dict(identity["objective"]), identity["model"]
    moved = {name: objective.pop(name) for name in MOVED_TO_OBJECTIVE if name in objective}
    if objective.get("glimpse_weight"):
        moved["glimpse_head"] = True
    if isinstance(network, RecurrentAttention):
        model = [model[0], model[1] | moved] if isinstance(model, list) else model | moved
    return identity | {"objective": objective, "model": model}


def of_version_2(name: str) -> str:
    """The name that weights of a checkpoint have now."""
    name = name.replace("model.glimpse_head.", "glimpse_head.")
    return name.replace("model.baseline_head.", "critic.")
