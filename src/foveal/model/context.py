"""Contexts: what a first, coarse look at the whole image tells before the first glimpse.

As in Ba, Mnih and Kavukcuoglu 2015 (arXiv 1412.7755, §3). The paper's model has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveal.geometry import begins_inside
from foveal.model.core import State
from foveal.names import PartSettings, Range, Registry, check_fields, positive

FIRST_KERNEL, KERNEL = 5, 3  # pixels a side, of the first convolution and of the others
MOST_LAYERS = 64
COORDINATES = 2  # channels of a thumbnail, after those of the image


class ContextOutput(NamedTuple):
    """What a context makes of a thumbnail.

    Attributes:
        state: the core's first, a tuple of ``(B, size)`` tensors.
        location: ``(B, 2)``, the first location as in `foveal.geometry`; None where the policy
            chooses it.
        feature_map: ``(B, 2 + M, h, w)`` for a policy that reads one: (x, y) of the middle of each
            cell, then its M features; and one channel more where there is a ``map_prior``.
    """

    state: State
    location: Tensor | None = None
    feature_map: Tensor | None = None


class Context(nn.Module):
    """A network over the scene's thumbnail that makes the core's first state.

    A context is made as ``Context(num_channels, state_sizes)``: the channels of a thumbnail, which
    are those of the images and two of coordinates, and the widths of the tensors of the core's
    state. It may also give the first location, and a feature map that the policy reads.

    Attributes:
        side: pixels a side of the thumbnail that it reads (`foveal.scene.Scene.thumbnail`). They
            count as pixels read.
        map_channels: M, features of each cell of its map; 0 if it makes none.
        map_prior: whether the map has one channel more, which adds to the logarithm of a cell's
            weight.
        finds_pasted: whether it learns to find pieces that are pasted into thumbnails, beside the
            answer (`foveal.training.pasting`).
    """

    side: int
    map_channels: int = 0
    map_prior: bool = False
    finds_pasted: bool = False

    def forward(self, thumbnail: Tensor) -> ContextOutput | tuple[State, Tensor | None]:
        """From ``(B, C + 2, side, side)`` to a `ContextOutput`, or a tuple of its first parts.

        The last two channels are (x, y) of each pixel (`foveal.geometry.thumbnail_places`).
        """
        raise NotImplementedError

    def find_pasted(self, thumbnail: Tensor) -> Tensor:
        """``(B, h, w)``, of each cell, up to a constant, how likely a piece was pasted there."""
        raise NotImplementedError


NO_CONTEXT = "none"
CONTEXTS: Registry[Callable[..., Context | None]] = Registry("context")


@CONTEXTS.add(NO_CONTEXT)
def no_context(_num_channels: int, _state_sizes: tuple[int, ...]) -> None:
    """The paper's: the core begins with nothing, and the policy chooses the first location."""


