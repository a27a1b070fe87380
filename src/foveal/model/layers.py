"""The boxes of the paper's figure 1: glimpse network, cores, location policy, baseline (§3.1).

Shapes: B images, C channels, S scales, G pixels a side of a patch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from foveal.model.sensor import check_sensor
from foveal.randomness import random_rows

CORES = ("rnn", "lstm")
POLICIES = ("learned", "random", "center")
WIDEST_FINE_PATCH = 256  # pixels; more in the finest patch is a convolution's work


@dataclass(frozen=True)
class RAMConfig:
    """The size and shape of a `RecurrentAttention`; the paper's widths by default.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    glimpse_size: int = 8  # pixels a side of the finest patch; 12 for the 60 x 60 tasks
    num_scales: int = 1  # patches in a glimpse, each scale_factor times as wide as the last
    scale_factor: int = 2  # ratio between neighbouring scales
    glimpse_gain: float = 1.0  # a glimpse enters the first layer times this; 1 as published
    scale_gain: float = 1.0  # scale i also times this to the i; 1 as published
    num_glimpses: int = 7  # looks at an image before the answer
    num_channels: int = 1  # of the images
    pixel_mean: tuple[float, ...] = ()  # of each channel, taken off glimpses; () for nothing
    pixel_std: tuple[float, ...] = ()  # of each channel, which glimpses are divided by; () for 1
    num_classes: int = 10  # of the answer
    glimpse_hidden: int = 128  # units of h_g, from the pixels
    location_hidden: int = 128  # units of h_l, from the location
    glimpse_features: int = 256  # units of g, the glimpse network's output
    core: Literal["rnn", "lstm"] = "rnn"  # rectifier RNN (classification) or LSTM
    core_size: int = 256  # units of h
    policy: Literal["learned", "random", "center"] = "learned"  # the others are controls
    location_std: float = 0.1  # of the Gaussian location policy, in normalized coordinates
    detach_policy: bool = True  # stop the location head's gradient at h, as in the paper's hybrid
    detach_baseline: bool = True  # stop the baseline's gradient at h; not where reward is all
    location_gradient: float = 0.0  # most that the answer pulls at a look, nats a unit; 0: nothing
    glimpse_head: bool = False  # each glimpse alone also gives an answer, for training
    privileged_baseline: bool = False  # b_t may also see the label: all but the action is allowed

    def __post_init__(self) -> None:
        check_sensor(self.glimpse_size, self.num_scales, self.scale_factor)
        if self.glimpse_size > WIDEST_FINE_PATCH:
            raise ValueError(
                f"glimpse_size must be at most {WIDEST_FINE_PATCH} pixels; got "
                f"{self.glimpse_size}. To see more of the image raise num_scales."
            )
        for name in (
            "num_glimpses",
            "num_channels",
            "num_classes",
            "glimpse_hidden",
            "location_hidden",
            "glimpse_features",
            "core_size",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
        for name in ("pixel_mean", "pixel_std"):
            value = getattr(self, name)
            if len(value) not in (0, self.num_channels):
                raise ValueError(
                    f"{name} must have a number for each of the {self.num_channels} channel(s), "
                    f"or none; got {len(value)}."
                )
        if not all(std > 0 for std in self.pixel_std):
            raise ValueError(f"pixel_std must be above 0; got {self.pixel_std}.")
        if self.core not in CORES:
            raise ValueError(f"core must be one of {', '.join(CORES)}; got {self.core!r}.")
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}; got {self.policy!r}.")
        for name in ("glimpse_gain", "scale_gain"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} must be above 0; got {getattr(self, name)!r}. Plain averages: pass 1."
                )
        if not self.location_gradient >= 0:
            raise ValueError(
                f"location_gradient must be at least 0; got {self.location_gradient!r}."
            )
        if not self.location_std > 0:
            raise ValueError(
                f"location_std must be above 0; got {self.location_std!r}. "
                "For a policy without noise call the model in eval mode."
            )


class CoreState(NamedTuple):
    """What the core remembers between glimpses.

    Attributes:
        hidden: ``(B, core_size)``, h.
        cell: ``(B, core_size)``, the LSTM's cell; None with the rectifier core.
    """

    hidden: Tensor
    cell: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> CoreState:
        """The state with a function applied to each of its tensors."""
        return CoreState(function(self.hidden), None if self.cell is None else function(self.cell))

    def forget(self, fresh: Tensor) -> CoreState:
        """The state with nothing remembered where ``(B,)`` bool says that a stream begins."""
        return self.map(lambda part: part * ~fresh[:, None])


