from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import foveal
from foveal.envs import CatchConfig, CatchEnv, CatchGames, CatchVectorEnv


class SlowCatch:
    """One game, from the rules in words: the ball's path unfolded, as if the sides were mirrors."""

    def __init__(self, size: int, width: int, x: float, velocity: float, paddle: int) -> None:
        self.size, self.width = size, width
        self.start, self.velocity, self.paddle, self.time = x, velocity, paddle, 0

    @property
    def column(self) -> float:
        right = self.size - 1
        unfolded = (self.start + self.time * self.velocity) % (2 * right)
        return min(unfolded, 2 * right - unfolded)

    def step(self, action: int) -> float:
        self.paddle = min(max(self.paddle + action - 1, 0), self.size - self.width)
        self.time += 1
        if self.time < self.size - 1:
            return 0.0
        covered = range(self.paddle, self.paddle + self.width)
        return float(int(np.floor(self.column + 0.5)) in covered)

    def screen(self) -> np.ndarray:
        screen = np.zeros((self.size, self.size), dtype=np.uint8)
        screen[self.time, int(np.floor(self.column + 0.5))] = 1
        screen[-1, self.paddle : self.paddle + self.width] = 1
        return screen


@pytest.mark.parametrize(
    "config",
    [CatchConfig(), CatchConfig(size=7, speed=3.0, paddle_width=1), CatchConfig(12, 0.0, 12)],
)
def test_many_games_follow_the_rules(config: CatchConfig, generator: torch.Generator) -> None:
    games = CatchGames(config, 300)
    games.reset(generator)
    slow = [
        SlowCatch(config.size, config.paddle_width, x, velocity, paddle)
        for x, velocity, paddle in zip(
            games.x.tolist(), games.velocity.tolist(), games.paddle.tolist(), strict=True
        )
    ]
    for time in range(config.size - 1):
        assert not games.over
        # A ball within rounding of the boundary between two pixels may be drawn in either.
        clear = [abs(game.column % 1 - 0.5) > 1e-4 for game in slow]
        screens = games.screens()[:, 0].numpy()
        for at in np.flatnonzero(clear):
            assert np.array_equal(screens[at], slow[at].screen()), (at, time)
        actions = torch.randint(3, (300,), generator=generator)
        rewards = games.step(actions)
        wanted = [game.step(int(action)) for game, action in zip(slow, actions, strict=True)]
    assert games.over
    clear = [abs(game.column % 1 - 0.5) > 1e-4 for game in slow]
    assert np.mean(clear) > 0.99
    assert rewards[clear].tolist() == np.array(wanted)[clear].tolist()


def test_games_start_as_published(generator: torch.Generator) -> None:
    games = CatchGames(CatchConfig(), 48_000)
    games.reset(generator)
    columns, paddles = games.x.long().bincount(), games.paddle.bincount()
    assert games.x.frac().abs().max() == 0
    assert len(columns) == 24
    assert len(paddles) == 23
    for counts in (columns, paddles):
        expected = 48_000 / len(counts)
        assert (counts - expected).abs().max() < 5 * expected**0.5
    assert games.velocity.abs().max() <= 1
    # Uniform in [-1, 1]: a standard deviation of 1 / sqrt(3), and no tie to the column.
    assert games.velocity.std() == pytest.approx(3**-0.5, rel=0.01)
    assert abs(float(torch.corrcoef(torch.stack([games.velocity, games.x]))[0, 1])) < 0.02


def test_a_clairvoyant_catches_every_ball(generator: torch.Generator) -> None:
    """The ceiling of what can be caught: it knows where the ball will land, and walks there."""
    games = CatchGames(CatchConfig(), 20_000)
    games.reset(generator)
    landing = games.x + games.velocity * games.length
    right = games.config.size - 1
    landing = landing.remainder(2 * right)
    landing = torch.minimum(landing, 2 * right - landing)
    target = (landing + 0.5).floor().long().clamp(max=right - 1)
    reward = torch.zeros(20_000)
    for _ in range(games.length):
        reward = games.step(1 + (target - games.paddle).sign())
    assert reward.mean() > 0.9999


