"""The recurrent attention model (Mnih et al. 2014, §3): glimpse network, core, and three heads.

Shapes: B images, C channels, S scales, G pixels a side of a patch, T glimpses, K classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from foveal import checkpoint
from foveal.sensor import GlimpseSensor, PreparedImages, check_sensor

CORES = ("rnn", "lstm")
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
    scale_gain: float = 1.0  # scale i enters the first layer times this to the i; 1 as published
    num_glimpses: int = 7  # looks at an image before the answer
    num_channels: int = 1  # of the images
    num_classes: int = 10  # of the answer
    glimpse_hidden: int = 128  # units of h_g, from the pixels
    location_hidden: int = 128  # units of h_l, from the location
    glimpse_features: int = 256  # units of g, the glimpse network's output
    core: Literal["rnn", "lstm"] = "rnn"  # rectifier RNN (classification) or LSTM
    core_size: int = 256  # units of h
    location_std: float = 0.1  # of the Gaussian location policy, in normalized coordinates
    detach_policy: bool = True  # stop the location head's gradient at h, as in the paper's hybrid
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
        if self.core not in CORES:
            raise ValueError(f"core must be one of {', '.join(CORES)}; got {self.core!r}.")
        if not self.scale_gain > 0:
            raise ValueError(
                f"scale_gain must be above 0; got {self.scale_gain!r}. Plain averages: pass 1."
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


class Step(NamedTuple):
    """What one glimpse gives.

    Attributes:
        logits: ``(B, K)``, the answer if this were the last glimpse.
        next_location: ``(B, 2)`` in [-1, 1], where to look next: a sample in training mode, the
            policy's mean in eval mode. Carries no gradient.
        log_prob: ``(B,)``, of the sample *before* it was clamped into the image.
        baseline: ``(B,)``, the return expected before `next_location` was chosen.
        state: the core's, for the next step.
    """

    logits: Tensor
    next_location: Tensor
    log_prob: Tensor
    baseline: Tensor
    state: CoreState


class Rollout(NamedTuple):
    """T glimpses at each of a batch of images. T glimpses take T - 1 decisions.

    Attributes:
        logits: ``(B, K)``, after the last glimpse.
        step_logits: ``(B, T, K)``, after each glimpse.
        locations: ``(B, T, 2)``, the places looked at, the first included.
        log_probs: ``(B, T-1)``, of locations 2 to T, taken before clamping.
        baselines: ``(B, T-1)``, the return expected when each of them was chosen.
        state: the core's, after the last glimpse.
    """

    logits: Tensor
    step_logits: Tensor
    locations: Tensor
    log_probs: Tensor
    baselines: Tensor
    state: CoreState


class GlimpseNetwork(nn.Module):
    """g = relu(Linear(h_g) + Linear(h_l)) with h_g = relu(Linear(rho)), h_l = relu(Linear(l)).

    An average over a coarse box dims what is smaller than the box, down to where the first layer
    hardly feels it; ``scale_gain`` makes up for that.
    """

    gains: Tensor

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        pixels = config.num_scales * config.num_channels * config.glimpse_size**2
        gains = config.scale_gain ** torch.arange(config.num_scales).view(-1, 1, 1, 1)
        self.register_buffer("gains", gains, persistent=False)
        self.from_pixels = nn.Linear(pixels, config.glimpse_hidden)
        self.from_location = nn.Linear(2, config.location_hidden)
        self.pixels_to_features = nn.Linear(config.glimpse_hidden, config.glimpse_features)
        self.location_to_features = nn.Linear(config.location_hidden, config.glimpse_features)

    def forward(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        """``(B, S, C, G, G)`` glimpses and ``(B, 2)`` locations to ``(B, glimpse_features)``."""
        if len(self.gains) > 1:  # the finest scale's is 1
            glimpses = glimpses * self.gains
        pixels = torch.relu(self.from_pixels(glimpses.flatten(1)))
        places = torch.relu(self.from_location(locations))
        return torch.relu(self.pixels_to_features(pixels) + self.location_to_features(places))


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
        return CoreState(torch.relu(self.from_hidden(state.hidden) + self.from_features(features)))


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
    """pi(l | h): a Gaussian of fixed standard deviation with mean Linear(h)."""

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        self.mean = nn.Linear(config.core_size, 2)

    def forward(
        self, hidden: Tensor, std: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Choose the next location: a sample in training mode, the mean in eval mode.

        Args:
            hidden: ``(B, core_size)``.
            std: the standard deviation, in normalized coordinates.
            generator: source of the noise; PyTorch's global one if None.

        Returns:
            The location, ``(B, 2)``, clamped into the image, without gradient; and ``(B,)``, the
            log-probability of the choice before it was clamped, which carries the gradient.
        """
        mean = self.mean(hidden).float()
        choice = mean.detach()
        if self.training:
            noise = torch.randn(
                mean.shape, generator=generator, device=mean.device, dtype=mean.dtype
            )
            choice = choice + std * noise
        return choice.clamp(-1, 1), gaussian_log_prob(choice, mean, std)


