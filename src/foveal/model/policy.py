"""Location policies: where to look next (Mnih et al. 2014, §3.1, f_l)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from foveal import geometry
from foveal.model.core import State
from foveal.names import PartSettings, Registry
from foveal.randomness import random_rows


class Policy(nn.Module):
    """What a policy has to give: the first location, the next ones, and the log-density of those.

    A policy is made as ``Policy(hidden_size)``. Locations are ``(x, y)`` as in `foveal.geometry`.
    One that reads a context's feature map says so: it is made as ``Policy(hidden_size,
    map_channels)``, and gets the map as a last argument of ``forward`` and ``score``.

    Attributes:
        reads_map: whether it reads a map.
        chooses_first: whether ``forward`` also chooses the first location, in place of `first`.
        marks: whether it keeps which cells of the map were looked at: after the map it gets those,
            uint8 of ``hidden``'s leading sizes and the map's (h, w), 0 at first and then by `mark`.
        once: whether no cell is looked at twice, as long as there are others.
    """

    reads_map: ClassVar[bool] = False
    chooses_first: bool = False
    marks: bool = False
    once: bool = False

    def first(self, state: State, generator: torch.Generator | None) -> Tensor:
        """The first location, ``(B, 2)``: uniform over the image (§4.1), unless overridden.

        Args:
            state: the core's first, of B images.
            generator: source of randomness; PyTorch's global one if None.
        """
        return uniform_locations(state[0], generator)

    def forward(
        self, hidden: Tensor, std: float | Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Choose the next location: a sample in training mode, the mean in eval mode.

        Args:
            hidden: ``(B, hidden_size)``.
            std: of the noise, in normalized coordinates; a number, or a ``()`` tensor.
            generator: source of the noise; PyTorch's global one if None.

        Returns:
            ``(B, 2)`` each: the mean, with gradient, and the choice, without; any values: the
            model clamps the choice into the image.
        """
        raise NotImplementedError

    def around(
        self, mean: Tensor, std: float | Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """A choice from the Gaussian of a mean in training mode, the mean itself in eval mode."""
        choice = mean.detach()
        if not self.training:
            return choice
        return choice + std * random_rows(torch.randn, mean.shape, generator, mean.device)

    def mark(self, location: Tensor, feature_map: Tensor, seen: Tensor) -> Tensor:
        """What is kept of the ``(B, h, w)`` uint8 cells, after looks at ``(B, 2)``."""
        raise NotImplementedError

    def cell_weights(self, hidden: Tensor, feature_map: Tensor) -> Tensor | None:  # noqa: ARG002
        """How likely each cell of a map is to be looked at, for pictures; None if it cannot say.

        Args:
            hidden: ``(B, N, hidden_size)``.
            feature_map: ``(B, 2 + M, h, w)``.

        Returns:
            ``(B, N, h, w)``, which add up to 1.
        """
        return None

    def score(self, hidden: Tensor, choice: Tensor, std: float | Tensor) -> Tensor:
        """The log-density of choices, which carries REINFORCE's gradient.

        Args:
            hidden: ``(..., hidden_size)``, what was chosen from.
            choice: ``(..., 2)``, before it was clamped.
            std: the standard deviation then.

        Returns:
            ``(...)`` float32.
        """
        raise NotImplementedError


POLICIES: Registry[type[Policy]] = Registry("policy")


@dataclass(frozen=True)
class LearnedSettings(PartSettings):
    """Of the learned policy."""

    # where the first look is: uniform over the image, as in the paper; its centre; or chosen by
    # the policy as the others are, which without a context is one place for all images
    first_look: Literal["random", "center", "learned"] = "random"


@POLICIES.add("learned", settings=LearnedSettings)
class LocationPolicy(Policy):
    """The paper's: pi(l | h), a Gaussian of fixed standard deviation with mean Linear(h)."""

    def __init__(
        self,
        hidden_size: int,
        settings: LearnedSettings = LearnedSettings(),
    ) -> None:
        super().__init__()
        self.settings, self.chooses_first = settings, settings.first_look == "learned"
        self.mean = nn.Linear(hidden_size, 2)

    def first(self, state: State, generator: torch.Generator | None) -> Tensor:
        """See `Policy.first`."""
        if self.settings.first_look == "center":
            return state[0].new_zeros((state[0].shape[0], 2), dtype=torch.float32)
        return super().first(state, generator)

    def forward(
        self, hidden: Tensor, std: float | Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.forward`."""
        mean = self._mean(hidden)
        return mean, self.around(mean, std, generator)

    def score(self, hidden: Tensor, choice: Tensor, std: float | Tensor) -> Tensor:
        """See `Policy.score`."""
        return gaussian_log_prob(choice, self._mean(hidden), std)

    def _mean(self, hidden: Tensor) -> Tensor:
        # In bfloat16 a location would have too few digits to name a pixel.
        with torch.autocast(hidden.device.type, enabled=False):
            mean: Tensor = self.mean(hidden.float())
        return mean


@POLICIES.add("random")
class RandomPolicy(Policy):
    """The paper's control: every location uniform over the image, whatever was seen."""

    def __init__(self, _hidden_size: int) -> None:
        super().__init__()

    def forward(
        self, hidden: Tensor, _std: float | Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.forward`."""
        choice = uniform_locations(hidden, generator)
        return choice, choice

    def score(self, _hidden: Tensor, choice: Tensor, _std: float | Tensor) -> Tensor:
        """See `Policy.score`; the density over [-1, 1] x [-1, 1] is 1/4."""
        return choice.new_full(choice.shape[:-1], math.log(1 / 4))


@POLICIES.add("center")
class CenterPolicy(RandomPolicy):
    """A control that the paper leaves out: every location is the image's centre."""

    def first(self, state: State, _generator: torch.Generator | None) -> Tensor:
        """The centre; see `Policy.first`."""
        return state[0].new_zeros((state[0].shape[0], 2), dtype=torch.float32)

    def forward(
        self, hidden: Tensor, _std: float | Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.forward`."""
        choice = self.first((hidden,), generator)
        return choice, choice

    def score(self, _hidden: Tensor, choice: Tensor, _std: float | Tensor) -> Tensor:
        """See `Policy.score`; what is certain has a log-probability of 0."""
        return choice.new_zeros(choice.shape[:-1])


class ZoomPolicy(Policy):
    """pi(x, y, s | h) = pi(x, y | h) pi(s | h): a place by another policy, and one of S scales.

    The scale's weights are softmax(Linear(h)), of which a share (`EXPLORED`) is spread evenly: else
    all weight soon goes to one scale, which forgives a gaze that knows little yet, and what a finer
    one is worth to a better gaze is never found out. Locations and choices are ``(..., 3)``: the
    last number is the scale's zoom (`foveal.geometry.to_scales`). The mean policy takes the
    likeliest scale. All looks are chosen, the first too.

    Args:
        place: the policy that chooses (x, y).
        hidden_size: units of h.
        num_scales: S.
    """

    EXPLORED = 0.2  # of the weight is shared evenly
    chooses_first = True

    def __init__(self, place: Policy, hidden_size: int, num_scales: int) -> None:
        super().__init__()
        self.place, self.num_scales = place, num_scales
        self.marks, self.once = place.marks, place.once
        self.scale = nn.Linear(hidden_size, num_scales)

    def forward(
        self,
        hidden: Tensor,
        std: float | Tensor,
        generator: torch.Generator | None,
        *feature_map: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.forward`; the mean's zoom is the choice's."""
        mean, choice = self.place(hidden, std, generator, *feature_map)
        weights = self._weights(hidden)
        scale = drawn(weights, generator) if self.training else weights.argmax(-1, keepdim=True)
        zoom = geometry.to_zooms(scale, self.num_scales)
        return torch.cat([mean, zoom], dim=1), torch.cat([choice, zoom], dim=1)

    def score(
        self, hidden: Tensor, choice: Tensor, std: float | Tensor, *feature_map: Tensor
    ) -> Tensor:
        """See `Policy.score`; of a scale it is a probability."""
        scale = geometry.to_scales(choice[..., 2:], self.num_scales)
        chosen = self._weights(hidden).gather(-1, scale).squeeze(-1)
        placed: Tensor = self.place.score(hidden, choice[..., :2], std, *feature_map)
        return placed + chosen

    def mark(self, location: Tensor, feature_map: Tensor, seen: Tensor) -> Tensor:
        """See `Policy.mark`."""
        return self.place.mark(location, feature_map, seen)

    def cell_weights(self, hidden: Tensor, feature_map: Tensor) -> Tensor | None:
        """See `Policy.cell_weights`."""
        return self.place.cell_weights(hidden, feature_map)

    def _weights(self, hidden: Tensor) -> Tensor:
        """``(..., S)`` logarithms of the scales' weights."""
        # In float32, as places are. Older PyTorch's autocast would also use again, for the score,
        # the copy of the matrix that it made for the decision, which has no gradient.
        with torch.autocast(hidden.device.type, enabled=False):
            shares = self.scale(hidden.float()).softmax(-1)
            weights: Tensor = (shares * (1 - self.EXPLORED) + self.EXPLORED / self.num_scales).log()
        return weights


def drawn(weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """A sample of each row of ``(B, N)`` logarithms of weights that add up to 1; ``(B, 1)``."""
    # Where the rising sum of the weights passes a uniform share of all, which rounding may leave a
    # little below 1: a cell of no weight is never drawn.
    share = random_rows(torch.rand, (len(weights), 1), generator, weights.device)
    sums = weights.detach().exp().cumsum(-1)
    passed = (sums <= share * sums[:, -1:]).sum(-1, keepdim=True)
    return passed.clamp(max=weights.shape[-1] - 1)


def uniform_locations(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """``(B, 2)`` uniform in [-1, 1], for the B rows of ``like`` and on its device."""
    return random_rows(torch.rand, (len(like), 2), generator, like.device) * 2 - 1


def gaussian_log_prob(value: Tensor, mean: Tensor, std: float | Tensor) -> Tensor:
    """Log-density of ``(..., 2)`` values under independent Gaussians; ``(...)``."""
    variance = std * std
    area = 2 * math.pi * variance
    squares = (value - mean).square().sum(-1)
    log_area = area.log() if isinstance(area, Tensor) else math.log(area)
    return squares * (-0.5 / variance) - log_area


def followed(choice: Tensor, mean: Tensor, bound: float) -> Tensor:
    """The location of a choice, which hands the gradient of what is made of it to the mean.

    That is beside REINFORCE: near a digit it says with less noise which way to move. It is bounded,
    image by image and look by look: it passes from each look to the ones before, and without a
    bound a few steep places drown the rest, and then it explodes.

    Args:
        choice: ``(B, 2)``, without gradient; ``(B, 3)`` with a zoom, which has none.
        mean: of the same shape, of the policy.
        bound: the longest gradient of an image's own loss, in nats a unit of location.

    Returns:
        The choice, clamped into the image.
    """
    location = choice.clamp(-1, 1) + (mean - mean.detach())

    def pull(gradient: Tensor) -> Tensor:
        # Nothing that pulls the gaze farther out of the image: there the location is clamped and
        # the gradient says nothing, yet followed it would carry the mean off for good.
        outwards = ((choice >= 1) & (gradient < 0)) | ((choice <= -1) & (gradient > 0))
        inside = gradient.masked_fill(outwards, 0)
        norms = inside.norm(dim=1, keepdim=True)
        # The gradient is of a mean over the images.
        bounded: Tensor = inside * (bound / len(inside) / norms.clamp(min=1e-12)).clamp(max=1)
        return bounded

    location.register_hook(pull)  # type: ignore[no-untyped-call]
    return location