def test_gymnasium_approves() -> None:
    env = gymnasium.make(foveal.envs.CATCH_ID, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    assert isinstance(env.unwrapped, CatchEnv)
    assert env.observation_space.shape == (24, 24, 1)
    assert env.action_space == gymnasium.spaces.Discrete(3)


def test_one_game_and_its_pictures() -> None:
    env = gymnasium.make(foveal.envs.CATCH_ID, render_mode="ansi", size=5)
    screen, _ = env.reset(seed=3)
    for step in range(1, 5):
        text = env.render()
        assert [[".", "#"][pixel // 255] for pixel in screen[..., 0].flat] == list(
            str(text).replace("\n", "")
        )
        screen, reward, over, cut, _ = env.step(1)
        assert (over, cut) == (step == 4, False)
        assert step == 4 or reward == 0
    assert screen[-1].sum() in (2 * 255, 3 * 255)
    assert reward == (screen[-1].sum() == 2 * 255), "caught: the ball lies in the paddle"


def test_games_in_a_vector_are_games() -> None:
    env = gymnasium.make_vec(foveal.envs.CATCH_ID, num_envs=6, size=9)
    assert isinstance(env.unwrapped, CatchVectorEnv)
    first, _ = env.reset(seed=5)
    again, _ = env.reset(seed=5)
    assert np.array_equal(first, again)
    assert env.observation_space.contains(first)
    assert len({screen.tobytes() for screen in first}) > 1
    for step in range(1, 9):
        actions = env.action_space.sample()
        screens, rewards, over, cut, _ = env.step(actions)
        assert over.tolist() == [step == 8] * 6
        assert not cut.any()
    bottom = screens[:, -1, :, 0].astype(int).sum(1)
    assert rewards.tolist() == (bottom == 2 * 255).astype(float).tolist()
    screens, rewards, over, _, _ = env.step(actions)
    assert not over.any()
    assert not rewards.any()
    assert (screens[:, 0].reshape(6, -1).astype(int).sum(1) == 255).all(), "new balls at the top"


def test_wrong_use_is_refused() -> None:
    env = CatchEnv(size=3)
    with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
        env.step(np.int64(1))
    env.reset(seed=0)
    for action in (3, -1, 0.5):
        with pytest.raises(ValueError, match=r"0 \(left\), 1 \(stay\) or 2 \(right\); got \["):
            env.step(action)  # type: ignore[arg-type]
    env.step(np.int64(0))
    env.step(np.int64(0))
    with pytest.raises(ResetNeeded, match="the game is over"):
        env.step(np.int64(1))
    many = CatchVectorEnv(num_envs=2)
    many.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must be 2 whole number\(s\).*got \[1\]"):
        many.step(np.array([1]))
    with pytest.raises(ValueError, match="one number for all games; got a list of 2"):
        many.reset(seed=[1, 2])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 1}, "size must be a whole number from 2 to 1,024; got 1"),
        ({"size": 3, "paddle_width": 4}, "paddle_width must be a whole number from 1 to 3; got 4"),
        ({"paddle_width": 0}, "paddle_width must be a whole number from 1 to 24; got 0"),
        ({"speed": -1.0}, "speed must be 0 to 23 pixels a step.*got -1.0"),
        ({"speed": 24.0}, "speed must be 0 to 23 pixels a step.*got 24.0"),
    ],
)
def test_impossible_games_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CatchConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        gymnasium.make(foveal.envs.CATCH_ID, **values)


def test_unknown_pictures_and_no_games_are_refused() -> None:
    with pytest.raises(ValueError, match="must be None, rgb_array or ansi; got 'human'"):
        CatchEnv(render_mode="human")
    with pytest.raises(ValueError, match="render_mode must be None or rgb_array; got 'ansi'"):
        CatchVectorEnv(render_mode="ansi")
    with pytest.raises(ValueError, match="num_envs must be at least 1; got 0"):
        CatchVectorEnv(num_envs=0)
    many = CatchVectorEnv(num_envs=2, render_mode="rgb_array")
    many.reset(seed=0)
    pictures = many.render()
    assert pictures is not None
    assert [picture.shape for picture in pictures] == [(24, 24, 3)] * 2
