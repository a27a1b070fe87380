"""What checkpoints of earlier versions called what they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import nn

from foveal.io.models import MOVED_TO_OBJECTIVE
from foveal.model.attention import RecurrentAttention

# What settings of parts did not have yet, while checkpoints were known by all that they had.
NOT_YET = (("map_only", "context_pool"), ("map_only", "map_pasted", "context_pool"))


def earlier_identities(identity: dict[str, Any], network: nn.Module) -> Iterator[dict[str, Any]]:
    """What checkpoints of earlier versions had to agree with, the latest first.

    Before part settings were known by what differs from their defaults they were whole; in version
    1, what only training needs was part of the model.
    """
    if not isinstance(network, RecurrentAttention):
        return
    objective, model = dict(identity["objective"]), identity["model"]
    name, known = model if isinstance(model, list) else ("", model)
    parts = [part for part in known if part.endswith("_settings")]
    for later in NOT_YET:
        whole = {
            part: {
                field: value
                for field, value in dataclasses.asdict(getattr(network.config, part)).items()
                if field not in later or field in known[part]
            }
            for part in parts
        }
        yield identity | {"model": [name, known | whole] if name else known | whole}
    moved = {name: objective.pop(name) for name in MOVED_TO_OBJECTIVE if name in objective}
    if objective.get("glimpse_weight"):
        moved["glimpse_head"] = True
    known = known | moved
    yield identity | {"objective": objective, "model": [name, known] if name else known}


def of_version_2(name: str) -> str:
    """The name that weights of a checkpoint have now."""
    name = name.replace("model.glimpse_head.", "glimpse_head.")
    return name.replace("model.baseline_head.", "critic.")
