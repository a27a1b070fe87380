"""The recurrent attention model (Mnih et al. 2014, §3): one step, and the rollout over an image.

Shapes: B images, C channels, S scales, G pixels a side of a patch, T glimpses, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from foveal.io import hub
from foveal.io.card import save_with_card
from foveal.io.files import config_from_dict
from foveal.io.models import CONFIG_FILE, load_weights, locate_model, read_config
from foveal.model.layers import (
    BaselineHead,
    CoreState,
    GlimpseNetwork,
    LSTMCore,
    RAMConfig,
    RNNCore,
    make_policy,
)
from foveal.model.sensor import GlimpseSensor, Images
from foveal.scene.sources import PatchSource, check_sources
from foveal.scene.sparse import SparseImages


class Step(NamedTuple):
    """What one glimpse gives.

    Attributes:
        logits: ``(B, K)``, the answer if this were the last glimpse.
        next_location: ``(B, 2)`` in [-1, 1], where to look next: a sample in training mode, the
            policy's mean in eval mode. Carries no gradient but a ``location_gradient``.
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
        glimpse_logits: ``(B, T, K)``, the answer of each glimpse alone, without memory, where the
            model has a ``glimpse_head`` and is in training mode; otherwise None.
    """

    logits: Tensor
    step_logits: Tensor
    locations: Tensor
    log_probs: Tensor
    baselines: Tensor
    state: CoreState
    glimpse_logits: Tensor | None = None


class RecurrentAttention(nn.Module):
    """The recurrent attention model: looks, remembers, decides where to look next, answers.

    In training mode locations are samples of the policy, in eval mode its means.

    Args:
        config: its sizes; the paper's by default. Weights start at random, from PyTorch's global
            generator.

    Attributes:
        sensor: the retina, rho.
        glimpse_network: f_g, from a glimpse and its location to features.
        core: f_h, what is remembered.
        location_policy: f_l, where to look next.
        action_head: f_a, the answer.
        baseline_head: b_t, the return to be expected.
        loaded_from: the directory that `from_pretrained` read, or None.

    Examples:
        >>> model = RecurrentAttention(RAMConfig(glimpse_size=12, num_scales=3, num_glimpses=8))
        >>> rollout = model(torch.rand(2, 1, 60, 80))
        >>> rollout.logits.shape, rollout.locations.shape
        (torch.Size([2, 10]), torch.Size([2, 8, 2]))
    """

    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        self.config = config
        self.loaded_from: Path | None = None  # a directory, by `from_pretrained`
        self.sensor = GlimpseSensor(config.glimpse_size, config.num_scales, config.scale_factor)
        self.glimpse_network = GlimpseNetwork(config)
        self.core = self.make_core()
        self.location_policy = make_policy(config)
        self.action_head = nn.Linear(config.core_size, config.num_classes)
        self.baseline_head = BaselineHead(config)
        if config.glimpse_head:
            self.glimpse_head = nn.Linear(config.glimpse_features, config.num_classes)

    def make_core(self) -> nn.Module:
        """The core that ``config.core`` names; a subclass may return one of its own.

        A core maps ``(B, glimpse_features)`` features and the last `CoreState` to the next one,
        whose ``hidden`` is ``(B, core_size)``. It starts from zeros (`initial_state`).
        """
        return RNNCore(self.config) if self.config.core == "rnn" else LSTMCore(self.config)

    def forward(
        self,
        images: Tensor | SparseImages | Sequence[PatchSource],
        *,
        sizes: Tensor | None = None,
        num_glimpses: int | None = None,
        first_location: Tensor | None = None,
        labels: Tensor | None = None,
        location_std: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """Look T times at each image: sampled locations in training mode, means in eval mode.

        Args:
            images: ``(B, C, H, W)`` float in [0, 1]; or B sources of any sizes, of which only what
                is looked at is read (see `foveal.scene.files`); or sparse images.
            sizes: ``(B, 2)`` int, each image's own height and width, where images of different
                sizes are padded with zeros (see `foveal.geometry.pad_images`); locations are then
                each image's own.
            num_glimpses: T; the configuration's if None. It may differ from training.
            first_location: ``(B, 2)`` in [-1, 1]; the policy's if None: uniformly random, as in the
                paper, unless the policy is "center".
            labels: ``(B,)`` int64, read by a privileged baseline alone, never by what looks or
                answers; such a baseline takes the model's own belief for them if None.
            location_std: overrides the configuration's, for annealing; a number, or a ``()`` tensor
                on the images' device.
            generator: source of all randomness, on the images' device; the global one if None.

        Raises:
            ValueError: if a shape, type or number is not as above, or a source is damaged.
            OSError: if a source cannot be read.
        """
        config = self.config
        num_glimpses = config.num_glimpses if num_glimpses is None else num_glimpses
        if num_glimpses < 1:
            raise ValueError(f"num_glimpses must be at least 1; got {num_glimpses}.")
        self._check_channels(images)
        seen = self.sensor.prepare(images, sizes) if isinstance(images, Tensor) else images
        batch = images.shape[0] if isinstance(images, Tensor) else len(images)
        state = self.initial_state(batch)
        location = first_location
        if location is None:
            location = self.location_policy.first(state.hidden, generator)
        std = config.location_std if location_std is None else location_std
        locations, choices, states, alone = [], [], [], []
        for t in range(num_glimpses):
            locations.append(location)
            features, state = self._look(seen, location, state)
            states.append(state.hidden)
            if config.glimpse_head and self.training:
                alone.append(self.glimpse_head(features))
            if t + 1 < num_glimpses:
                location, choice = self._choose(state, std, generator)
                choices.append(choice)
        # What does not decide where to look next is computed for all glimpses at once.
        logits = self.action_head(state.hidden)
        step_logits = logits[None]
        log_probs = baselines = state.hidden.new_zeros((0, batch), dtype=torch.float32)
        if choices:
            hidden = torch.stack(states[:-1])
            earlier = self.action_head(hidden)
            step_logits = torch.cat([earlier, step_logits])
            log_probs = self._score(hidden, torch.stack(choices), std)
            baselines = self.baseline_head(hidden, earlier, labels)
        return Rollout(
            logits=logits,
            step_logits=step_logits.transpose(0, 1),
            locations=torch.stack(locations, dim=1),
            log_probs=log_probs.t(),
            baselines=baselines.t(),
            state=state,
            glimpse_logits=torch.stack(alone, dim=1) if alone else None,
        )

    def count_parameters(self) -> int:
        """Number of trained numbers, the baseline's included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def count_multiply_adds(self) -> int:
        """Multiply-adds of one glimpse: every layer once, the sensor's means left out."""
        of_training_alone = ("baseline_head", "glimpse_head")
        return sum(
            parameter.numel()
            for name, parameter in self.named_parameters()
            if parameter.ndim == 2 and not name.startswith(of_training_alone)
        )

    def count_pixels_read(self, num_glimpses: int | None = None) -> int:
        """Numbers that T glimpses bring in from one image: T S C G G, whatever the image's size."""
        config = self.config
        looks = config.num_glimpses if num_glimpses is None else num_glimpses
        return looks * config.num_scales * config.num_channels * config.glimpse_size**2

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and a model card, each in one step.

        Where the weights are still those that `from_pretrained` loaded, what was known of them
        goes along: how they were made, what was measured, their card. Of trained ones only the
        names of the classes do.

        Raises:
            OSError: if they cannot be written.
        """
        save_with_card(Path(directory), self, asdict(self.config), self.loaded_from)

    def push_to_hub(self, model_id: str, **options: Any) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub.

        Args:
            model_id: as in "someone/name"; made if it is not there.
            options: of `huggingface_hub.ModelHubMixin.push_to_hub`: ``private``, ``token``,
                ``branch``, ``commit_message``, ``create_pr`` and others.

        Returns:
            The address of the commit.

        Raises:
            OSError: if the Hub refuses it or cannot be reached.
        """
        return hub.push(self.save_pretrained, model_id, **options)

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None) -> Self:
        """Load a model in eval mode, on the CPU. Runs no code of its files.

        Args:
            model: a directory that `save_pretrained` or a finished run wrote; the name of a
                pretrained model (``foveal models`` lists them), as in
                ``RecurrentAttention.from_pretrained("cluttered-60")``; or that of a model on the
                Hugging Face Hub, as in "someone/name", which is downloaded once.
            revision: a branch, a tag or a commit of a model on the Hub.

        Raises:
            FileNotFoundError: if there is no such directory or name, or a file is missing.
            OSError: if the Hub has no such model, or cannot be reached.
            ValueError: if a file is damaged, another program's, or of another network.
        """
        directory = locate_model(model, revision)
        content = read_config(directory)
        where = str(directory / CONFIG_FILE)
        config = config_from_dict(RAMConfig, content.get("model"), where)
        network = cls(config)
        load_weights(directory, network)
        network.loaded_from = directory
        return network.eval()

    def initial_state(self, batch_size: int) -> CoreState:
        """The core's state before the first glimpse: zeros."""
        weight = self.action_head.weight
        zeros = weight.new_zeros((batch_size, self.config.core_size))
        return CoreState(zeros, zeros if self.config.core == "lstm" else None)

    def step(
        self,
        images: Images,
        location: Tensor,
        state: CoreState,
        *,
        sizes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Step:
        """One glimpse at each image: the unit of streams (video, robots, games).

        From ``(B, C, H, W)`` images the cost does not grow with their size; from what
        ``model.sensor.prepare(images)`` made of them a look is cheaper still, which pays from
        the second look at the same images.

        Args:
            images: ``(B, C, H, W)`` float in [0, 1], prepared images, or B sources.
            location: ``(B, 2)``, where to look.
            state: from `initial_state` or the last step.
            sizes: ``(B, 2)``, as for `forward`; prepared images and sources know theirs.
            generator: source of the policy's noise (training mode).

        Raises:
            ValueError: if a shape or type is not as above, or a source is damaged.
            OSError: if a source cannot be read.
        """
        _, state = self._look(images, location, state, sizes)
        std = self.config.location_std
        next_location, choice = self._choose(state, std, generator)
        log_prob = self._score(state.hidden, choice, std)
        logits = self.action_head(state.hidden)
        baseline = self.baseline_head(state.hidden, logits, None)
        return Step(logits, next_location, log_prob, baseline, state)

    def _check_channels(self, images: Tensor | SparseImages | Sequence[PatchSource]) -> None:
        if isinstance(images, Tensor):
            channels = images.shape[1] if images.ndim == 4 else self.config.num_channels
        elif isinstance(images, SparseImages):
            channels = images.num_channels
        else:
            check_sources(images)
            channels = images[0].num_channels
        if channels != self.config.num_channels:
            raise ValueError(
                f"images must have {self.config.num_channels} channel(s), as the model was made "
                f"for; got {channels}."
            )

    def _look(
        self,
        images: Images,
        location: Tensor,
        state: CoreState,
        sizes: Tensor | None = None,
    ) -> tuple[Tensor, CoreState]:
        # The answer's gradient moves the gaze by what it would see, never by where it says it is:
        # that would make a message of the location.
        glimpses = self.sensor(images, location, sizes)
        features: Tensor = self.glimpse_network(glimpses, location.detach())
        return features, self.core(features, state)

    def _choose(
        self, state: CoreState, std: float | Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        choice: tuple[Tensor, Tensor] = self.location_policy(
            self._for_policy(state.hidden), std, generator
        )
        return choice

    def _score(self, hidden: Tensor, choices: Tensor, std: float | Tensor) -> Tensor:
        return self.location_policy.score(self._for_policy(hidden), choices, std)

    def _for_policy(self, hidden: Tensor) -> Tensor:
        return hidden.detach() if self.config.detach_policy else hidden
