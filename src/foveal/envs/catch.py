"""Catch (Mnih et al. 2014, §4.2): the dynamics of many games at once, and Gymnasium's view of them.

`CatchGames` holds the rules. `CatchEnv` is one game and `CatchVectorEnv` many, for Gymnasium; both
only translate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from foveal.names import Range, check_fields

ACTIONS = ("left", "stay", "right")
RENDER_MODES = ("rgb_array", "ansi")
LARGEST_SCREEN = 1024  # pixels a side
MOST_PIXELS = 2**27  # of the screens of all games at once


@dataclass(frozen=True)
class CatchConfig:
    """The size and the speed of the game; the paper's by default.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    size: int = 24  # pixels a side of the screen; a game takes size - 1 decisions
    speed: float = 1.0  # largest horizontal velocity of the ball, in pixels a step
    paddle_width: int = 2  # pixels

    def __post_init__(self) -> None:
        check_fields(self, size=Range(2, LARGEST_SCREEN), paddle_width=Range(1, self.size))
        if not 0 <= self.speed <= self.size - 1:
            raise ValueError(
                f"speed must be 0 to {self.size - 1} pixels a step, so that the ball bounces at "
                f"most once in a step; got {self.speed!r}."
            )


class CatchGames:
    """The rules, for B games in step with one another, on a device.

    Attributes:
        x: ``(B,)`` float32, the ball's column, from 0 to ``size - 1``.
        velocity: ``(B,)`` float32, in pixels a step, rightwards.
        paddle: ``(B,)`` int64, the paddle's leftmost column.
        time: the decisions taken, which is also the ball's row.
    """

    def __init__(
        self, config: CatchConfig, batch_size: int, device: torch.device | str = "cpu"
    ) -> None:
        self.config = config
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.length = config.size - 1  # decisions in a game
        self.time = self.length  # over, until `reset`
        self.x = torch.zeros(batch_size, device=self.device)
        self.velocity = torch.zeros_like(self.x)
        self.paddle = torch.zeros(batch_size, dtype=torch.long, device=self.device)
        self._games = torch.arange(batch_size, device=self.device)

    def reset(self, generator: torch.Generator) -> None:
        """Start all games anew, from a generator on their device."""
        shape, size = (self.batch_size,), self.config.size
        on = {"generator": generator, "device": self.device}
        self.x = torch.randint(size, shape, **on).float()  # type: ignore[call-overload]
        self.velocity = (torch.rand(shape, **on) * 2 - 1) * self.config.speed  # type: ignore[call-overload]
        self.paddle = torch.randint(size - self.config.paddle_width + 1, shape, **on)  # type: ignore[call-overload]
        self.time = 0

    def step(self, actions: Tensor) -> Tensor:
        """Play one decision of each game.

        Args:
            actions: ``(B,)`` int64: 0 left, 1 stay, 2 right.

        Returns:
            The reward, ``(B,)`` float32: 1 where this was the last decision and the paddle is under
            the ball, otherwise 0.

        Raises:
            ResetNeeded: if the games are over.
        """
        if self.over:
            raise ResetNeeded("the game is over; call reset() to start another.")
        right = self.config.size - 1
        self.paddle = (self.paddle + actions - 1).clamp_(0, right + 1 - self.config.paddle_width)
        x = self.x + self.velocity
        bounced = x.abs()
        bounced = torch.where(bounced > right, 2 * right - bounced, bounced)
        self.velocity = torch.where(bounced == x, self.velocity, -self.velocity)
        self.x = bounced
        self.time += 1
        if self.time < self.length:
            return torch.zeros_like(x)
        under = self.ball - self.paddle
        return ((under >= 0) & (under < self.config.paddle_width)).float()

    @property
    def over(self) -> bool:
        """Whether the ball has reached the bottom row."""
        return self.time >= self.length

    @property
    def ball(self) -> Tensor:
        """``(B,)`` int64, the column where the ball is drawn: the nearest to its position."""
        return (self.x + 0.5).floor().long()

    def screens(self) -> Tensor:
        """``(B, 1, size, size)`` uint8: 1 where the ball or the paddle is, otherwise 0."""
        size = self.config.size
        screens = torch.zeros(self.batch_size, size * size, dtype=torch.uint8, device=self.device)
        screens[self._games, self.ball + self.time * size] = 1
        bottom = self.paddle + (size - 1) * size
        for pixel in range(self.config.paddle_width):
            screens[self._games, bottom + pixel] = 1
        return screens.view(-1, 1, size, size)


