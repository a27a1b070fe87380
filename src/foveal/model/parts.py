"""The parts of the recurrent attention model (Mnih et al. 2014, §3), each asked for one thing.

Shapes: B images, C channels, S scales, G pixels a side of a patch, T glimpses, K classes, A answers
(1 unless ``RAMConfig.max_answers`` says otherwise, `foveal.model.rollout`). With
``RAMConfig.zoom`` S is 1, and locations are ``(..., 3)``: x, y, and the zoom that says which scale
was read (`foveal.geometry.to_scales`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foveal import geometry
from foveal.model.checks import (
    check_given,
    check_state_sizes,
    named,
    readable,
)
from foveal.model.config import RAMConfig
from foveal.model.context import CONTEXTS, COORDINATES, Context, ContextOutput
from foveal.model.core import CORES, Core, State
from foveal.model.glimpse import GLIMPSE_NETWORKS, GlimpseScaling
from foveal.model.policy import POLICIES, Policy, ZoomPolicy, followed
from foveal.model.pretrained import Pretrained
from foveal.model.rollout import Decision
from foveal.model.senses import Sensed, SenseNetworks
from foveal.model.sensor import GlimpseSensor
from foveal.model.stop import StopHead
from foveal.scene import Images, as_scene


class Parts(Pretrained):
    """What the model is made of, and what each part gives of a state; a step asks them in turn.

    Args:
        config: its sizes and parts; the paper's by default. Weights start at random, from PyTorch's
            global generator.

    Attributes:
        sensor: the retina, rho.
        glimpse_network: f_g, from a glimpse and its location to features.
        senses: of what is known beside the image; nothing as published.
        core: f_h, what is remembered.
        location_policy: f_l, where to look next.
        action_head: f_a, the answer.
        stop_head: whether to stop looking; None unless ``RAMConfig.stop``.
        context: what a coarse look at the whole tells before the first glimpse; None as published.
        config, loaded_from, about: see `foveal.model.pretrained.Pretrained`.
    """

    def __init__(self, config: RAMConfig) -> None:
        super().__init__(config)
        size, scales, channels = config.glimpse_size, config.num_scales, config.num_channels
        self.sensor = GlimpseSensor(size, scales, config.scale_factor)
        self.scaling = GlimpseScaling(
            scales, config.pixel_mean, config.pixel_std, config.glimpse_gain, config.scale_gain
        )
        widths = [config.glimpse_features, config.glimpse_hidden, config.location_hidden]
        self.location_size = 3 if config.zoom else 2
        if config.zoom:
            widths.append(self.location_size)
            if not GLIMPSE_NETWORKS.takes(config.glimpse_network, 1 + len(widths)):
                raise ValueError(
                    f"with zoom a glimpse network takes one size more, {self.location_size} numbers"
                    f" of a location; {config.glimpse_network!r} does not. Choose another: "
                    "--glimpse-network mlp."
                )
        self.glimpse_network: nn.Module = GLIMPSE_NETWORKS.make(
            config.glimpse_network,
            (config.scales_read, channels, size, size),
            *widths,
            settings=config.glimpse_settings,
        )
        self.senses = SenseNetworks(config.senses, config.sense_features)
        self.core: Core = CORES.make(
            config.core,
            config.glimpse_features + self.senses.size,
            config.core_size,
            settings=config.core_settings,
        )
        first = self.core.initial(1)
        check_given(config, "core", "initial state", first[0], config.core_size, 1)
        self.state_sizes = tuple(part.shape[-1] for part in first)
        self.context: Context | None = CONTEXTS.make(
            config.context,
            channels + COORDINATES,
            self.state_sizes,
            settings=config.context_settings,
        )
        widths, self.reads_map = [config.core_size], POLICIES[config.policy].reads_map
        if self.reads_map:
            widths.append(0 if self.context is None else self.context.map_channels)
            if not widths[1]:
                raise ValueError(
                    f"{named(config, 'policy')} reads a context's feature map, and "
                    f"{named(config, 'context')} makes none. Choose one that does: --context conv."
                )
        self.location_policy: Policy = POLICIES.make(
            config.policy, *widths, settings=config.policy_settings
        )
        if config.zoom:
            self.location_policy = ZoomPolicy(self.location_policy, config.core_size, scales)
        self.action_head = nn.Linear(config.core_size, config.num_classes)
        # What is added to h when each answer but the first is begun.
        later = config.max_answers - 1
        self.questions = nn.Parameter(torch.zeros(later, config.core_size)) if later else None
        self.stop_head = StopHead(config.core_size) if config.stop else None

    def thumbnail(self, images: Images) -> Tensor | None:
        """What the context reads of images, ``(B, C + 2, side, side)``; None without a context.

        It is less the mean and divided by the deviation that the configuration gives, as glimpses
        are. The last two channels say where in the image each of its pixels lies.
        """
        if self.context is None:
            return None
        scene, side = as_scene(images), self.context.side
        device = self.action_head.weight.device
        pixels = scene.thumbnail(side).to(device)
        sizes = scene.height, scene.width
        places = geometry.thumbnail_places(*sizes, side, device, scene.box(side)).to(device)
        if self.config.pixel_mean or self.config.pixel_std:
            normalized = (pixels - self.scaling.mean) / self.scaling.std
            pixels = normalized * geometry.begins_inside(places)
        places = places.to(pixels).expand(pixels.shape[0], -1, -1, -1)
        return torch.cat([pixels, places], dim=1)

    def first_state(
        self, batch_size: int, thumbnail: Tensor | None = None
    ) -> tuple[State, Tensor | None]:
        """The state before the first glimpse, and perhaps where that is, from `thumbnail`'s.

        Raises:
            ValueError: if there is a context, and no thumbnail; or it gives a state of other sizes.
        """
        if self.context is None:
            return self.core.initial(batch_size), None
        if thumbnail is None:
            raise ValueError(
                f"{named(self.config, 'context')} makes the first state of the image: begin a "
                "stream with `location, state = model.begin(images)`."
            )
        state, location, feature_map = ContextOutput(*self.context(thumbnail))
        check_state_sizes(self.config, state, self.state_sizes, named(self.config, "context"))
        if location is not None:
            location = self._given_first("context", location, state)
        if not self.reads_map:
            return state, location
        channels = COORDINATES + self.context.map_channels + self.context.map_prior
        if feature_map is None or feature_map.shape[1] != channels:
            got = None if feature_map is None else tuple(feature_map.shape)
            raise ValueError(
                f"{named(self.config, 'context')} must give a feature map of (B, {channels}, h, w)"
                f"; got {got}."
            )
        if self.location_policy.marks:
            seen = torch.zeros_like(feature_map[:, 0], dtype=torch.uint8)
            return (*state, feature_map, seen), location
        return (*state, feature_map), location

    def _given_first(self, part: str, location: Tensor, state: State) -> Tensor:
        """A first location that a part of the model gives, brought into the image."""
        sizes = self.location_size, state[0].shape[0]
        return check_given(self.config, part, "the first location", location, *sizes).clamp(-1, 1)

    def initial_state(self, batch_size: int) -> State:
        """The core's state before the first glimpse, of a model without a context.

        Raises:
            ValueError: if there is a context, which makes it of the image; see `begin`.
        """
        return self.first_state(batch_size)[0]

    def maps(self, state: State) -> State:
        """What of a state the policy reads beside h: a feature map, and which cells were seen."""
        return state[len(self.state_sizes) :]

    def for_policy(self, state: State) -> Tensor:
        """What of a state the policy decides from: see `Core.for_policy`, which gets no maps."""
        return self.core.for_policy(state[: len(self.state_sizes)])

    def _maps(self, state: State, before: Sequence[State]) -> State:
        """`maps` of all decisions: one feature map, and the ``(D, B, h, w)`` cells seen by then."""
        maps = self.maps(state)
        return (*maps[:1], torch.stack([each[-1] for each in before])) if maps[1:] else maps

    def perceive(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        """What the glimpse network makes of ``(B, S, C, G, G)`` glimpses at ``(B, 2)``; (B, F)."""
        if not self.scaling.nothing:
            glimpses = self.scaling(glimpses, self.sensor.chosen(locations))
        features: Tensor = self.glimpse_network(glimpses, locations)
        sizes = self.config.glimpse_features, locations.shape[0]
        return check_given(self.config, "glimpse_network", "features", features, *sizes)

    def remember(self, features: Tensor, state: State, senses: Sensed | None = None) -> State:
        """The core's next state, from a glimpse's features and what is sensed beside it."""
        count = len(self.state_sizes)
        features = self.senses(features, senses)
        after: State = self.core(features, state[:count])
        check_given(
            self.config, "core", "next state", after[0], self.config.core_size, features.shape[0]
        )
        return (*after, *state[count:])

    def asked(self, state: State, looks: int, each: int) -> State:
        """The state in which the next look is decided, after so many, ``each`` for an answer.

        That of the next answer where one was just given and another follows, else the same.
        """
        answer, rest = divmod(looks, each)
        if rest or self.questions is None or answer > len(self.questions):
            return state
        return (state[0] + self.questions[answer - 1], *state[1:])

    def decide(
        self,
        state: State,
        std: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Decision:
        """Where to look next: a sample of the policy in training mode, its mean in eval mode."""
        std = self._std(std)
        bound = self.config.location_gradient
        follows = bool(self.training and bound and torch.is_grad_enabled())
        with torch.set_grad_enabled(follows):
            mean, choice = self.location_policy(
                self._detached(self.for_policy(state)), std, generator, *self.maps(state)
            )
        check_given(self.config, "policy", "choice", choice, self.location_size, state[0].shape[0])
        if follows and mean.requires_grad:
            return Decision(followed(choice, mean, bound), choice)
        return Decision(choice.clamp(-1, 1), choice)

    def score(
        self,
        hidden: Tensor,
        choices: Tensor,
        std: float | Tensor | None = None,
        *maps: Tensor,
    ) -> Tensor:
        """The log-probabilities of `decide`'s choices, which carry REINFORCE's gradient.

        Args:
            hidden: ``(..., B, H)``, what the core showed the policy (`Core.for_policy`).
            choices: ``(..., B, 2)``, before they were clamped.
            std: then; the configuration's if None.
            maps: of the B images (`maps`), where the policy reads them.

        Returns:
            ``(..., B)`` float32.
        """
        return self.location_policy.score(self._detached(hidden), choices, self._std(std), *maps)

    def stops(self, hidden: Tensor, logits: Tensor) -> Tensor | None:
        """The log-odds of stopping after looks that left h so; None without a `stop_head`."""
        return None if self.stop_head is None else self.stop_head(hidden, logits)

    def _std(self, given: float | Tensor | None) -> float | Tensor:
        std = self.config.location_std if given is None else given
        if readable(std) and not std > 0:
            raise ValueError(f"location_std must be above 0; got {float(std)}.")
        return std

    def _detached(self, hidden: Tensor) -> Tensor:
        return hidden.detach() if self.config.detach_policy else hidden
