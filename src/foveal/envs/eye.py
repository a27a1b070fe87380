"""What `foveal.envs.Fovea` and `FoveaVector` share: spaces, aiming, seeing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from numpy.typing import NDArray

from foveal.envs.actions import WHOLE, choices, of_space
from foveal.envs.observations import NUMBERS, Screen, Sense
from foveal.model.sensor import GlimpseSensor
from foveal.names import Range, check_fields, choose, shortened
from foveal.scene.screens import Screens

GLIMPSE, MOTOR, GAZE = "glimpse", "motor", "gaze"
Seen = dict[str, Any]


@dataclass(frozen=True)
class FoveaConfig:
    """An eye: what it sees at once, and how it is told where to look.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    glimpse_size: int = 8  # pixels a side of the finest patch
    num_scales: int = 3  # patches, each scale_factor times as wide as the last
    scale_factor: int = 2  # ratio between neighbouring scales
    gaze: Literal["absolute", "relative"] = "absolute"  # a place, or a move from the last one
    reach: float = 0.5  # of a relative gaze, each way; the screen is 2 wide
    grid: int = 0  # a gaze is one of so many places, or moves, a side; 0: any
    flat: bool = False  # one flat space of actions, for trainers that know no Dict
    channels: Literal["auto", "first", "last"] = "auto"  # auto: the axis shorter than both others

    def __post_init__(self) -> None:
        check_fields(self, reach=Range(0, 2, above=True), grid=Range(0, 1024))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> FoveaConfig:
        """Of settings by name; `ValueError` if there is none of a name."""
        for name in settings:
            choose(name, [field.name for field in fields(cls)], "setting")
        return cls(**settings)


