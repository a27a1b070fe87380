"""What environments observe: which part is the image, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from numpy.typing import NDArray
from torch import Tensor

from foveal.envs.actions import WHOLE, choices
from foveal.scene.screens import Screens

WANTED = (
    "a Box of (height, width), (height, width, channels) or several of them, (number, height, "
    "width, channels), of uint8, bool, or numbers from 0 to 1"
)

NUMBERS = Box | WHOLE  # what senses may be
SLACK = 1e-3  # of its span, by which a value may lie beyond its bounds
WIDEST = 1e6  # that bounds are apart, to be known ones


@dataclass(frozen=True)
class Screen:
    """The image among the observations of an environment.

    Attributes:
        key: its name among them; None where the image is the whole observation.
        shape: as the environment gives it; of four axes the first is of several images, as of
            frames stacked or of the scales of a glimpse, which become channels.
        axis: which of the last three axes has the channels, 0 or 2; None of two axes.
        low: the value that is black.
        span: from black to white.
        name: of the environment, for people.
    """

    key: str | None
    shape: tuple[int, ...]
    axis: int | None
    low: float
    span: float
    name: str

    @classmethod
    def find(cls, space: gymnasium.Space[Any], channels: str, name: str) -> Screen:
        """The one image of a space of observations.

        Args:
            space: of one environment.
            channels: where the channels of its image are: "first", "last", or "auto" for the axis
                that is shorter than both others.
            name: of the environment, for people.

        Raises:
            ValueError: if there is no image, or more than one, or its channels cannot be told.
        """
        parts: dict[Any, Any] = dict(space.items()) if isinstance(space, Dict) else {None: space}
        images = [key for key, part in parts.items() if _is_image(part)]
        if not images:
            raise ValueError(
                f"the observations of {name} must be images, or a Dict with one: {WANTED}; got "
                f"{space}. Choose another environment, or wrap it."
            )
        if len(images) > 1:
            raise ValueError(
                f"the observations of {name} must have one image; got {len(images)}: "
                f"{', '.join(map(str, images))}. Leave one, by "
                "gymnasium.wrappers.FilterObservation."
            )
        (key,), box = images, parts[images[0]]
        axis = None if len(box.shape) == 2 else _channel_axis(channels, box.shape[-3:], name)
        low = float(box.low.min())
        return cls(key, box.shape, axis, low, float(box.high.max()) - low, name)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        if self.axis is None:
            return (1, self.shape[0], self.shape[1])
        *count, first, second, third = self.shape
        several = count[0] if count else 1
        if self.axis == 0:
            return several * first, second, third
        return several * third, first, second

    def part(self, observations: Any) -> Any:
        """The image among observations; `ValueError` if they have none."""
        return observations if self.key is None else _part(observations, self.key, self.name)

    def read(self, observations: Any, *, batched: bool = True) -> Screens:
        """The images of B observations, or of one.

        Raises:
            ValueError: if they have another shape than the environment says, or values that are not
                within its bounds.
        """
        images = np.asarray(self.part(observations))
        images = images if batched else images[None]
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"the images of {self.name} must stay of the shape {self.shape} that its space "
                f"says; got {images.shape[1:]}. Scale them to one size, as by "
                "gymnasium.wrappers.ResizeObservation."
            )
        if not (images.dtype == np.uint8 and self.span == 255):
            slack = self.span * SLACK
            least, most = images.min(), images.max()
            if not (self.low - slack <= least and most <= self.low + self.span + slack):
                raise ValueError(
                    f"the images of {self.name} must stay from {self.low:g} to "
                    f"{self.low + self.span:g}, as its space says; got {least:g} to {most:g}. "
                    "Mend the space, or scale them by a wrapper."
                )
        frames: NDArray[Any] = images[..., None] if self.axis is None else images
        if frames.ndim == 5:
            frames = frames if self.axis == 0 else np.moveaxis(frames, 1, -2)
            channels, height, width = self.image_shape
            merged = (channels, height, width) if self.axis == 0 else (height, width, channels)
            frames = frames.reshape(len(frames), *merged)
        return Screens(frames, self.axis == 0, self.low, self.span)


@dataclass(frozen=True)
class Sense:
    """What an environment observes beside the image, as numbers.

    Whole numbers become one-hot; floats within known bounds are scaled to [-1, 1], others stay.

    Attributes:
        key: its name among the observations.
        space: of one observation.
    """

    key: str
    space: gymnasium.Space[Any]

    @property
    def width(self) -> int:
        """How many numbers it is."""
        return gymnasium.spaces.flatdim(self.space)

    def read(self, observations: Mapping[str, Any]) -> Tensor:
        """``(B, width)`` float32, of B observations; `ValueError` if one is not of its space."""
        values, space = self.checked(observations), self.space
        if isinstance(space, Discrete | MultiDiscrete):
            counts = np.array(choices(space))
            first, chosen = np.cumsum(counts) - counts, values - np.ravel(space.start)
            numbers = np.zeros((len(values), sum(counts)), np.float32)
            np.put_along_axis(numbers, chosen + first, 1, axis=1)
            return torch.from_numpy(numbers)
        numbers = values.astype(np.float32)
        if isinstance(space, Box):
            low, high, known = _bounds(space)
            scaled = 2 * (values - low) / np.where(known, high - low, 1) - 1
            numbers = np.where(known, scaled, values).astype(np.float32)
        return torch.from_numpy(numbers)

    def checked(self, observations: Mapping[str, Any], *, batched: bool = True) -> NDArray[Any]:
        """``(B, n)``, as the environment has them, of B observations, or of one.

        Raises:
            ValueError: if one is not of its space.
        """
        values = np.asarray(_part(observations, self.key, "the environment"))
        values = values.reshape(len(values) if batched else 1, -1)
        space = self.space
        if isinstance(space, Discrete | MultiDiscrete):
            chosen = values - np.ravel(space.start)
            right = (chosen >= 0) & (chosen < choices(space))
        else:
            right = np.isfinite(values)
        if isinstance(space, Box):
            low, high, known = _bounds(space)
            slack = np.where(known, (high - low) * SLACK, SLACK)
            right &= (values >= low - slack) & (values <= high + slack)
        if not right.all():
            game = int(np.flatnonzero(~right.all(1))[0])
            raise ValueError(
                f"the sense {self.key!r} must be of {self.space}; got {values[game].tolist()} of "
                f"environment {game} of {len(values)}. Mend its space, or leave it out "
                "(--env-senses names those that stay)."
            )
        return values


def _bounds(space: Box) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """The least and the most of each number of a space, and whether these are known ones."""
    low, high = space.low.ravel().astype(float), space.high.ravel().astype(float)
    return low, high, (high > low) & (high - low <= WIDEST)


def find_senses(
    space: gymnasium.Space[Any], screen: Screen, wanted: Sequence[str] | None
) -> dict[str, Sense]:
    """What there is beside the image of a space of observations.

    Args:
        space: of one environment.
        screen: its image.
        wanted: the names of those to be used; all if None.

    Raises:
        ValueError: if there is none of a name, or one is of a kind that is no numbers.
    """
    named = space.items() if isinstance(space, Dict) else ()
    parts = {key: part for key, part in named if key != screen.key}
    senses = {}
    for key in parts if wanted is None else wanted:
        if key not in parts:
            listed = ", ".join(map(str, parts)) or "nothing"
            raise ValueError(
                f"{screen.name} has no sense {key!r}; beside the image it has {listed}."
            )
        if not isinstance(parts[key], NUMBERS):
            others = [str(name) for name, part in parts.items() if isinstance(part, NUMBERS)]
            raise ValueError(
                f"the sense {key!r} of {screen.name} must be a Box, Discrete, MultiBinary or "
                f"MultiDiscrete; got {parts[key]}. Leave it out, by "
                f"{' '.join(['--env-senses', *others])}, or encode it by a wrapper."
            )
        senses[key] = Sense(key, parts[key])
    return senses


def _part(observations: Any, key: str, name: str) -> Any:
    """What observations have by a name; `ValueError` if they have it not."""
    if isinstance(observations, Mapping) and key in observations:
        return observations[key]
    kind = f"a {type(observations).__name__}"
    got = ", ".join(map(str, observations)) if isinstance(observations, Mapping) else kind
    raise ValueError(
        f"the observations of {name} must be a Dict with {key!r}, as their space says; got {got}. "
        "Mend the environment, or its space."
    )


def _is_image(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, Box) and len(space.shape) in (2, 3, 4) and _has_known_range(space)


def _channel_axis(channels: str, shape: tuple[int, ...], name: str) -> int:
    """Where the channels are among the three axes of an image: 0 or 2."""
    if channels != "auto":
        return 0 if channels == "first" else 2
    if shape[0] < min(shape[1:]):
        return 0
    if shape[2] < min(shape[:2]):
        return 2
    raise ValueError(
        f"the images that {name} observes have the shape {shape}: whether the channels are first "
        "or last cannot be told from it. Pass --env-channels first or last; to a wrapper, "
        'channels="first" or "last".'
    )


def _has_known_range(space: Any) -> bool:
    low, high = space.low, space.high
    if space.dtype in (np.uint8, np.bool_):
        return bool(low.min() < high.max())
    floats = np.issubdtype(space.dtype, np.floating)
    return bool(floats and (low >= 0).all() and (high <= 1).all() and low.min() < high.max())
