"""The recurrent attention model (Mnih et al. 2014, §3): one step, and the rollout over an image.

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
    check_images,
    check_state_sizes,
    checked_place,
    named,
    readable,
)
from foveal.model.config import RAMConfig, check_looks
from foveal.model.context import CONTEXTS, COORDINATES, Context, ContextOutput
from foveal.model.core import CORES, Core, State
from foveal.model.cost import counted
from foveal.model.glimpse import GLIMPSE_NETWORKS, GlimpseScaling
from foveal.model.policy import POLICIES, Policy, ZoomPolicy, followed
from foveal.model.pretrained import Pretrained
from foveal.model.rollout import Decision, Look, Rollout, Step, repeats
from foveal.model.senses import Sensed, SenseNetworks
from foveal.model.sensor import GlimpseSensor
from foveal.model.stop import StopHead
from foveal.scene import Images, Scene, as_scene


class RecurrentAttention(Pretrained):
    """The recurrent attention model: looks, remembers, decides where to look next, answers.

    In training mode locations are samples of the policy, in eval mode its means.

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

    Examples:
        >>> model = RecurrentAttention(RAMConfig(glimpse_size=12, num_scales=3, num_glimpses=8))
        >>> rollout = model(torch.rand(2, 1, 60, 80))
        >>> rollout.logits.shape, rollout.locations.shape
        (torch.Size([2, 10]), torch.Size([2, 8, 2]))
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

    def forward(
        self,
        images: Images,
        *,
        senses: Sensed | None = None,
        num_glimpses: int | None = None,
        first_location: Tensor | None = None,
        location_std: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """Look at each image, T times an answer: sampled locations in training, means in eval mode.

        Args:
            images: ``(B, C, H, W)`` float in [0, 1]; or images of different sizes in one tensor
                (`foveal.geometry.pad_images`), where locations are each image's own; or B sources,
                of which only what is looked at is read (`foveal.scene.files`); or a scene.
            senses: what is known beside the images, ``(B, width)`` of each of the configuration's
                senses, by name.
            num_glimpses: of each answer; the configuration's if None. It may differ from training.
            first_location: ``(B, 2)`` in [-1, 1]; if None the context's or the policy's: uniformly
                random, as in the paper, unless the policy is "center", reads a map or zooms.
            location_std: overrides the configuration's, for annealing; a number, or a ``()`` tensor
                on the images' device.
            generator: source of all randomness, on the images' device; the global one if None.

        Raises:
            ValueError: if a shape, type or number is not as above, or a source is damaged.
            OSError: if a source cannot be read.
        """
        config = self.config
        check_looks(num_glimpses, config.max_answers)
        num_glimpses = config.num_glimpses if num_glimpses is None else num_glimpses
        total = num_glimpses * config.max_answers
        scene = self._scene(images)
        std = self._std(location_std)
        (location, choice), state, decided = self._begin(scene, generator, first_location, std)
        scene = self.sensor.prepare(scene)
        locations, looks, given = [], [], []
        choices, before = ([choice], [state]) if decided else ([], [])
        for t in range(total):
            locations.append(location)
            looks.append(self.look(scene, location, state, senses))
            state = looks[-1].state
            if t + 1 < total:
                answered, state = state, self.asked(state, t + 1, num_glimpses)
                given += [] if state is answered else [answered[0]]
                location, choice = self.decide(state, std, generator)
                choices.append(choice)
                before.append(state)
        # What does not decide where to look next is computed for all glimpses at once.
        logits = self.action_head(state[0])
        prior_logits = logits.new_zeros((0, *logits.shape))
        hidden = state[0].new_zeros((0, *state[0].shape))
        log_probs = hidden.new_zeros(hidden.shape[:2], dtype=torch.float32)
        if choices:
            hidden = torch.stack([state[0] for state in before])
            prior_logits = self.action_head(hidden)
            read = [self.for_policy(state) for state in before]
            same = all(part is state[0] for part, state in zip(read, before, strict=True))
            log_probs = self.score(
                hidden if same else torch.stack(read),
                torch.stack(choices),
                std,
                *self._maps(state, before),
            )
        step_logits = torch.cat([prior_logits[decided:], logits[None]])
        if given:  # before the next was asked for
            step_logits[num_glimpses - 1 : -1 : num_glimpses] = self.action_head(torch.stack(given))
        if config.distinct:
            taken = repeats(step_logits, num_glimpses)
            step_logits, prior_logits = step_logits - taken, prior_logits - taken[1 - decided :]
            logits = step_logits[-1]
        stops = self.stops(torch.cat([hidden[decided:], state[0][None]]), step_logits)
        return Rollout(
            logits=logits,
            step_logits=step_logits.transpose(0, 1),
            locations=torch.stack(locations, dim=1),
            log_probs=log_probs.t(),
            baselines=torch.zeros_like(log_probs).t(),
            state=state,
            hidden=hidden.transpose(0, 1),
            features=[look.features for look in looks],
            prior_logits=prior_logits.transpose(0, 1),
            num_answers=config.max_answers,
            stop_logits=None if stops is None else stops.t(),
        )

    # --- One step, which rollouts, streams, agents and exported models all take -------------------

    def begin(
        self,
        images: Images,
        generator: torch.Generator | None = None,
        location: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Where to look first, and the core's state before that.

        Args:
            images: B images, as for `forward`.
            generator: source of randomness.
            location: ``(B, 2)``, where to look first; the context's or the policy's choice if None.

        Returns:
            ``(B, 2)`` locations in [-1, 1], and the state.

        Raises:
            ValueError: as `forward`.
        """
        decision, state, _ = self._begin(self._scene(images), generator, location)
        return decision.location, state

    def _begin(
        self,
        scene: Scene,
        generator: torch.Generator | None,
        location: Tensor | None,
        std: float | Tensor | None = None,
    ) -> tuple[Decision, State, bool]:
        """`begin`'s location and state, and whether the policy decided on the location."""
        state, chosen = self.first_state(scene.batch_size, self.thumbnail(scene))
        location = chosen if location is None else checked_place(location)
        if location is None and self.location_policy.chooses_first:
            return self.decide(state, std, generator), state, True
        if location is None:
            first = self.location_policy.first(state, generator)
            location = self._given_first("policy", first, state)
        return Decision(location, location), state, False

    def begin_where(
        self,
        fresh: Tensor,
        images: Images,
        location: Tensor,
        state: State,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """`begin` where ``(B,)`` bool says that a stream is fresh; elsewhere it goes on.

        What a context makes of the images now is then added to what is remembered, and a feature
        map is theirs everywhere.
        """
        first, start = self.begin(images, generator)
        return torch.where(fresh[:, None], first, location), self.renewed(fresh, start, state)

    def renewed(self, fresh: Tensor, start: State, state: State) -> State:
        """``start`` where ``(B,)`` bool says that a stream begins, elsewhere ``state``.

        The images may have changed: a feature map is ``start``'s everywhere, and what a context
        makes of them is added to ``state``.
        """
        count, tells = len(self.state_sizes), self.context is not None
        after = (
            torch.where(fresh[:, None], new.to(old.dtype), old + new.to(old.dtype) * tells)
            for new, old in zip(start[:count], state[:count], strict=True)
        )
        return (*after, *start[count:])

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
        sizes = self.location_size, len(state[0])
        return check_given(self.config, part, "the first location", location, *sizes).clamp(-1, 1)

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

    def initial_state(self, batch_size: int) -> State:
        """The core's state before the first glimpse, of a model without a context.

        Raises:
            ValueError: if there is a context, which makes it of the image; see `begin`.
        """
        return self.first_state(batch_size)[0]

    def look(
        self, images: Images, location: Tensor, state: State, senses: Sensed | None = None
    ) -> Look:
        """One glimpse at each image, and what is then remembered.

        Args:
            images: B images, as for `forward`.
            location: ``(B, 2)``, where to look.
            state: before it.
            senses: as for `forward`.

        Raises:
            OSError, ValueError: if an image cannot be read, or the senses are not the model's.
        """
        if location.shape[-1] != self.location_size:
            raise ValueError(
                f"a location must be {self.location_size} numbers, (x, y"
                f"{', zoom' if self.config.zoom else ''}); got {tuple(location.shape)}. The "
                "policy's own come from `model.begin` and `model.step`."
            )
        # The answer's gradient moves the gaze by what it would see, never by where it says it is:
        # that would make a message of the location.
        glimpses = self.sensor(images, location)
        features = self.perceive(glimpses, location.detach())
        after = self.remember(features, state, senses)
        if self.location_policy.marks:
            after = (*after[:-1], self.location_policy.mark(location.detach(), *after[-2:]))
        return Look(glimpses, features, after)

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

    def _std(self, given: float | Tensor | None) -> float | Tensor:
        std = self.config.location_std if given is None else given
        if readable(std) and not std > 0:
            raise ValueError(f"location_std must be above 0; got {float(std)}.")
        return std

    def stops(self, hidden: Tensor, logits: Tensor) -> Tensor | None:
        """The log-odds of stopping after looks that left h so; None without a `stop_head`."""
        return None if self.stop_head is None else self.stop_head(hidden, logits)

    def step(
        self,
        images: Images,
        location: Tensor,
        state: State,
        *,
        senses: Sensed | None = None,
        location_std: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Step:
        """One glimpse at each image: the unit of streams (video, robots, games).

        From ``(B, C, H, W)`` images the cost does not grow with their size; from what
        ``model.sensor.prepare(images)`` made of them a look is cheaper still, which pays from
        the second look at the same images.

        Args:
            images: B images, as for `forward`.
            location: ``(B, 2)``, where to look; beyond the edges, [-1, 1], it is brought to them.
            state: from `begin`, `initial_state` or the last step. Of a model with a context, where
                the images have changed: from `begin_where`, which tells it of them.
            senses: as for `forward`.
            location_std: as for `forward`.
            generator: source of the policy's noise (training mode).

        Raises:
            ValueError: if a shape or type is not as above, or a source is damaged.
            OSError: if a source cannot be read.
        """
        scene = self._scene(images)
        self._check_state(state, "the state", scene.batch_size)
        location = torch.as_tensor(location, dtype=torch.float32, device=state[0].device)
        if readable(location) and bool(location.isnan().any()):
            raise ValueError("a location must be numbers in [-1, 1]; got one that is none (NaN).")
        look = self.look(scene, location.clamp(-1, 1), state, senses)
        decision = self.decide(look.state, location_std, generator)
        hidden = self.for_policy(look.state)
        logits = self.action_head(look.state[0])
        stops = self.stops(look.state[0], logits)
        return Step(
            logits=logits,
            next_location=decision.location,
            log_prob=self.score(hidden, decision.choice, location_std, *self.maps(look.state)),
            state=look.state,
            choice=decision.choice,
            glimpses=look.glimpses,
            stop=None if stops is None else stops.sigmoid(),
        )

    # --- What it costs ----------------------------------------------------------------------------

    def count_multiply_adds(self, num_glimpses: int = 1) -> int:
        """Multiply-adds of T glimpses an answer and of the context; the sensor's means left out.

        Counted in eval mode, which parts of one's own may ask for, as normalization of batches.
        """
        config = self.config
        shape = (1, config.scales_read, config.num_channels, config.glimpse_size)
        weight = self.action_head.weight
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                place = weight.new_zeros(1, self.location_size)
                side = 1 if self.context is None else self.context.side
                thumbnail = self.thumbnail(weight.new_zeros(1, config.num_channels, side, side))
                with counted() as once:
                    state, _ = self.first_state(1, thumbnail)
                with counted() as each:
                    features = self.perceive(weight.new_zeros(*shape, config.glimpse_size), place)
                    senses = {name: place.new_zeros(1, width) for name, width in config.senses}
                    state = self.remember(features, state, senses)
                    self.decide(state, generator=torch.Generator(weight.device))
                    self.stops(state[0], self.action_head(state[0]))
        finally:
            self.train(training)
        return once() + num_glimpses * config.max_answers * each()

    def count_pixels_read(self, num_glimpses: float | None = None) -> int:
        """Numbers that T glimpses an answer bring in from one image, whatever the image's size.

        A T S C G G, or A T C G G where each look is at one scale, and those of a context's
        thumbnail. Of looks that stop T may be their mean.
        """
        config = self.config
        looks: float = config.num_glimpses if num_glimpses is None else num_glimpses
        looks *= config.max_answers
        glimpse = config.scales_read * config.glimpse_size**2
        thumbnail = 0 if self.context is None else self.context.side**2
        return round(config.num_channels * (looks * glimpse + thumbnail))

    def _scene(self, images: Images) -> Scene:
        scene = as_scene(images)
        check_images(self.config, scene, self.action_head.weight.dtype)
        return scene

    def _detached(self, hidden: Tensor) -> Tensor:
        return hidden.detach() if self.config.detach_policy else hidden

    def _check_state(self, state: State, whose: str, batch_size: int) -> None:
        count = len(self.state_sizes)
        if not torch.compiler.is_compiling() and any(len(part) != batch_size for part in state):
            raise ValueError(
                f"{whose} must be of {batch_size} image(s), as there are; got one of "
                f"{[len(part) for part in state]}."
            )
        check_state_sizes(self.config, state[:count], self.state_sizes, whose)
        maps = self.reads_map + self.location_policy.marks
        if len(state) != count + maps:
            raise ValueError(
                f"{whose} must be {count + maps} tensor(s), the core's"
                f"{' and then the feature map' if maps else ''}; got {len(state)}. Begin "
                "a stream with `location, state = model.begin(images)`."
            )
