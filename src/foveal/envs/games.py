"""Any Gymnasium vector environment of images and discrete actions, as tensors."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from foveal.fields import check_fields
from foveal.names import import_here, nearest


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how it is made.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    # id of a Gymnasium environment; MODULE:ID imports MODULE first, as MODULE.py in this directory
    env: str = "foveal/Catch-v0"
    env_options: tuple[str, ...] = ()  # what its maker is given, as in size=48 speed=0.5
    # Where the channels of its images are; auto: the axis that is shorter than both others.
    env_channels: Literal["auto", "first", "last"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)


class Turn(NamedTuple):
    """What one action in each of B games led to.

    Attributes:
        images: ``(B, C, H, W)`` float in [0, 1], the scene after it.
        rewards: ``(B,)`` float.
        played: ``(B,)`` bool; False where the game had ended before, and the action only began the
            next one (Gymnasium's `AutoresetMode.NEXT_STEP`).
        terminated: ``(B,)`` bool, whether the game ended by its rules: nothing follows. Also where
            it was cut short and its last scene is not to be had.
        over: ``(B,)`` bool, whether it ended, by its rules or cut short.
        fresh: ``(B,)`` bool, whether the images begin another game.
        info: the environment's own.
        final_images: as the images, but of games that are over the last scene; from it what follows
            can be estimated where a game was cut short. None where the images themselves show it,
            or no game is over.
    """

    images: Tensor
    rewards: Tensor
    played: Tensor
    terminated: Tensor
    over: Tensor
    fresh: Tensor
    info: dict[str, Any]
    final_images: Tensor | None = None


class Games:
    """B games of one environment, in step with one another.

    Args:
        config: which environment.
        num_envs: B.
        device: where the images go.

    Attributes:
        image_shape: ``(C, H, W)``.
        num_actions: how many there are.

    Raises:
        ValueError: if there is no such environment, it takes no such options, or it observes
            anything but images, or its actions are not discrete.
    """

    def __init__(
        self, config: EnvConfig, num_envs: int, device: torch.device | str = "cpu"
    ) -> None:
        self.num_envs, self.device = num_envs, torch.device(device)
        self.vector = _make(config, num_envs)
        self._to_images, self.image_shape = _reader(config, self.vector)
        actions = self.vector.single_action_space
        if not isinstance(actions, gymnasium.spaces.Discrete):
            raise ValueError(
                f"the actions of {config.env} must be discrete (gymnasium.spaces.Discrete); got "
                f"{actions}. Choose another environment, or wrap it."
            )
        self.num_actions, self._first_action = int(actions.n), int(actions.start)
        mode = self.vector.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if mode == AutoresetMode.DISABLED:
            raise ValueError(
                f"{config.env} must start ended games itself; its autoreset_mode is DISABLED. "
                "Make it with another."
            )
        self._at_once = mode == AutoresetMode.SAME_STEP
        self._ended = torch.ones(num_envs, dtype=torch.bool)

    def reset(self, seed: int) -> tuple[Tensor, dict[str, Any]]:
        """Begin all games anew; the images, as in `Turn`, and the environment's info."""
        observations, info = self.vector.reset(seed=seed)
        self._ended.zero_()
        return self._to_images(observations).to(self.device), info

    def step(self, actions: Tensor) -> Turn:
        """One action, ``(B,)`` int64, in each game."""
        chosen = actions.cpu().numpy() + self._first_action
        observations, rewards, terminated, truncated, info = self.vector.step(chosen)
        ended = torch.from_numpy(terminated | truncated)
        before, self._ended = self._ended, ended & (not self._at_once)
        final_images = None
        if self._at_once and ended.any():
            last, known = _final(observations, info)
            terminated = terminated | (truncated & ~known)
            final_images = self._to_images(last).to(self.device)
        return Turn(
            images=self._to_images(observations).to(self.device),
            rewards=torch.from_numpy(rewards).float().to(self.device),
            played=~before.to(self.device),
            terminated=torch.from_numpy(terminated).to(self.device),
            over=ended.to(self.device),
            fresh=(ended if self._at_once else before).to(self.device),
            info=info,
            final_images=final_images,
        )

    @property
    def all_over(self) -> bool:
        """Whether every game has ended, and none has begun anew."""
        return bool(self._ended.all())

    def close(self) -> None:
        """End what the environment holds: processes, windows."""
        self.vector.close()


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """``size=48`` and the like as keyword arguments; a value is Python's, or else text.

    Raises:
        ValueError: if there is no ``=``.
    """
    options = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name.isidentifier():
            raise ValueError(f"env options must be NAME=VALUE, such as size=48; got {word!r}.")
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            options[name] = text
    return options


def _make(config: EnvConfig, num_envs: int) -> VectorEnv[Any, Any, Any]:
    options = read_options(config.env_options)
    module, sign, _ = config.env.partition(":")
    if sign:
        import_here(module)
    elif config.env not in gymnasium.registry:
        _register_announced()
    try:
        return gymnasium.make_vec(config.env, num_envs=num_envs, **options)
    except gymnasium.error.UnregisteredEnv as problem:
        hint = nearest(config.env, gymnasium.registry, cutoff=0.5)
        raise ValueError(
            f"env must be the id of a Gymnasium environment; got {config.env!r}. {problem}{hint} "
            "One that a package registers on import is MODULE:ID."
        ) from None
    except (gymnasium.error.Error, ImportError, TypeError) as problem:
        options_given = f" with {' '.join(config.env_options)}" if config.env_options else ""
        raise ValueError(
            f"env {config.env!r} could not be made{options_given}: {problem}"
        ) from problem


@functools.cache
def _register_announced() -> None:
    """Register the environments that installed packages announce, as MinAtar does."""
    for point in importlib.metadata.entry_points(group="gymnasium.envs"):
        point.load()()


def _final(
    observations: NDArray[Any], info: dict[str, Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The observations with the last of each game in place of another's first; which are known."""
    last, known = observations.copy(), np.zeros(len(observations), dtype=bool)
    for game, final in enumerate(info.get("final_obs", ())):
        if final is not None and info.get("_final_obs", known | True)[game]:
            last[game], known[game] = final, True
    return last, known


def _reader(
    config: EnvConfig, vector: VectorEnv[Any, Any, Any]
) -> tuple[Any, tuple[int, int, int]]:
    """From the observations of B games to ``(B, C, H, W)`` in [0, 1], and ``(C, H, W)``."""
    space: Any = vector.single_observation_space
    shape = space.shape or ()
    box = isinstance(space, gymnasium.spaces.Box)
    if not box or len(shape) not in (2, 3) or not _has_known_range(space):
        raise ValueError(
            f"the observations of {config.env} must be images: a Box of (height, width) or "
            "(height, width, channels), of uint8, bool, or numbers from 0 to 1; got "
            f"{space}. Choose another environment, or wrap it."
        )
    axis = 0 if len(shape) == 2 else _channel_axis(config, shape)
    low = float(space.low.min())
    scale = float(space.high.max()) - low

    def to_images(observations: NDArray[Any]) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(observations)).float()
        images = images.unsqueeze(1) if len(shape) == 2 else images.movedim(axis + 1, 1)
        return (images - low) / scale

    if len(shape) == 2:
        return to_images, (1, *shape)
    height, width = (length for place, length in enumerate(shape) if place != axis)
    return to_images, (shape[axis], height, width)


def _channel_axis(config: EnvConfig, shape: tuple[int, ...]) -> int:
    """Where the channels are among three axes: 0 or 2."""
    if config.env_channels != "auto":
        return 0 if config.env_channels == "first" else 2
    if shape[0] < min(shape[1:]):
        return 0
    if shape[2] < min(shape[:2]):
        return 2
    raise ValueError(
        f"the observations of {config.env} have the shape {shape}: whether the channels are first "
        "or last cannot be told from it. Pass --env-channels first or last."
    )


def _has_known_range(space: Any) -> bool:
    low, high = space.low, space.high
    if space.dtype in (np.uint8, np.bool_):
        return bool(low.min() < high.max())
    floats = np.issubdtype(space.dtype, np.floating)
    return bool(floats and (low >= 0).all() and (high <= 1).all() and low.min() < high.max())