@dataclass(frozen=True)
class ConvContextSettings(PartSettings):
    """Of the convolutional context.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    thumbnail_size: int = 15  # pixels a side of the thumbnail that the context reads
    map_stride: int = 1  # pixels of the thumbnail a side of a cell of the map; a power of 2
    map_features: int = 32  # of each cell of the map
    context_layers: int = 3  # convolutions, the first of 5 x 5 and the others of 3 x 3
    # what the core is told: of each feature the largest over all cells, or with "none" all cells'
    context_pool: Literal["max", "none"] = "max"
    thumbnail_gain: float = 4.0  # the thumbnail enters the first layer times this
    # what a cell's mean light adds to the logarithm of its weight, times this at first; 0: nothing
    map_light: float = 0.0
    # likewise, the sum of its features, as a share of the largest of any cell; these are then
    # trained by the answer alone, not by the policy, unless `map_only` leaves it nothing to train
    map_strength: float = 0.0
    # likewise, the log-likelihood that a piece of another image was pasted there, which is learned
    # beside the answer (`foveal.training.pasting`)
    map_pasted: float = 0.0
    # the share of the training images, at least one of a batch, of which it says where to look and
    # no more: the core starts from nothing, since the answers of a few thousand thumbnails are soon
    # known by heart; 1: of all images, in use too
    map_only: float = 0.0

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("thumbnail_size", "map_stride", "map_features"), Range(1, 4096))
        check_fields(
            self,
            thumbnail_gain=positive(1e6),
            map_light=Range(0, 1e6),
            map_strength=Range(0, 1e6),
            map_pasted=Range(0, 1e6),
            map_only=Range(0, 1),
            context_layers=Range(1, MOST_LAYERS),
            **sizes,
        )
        if self.map_stride not in {2**power for power in range(self.context_layers + 1)}:
            raise ValueError(
                f"map_stride must be a power of 2, at most 2 to the {self.context_layers} "
                f"convolutions; got {self.map_stride}. Pass another --map-stride, or more "
                "--context-layers."
            )
        if self.thumbnail_size < self.receptive_field:
            raise ValueError(
                f"thumbnail_size must be at least {self.receptive_field} pixels, what a cell of "
                f"the map sees; got {self.thumbnail_size}. Pass a larger --thumbnail-size, or a "
                "smaller --map-stride or --context-layers."
            )

    @property
    def strides(self) -> list[int]:
        """Of each convolution: the first ones halve until a cell is of `map_stride` pixels."""
        return [2 if 2**layer < self.map_stride else 1 for layer in range(self.context_layers)]

    @property
    def receptive_field(self) -> int:
        """Pixels of the thumbnail a side that a cell of the map sees."""
        seen, step = FIRST_KERNEL, 1
        for stride in self.strides[:-1]:
            step *= stride
            seen += (KERNEL - 1) * step
        return seen


@CONTEXTS.add("conv", settings=ConvContextSettings)
class ConvContext(Context):
    """Convolutions to a map, whose features start the core: the largest, or those of each cell.

    The largest tell what is there, whichever the size of the map; those of each cell also where.
    """

    def __init__(
        self, num_channels: int, state_sizes: tuple[int, ...], settings: ConvContextSettings
    ) -> None:
        super().__init__()
        self.side, self.map_channels = settings.thumbnail_size, settings.map_features
        self.gain, width = settings.thumbnail_gain, settings.map_features
        first, *others = settings.strides
        self.layers = nn.Sequential(
            nn.Conv2d(num_channels, width, FIRST_KERNEL, first, FIRST_KERNEL // 2)
        )
        for stride in others:
            self.layers.extend([nn.ReLU(), nn.Conv2d(width, width, KERNEL, stride, KERNEL // 2)])
        self.pools = settings.context_pool == "max"
        cells = 1 if self.pools else ceil(settings.thumbnail_size / settings.map_stride) ** 2
        self.to_state = nn.ModuleList(nn.Linear(cells * width, size) for size in state_sizes)
        self.map_only = settings.map_only
        for parameter in self.to_state.parameters():
            nn.init.zeros_(parameter)
        gains = (settings.map_light, settings.map_strength, settings.map_pasted)
        self.map_prior = any(gains)
        self.light, self.strength, self.pasted = (
            nn.Parameter(torch.tensor(float(gain))) if gain else None for gain in gains
        )
        self.finds_pasted = self.pasted is not None
        self.finder = nn.Conv2d(width, 1, 1) if self.finds_pasted else None

    def forward(self, thumbnail: Tensor) -> ContextOutput:
        """See `Context.forward`."""
        pixels, places = thumbnail[:, :-COORDINATES], thumbnail[:, -COORDINATES:]
        features = self._features(thumbnail)
        found, middles = self._found(features, places)
        state = self._state(found)
        if self.strength is not None and self.map_only < 1:
            features = features.detach()
        channels = [middles, features.float()]
        if self.map_prior:
            channels.append(self._prior(pixels, found.detach().float()))
        return ContextOutput(state, None, torch.cat(channels, dim=1))

    def _state(self, found: Tensor) -> tuple[Tensor, ...]:
        # The gradient of `max` is written to one cell; that of `amax` compares them all.
        told = found.flatten(2).max(-1).values if self.pools else found.flatten(1)
        state = tuple(torch.tanh(layer(told)) for layer in self.to_state)
        if self.map_only == 1:
            return tuple(part * 0 for part in state)
        if self.map_only and self.training:
            # Evenly over the batch, whose order is another in each pass.
            number = torch.arange(len(found) + 1, device=found.device)
            whole = (number * (1 - self.map_only)).floor().diff()
            state = tuple(part * whole[:, None].to(part) for part in state)
        return state

    def find_pasted(self, thumbnail: Tensor) -> Tensor:
        """See `Context.find_pasted`."""
        assert self.finder is not None
        found, _ = self._found(self._features(thumbnail), thumbnail[:, -COORDINATES:])
        pasted: Tensor = self.finder(found)
        return pasted.squeeze(1).float()

    @staticmethod
    def _found(features: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """The features of cells that begin within the image, 0 of others; the cells' middles."""
        down, across = features.shape[2:]
        middles = functional.adaptive_avg_pool2d(places, (down, across))
        return torch.relu(features) * begins_inside(middles), middles

    def _features(self, thumbnail: Tensor) -> Tensor:
        pixels, places = thumbnail[:, :-COORDINATES], thumbnail[:, -COORDINATES:]
        features: Tensor = self.layers(torch.cat([self.gain * pixels, places], dim=1))
        return features

    def _prior(self, pixels: Tensor, found: Tensor) -> Tensor:
        """``(B, 1, h, w)``, what adds to the logarithms of the cells' weights."""
        prior = found.new_zeros(())
        if self.light is not None:
            light = pixels.abs().mean(1, keepdim=True)
            down, across = found.shape[2:]
            prior = self.light * functional.adaptive_avg_pool2d(light, (down, across))
        if self.strength is not None:
            strength = found.sum(1, keepdim=True)
            prior = prior + self.strength * strength / (strength.amax((-2, -1), True) + 1e-6)
        if self.pasted is not None and self.finder is not None:
            prior = prior + self.pasted * self.finder(found).detach()
        return prior