class Eye:
    """What `Fovea` and `FoveaVector` share: spaces, aiming, seeing.

    Args:
        config: of the eye.
        observations: of one environment.
        actions: of one environment.
        name: of the environment, for people.

    Attributes:
        screen: the image among the observations.
        sensor: the retina.
        observations: the space of what is seen.
        actions: the space of motor and gaze.

    Raises:
        ValueError: see `Fovea`.
    """

    def __init__(
        self,
        config: FoveaConfig,
        observations: gymnasium.Space[Any],
        actions: gymnasium.Space[Any],
        name: str,
    ) -> None:
        self.config, self.motor = config, actions
        self.screen = Screen.find(observations, config.channels, name)
        self.sensor = GlimpseSensor(config.glimpse_size, config.num_scales, config.scale_factor)
        side, channels = config.glimpse_size, self.screen.image_shape[0]
        seen: dict[str, gymnasium.Space[Any]] = {
            GLIMPSE: Box(0, 1, (config.num_scales, channels, side, side), np.float32),
            GAZE: Box(-1, 1, (2,), np.float32),
        }
        others = {}
        if self.screen.key is not None:
            others = {key: part for key, part in observations.items() if key != self.screen.key}  # type: ignore[attr-defined]
        self._senses = [
            Sense(key, part) for key, part in others.items() if isinstance(part, NUMBERS)
        ]
        for key in sorted(seen.keys() & others.keys()):
            raise ValueError(
                f"{name} observes {key!r} itself, which is the name of what the fovea sees. Give "
                "it another, as by gymnasium.wrappers.TransformObservation."
            )
        self.observations = Dict(seen | others)
        self.places = _places(config)
        gaze = Discrete(len(self.places)) if config.grid else Box(-1, 1, (2,), np.float32)
        self.actions: gymnasium.Space[Any] = Dict({MOTOR: actions, GAZE: gaze})
        if config.flat:
            self.actions = self._flat(name)

    def middle(self, count: int) -> NDArray[np.float32]:
        """Where a game is first looked at; ``(count, 2)``."""
        return np.zeros((count, 2), dtype=np.float32)

    def others(self, observations: Any, *, batched: bool = True) -> Seen:
        """What there is beside the image in observations of B environments, or of one.

        Raises:
            ValueError: if numbers are not of their space.
        """
        if self.screen.key is None:
            return {}
        for sense in self._senses:
            sense.checked(observations, batched=batched)
        return {key: part for key, part in observations.items() if key != self.screen.key}

    def see(self, screens: Screens, looked: NDArray[np.float32]) -> Seen:
        """Glimpses ``(B, S, C, G, G)`` at ``(B, 2)`` places, and the places."""
        glimpses = self.sensor(screens, torch.from_numpy(looked)).numpy()
        return {GLIMPSE: glimpses, GAZE: looked.copy()}

    def aim(self, looked: NDArray[np.float32], gaze: NDArray[Any]) -> NDArray[np.float32]:
        """Where ``(B, 2)`` gazes look, from where they looked; clamped to the screen."""
        gaze = gaze.clip(-1, 1)
        if self.config.gaze == "relative":
            gaze = (looked + self.config.reach * gaze).clip(-1, 1)
        return gaze.astype(np.float32)

    def split(self, actions: Any, *, batched: bool = True) -> tuple[Any, NDArray[Any]]:
        """Actions of B environments, or of one, as their motor part and ``(B, 2)`` gazes.

        Raises:
            ValueError: if a part is missing, or a gaze is not of its space.
        """
        if self.config.flat:
            motor, gaze = self._unflattened(_array(actions), batched)
        elif isinstance(actions, Mapping) and actions.keys() == {MOTOR, GAZE}:
            motor, gaze = actions[MOTOR], _array(actions[GAZE])
        else:
            got = sorted(map(str, actions)) if isinstance(actions, Mapping) else shortened(actions)
            raise ValueError(
                f'an action must be {{"motor": ..., "gaze": ...}}; got {got}. For trainers that '
                "know no Dict pass flat=True."
            )
        gaze = gaze if batched else gaze[None]
        return motor, self._placed(gaze) if self.config.grid else _numbers(gaze)

    def draw(self, screens: Screens, looked: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]:
        """Each screen with the squares of where it is looked at, ``(height, width, 3)`` bytes."""
        from foveal.model.drawn import looked_at  # noqa: PLC0415 (slow to import)

        places = torch.from_numpy(looked)
        return tuple(
            np.asarray(looked_at(image, place, self.sensor))
            for image, place in zip(screens.whole(), places, strict=True)
        )

    def _placed(self, chosen: NDArray[Any]) -> NDArray[np.float64]:
        """The places, or moves, of numbers on the grid."""
        whole = chosen.ndim == 1 and np.issubdtype(chosen.dtype, np.integer)
        if not whole or (chosen < 0).any() or (chosen >= len(self.places)).any():
            raise ValueError(
                f"a gaze on a grid of {self.config.grid} x {self.config.grid} must be a whole "
                f"number from 0 to {len(self.places) - 1}; got {shortened(chosen.tolist())}."
            )
        places: NDArray[np.float64] = self.places[chosen]
        return places

    def _flat(self, name: str) -> gymnasium.Space[Any]:
        """Motor and gaze in one space of the kind that the motor's is."""
        motor, gaze = self.motor, len(self.places)
        if isinstance(motor, WHOLE) and self.config.grid:
            return MultiDiscrete([*choices(motor), gaze])
        if isinstance(motor, Box) and motor.dtype.kind == "f" and not self.config.grid:
            low, high = np.append(motor.low, [-1, -1]), np.append(motor.high, [1, 1])
            return Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
        fits = isinstance(motor, WHOLE) or (isinstance(motor, Box) and motor.dtype.kind == "f")
        other = "grid=0, or " if self.config.grid else "grid=5, or "
        raise ValueError(
            f"a flat space of actions has whole numbers only, or floats only: with {motor} of "
            f"{name} a gaze with grid={self.config.grid} does not go. Pass "
            f"{other if fits else ''}flat=False."
        )

    def _unflattened(self, actions: NDArray[Any], batched: bool) -> tuple[Any, NDArray[Any]]:
        wanted = self.actions.shape
        if actions.shape[batched:] != wanted:
            raise ValueError(f"an action must be of the shape {wanted}; got {actions.shape}.")
        motor: Any = self.motor
        if not isinstance(motor, Box):
            return of_space(motor, actions[..., :-1]), actions[..., -1]
        shape = (*actions.shape[:batched], *motor.shape)
        return actions[..., :-2].reshape(shape).astype(motor.dtype), actions[..., -2:]


def _places(config: FoveaConfig) -> NDArray[np.float64]:
    """The places of a grid, in the middle of its cells, or its moves, row by row; ``(N, 2)``."""
    side = config.grid
    line = (2 * np.arange(side) + 1) / max(side, 1) - 1
    if config.gaze == "relative":
        line = np.linspace(-1, 1, side) if side > 1 else np.zeros(side)
    return np.stack([np.tile(line, side), np.repeat(line, side)], axis=1)


def _array(value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as problem:  # lists of several lengths
        raise ValueError(
            f"gazes and flat actions must be arrays of numbers; got {shortened(value)}."
        ) from problem


def _numbers(gaze: NDArray[Any]) -> NDArray[Any]:
    """``(B, 2)`` gazes, of which none is not a number."""
    got, where = gaze.tolist(), ""
    if gaze.ndim == 2 and gaze.shape[1] == 2 and gaze.dtype.kind in "fiu":
        missing = np.flatnonzero(np.isnan(gaze).any(1))
        if not len(missing):
            return gaze
        got = got[missing[0]]
        where = f" for environment {missing[0]} of {len(gaze)}" if len(gaze) > 1 else ""
    raise ValueError(
        f"a gaze must be two numbers, (x, y), from -1 to 1; got {shortened(got)}{where}."
    )
