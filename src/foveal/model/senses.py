"""Senses beside the eye: what else is known of a scene enters the core beside the glimpse."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from foveal.names import shortened

Sensed = Mapping[str, Tensor]  # (B, width) numbers of each sense, by name


class SenseNetworks(nn.Module):
    """relu(Linear(s)) of each sense s, side by side.

    Args:
        senses: name and numbers of each.
        features: units of each network.

    Attributes:
        widths: the numbers of each, by name.
        size: units of all together.
    """

    def __init__(self, senses: tuple[tuple[str, int], ...], features: int) -> None:
        super().__init__()
        self.widths = dict(senses)
        self.networks = nn.ModuleList(nn.Linear(width, features) for _, width in senses)
        self.size = features * len(senses)

    def forward(self, features: Tensor, senses: Sensed | None) -> Tensor:
        """``(B, F)`` features of a glimpse and the senses beside it to ``(B, F + size)``.

        Args:
            features: what the glimpse network gives.
            senses: of each sense ``(B, width)`` numbers, or ``(B,)`` whole numbers below its width,
                which become one-hot.

        Raises:
            ValueError: if a sense is missing, of another shape, not finite, or not known.
        """
        given = senses or {}
        if given.keys() != self.widths.keys():
            raise ValueError(
                f"the model senses {described(self.widths)} beside the image; got "
                f"{', '.join(given) or 'nothing'}. Pass senses={{...}} with just these to the "
                "model itself, or to its step; predict takes none."
            )
        parts = [features]
        for (name, width), network in zip(self.widths.items(), self.networks, strict=True):
            sensed = torch.as_tensor(given[name])
            numbers = _numbers(name, sensed, width, features.shape[0]).to(features.device)
            parts.append(torch.relu(network(numbers)))
        return torch.cat(parts, dim=1) if parts[1:] else features


def described(widths: Mapping[str, int]) -> str:
    """``direction (4), mission (12)``, or ``nothing``."""
    return ", ".join(f"{name} ({width})" for name, width in widths.items()) or "nothing"


def _numbers(name: str, given: Tensor, width: int, batch: int) -> Tensor:
    """``(B, width)`` float32.

    Raises:
        ValueError: if they are not of that sense.
    """
    if torch.compiler.is_exporting():  # a graph looks at no values
        return given.float()
    whole = given.ndim == 1 and not given.is_floating_point()
    if whole and len(given) == batch and bool(((given >= 0) & (given < width)).all()):
        return nn.functional.one_hot(given.long(), width).float()
    on_cpu = given.device.type == "cpu"  # elsewhere a look at the values would stop the device
    if given.shape != (batch, width) or (on_cpu and not given.isfinite().all()):
        raise ValueError(
            f"the sense {name!r} must be finite numbers ({batch}, {width}), or ({batch},) whole "
            f"numbers from 0 to {width - 1}; got {tuple(given.shape)} of {given.dtype}, "
            f"{shortened(given.tolist())}."
        )
    return given.float()