class CatchEnv(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """Catch a falling ball with a paddle, by sight.

    ## Description
    The dynamic environment of Mnih et al. 2014, §4.2. A one-pixel ball falls from the top of a
    24 x 24 binary screen; a two-pixel paddle on the bottom row should be under it when it arrives.

    ## Action space
    `Discrete(3)`: 0 moves the paddle one pixel to the left, 1 leaves it, 2 moves it to the right.
    It stops at the sides.

    ## Observation space
    `Box(0, 255, (24, 24, 1), uint8)`: the screen, rows from the top; 255 where the ball or the
    paddle is, 0 elsewhere.

    ## Info
    `info["ball"]`: the ball's pixel, `(x, y)`; for measuring, not for playing.

    ## Rewards
    1 at the last step if the paddle is under the ball; otherwise 0, at that step and all others.

    ## Starting state
    The ball in the top row at a uniform column, with a horizontal velocity uniform in [-1, 1]
    pixels a step; the paddle at a uniform column.

    ## Dynamics
    The ball falls one row a step. Its column is a real number, drawn at the nearest pixel; where it
    would pass the centre of a side's pixels it is reflected, and so is its velocity.

    ## Episode end
    Terminates when the ball reaches the bottom row, after 23 steps. Never truncates.

    ## Arguments
    `gymnasium.make("foveal/Catch-v0", size=24, speed=1.0, paddle_width=2)`: pixels a side of the
    screen, largest velocity in pixels a step, width of the paddle in pixels.

    ## Version
    v0: as published.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        size: int = 24,
        speed: float = 1.0,
        paddle_width: int = 2,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *RENDER_MODES):
            raise ValueError(
                f"render_mode must be None, {' or '.join(RENDER_MODES)}; got {render_mode!r}."
            )
        self.render_mode = render_mode
        self.games = CatchGames(CatchConfig(size, speed, paddle_width), batch_size=1)
        self.observation_space, self.action_space = _spaces(self.games.config)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start a game; see `gymnasium.Env.reset`. There are no options."""
        super().reset(seed=seed, options=options)
        self.games.reset(_generator(self.np_random))
        return _pixels(self.games)[0], {"ball": _balls(self.games)[0]}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Play one decision; see `gymnasium.Env.step`.

        Raises:
            ValueError: if the action is none of 0, 1 and 2.
            ResetNeeded: if the game is over.
        """
        _check_actions(np.asarray([action]), 1)
        reward = self.games.step(torch.tensor([int(action)]))
        info = {"ball": _balls(self.games)[0]}
        return _pixels(self.games)[0], float(reward), self.games.over, False, info

    def render(self) -> Any:
        """The screen: ``(size, size, 3)`` uint8 with "rgb_array", lines of text with "ansi"."""
        screen = _pixels(self.games)[0]
        if self.render_mode == "rgb_array":
            return screen.repeat(3, axis=2)
        if self.render_mode == "ansi":
            return "\n".join(
                "".join("#" if pixel else "." for pixel in row[:, 0]) for row in screen
            )
        return None


class CatchVectorEnv(VectorEnv[NDArray[np.uint8], NDArray[np.int64], NDArray[Any]]):
    """Many games of `CatchEnv` in step with one another.

    All end together; the step after the last starts new ones, whatever the actions (Gymnasium's
    `AutoresetMode.NEXT_STEP`).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        size: int = 24,
        speed: float = 1.0,
        paddle_width: int = 2,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1; got {num_envs}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or rgb_array; got {render_mode!r}.")
        self.render_mode = render_mode
        self.num_envs = num_envs
        config = CatchConfig(size, speed, paddle_width)
        if num_envs * size**2 > MOST_PIXELS:
            raise ValueError(
                f"{num_envs:,} games of {size:,} x {size:,} pixels take too much memory. Play "
                "fewer at once, or smaller ones."
            )
        self.games = CatchGames(config, num_envs)
        self.single_observation_space, self.single_action_space = _spaces(self.games.config)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start all games; see `gymnasium.vector.VectorEnv.reset`. One seed serves all games.

        Raises:
            ValueError: if there is a list of seeds.
        """
        if isinstance(seed, list):
            raise ValueError(f"seed must be one number for all games; got a list of {len(seed)}.")
        super().reset(seed=seed, options=options)
        self.games.reset(_generator(self.np_random))
        return _pixels(self.games), {"ball": _balls(self.games)}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.uint8], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Play one decision of each game; see `gymnasium.vector.VectorEnv.step`.

        Raises:
            ValueError: if the actions are not ``(num_envs,)`` of 0, 1 and 2.
        """
        _check_actions(np.asarray(actions), self.num_envs)
        if self.games.over:
            self.games.reset(_generator(self.np_random))
            rewards = np.zeros(self.num_envs)
        else:
            chosen = torch.from_numpy(np.asarray(actions, dtype=np.int64))
            rewards = self.games.step(chosen).double().numpy()
        over = np.full(self.num_envs, self.games.over)
        info = {"ball": _balls(self.games)}
        return _pixels(self.games), rewards, over, np.zeros_like(over), info

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The screens of all games, each ``(size, size, 3)`` uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(_pixels(self.games).repeat(3, axis=3))


def _spaces(config: CatchConfig) -> tuple[Any, Any]:
    screen = gymnasium.spaces.Box(0, 255, (config.size, config.size, 1), np.uint8)
    return screen, gymnasium.spaces.Discrete(len(ACTIONS))


def _generator(random: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(random.integers(2**63 - 1)))


def _pixels(games: CatchGames) -> NDArray[np.uint8]:
    """The screens as Gymnasium's images: ``(B, size, size, 1)``, 0 or 255."""
    pixels: NDArray[np.uint8] = games.screens().mul_(255).movedim(1, -1).numpy()
    return pixels


def _balls(games: CatchGames) -> NDArray[np.int64]:
    """``(B, 2)``, the ball's pixel: ``(x, y)``."""
    balls: NDArray[np.int64] = torch.stack(
        [games.ball, torch.full_like(games.ball, games.time)], dim=1
    ).numpy()
    return balls


def _check_actions(actions: NDArray[Any], count: int) -> None:
    whole = actions.shape == (count,) and np.issubdtype(actions.dtype, np.integer)
    if not whole or ((actions < 0) | (actions >= len(ACTIONS))).any():
        got = actions.tolist() if actions.size <= 8 else f"an array {actions.shape}"
        raise ValueError(
            f"actions must be {count} whole number(s), 0 (left), 1 (stay) or 2 (right); got {got}."
        )
