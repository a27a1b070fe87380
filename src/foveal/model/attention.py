"""The recurrent attention model (Mnih et al. 2014, §3): one step, and the rollout over an image.

Shapes: see `foveal.model.parts`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.model.checks import (
    check_images,
    check_state_sizes,
    checked_place,
    readable,
)
from foveal.model.config import check_looks
from foveal.model.core import State
from foveal.model.cost import counted
from foveal.model.parts import Parts
from foveal.model.rollout import Decision, Look, Rollout, Step, repeats
from foveal.model.senses import Sensed
from foveal.scene import Images, Scene, as_scene


class RecurrentAttention(Parts):
    """The recurrent attention model: looks, remembers, decides where to look next, answers.

    In training mode locations are samples of the policy, in eval mode its means. It is made of a
    configuration, and has the attributes of `foveal.model.parts.Parts`.

    Examples:
        >>> model = RecurrentAttention(RAMConfig(glimpse_size=12, num_scales=3, num_glimpses=8))
        >>> rollout = model(torch.rand(2, 1, 60, 80))
        >>> rollout.logits.shape, rollout.locations.shape
        (torch.Size([2, 10]), torch.Size([2, 8, 2]))
    """

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