def gaussian_log_prob(value: Tensor, mean: Tensor, std: float) -> Tensor:
    """Log-density of ``(B, 2)`` values under independent Gaussians; ``(B,)``."""
    variance = std * std
    squares = (value - mean).square().sum(-1)
    return squares * (-0.5 / variance) - torch.log(torch.tensor(2 * torch.pi * variance)).item()


class BaselineHead(nn.Module):
    """b_t: the return expected before the next decision, from h_t without gradient.

    Linear in h_t, as in the paper. With ``privileged_baseline`` a small network that is also
    told the label: a baseline leaves REINFORCE unbiased as long as it does not depend on the
    action, and one that knows how well the label is already recognized explains far more of the
    return. It is used in training alone.
    """

    HIDDEN = 128

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
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
            hidden: ``(B, core_size)``, h_t.
            logits: ``(B, K)``, the answer that h_t would give.
            labels: ``(B,)`` int64; the model's own belief takes their place if None.

        Returns:
            ``(B,)`` float32.
        """
        inputs = hidden.detach()
        if self.privileged:
            log_beliefs = logits.detach().float().log_softmax(-1)
            if labels is None:
                belief = log_beliefs.exp()
            else:
                belief = nn.functional.one_hot(labels, self.num_classes).to(log_beliefs)
            # Far below -3 the answer is hopeless, and how far does not matter.
            known = (belief * log_beliefs).sum(-1, keepdim=True).clamp(min=-3)
            inputs = torch.cat([inputs, belief.to(inputs), known.to(inputs)], dim=-1)
        expected: Tensor = self.network(inputs).squeeze(-1).float()
        return expected


class RecurrentAttention(nn.Module):
    """The recurrent attention model: looks, remembers, decides where to look next, answers.

    Example::

        model = RecurrentAttention(RAMConfig(glimpse_size=12, num_scales=3, num_glimpses=8))
        rollout = model(images, generator=torch.Generator().manual_seed(0))
        rollout.logits, rollout.locations
    """

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        self.config = config
        self.sensor = GlimpseSensor(config.glimpse_size, config.num_scales, config.scale_factor)
        self.glimpse_network = GlimpseNetwork(config)
        self.core = RNNCore(config) if config.core == "rnn" else LSTMCore(config)
        self.location_policy = LocationPolicy(config)
        self.action_head = nn.Linear(config.core_size, config.num_classes)
        self.baseline_head = BaselineHead(config)

    def forward(
        self,
        images: Tensor,
        *,
        num_glimpses: int | None = None,
        first_location: Tensor | None = None,
        labels: Tensor | None = None,
        location_std: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """Look T times at each image: sampled locations in training mode, means in eval mode.

        Args:
            images: ``(B, C, H, W)`` float in [0, 1].
            num_glimpses: T; the configuration's if None. It may differ from training.
            first_location: ``(B, 2)`` in [-1, 1]; uniformly random if None, as in the paper.
            labels: ``(B,)`` int64, read by a privileged baseline alone, never by what looks or
                answers; such a baseline takes the model's own belief for them if None.
            location_std: overrides the configuration's, for annealing.
            generator: source of all randomness, on the images' device; the global one if None.

        Raises:
            ValueError: if a shape, type or number is not as above.
        """
        config = self.config
        num_glimpses = config.num_glimpses if num_glimpses is None else num_glimpses
        if num_glimpses < 1:
            raise ValueError(f"num_glimpses must be at least 1; got {num_glimpses}.")
        if images.ndim == 4 and images.shape[1] != config.num_channels:
            raise ValueError(
                f"images must have {config.num_channels} channel(s), as the model was made for; "
                f"got {images.shape[1]}."
            )
        prepared = self.sensor.prepare(images)
        batch = images.shape[0]
        location = first_location
        if location is None:
            location = torch.rand(batch, 2, generator=generator, device=images.device) * 2 - 1
        std = config.location_std if location_std is None else location_std
        state = self.initial_state(batch)
        locations, logits, log_probs, baselines = [], [], [], []
        for t in range(num_glimpses):
            locations.append(location)
            state = self._look(prepared, location, state)
            logits.append(self.action_head(state.hidden))
            if t + 1 < num_glimpses:
                location, log_prob = self._choose(state, std, generator)
                log_probs.append(log_prob)
                baselines.append(self.baseline_head(state.hidden, logits[-1], labels))
        no_decision = images.new_zeros((batch, 0), dtype=torch.float32)
        return Rollout(
            logits=logits[-1],
            step_logits=torch.stack(logits, dim=1),
            locations=torch.stack(locations, dim=1),
            log_probs=torch.stack(log_probs, dim=1) if log_probs else no_decision,
            baselines=torch.stack(baselines, dim=1) if baselines else no_decision,
            state=state,
        )

    def count_parameters(self) -> int:
        """Number of trained numbers, the baseline's included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def count_multiply_adds(self) -> int:
        """Multiply-adds of one glimpse: every layer once, the sensor's sums left out."""
        return sum(
            parameter.numel()
            for name, parameter in self.named_parameters()
            if parameter.ndim == 2 and not name.startswith("baseline_head")  # of training alone
        )

    def count_pixels_read(self, num_glimpses: int | None = None) -> int:
        """Numbers that T glimpses bring in from one image: T S C G G, whatever the image's size."""
        config = self.config
        looks = config.num_glimpses if num_glimpses is None else num_glimpses
        return looks * config.num_scales * config.num_channels * config.glimpse_size**2

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a directory, each in one step.

        Raises:
            OSError: if they cannot be written.
        """
        checkpoint.save_model(Path(directory), self, {"model": asdict(self.config)})

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> RecurrentAttention:
        """Load what `save_pretrained` or a finished run wrote, in eval mode. Runs no code of it.

        Raises:
            FileNotFoundError: if the directory lacks a file.
            ValueError: if a file is damaged or another program's.
        """
        directory = Path(directory)
        content = checkpoint.read_config(directory)
        where = str(directory / checkpoint.CONFIG_FILE)
        config = checkpoint.config_from_dict(RAMConfig, content.get("model"), where)
        model = cls(config)
        checkpoint.load_weights(directory, model)
        return model.eval()

    def initial_state(self, batch_size: int) -> CoreState:
        """The core's state before the first glimpse: zeros."""
        weight = self.action_head.weight
        zeros = weight.new_zeros((batch_size, self.config.core_size))
        return CoreState(zeros, zeros if self.config.core == "lstm" else None)

    def step(
        self,
        images: Tensor | PreparedImages,
        location: Tensor,
        state: CoreState,
        *,
        generator: torch.Generator | None = None,
    ) -> Step:
        """One glimpse at each image: the unit of streams (video, robots, games).

        From ``(B, C, H, W)`` images the cost does not grow with their size; from what
        ``model.sensor.prepare(images)`` made of them a look is cheaper still, which pays from
        the second look at the same images.

        Args:
            images: ``(B, C, H, W)`` float in [0, 1], or prepared images.
            location: ``(B, 2)``, where to look.
            state: from `initial_state` or the last step.
            generator: source of the policy's noise (training mode).
        """
        state = self._look(images, location, state)
        next_location, log_prob = self._choose(state, self.config.location_std, generator)
        logits = self.action_head(state.hidden)
        baseline = self.baseline_head(state.hidden, logits, None)
        return Step(logits, next_location, log_prob, baseline, state)

    def _look(
        self, images: Tensor | PreparedImages, location: Tensor, state: CoreState
    ) -> CoreState:
        glimpses = self.sensor(images, location)
        new_state: CoreState = self.core(self.glimpse_network(glimpses, location), state)
        return new_state

    def _choose(
        self, state: CoreState, std: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        hidden = state.hidden.detach() if self.config.detach_policy else state.hidden
        choice: tuple[Tensor, Tensor] = self.location_policy(hidden, std, generator)
        return choice
