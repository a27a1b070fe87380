"""What is exported: a model as one graph, with what is done to the images before it looks.

The glimpses are unrolled: there is no loop, and the batch and the images' height and width are left
open. The graph reads windows from the images, as `GlimpseSensor` does for a single look. It has no
randomness: it takes the policy's mean, and its first location is an input. Each sense beside the
image is one more input, ``sense_NAME``, last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from foveal.model.attention import RecurrentAttention
from foveal.model.rollout import repeats
from foveal.scene.preparation import Preparation

CHECK_SEED = 1406
OPEN_SIZES = {0: "batch", 2: "height", 3: "width"}  # of the images, by dimension
MEANINGS = {
    "first_location": "(x, y) of the first look, -1 and +1 the image's edges, clamped to these; "
    "one for all images or one for each; the centre if not given",
    "location": "(x, y) to look at, -1 and +1 the image's edges, clamped to these; where "
    "next_location said; of a model that zooms also the scale, from -1, the finest, to +1",
    "fresh": "whether a game or stream begins with this image: its state is then of no account, "
    "nor is location, if the model chooses the first look",
    "logits": "after the last glimpse; of a sequence, of each answer, one after another",
    "probabilities": "of the classes, after each glimpse",
    "locations": "(x, y) looked at, or (x, y, zoom)",
    "next_location": "(x, y) to look at next, or (x, y, zoom)",
    "stop": "the probability of stopping here, which the model does from 0.5 on",
}


class Exportable(nn.Module):
    """A model in eval mode as one graph, with what is done to the images."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    num_glimpses = 1
    state: tuple[str, ...] = ()  # names of its parts among the inputs
    first_state: Mapping[str, list[float]] = MappingProxyType({})  # of parts that are not zeros

    def __init__(self, model: RecurrentAttention, prepare: Preparation) -> None:
        super().__init__()
        self.model, self.prepare = model, prepare
        self.widths = model.senses.widths  # of each sense
        self.sensed = tuple(f"sense_{name}" for name in self.widths)  # their inputs

    def expected(self, inputs: Sequence[Tensor], got: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What PyTorch makes of the inputs of an exported model, which answered ``got``."""
        raise NotImplementedError

    def example(self, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Random inputs, for as many images of this size."""
        generator = torch.Generator().manual_seed(CHECK_SEED)
        shape = (batch, self.model.config.num_channels, height, width)
        images = torch.rand(shape, generator=generator)
        if self.prepare.uint8:
            images = (256 * images).to(torch.uint8)
        # Some of them outside the image, which are clamped.
        size = (batch, self.model.location_size)
        location = torch.rand(size, generator=generator) * 2.4 - 1.2
        example = {"images": images, "first_location": location, "location": location}
        example["fresh"] = torch.rand(batch, generator=generator) < 0.5
        sizes = [*zip(self.state, self.model.state_sizes, strict=bool(self.state))]
        sizes += zip(self.sensed, self.widths.values(), strict=True)
        for name, count in sizes:
            example[name] = torch.rand(batch, count, generator=generator)
        return tuple(example[name] for name in self.inputs)

    def senses(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Those among the inputs, the last of them, by name."""
        return dict(zip(self.widths, inputs[len(inputs) - len(self.widths) :], strict=True))

    def about(self) -> dict[str, Any]:
        """What a file says of it: its metadata."""
        made = {"foveal": asdict(self.model.config), "num_glimpses": self.num_glimpses}
        return made | {"images": asdict(self.prepare)}


class UnrolledGlimpses(Exportable):
    """T glimpses with the mean policy."""

    inputs: tuple[str, ...] = ("images", "first_location")
    outputs: tuple[str, ...] = ("logits", "probabilities", "locations")

    def __init__(self, model: RecurrentAttention, prepare: Preparation, num_glimpses: int) -> None:
        super().__init__(model, prepare)
        self.num_glimpses = num_glimpses
        first = () if self._chooses_first() else ("first_location",)
        self.inputs = ("images", *first, *self.sensed)
        if model.stop_head is not None:
            self.outputs += ("stop",)

    def forward(self, images: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """``(B, C, H, W)`` images, a ``(B, 2)`` or ``(1, 2)`` location and senses to the `outputs`.

        ``(B, K)`` logits after the last glimpse, or ``(B, A, K)`` of each of a sequence of answers;
        ``(B, T, K)`` probabilities after each glimpse; the ``(B, T, 2)`` locations looked at; and
        ``(B, T)``, the probability of stopping after each, if the model decides that. A model that
        chooses its first location takes none.
        """
        return self._look(images, others, None)

    def expected(self, inputs: Sequence[Tensor], got: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What PyTorch makes of each look that an exported model took: no rounding adds up."""
        return self._look(inputs[0], inputs[1:], got[2])

    @torch.no_grad()
    def _chooses_first(self) -> bool:
        """Whether the policy or the context says where to look first."""
        model = self.model
        side = 1 if model.context is None else model.context.side
        weight = model.action_head.weight
        thumbnail = model.thumbnail(weight.new_zeros(1, model.config.num_channels, side, side))
        given = model.first_state(1, thumbnail)[1]
        return model.location_policy.chooses_first or given is not None

    def _look(
        self, images: Tensor, others: Sequence[Tensor], path: Tensor | None
    ) -> tuple[Tensor, ...]:
        images, senses, first = self.prepare(images), self.senses(others), None
        if "first_location" in self.inputs:
            first = others[0].clamp(-1, 1).expand(images.shape[0], 2)
        location, state = self.model.begin(images, location=first)
        locations, hidden, answers = [], [], self.model.config.max_answers
        for look in range(self.num_glimpses * answers):
            locations.append(location)
            place = location if path is None else path[:, look]
            state = self.model.look(images, place, state, senses).state
            hidden.append(state[0])
            state = self.model.asked(state, look + 1, self.num_glimpses)
            location = self.model.decide(state).location
        seen = torch.stack(hidden)
        logits = self.model.action_head(seen)
        stops = self.model.stops(seen, logits)
        if self.model.config.distinct:
            logits = logits - repeats(logits, self.num_glimpses)
        each = logits.transpose(0, 1)
        last = each[:, self.num_glimpses - 1 :: self.num_glimpses] if answers > 1 else each[:, -1]
        told = (last, each.softmax(-1), torch.stack(locations, 1))
        return told if stops is None else (*told, stops.sigmoid().t())


class OneGlimpse(Exportable):
    """One step of a stream: what an agent needs of a frame."""

    def __init__(self, model: RecurrentAttention, prepare: Preparation) -> None:
        super().__init__(model, prepare)
        state = model.core.state_names
        if len(state) != len(model.state_sizes):
            state = ("hidden", *(f"state_{i}" for i in range(1, len(model.state_sizes))))
        self.state = state
        first = {name: part[0] for name, part in zip(state, model.core.initial(1), strict=True)}
        self.first_state = {name: part.tolist() for name, part in first.items() if part.any()}
        self.begins = () if model.context is None else ("fresh",)
        self.inputs = ("images", "location", *self.begins, *state, *self.sensed)
        self.outputs = ("logits", "probabilities", "next_location", *(f"next_{s}" for s in state))
        if model.stop_head is not None:
            self.outputs += ("stop",)

    def forward(self, images: Tensor, location: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """``(B, C, H, W)`` frames, ``(B, 2)`` where to look, state and senses to the `outputs`.

        With a context ``(B,)`` bool before the state: what begins with its frame, of which the
        context is told as by `RecurrentAttention.begin_where`.
        ``(B, K)`` logits and probabilities, ``(B, 2)`` where to look next, the state, ``(B,
        size)`` each, and ``(B,)`` the probability of stopping if the model decides that.
        """
        images, location = self.prepare(images), location.clamp(-1, 1)
        count, senses = len(self.model.state_sizes), self.senses(others)
        state = others[len(self.begins) :][:count]
        if self.begins:
            fresh, thumbnail = others[0], self.model.thumbnail(images)
            start, first = self.model.first_state(images.shape[0], thumbnail)
            if first is None and self.model.location_policy.chooses_first:
                first = self.model.decide(start).location
            if first is not None:  # or it is random, and location says which
                location = torch.where(fresh[:, None], first, location)
            state = self.model.renewed(fresh, start, state)
        step = self.model.step(images, location, state, senses=senses)
        given = (step.logits, step.logits.softmax(-1), step.next_location, *step.state[:count])
        return given if step.stop is None else (*given, step.stop)

    def about(self) -> dict[str, Any]:
        """See `Exportable.about`: what the core's state begins with, where that is not zeros."""
        return super().about() | ({"first_state": self.first_state} if self.first_state else {})

    def expected(self, inputs: Sequence[Tensor], _got: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What PyTorch makes of the inputs."""
        outputs: tuple[Tensor, ...] = self(*inputs)
        return outputs
