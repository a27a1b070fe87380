from __future__ import annotations

import os
import signal
import warnings
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from foveal import GlimpseSensor
from foveal.envs import CATCH_ID, Fovea, FoveaVector
from foveal.model.drawn import scale_color
from tests.envs.test_games import Broken

EYE = {"glimpse_size": 3, "num_scales": 2}


class Ticking(gymnasium.Env[Any, Any]):
    """A screen of 6 x 9 whose first pixel counts up; the others are of the seed. 2 + seed % 3 long.

    Args:
        motor: the space of its actions; the last action is in `acted`.
        sense: whether it observes a dict with the time beside the screen.
        fault: at the second decision it changes its size, has no such time, raises an error, or is
            killed.
    """

    def __init__(
        self, motor: gymnasium.Space[Any] | None = None, sense: bool = False, fault: str = ""
    ) -> None:
        self.screen = Box(0, 255, (6, 9, 3), np.uint8)
        space: Any = Dict({"view": self.screen, "time": Discrete(9)}) if sense else self.screen
        self.observation_space = space
        self.action_space = Discrete(4, start=2) if motor is None else motor
        self.sense, self.fault = sense, fault

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:  # noqa: ARG002
        super().reset(seed=seed)
        if seed is not None:
            self.length = 2 + seed % 3
        self.pixels = self.np_random.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        self.time = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.acted = action
        self.time += 1
        if self.fault == "killed" and self.time == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault in ("error", "%d") and self.time == 2:
            raise ZeroDivisionError(f"the ball went through the wall {self.fault}")
        return self.observe(), 1.0, self.time == self.length, False, {}

    def observe(self) -> Any:
        view = self.pixels.copy()
        view[0, 0] = self.time
        if self.fault == "size" and self.time == 2:
            view = view[:-1]
        time = 9 if self.fault == "sense" and self.time == 2 else self.time
        return {"view": view, "time": np.int64(time)} if self.sense else view


