"""Glimpse networks: from what the retina brings, and where, to features (Mnih et al. 2014, f_g).

Shapes: B images, S scales, C channels, G pixels a side of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.model.core import sum_of_linear
from foveal.names import PartSettings, Range, Registry, check_fields

GlimpseShape = tuple[int, int, int, int]  # (S, C, G, G)

GLIMPSE_NETWORKS: Registry[type[nn.Module]] = Registry("glimpse network")


class GlimpseScaling(nn.Module):
    """Glimpses less their mean, divided by their deviation, times gains; for any glimpse network.

    An average over a coarse box dims what is smaller than the box, down to where the first layer
    hardly feels it; ``scale_gain`` makes up for that. ``glimpse_gain`` does for a scene that is
    nearly all black, as a game's. ``mean`` and ``std``, of the training images, are applied here
    and not to the images: what lies outside an image stays a 0 that is known exactly.

    Args:
        num_scales: S.
        mean: of each channel; () for 0.
        std: of each channel; () for 1.
        glimpse_gain: a glimpse is multiplied by this.
        scale_gain: scale i also by this to the i.
    """

    gains: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_scales: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        glimpse_gain: float,
        scale_gain: float,
    ) -> None:
        super().__init__()
        steps = torch.arange(num_scales).view(-1, 1, 1, 1)
        means, stds = (
            torch.tensor(given or (usual,)).view(-1, 1, 1)
            for given, usual in ((mean, 0.0), (std, 1.0))
        )
        gains = glimpse_gain * scale_gain**steps / stds
        for name, buffer in (("gains", gains), ("mean", means), ("std", stds)):
            self.register_buffer(name, buffer, persistent=False)
        self.plain = bool((gains == 1).all())
        self.centred = bool((means == 0).all())
        self.nothing = self.plain and self.centred  # glimpses stay as they are

    def forward(self, glimpses: Tensor, chosen: Tensor | None = None) -> Tensor:
        """``(B, S, C, G, G)`` to the same; ``(B, 1, C, G, G)`` of the ``(B,)`` chosen scales."""
        if not self.centred:
            glimpses = glimpses - self.mean
        if self.plain:
            return glimpses
        return glimpses * (self.gains if chosen is None else self.gains[chosen, None])


@GLIMPSE_NETWORKS.add("mlp")
class GlimpseNetwork(nn.Module):
    """g = relu(Linear(h_g) + Linear(h_l)), h_g = relu(Linear(rho)), h_l = relu(Linear(l)) (§3.1).

    Args:
        shape: ``(S, C, G, G)`` of a glimpse.
        features: units of g.
        glimpse_hidden: units of h_g, from the pixels.
        location_hidden: units of h_l, from the location.
        location_size: numbers of a location: 2, or 3 with a zoom.
    """

    def __init__(
        self,
        shape: GlimpseShape,
        features: int,
        glimpse_hidden: int,
        location_hidden: int,
        location_size: int = 2,
    ) -> None:
        super().__init__()
        scales, channels, height, width = shape
        self.from_pixels = nn.Linear(scales * channels * height * width, glimpse_hidden)
        self.from_location = nn.Linear(location_size, location_hidden)
        self.pixels_to_features = nn.Linear(glimpse_hidden, features)
        self.location_to_features = nn.Linear(location_hidden, features)

    def forward(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        """Scaled ``(B, S, C, G, G)`` glimpses, ``(B, 2 or 3)`` locations to ``(B, features)``."""
        pixels = torch.relu_(self.from_pixels(glimpses.flatten(1)))
        places = torch.relu_(self.from_location(locations))
        return torch.relu_(
            sum_of_linear(self.pixels_to_features, pixels, self.location_to_features, places)
        )


@dataclass(frozen=True)
class ConvGlimpseSettings(PartSettings):
    """Of the convolutional glimpse network.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    glimpse_filters: int = 24  # of the first convolution over a glimpse; each next has twice

    def __post_init__(self) -> None:
        check_fields(self, glimpse_filters=Range(1, 4096))


@GLIMPSE_NETWORKS.add("conv", settings=ConvGlimpseSettings)
class ConvGlimpseNetwork(nn.Module):
    """g = relu(Linear(conv(rho)) + Linear(h_l)), h_l = relu(Linear(l)).

    Three convolutions of stride 2, 5 x 5 and twice 3 x 3, see the patches of all scales as so
    many channels more; a glimpse network of this kind is in EDRAM (Ablavatski, Lu and Cai 2017,
    arXiv 1701.09041).
    """

    def __init__(
        self,
        shape: GlimpseShape,
        features: int,
        _glimpse_hidden: int,
        location_hidden: int,
        location_size: int = 2,
        *,
        settings: ConvGlimpseSettings,
    ) -> None:
        super().__init__()
        scales, channels, height, width = shape
        first = settings.glimpse_filters
        layers: list[nn.Module] = []
        widths = (scales * channels, first, 2 * first, 4 * first)
        for before, after, kernel in zip(widths, widths[1:], (5, 3, 3), strict=False):
            # Of one pixel a larger kernel would see nothing but what it is padded with.
            kernel = 1 if max(height, width) == 1 else kernel
            layers += [nn.Conv2d(before, after, kernel, 2, kernel // 2), nn.ReLU()]
            height, width = -(-height // 2), -(-width // 2)
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        cells = height * width
        self.from_location = nn.Linear(location_size, location_hidden)
        self.pixels_to_features = nn.Linear(4 * first * cells, features)
        self.location_to_features = nn.Linear(location_hidden, features)

    def forward(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        """See `GlimpseNetwork.forward`."""
        pixels = self.convolutions(glimpses.flatten(1, 2))
        places = torch.relu_(self.from_location(locations))
        return torch.relu_(
            sum_of_linear(self.pixels_to_features, pixels, self.location_to_features, places)
        )