class GlimpseNetwork(nn.Module):
    """g = relu(Linear(h_g) + Linear(h_l)) with h_g = relu(Linear(rho)), h_l = relu(Linear(l)).

    An average over a coarse box dims what is smaller than the box, down to where the first layer
    hardly feels it; ``scale_gain`` makes up for that. ``glimpse_gain`` does for a scene that is
    nearly all black, as a game's. ``pixel_mean`` and ``pixel_std``, of the training images, are
    applied here and not to the images: what lies outside an image stays a 0 that is known exactly.
    """

    gains: Tensor
    mean: Tensor

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        pixels = config.num_scales * config.num_channels * config.glimpse_size**2
        steps = torch.arange(config.num_scales).view(-1, 1, 1, 1)
        std = torch.tensor(config.pixel_std or (1.0,)).view(-1, 1, 1)
        gains = config.glimpse_gain * config.scale_gain**steps / std
        self.register_buffer("gains", gains, persistent=False)
        mean = torch.tensor(config.pixel_mean or (0.0,)).view(-1, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.plain = bool((gains == 1).all())
        self.centred = bool((mean == 0).all())
        self.from_pixels = nn.Linear(pixels, config.glimpse_hidden)
        self.from_location = nn.Linear(2, config.location_hidden)
        self.pixels_to_features = nn.Linear(config.glimpse_hidden, config.glimpse_features)
        self.location_to_features = nn.Linear(config.location_hidden, config.glimpse_features)

    def forward(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        """``(B, S, C, G, G)`` glimpses and ``(B, 2)`` locations to ``(B, glimpse_features)``."""
        if not self.centred:
            glimpses = glimpses - self.mean
        if not self.plain:
            glimpses = glimpses * self.gains
        pixels = torch.relu_(self.from_pixels(glimpses.flatten(1)))
        places = torch.relu_(self.from_location(locations))
        return torch.relu_(
            sum_of_linear(self.pixels_to_features, pixels, self.location_to_features, places)
        )


def sum_of_linear(one: nn.Linear, inputs: Tensor, other: nn.Linear, others: Tensor) -> Tensor:
    """``one(inputs) + other(others)``, the second product added to the first in its place."""
    total = nn.functional.linear(inputs, one.weight, one.bias + other.bias)
    # In bfloat16 autocast, PyTorch makes the types of operations alike, but not of those in place.
    return total.addmm_(others.to(total.dtype), other.weight.t().to(total.dtype))


class RNNCore(nn.Module):
    """The rectifier core: h_t = relu(Linear(h_{t-1}) + Linear(g_t)).

    It starts as a perfect memory, with the identity from h_{t-1} to h_t (Le et al. 2015,
    arXiv 1504.00941); the paper does not say how its own starts.
    """

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        self.from_hidden = nn.Linear(config.core_size, config.core_size)
        self.from_features = nn.Linear(config.glimpse_features, config.core_size)
        nn.init.eye_(self.from_hidden.weight)
        nn.init.zeros_(self.from_hidden.bias)

    def forward(self, features: Tensor, state: CoreState) -> CoreState:
        """``(B, glimpse_features)`` and the last state to the next state."""
        hidden = sum_of_linear(self.from_features, features, self.from_hidden, state.hidden)
        return CoreState(torch.relu_(hidden))


class LSTMCore(nn.Module):
    """The LSTM core, the paper's for Catch; its forget gate starts open (bias 1)."""

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(config.glimpse_features, config.core_size)
        with torch.no_grad():
            # PyTorch adds two biases; gates are in the order input, forget, cell, output.
            self.cell.bias_hh.zero_()
            self.cell.bias_ih.zero_()
            self.cell.bias_ih[config.core_size : 2 * config.core_size] = 1.0

    def forward(self, features: Tensor, state: CoreState) -> CoreState:
        """``(B, glimpse_features)`` and the last state to the next state."""
        cell = torch.zeros_like(state.hidden) if state.cell is None else state.cell
        return CoreState(*self.cell(features, (state.hidden, cell)))


class LocationPolicy(nn.Module):
    """pi(l | h): a Gaussian of fixed standard deviation with mean Linear(h).

    With a ``location_gradient`` a sample also carries the gradient of what is made of it to its
    mean (through `GlimpseSensor.slopes`), beside REINFORCE: near a digit it says with less noise
    which way to move. It is bounded, image by image and look by look: it passes from each look to
    the ones before, and without a bound a few steep places drown the rest, and then it explodes.
    """

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        self.mean = nn.Linear(config.core_size, 2)
        self.location_gradient = config.location_gradient

    def first(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """The first location, before anything is seen: uniform (§4.1); ``(B, 2)`` as ``like``."""
        return uniform_locations(like, generator)

    def forward(
        self, hidden: Tensor, std: float | Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Choose the next location: a sample in training mode, the mean in eval mode.

        Args:
            hidden: ``(B, core_size)``.
            std: the standard deviation, in normalized coordinates; a number, or a ``()`` tensor.
            generator: source of the noise; PyTorch's global one if None.

        Returns:
            The location, ``(B, 2)``, clamped into the image, without gradient unless there is a
            ``location_gradient``; and the choice before it was clamped, ``(B, 2)``, for `score`.
        """
        followed = bool(self.training and self.location_gradient and torch.is_grad_enabled())
        with torch.set_grad_enabled(followed):
            mean = self._mean(hidden)
        choice = mean.detach()
        if self.training:
            noise = random_rows(torch.randn, mean.shape, generator, mean.device)
            choice = choice + std * noise
        location = choice.clamp(-1, 1)
        if followed:
            location = location + (mean - mean.detach())
            location.register_hook(lambda pull: self._pull(pull, choice))  # type: ignore[no-untyped-call]
        return location, choice

    def score(self, hidden: Tensor, choice: Tensor, std: float | Tensor) -> Tensor:
        """The log-probability of choices, which carries REINFORCE's gradient.

        Args:
            hidden: ``(..., core_size)``, what was chosen from.
            choice: ``(..., 2)``, before it was clamped.
            std: the standard deviation then.

        Returns:
            ``(...)`` float32.
        """
        return gaussian_log_prob(choice, self._mean(hidden), std)

    def _mean(self, hidden: Tensor) -> Tensor:
        # In bfloat16 a location would have too few digits to name a pixel.
        with torch.autocast(hidden.device.type, enabled=False):
            mean: Tensor = self.mean(hidden.float())
        return mean

    def _pull(self, gradient: Tensor, choice: Tensor) -> Tensor:
        """What of the gradient ``(B, 2)`` of a mean over B images moves the gaze.

        Nothing that pulls it farther out of the image: there the location is clamped and the
        gradient says nothing, yet followed it would carry the mean off for good. And of the rest
        no more than the bound, image by image.
        """
        outwards = ((choice >= 1) & (gradient < 0)) | ((choice <= -1) & (gradient > 0))
        inside = gradient.masked_fill(outwards, 0)
        norms = inside.norm(dim=1, keepdim=True)
        bound = self.location_gradient / len(inside)
        pull: Tensor = inside * (bound / norms.clamp(min=1e-12)).clamp(max=1)
        return pull


class RandomPolicy(nn.Module):
    """The paper's control: every location uniform over the image, whatever was seen."""

    def first(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """See `LocationPolicy.first`."""
        return uniform_locations(like, generator)

    def forward(
        self, hidden: Tensor, _std: float | Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `LocationPolicy.forward`."""
        choice = uniform_locations(hidden, generator)
        return choice, choice

    def score(self, _hidden: Tensor, choice: Tensor, _std: float | Tensor) -> Tensor:
        """See `LocationPolicy.score`; the density over [-1, 1] x [-1, 1] is 1/4."""
        return choice.new_full(choice.shape[:-1], math.log(1 / 4))


class CenterPolicy(nn.Module):
    """A control that the paper leaves out: every location is the image's centre."""

    def first(self, like: Tensor, _generator: torch.Generator | None) -> Tensor:
        """The centre; see `LocationPolicy.first`."""
        return like.new_zeros((len(like), 2), dtype=torch.float32)

    def forward(
        self, hidden: Tensor, _std: float | Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `LocationPolicy.forward`."""
        choice = self.first(hidden, generator)
        return choice, choice

    def score(self, _hidden: Tensor, choice: Tensor, _std: float | Tensor) -> Tensor:
        """See `LocationPolicy.score`; what is certain has a log-probability of 0."""
        return choice.new_zeros(choice.shape[:-1])


def make_policy(config: RAMConfig) -> LocationPolicy | RandomPolicy | CenterPolicy:
    """The location policy that a configuration names."""
    if config.policy == "learned":
        return LocationPolicy(config)
    return RandomPolicy() if config.policy == "random" else CenterPolicy()


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


class BaselineHead(nn.Module):
    """b_t: the return expected before the next decision, from h_t.

    Its gradient stops at h_t where a supervised term shapes the core; an agent that has nothing but
    reward learns what to remember from it (``detach_baseline``).

    Linear in h_t, as in the paper. With ``privileged_baseline`` a small network that is also
    told the label: a baseline leaves REINFORCE unbiased as long as it does not depend on the
    action, and one that knows how well the label is already recognized explains far more of the
    return. It is used in training alone.
    """

    HIDDEN = 128

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        self.detached = config.detach_baseline
        self.privileged = config.privileged_baseline
        self.num_classes = config.num_classes
        if self.privileged:
            self.network: nn.Module = nn.Sequential(
                nn.Linear(config.core_size + config.num_classes + 1, self.HIDDEN),
                nn.ReLU(),
                nn.Linear(self.HIDDEN, 1),
            )
        else:
            self.network = nn.Linear(config.core_size, 1)

    def forward(self, hidden: Tensor, logits: Tensor, labels: Tensor | None) -> Tensor:
        """Expected return.

        Args:
            hidden: ``(..., B, core_size)``, h_t.
            logits: ``(..., B, K)``, the answer that h_t would give.
            labels: ``(B,)`` int64; the model's own belief takes their place if None.

        Returns:
            ``(..., B)`` float32.
        """
        inputs = hidden.detach() if self.detached else hidden
        if self.privileged:
            log_beliefs = logits.detach().float().log_softmax(-1)
            if labels is None:
                belief = log_beliefs.exp()
            else:
                belief = nn.functional.one_hot(labels, self.num_classes).to(log_beliefs)
                belief = belief.expand_as(log_beliefs)
            # Far below -3 the answer is hopeless, and how far does not matter.
            known = (belief * log_beliefs).sum(-1, keepdim=True).clamp(min=-3)
            inputs = torch.cat([inputs, belief.to(inputs), known.to(inputs)], dim=-1)
        expected: Tensor = self.network(inputs).squeeze(-1).float()
        return expected