def glimpse(view: np.ndarray, place: Any) -> np.ndarray:
    """By the sensor, of the screen as floats."""
    image = torch.from_numpy(view / 255).float().movedim(-1, 0)[None]
    return GlimpseSensor(3, 2)(image, torch.from_numpy(np.float32([place])))[0].numpy()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gaze": "relative"},
        {"grid": 5},
        {"grid": 5, "flat": True},
        {"gaze": "relative", "grid": 3, "flat": True},
    ],
)
def test_gymnasium_finds_no_fault(settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*different from the unwrapped version")
        check_env(Fovea(gymnasium.make(CATCH_ID), **EYE, **settings))
        env = Fovea(Ticking(sense=True), **EYE, **settings)
        warnings.filterwarnings("ignore", ".*not having a spec")
        check_env(env)
    assert env.observation_space["glimpse"] == Box(0, 1, (2, 3, 3, 3), np.float32)
    assert env.observation_space["time"] == Discrete(9)


def test_it_sees_what_the_sensor_cuts_out_where_it_looks() -> None:
    env = Fovea(Ticking(sense=True), **EYE)
    seen, _ = env.reset(seed=2)
    view = env.unwrapped.observe()["view"]
    assert (seen["gaze"].tolist(), seen["time"]) == ([0, 0], 0)
    np.testing.assert_allclose(seen["glimpse"], glimpse(view, (0, 0)), atol=1e-6)
    for time, place in enumerate([(0.5, -0.25), (-1, -1), (0.9, 0.3)], start=1):
        seen, reward, over, _, _ = env.step({"motor": 3, "gaze": np.array(place)})
        view = env.unwrapped.observe()["view"]
        assert view[0, 0, 0] == time, "the look is at the screen after the action"
        np.testing.assert_allclose(seen["glimpse"], glimpse(view, place), atol=1e-6)
        np.testing.assert_allclose(seen["gaze"], place, atol=1e-6)
        assert (reward, over, env.unwrapped.acted, seen["time"]) == (1, time == 4, 3, time)
    assert env.reset()[0]["gaze"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("settings", "gazes", "places"),
    [
        ({}, [(2, -7), (np.inf, 0)], [(1, -1), (1, 0)]),
        ({"gaze": "relative", "reach": 0.25}, [(1, 0), (1, -2)], [(0.25, 0), (0.5, -0.25)]),
        ({"gaze": "relative", "reach": 2}, [(1, 1), (-0.25, 0)], [(1, 1), (0.5, 1)]),
        ({"grid": 2}, [0, 1, 2, 3], [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]),
        ({"grid": 3, "gaze": "relative"}, [4, 5, 5, 6], [(0, 0), (0.5, 0), (1, 0), (0.5, 0.5)]),
        ({"grid": 1}, [0], [(0, 0)]),
    ],
)  # fmt: skip
def test_a_gaze_is_a_place_or_a_move_and_stays_on_the_screen(
    settings: dict[str, Any], gazes: list[Any], places: list[Any]
) -> None:
    env, many = Fovea(Ticking(), **EYE, **settings), FoveaVector(ticking(3), **EYE, **settings)
    env.reset(seed=2)
    many.reset(seed=[2, 2, 2])
    for gaze, place in zip(gazes, places, strict=True):
        seen = env.step({"motor": 2, "gaze": gaze if settings.get("grid") else np.array(gaze)})[0]
        np.testing.assert_allclose(seen["gaze"], place, atol=1e-6)
        seen = many.step({"motor": np.full(3, 2), "gaze": np.array([gaze] * 3)})[0]
        np.testing.assert_allclose(seen["gaze"], [place] * 3, atol=1e-6)


@pytest.mark.parametrize(
    ("motor", "grid", "flat", "action", "acted", "looked"),
    [
        (None, 2, MultiDiscrete([4, 4]), [1, 3], 3, (0.5, 0.5)),
        (MultiDiscrete([[2, 3]]), 2, MultiDiscrete([2, 3, 4]), [1, 2, 0], [[1, 2]], (-0.5, -0.5)),
        (MultiBinary(2), 2, MultiDiscrete([2, 2, 4]), [0, 1, 1], [0, 1], (0.5, -0.5)),
        (
            Box(-2, 3, (1, 2), np.float32),
            0,
            Box(np.array([-2, -2, -1, -1]), np.array([3, 3, 1, 1]), dtype=np.float32),
            [0.5, -2, 0.25, 1],
            [[0.5, -2]],
            (0.25, 1),
        ),
    ],
)
def test_flat_actions_are_motor_and_then_gaze(
    motor: Any, grid: int, flat: Any, action: Any, acted: Any, looked: Any
) -> None:
    env = Fovea(Ticking(motor), grid=grid, flat=True, **EYE)
    assert env.action_space == flat
    env.reset(seed=2)
    seen = env.step(np.array(action, flat.dtype))[0]
    assert env.unwrapped.acted in env.unwrapped.action_space
    assert np.asarray(env.unwrapped.acted).tolist() == acted
    assert seen["gaze"].tolist() == list(looked)
    many = FoveaVector(ticking(2, motor=motor), grid=grid, flat=True, **EYE)
    many.reset(seed=2)
    assert many.action_space.shape == (2, *flat.shape)
    seen = many.step(np.array([action] * 2, flat.dtype))[0]
    assert seen["gaze"].tolist() == [list(looked)] * 2
    for one in many.env.envs:
        assert one.acted in one.action_space
        assert np.asarray(one.acted).tolist() == acted


def ticking(count: int, mode: str = "NextStep", vector: Any = SyncVectorEnv, **options: Any) -> Any:
    faults = options.pop("faults", {})
    makers = [partial(Ticking, fault=faults.get(game, ""), **options) for game in range(count)]
    return vector(makers, autoreset_mode=AutoresetMode(mode))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_many_see_what_each_would_see_alone(mode: str) -> None:
    """Games of 2, 3 and 4 decisions; where one begins it is looked at in the middle."""
    plain, many = ticking(3, mode, sense=True), FoveaVector(ticking(3, mode, sense=True), **EYE)
    screens, _ = plain.reset(seed=[0, 1, 2])
    seen, _ = many.reset(seed=[0, 1, 2])
    random, places, ended = np.random.default_rng(0), np.zeros((3, 2)), np.zeros(3, bool)
    for _ in range(9):
        assert seen in many.observation_space
        assert seen["time"].tolist() == screens["time"].tolist()
        for game in range(3):
            wanted = glimpse(screens["view"][game], places[game])
            np.testing.assert_allclose(seen["glimpse"][game], wanted, atol=1e-6)
            np.testing.assert_allclose(seen["gaze"][game], places[game], atol=1e-6)
        if mode == "Disabled" and ended.any():
            options = {"reset_mask": ended}
            screens, _ = plain.reset(options=dict(options))
            seen, _ = many.reset(options=dict(options))
            places, ended = np.where(ended[:, None], 0, places), np.zeros(3, bool)
            continue
        gazes, before = random.uniform(-1, 1, (3, 2)).astype(np.float32), ended
        screens, gains, over, _, info = plain.step(np.full(3, 2))
        seen, rewards, ended, cut, told = many.step({"motor": np.full(3, 2), "gaze": gazes})
        assert (ended.tolist(), rewards.tolist()) == (over.tolist(), gains.tolist())
        assert not cut.any()
        begun = ended if mode == "SameStep" else before & (mode == "NextStep")
        places = np.where(begun[:, None], 0, gazes)
        assert ("final_obs" in told) == (mode == "SameStep" and ended.any())
        for game in np.flatnonzero(ended) if mode == "SameStep" else ():
            last = info["final_obs"][game]
            assert told["final_obs"][game]["time"] == last["time"]
            wanted = glimpse(last["view"], gazes[game])
            np.testing.assert_allclose(told["final_obs"][game]["glimpse"], wanted, atol=1e-6)
            np.testing.assert_allclose(told["final_obs"][game]["gaze"], gazes[game])


def test_it_draws_the_whole_screen_and_its_squares() -> None:
    env, many = Fovea(Ticking(), **EYE), FoveaVector(ticking(2), **EYE)
    assert many.render_mode == Fovea(gymnasium.make(CATCH_ID)).render_mode == "rgb_array"
    assert env.render() is many.render() is None, "nothing has been seen"
    env.reset(seed=0)
    many.reset(seed=[1, 0])
    corner = np.array([-1.0, -1.0])
    env.step({"motor": 2, "gaze": corner})
    many.step({"motor": np.full(2, 2), "gaze": np.array([[0, 0], corner])})
    picture = env.render()
    zoom = 336 // 9
    assert picture.shape == (6 * zoom, 9 * zoom, 3)
    middle = picture[5 * zoom + zoom // 2, 8 * zoom + zoom // 2]
    assert np.abs(middle.astype(int) - env.unwrapped.observe()[5, 8]).max() <= 1
    for scale, side in enumerate((3, 6)):  # squares round the corner: their far edges are seen
        far = (side - side // 2) * zoom - 1
        color = scale_color(scale)
        shown = "#" + "".join(f"{value:02X}" for value in picture[zoom // 2, far])
        assert shown == color
    assert np.array_equal(many.render()[1], picture)


def faulty(**options: Any) -> Any:
    env = Fovea(Ticking(), **EYE, **options)
    env.reset(seed=2)
    return env


def space_of(**parts: Any) -> Any:
    env = Ticking()
    env.observation_space = Dict(parts)
    return env


IMAGE = Box(0, 255, (6, 9, 3), np.uint8)
GOOD = np.zeros(2)
WRONG = {
    "no image": (lambda: Fovea(gymnasium.make("CartPole-v1")), "CartPole.* must be images, or a D"),
    "no image in a dict": (lambda: Fovea(space_of(time=Discrete(3))), "or a Dict with one"),
    "two images": (lambda: Fovea(space_of(left=IMAGE, right=IMAGE)), "got 2: left, right. Leave o"),
    "channels": (
        lambda: Fovea(space_of(view=Box(0, 1, (8, 8, 8)))),
        'cannot be told.* channels="first"',
    ),
    "a name of ours": (lambda: Fovea(space_of(view=IMAGE, gaze=Discrete(3))), "observes 'gaze' it"),
    "no such setting": (lambda: faulty(colour=1), "unknown setting 'colour'; it must be one of gl"),
    "flat, neither": (
        lambda: Fovea(Ticking(Dict(a=Discrete(2))), grid=5, flat=True),
        "does not go. Pass flat=False",
    ),
    "unknown setting": (
        lambda: faulty(gaze="up"),
        "gaze must be one of absolute, relative; got 'u",
    ),
    "no vector": (
        lambda: FoveaVector(Ticking()),
        "must be given a vector environment.*For one",
    ),
    "a vector": (lambda: Fovea(ticking(2)), "got SyncVectorEnv.*take FoveaVector"),
    "lists": (lambda: faulty().step({"motor": 2, "gaze": [[0], [1, 2]]}), r"got \[\[0\], \[1, 2\]"),
    "flat, mixed": (
        lambda: faulty(flat=True),
        "with grid=0 does not go. Pass grid=5, or flat",
    ),
    "flat, floats": (
        lambda: Fovea(Ticking(Box(-1, 1, (2,))), grid=5, flat=True),
        "with grid=5 does not go. Pass grid=0",
    ),
    "nan": (
        lambda: faulty().step({"motor": 2, "gaze": [np.nan, 0]}),
        r"from -1 to 1; got \[nan",
    ),
    "words": (lambda: faulty().step({"motor": 2, "gaze": ["a", "b"]}), "two numbers"),
    "one number": (lambda: faulty().step({"motor": 2, "gaze": [0.5]}), r"two numbers.*got \[\[0.5"),
    "misspelt": (lambda: faulty().step({"motor": 2, "gase": GOOD}), r"got \['gase', 'motor'\]"),
    "one part": (lambda: faulty().step({"gaze": GOOD}), r'\{"motor": ..., "gaze": ...\}; got'),
    "no dict": (lambda: faulty().step(2), "got 2. For trainers that know no Dict pass flat=True"),
    "off the grid": (lambda: faulty(grid=2).step({"motor": 2, "gaze": 4}), r"0 to 3; got \[4\]"),
    "no number of the grid": (lambda: faulty(grid=2).step({"motor": 2, "gaze": 0.5}), "whole numb"),
    "too flat": (lambda: faulty(grid=2, flat=True).step([1]), r"of the shape \(2,\); got \(1,\)"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_cannot_be_is_refused_in_one_line(fault: str) -> None:
    call, words = WRONG[fault]
    with pytest.raises(ValueError, match=words) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_a_screen_that_changes_its_size_is_refused() -> None:
    env = Fovea(Ticking(fault="size"), **EYE)
    env.reset(seed=2)
    env.step({"motor": 2, "gaze": GOOD})
    with pytest.raises(ValueError, match=r"stay of the shape \(6, 9, 3\).*got \(5, 9, 3\). Scale"):
        env.step({"motor": 2, "gaze": GOOD})


@pytest.mark.parametrize("number", [1, 2])
def test_a_sense_that_is_not_of_its_space_is_refused(number: int) -> None:
    makers = [partial(Ticking, sense=True, fault="sense" if n == 0 else "") for n in range(number)]
    env: Any = Fovea(makers[0](), **EYE)
    action: Any = {"motor": 2, "gaze": GOOD}
    if number > 1:
        env = FoveaVector(gymnasium.vector.SyncVectorEnv(makers), **EYE)
        action = {"motor": np.full(number, 2), "gaze": np.zeros((number, 2))}
    env.reset(seed=2)
    env.step(action)
    words = rf"'time' must be of Discrete\(9\); got \[9\] of environment 0 of {number}"
    with pytest.raises(ValueError, match=words):
        env.step(action)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no view", r"must be a Dict with 'view', as their space says; got heading, text, flags"),
        ("no heading", r"must be a Dict with 'heading', as .*; got view, text, flags"),
        ("bare", r"must be a Dict with 'view', as their space says; got a ndarray"),
    ],
)
def test_what_is_missing_of_an_observation_is_named(fault: str, words: str) -> None:
    env = Fovea(Broken(fault), glimpse_size=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=words):
        env.step({"motor": 0, "gaze": GOOD})


class Keyed(Ticking):
    """Looks its action up, as many environments do."""

    def step(self, action: Any) -> Any:
        return super().step({2: "up", 3: "down", 4: "left", 5: "right"}[action])


def test_one_flat_action_is_a_number_that_can_be_looked_up() -> None:
    env = Fovea(Keyed(), **EYE, grid=2, flat=True)
    env.reset(seed=0)
    env.step(np.array([1, 3]))
    assert env.unwrapped.acted == "down"


def test_of_many_which_gaze_is_no_number() -> None:
    many = FoveaVector(ticking(3), **EYE)
    many.reset(seed=0)
    with pytest.raises(ValueError, match=r"environment 1 of 3"):
        many.step({"motor": np.full(3, 2), "gaze": np.array([[0, 0], [0, np.nan], [0, 0]])})


@pytest.mark.parametrize(("motors", "gazes"), [(3, 1), (3, 2), (2, 3), (4, 3)])
@pytest.mark.parametrize("gaze", ["absolute", "relative"])
def test_each_of_many_must_have_its_action(motors: int, gazes: int, gaze: str) -> None:
    """One gaze would be that of all."""
    many = FoveaVector(ticking(3), **EYE, gaze=gaze)
    many.reset(seed=0)
    with pytest.raises(ValueError, match=r"for each of 3 environments; got [1-4]"):
        many.step({"motor": np.full(motors, 2), "gaze": np.zeros((gazes, 2))})


@pytest.mark.parametrize("motor", [2, (2,), [2]])
def test_of_many_one_action_is_not_that_of_all(motor: object) -> None:
    many = FoveaVector(ticking(3), **EYE)
    many.reset(seed=0)
    with pytest.raises(ValueError, match=r"for each of 3 environments; got [01] and 3"):
        many.step({"motor": motor, "gaze": np.zeros((3, 2))})


def test_of_many_a_screen_that_changes_its_size_is_refused() -> None:
    many = FoveaVector(ticking(3, faults={1: "size"}), **EYE)
    many.reset(seed=2)
    actions = {"motor": np.full(3, 2), "gaze": np.zeros((3, 2))}
    many.step(actions)
    with pytest.raises(ValueError, match="must keep the shape that their space says"):
        many.step(actions)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "error",
            "environment 1 of 3 died in its worker: ZeroDivisionError: the ball went",
        ),
        ("killed", r"environment 1 \(exit code -9\) of 3 died in its worker: EOFError"),
    ],
)
def test_an_environment_that_dies_in_a_worker_is_named(fault: str, words: str) -> None:
    many = FoveaVector(ticking(3, vector=AsyncVectorEnv, faults={1: fault}), **EYE)
    many.reset(seed=2)
    actions = {"motor": np.full(3, 2), "gaze": np.zeros((3, 2))}
    many.step(actions)
    with pytest.raises(ChildProcessError, match=words) as died:
        many.step(actions)
    assert "\n" not in str(died.value)
    many.close()
    many.close()
    assert not any(worker.is_alive() for worker in many.env.processes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("fault", "words"), [("%d", "ZeroDivisionError: .* %d"), ("size", "shape")]
)
def test_whatever_workers_do_it_is_said_and_they_can_be_closed(
    fault: str, words: str, shared: bool
) -> None:
    many = FoveaVector(
        ticking(3, vector=partial(AsyncVectorEnv, shared_memory=shared), faults={1: fault}), **EYE
    )
    many.reset(seed=2)
    actions = {"motor": np.full(3, 2), "gaze": np.zeros((3, 2))}
    many.step(actions)
    with pytest.raises((ValueError, ChildProcessError), match=words):
        many.step(actions)
    many.close()
    assert not any(worker.is_alive() for worker in many.env.processes)


@pytest.mark.parametrize("vector", [SyncVectorEnv, AsyncVectorEnv])
def test_closed_is_not_dead_and_not_open(vector: Any) -> None:
    many = FoveaVector(ticking(2, vector=vector), **EYE)
    many.reset(seed=0)
    many.close()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="is closed. Make it anew"):
        many.reset()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="is closed. Make it anew"):
        many.step({"motor": np.full(2, 2), "gaze": np.zeros((2, 2))})


class Closing(Ticking):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_closing_twice_closes_once() -> None:
    env = Fovea(Closing(), **EYE)
    env.close()
    env.close()
    assert env.unwrapped.closed == 1
    many = FoveaVector(SyncVectorEnv([Closing] * 2), **EYE)
    many.close()
    many.close()
    assert [one.closed for one in many.env.envs] == [1, 1]
