"""What checkpoints of earlier versions called what they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import nn

from foveal.io.models import MOVED_TO_OBJECTIVE
from foveal.model.attention import RecurrentAttention

# Of the settings of parts, what came after checkpoints were no longer known by their defaults too.
SINCE = ("map_pasted", "map_only")


def earlier_identities(identity: dict[str, Any], network: nn.Module) -> Iterator[dict[str, Any]]:
    """What checkpoints of earlier versions had to agree with, the latest first.

    Before part settings were known by what differs from their defaults they were whole; in version
    1, what only training needs was part of the model.
    """
    if not isinstance(network, RecurrentAttention):
        return
    objective, model = dict(identity["objective"]), identity["model"]
    name, known = model if isinstance(model, list) else ("", model)
    parts = {part for part in known if part.endswith("_settings")}
    whole = {part: dataclasses.asdict(getattr(network.config, part)) for part in parts}
    for part in parts:
        whole[part] = {
            field: value
            for field, value in whole[part].items()
            if field not in SINCE or field in known[part]
        }
    known = known | whole
    yield identity | {"model": [name, known] if name else known}
    moved = {name: objective.pop(name) for name in MOVED_TO_OBJECTIVE if name in objective}
    if objective.get("glimpse_weight"):
        moved["glimpse_head"] = True
    known = known | moved
    yield identity | {"objective": objective, "model": [name, known] if name else known}


def of_version_2(name: str) -> str:
    """The name that weights of a checkpoint have now."""
    name = name.replace("model.glimpse_head.", "glimpse_head.")
    return name.replace("model.baseline_head.", "critic.")
