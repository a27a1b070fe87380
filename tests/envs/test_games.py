from __future__ import annotations

import itertools
from functools import partial
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from foveal.envs import CATCH_ID, CatchGames, EnvConfig, Fovea, Games
from foveal.envs.catch import CatchConfig
from foveal.envs.games import is_atari, read_options


class Countdown(gymnasium.Env[np.ndarray, np.int64]):
    """Shows how many decisions are left in one pixel; action 1 earns 1. Lasts 2 + seed % 3."""

    def __init__(self, cut_short: bool = False, low: float = 0, high: float = 1) -> None:
        self.observation_space = gymnasium.spaces.Box(low, high, (4, 5), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.cut_short = cut_short

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.length = 2 + seed % 3
        self.left = self.length
        return self._image(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        over = self.left == 0
        ends = (over and not self.cut_short, over and self.cut_short)
        return self._image(), float(action == 1), *ends, {}

    def _image(self) -> np.ndarray:
        image = np.zeros((4, 5), dtype=np.float32)
        image[0, 0] = self.left / 10
        return image


class Steering(Countdown):
    """Its actions are numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


class Pulling(Countdown):
    """Actions are whole numbers of a space of a given kind, and those taken are kept."""

    taken: ClassVar[list[Any]] = []

    def __init__(self, space: str) -> None:
        super().__init__()
        self.action_space = eval(f"gymnasium.spaces.{space}")

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.taken.append(np.asarray(action).tolist())
        return self._image(), 0.0, False, False, {}


gymnasium.register("test/Pulling-v0", entry_point=Pulling)
gymnasium.register("test/Countdown-v0", entry_point=Countdown)
gymnasium.register("test/Steering-v0", entry_point=Steering)


class Still(gymnasium.Env[np.ndarray, np.int64]):
    """One screen for ever, with one pixel lit, in a space of a given kind."""

    def __init__(
        self, shape: tuple[int, ...], high: float, dtype: str, lit: tuple[int, ...], low: float = 0
    ) -> None:
        self.observation_space = gymnasium.spaces.Box(low, high, shape, np.dtype(dtype).type)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.screen = np.full(shape, low, dtype)
        self.screen[lit] = high

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self.screen, {}

    def step(self, _: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.screen.copy(), 0.0, False, False, {}


gymnasium.register("test/Still-v0", entry_point=Still)
gymnasium.register(
    "test/CountdownAtOnce-v0",
    entry_point=Countdown,
    vector_entry_point=lambda num_envs, cut_short=False: SyncVectorEnv(
        [lambda: Countdown(cut_short)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
    ),
)


def still(
    shape: tuple[int, ...], high: float, dtype: str, lit: tuple[int, ...], **more: Any
) -> Any:
    low, channels = more.get("low", 0), more.get("channels", "auto")
    options = (f"shape={shape}", f"high={high}", f"dtype={dtype}", f"lit={lit}", f"low={low}")
    return Games(EnvConfig("test/Still-v0", options, channels), 2)


def test_games_that_begin_anew_with_the_next_action() -> None:
    """Lengths 2 and 3: the action after an end only begins the next game."""
    games = Games(EnvConfig("test/Countdown-v0"), 2)
    assert (games.image_shape, games.num_actions) == ((1, 4, 5), 2)
    assert games.all_over
    images, _ = games.reset(0)
    assert not games.all_over
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0.2, 0.3])
    turns = [games.step(torch.ones(2, dtype=torch.long)) for _ in range(6)]
    left = [[round(10 * value) for value in turn.images[:, 0, 0, 0].tolist()] for turn in turns]
    assert left == [[1, 2], [0, 1], [2, 0], [1, 3], [0, 2], [2, 1]]
    columns = {
        "played": ([1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 1, 1]),
        "over": ([0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]),
        "terminated": ([0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]),
        "fresh": ([0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0]),
    }
    for name, wanted in columns.items():
        got = torch.stack([getattr(turn, name) for turn in turns], dim=1)
        assert torch.equal(got, torch.tensor(wanted, dtype=torch.bool)), name
    assert torch.stack([t.rewards * t.played for t in turns]).sum(0).tolist() == [4, 5]


@pytest.mark.parametrize(
    ("space", "wanted"),
    [
        ("Discrete(3, start=-1)", [-1, 0, 1]),
        ("MultiDiscrete([2, 3])", [list(pair) for pair in itertools.product(range(2), range(3))]),
        ("MultiDiscrete([3, 2], start=[5, -1])", [[5 + k // 2, k % 2 - 1] for k in range(6)]),
        ("MultiDiscrete([[2], [2]])", [[[0], [0]], [[0], [1]], [[1], [0]], [[1], [1]]]),
        ("MultiBinary(2)", [[0, 0], [0, 1], [1, 0], [1, 1]]),
    ],
)
def test_each_combination_of_whole_numbers_is_an_action(space: str, wanted: list[Any]) -> None:
    games = Games(EnvConfig("test/Pulling-v0", (f"space={space!r}",)), 2)
    games.reset(0)
    assert games.num_actions == len(wanted)
    Pulling.taken.clear()
    for k in range(games.num_actions):
        games.step(torch.tensor([k, games.num_actions - 1 - k]))
    assert Pulling.taken[0::2] == wanted
    assert Pulling.taken[1::2] == wanted[::-1]


@pytest.mark.parametrize(
    ("shape", "lit", "channel"),
    [
        ((2, 3, 8, 9), (1, 2, 4, 5), 5),
        ((2, 8, 9, 3), (1, 4, 5, 2), 5),
        ((4, 8, 9, 1), (2, 4, 5), 2),
    ],
)
def test_several_images_at_once_are_channels(
    shape: tuple[int, ...], lit: tuple[int, ...], channel: int
) -> None:
    """As `gymnasium.wrappers.FrameStackObservation` stacks them: the first of four axes."""
    games = still(shape, 255, "uint8", lit)
    images, _ = games.reset(0)
    assert games.image_shape == images.shape[1:] == (shape[0] * min(shape[1:]), 8, 9)
    assert images.nonzero().tolist() == [[game, channel, 4, 5] for game in range(2)]


def test_our_agent_sees_through_a_fovea_as_any_trainer_does() -> None:
    """What Fovea cuts out is an image of one channel a scale, and its gaze a part of the action."""
    gymnasium.register(
        "test/FoveaCatch-v0",
        entry_point=lambda: Fovea(gymnasium.make(CATCH_ID), glimpse_size=6, grid=2, flat=True),
    )
    games = Games(EnvConfig("test/FoveaCatch-v0"), 2)
    plain = Fovea(gymnasium.make(CATCH_ID), glimpse_size=6, grid=2, flat=True)
    images, _ = games.reset(3)
    assert (games.image_shape, games.senses, games.num_actions) == ((3, 6, 6), {"gaze": 2}, 12)
    seen, _ = plain.reset(seed=3)
    assert np.array_equal(images[0], seen["glimpse"][:, 0])
    turn = games.step(torch.tensor([2 * 4 + 1, 0]))  # the paddle right, the eye at the top right
    seen, *_ = plain.step(np.array([2, 1]))
    assert np.array_equal(turn.images[0], seen["glimpse"][:, 0])
    assert turn.senses["gaze"].tolist() == [[0.5, -0.5], [-0.5, -0.5]]


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 4,096 combinations; got 8,192 of MultiBinary"):
        Games(EnvConfig("test/Pulling-v0", ("space='MultiBinary(13)'",)), 1)


def test_games_that_begin_anew_at_once() -> None:
    games = Games(EnvConfig("test/CountdownAtOnce-v0"), 2)
    games.reset(0)
    turns = [games.step(torch.zeros(2, dtype=torch.long)) for _ in range(4)]
    left = [[round(10 * value) for value in turn.images[:, 0, 0, 0].tolist()] for turn in turns]
    assert left == [[1, 2], [2, 1], [1, 3], [2, 2]]
    assert all(turn.played.all() for turn in turns)
    over = torch.stack([turn.over for turn in turns], dim=1)
    assert over.tolist() == [[False, True, False, True], [False, False, True, False]]
    assert all(torch.equal(turn.over, turn.fresh) for turn in turns)
    assert all(torch.equal(turn.over, turn.terminated) for turn in turns)
    assert not games.all_over


def test_a_game_cut_short_is_over_but_not_terminated() -> None:
    games = Games(EnvConfig("test/Countdown-v0", ("cut_short=True",)), 1)
    games.reset(0)
    games.step(torch.zeros(1, dtype=torch.long))
    turn = games.step(torch.zeros(1, dtype=torch.long))
    assert (bool(turn.over), bool(turn.terminated)) == (True, False)
    assert turn.final_images is None, "the images are the last scene"
    assert games.all_over


def test_a_game_cut_short_and_begun_at_once_shows_its_last_scene(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lengths 2 and 3: the other game's scene is its own; without final_obs nothing follows."""
    games = Games(EnvConfig("test/CountdownAtOnce-v0", ("cut_short=True",)), 2)
    games.reset(0)
    turns = [games.step(torch.zeros(2, dtype=torch.long)) for _ in range(4)]
    assert not any(turn.terminated.any() for turn in turns)
    over = torch.stack([turn.over for turn in turns], dim=1)
    assert over.tolist() == [[False, True, False, True], [False, False, True, False]]
    assert turns[0].final_images is None
    for turn, wanted in zip(turns[1:], ([0, 0.1], [0.1, 0], [0, 0.2]), strict=True):
        assert turn.final_images is not None
        assert turn.final_images.shape == turn.images.shape
        assert turn.final_images[:, 0, 0, 0].tolist() == pytest.approx(wanted)
    step = games.vector.step
    monkeypatch.setattr(games.vector, "step", lambda actions: (*step(actions)[:4], {}))
    turns = [games.step(torch.zeros(2, dtype=torch.long)) for _ in range(3)]
    assert all(torch.equal(turn.terminated, turn.over) for turn in turns)
    assert any(turn.over.any() for turn in turns)


def test_the_last_images_are_seen_at_once_and_none_of_the_game_before() -> None:
    def seen(images: torch.Tensor) -> list[list[int]]:
        return [[round(10 * value) for value in two] for two in images[:, :, 0, 0].tolist()]

    none = torch.zeros(2, dtype=torch.long)
    games = Games(EnvConfig("test/Countdown-v0", env_stack=2), 2)
    assert games.image_shape == (2, 4, 5)
    assert seen(games.reset(0)[0]) == [[2, 2], [3, 3]]
    turns = [seen(games.step(none).images) for _ in range(4)]
    assert [first for first, _ in turns] == [[2, 1], [1, 0], [2, 2], [2, 1]]
    assert [second for _, second in turns] == [[3, 2], [2, 1], [1, 0], [3, 3]]
    at_once = Games(EnvConfig("test/CountdownAtOnce-v0", env_stack=2), 2)
    at_once.reset(0)
    at_once.step(none)
    turn = at_once.step(none)
    assert seen(turn.images) == [[2, 2], [2, 1]]
    assert turn.final_images is not None
    assert seen(turn.final_images)[0] == [1, 0]


def test_an_action_may_last_several_frames_of_which_two_are_seen() -> None:
    games = Games(EnvConfig("test/Countdown-v0", env_skip=2), 2)
    games.reset(0)
    turn = games.step(torch.ones(2, dtype=torch.long))
    assert turn.rewards.tolist() == [2, 2]
    assert turn.over.tolist() == [True, False]
    # 1 and 0 are left in one game, 2 and 1 in the other: the brighter pixel is seen.
    assert turn.images[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("env", ["Countdown", "Feeling"])
@pytest.mark.parametrize(("frames", "shown"), [(2, [2, 0]), (3, [1]), (4, [1]), (9, [1])])
def test_a_game_that_ends_within_an_action_shows_its_last_two_frames(
    env: str, frames: int, shown: list[int]
) -> None:
    """Of three decisions: 2, 1, 0 are left. The last frame alone, where the action has no more."""
    games = Games(EnvConfig(f"test/{env}-v0", env_skip=frames), 1)
    images, _ = games.reset(1)
    assert images[0, 0, 0, 0].item() == pytest.approx(0.3)
    turns = [games.step(torch.zeros(1, dtype=torch.long)) for _ in shown]
    seen = [turn.images[0, 0, 0, 0].item() for turn in turns]
    assert seen == pytest.approx([left / 10 for left in shown])
    assert [turn.over.item() for turn in turns] == [False] * (len(shown) - 1) + [True]
    if env == "Feeling":  # all but the image is that of the last frame
        assert turns[-1].senses["heading"].argmax().item() == 0


@pytest.mark.filterwarnings("ignore")
def test_the_score_of_an_atari_game_is_not_clipped() -> None:
    """A shot alien is worth 5 points and more; from the library's own vector environment."""
    pytest.importorskip("ale_py")
    for name in ("ALE/Pong-v5", "PongNoFrameskip-v4", "Pong-v4"):  # the last make no vector
        Games(EnvConfig(f"ale_py:{name}", env_skip=4), 1).close()
        assert is_atari(f"ale_py:{name}")
    assert not is_atari("test/Countdown-v0")
    games = Games(EnvConfig("ale_py:ALE/SpaceInvaders-v5"), 4)
    games.reset(0)
    earned = [games.step(torch.full((4,), 1)).rewards for _ in range(200)]
    assert torch.stack(earned).max() >= 5


def test_colours_become_grey() -> None:
    for channel, share in enumerate((0.299, 0.587, 0.114)):
        options = ("shape=(4, 5, 3)", "high=255", "dtype=uint8", f"lit=(0, 0, {channel})")
        games = Games(EnvConfig("test/Still-v0", options, env_grey=True, env_stack=3), 1)
        assert games.image_shape == (3, 4, 5)
        images = games.reset(0)[0]
        assert images[0, :, 0, 0].tolist() == pytest.approx(3 * [share])
        assert images.sum() == pytest.approx(3 * share)
    with pytest.raises(ValueError, match=r"3 channels, in colour; those .* have 1\. Leave it out"):
        Games(EnvConfig("test/Countdown-v0", env_grey=True), 1)


@pytest.mark.parametrize("wrong", [{"env_skip": 0}, {"env_stack": 0}, {"env_stack": 1001}])
def test_frames_are_counted_from_one(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be .* 1 to 1,?000; got"):
        EnvConfig(**wrong)


def test_catch_is_the_same_through_gymnasium() -> None:
    """White pixels, row by row: the rules' own screens."""
    games = Games(EnvConfig(CATCH_ID, ("size=7", "speed=0.5")), 50)
    images, (_, info) = games.reset(3)
    twin = CatchGames(CatchConfig(size=7, speed=0.5), 50)
    inner: Any = games.vector
    twin.x, twin.velocity = inner.games.x.clone(), inner.games.velocity.clone()
    twin.paddle, twin.time = inner.games.paddle.clone(), 0
    for turn_number in range(6):
        assert torch.equal(images, twin.screens().float())
        seen = [images[game, 0, y, x].item() for game, (x, y) in enumerate(info["ball"])]
        assert seen == [1.0] * 50
        actions = torch.arange(50) % 3
        turn, reward = games.step(actions), twin.step(actions)
        images, info = turn.images, turn.info
        assert torch.equal(turn.rewards, reward)
        assert turn.over.all() == (turn_number == 5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("first", [True, False])
def test_channels_first_or_last(channels: int, first: bool) -> None:
    """Also of stacked frames, of which there may be any number."""
    shape = (channels, 8, 9) if first else (8, 9, channels)
    games = still(shape, 255, "uint8", (channels - 1, 2, 4) if first else (2, 4, channels - 1))
    assert games.image_shape == (channels, 8, 9)
    images, _ = games.reset(0)
    assert images[:, channels - 1, 2, 4].tolist() == [1, 1]
    assert images.count_nonzero() == 2


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 8, 9), (2, 9, 2), (12, 8, 9), (9, 7, 9)])
def test_where_channels_cannot_be_told_from_the_shape_it_has_to_be_said(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(ValueError, match="cannot be told from it. Pass --env-channels first or la"):
        still(shape, 255, "uint8", (0, 0, 0))
    assert still(shape, 255, "uint8", (0, 0, 0), channels="first").image_shape == shape
    last = still(shape, 255, "uint8", (0, 0, 0), channels="last").image_shape
    assert last == (shape[2], *shape[:2])
    with pytest.raises(ValueError, match="env_channels must be one of auto, first, last; got 'mid"):
        still(shape, 255, "uint8", (0, 0, 0), channels="middle")


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        *((0, 255, "uint8"), (0, 1, "uint8"), (0, 15, "uint8"), (16, 235, "uint8")),
        *((0, 1, "bool"), (0, 1, "float32"), (0, 0.5, "float64")),
    ],
)
def test_screens_are_scaled_by_the_bounds_of_their_space(
    low: float, high: float, dtype: str
) -> None:
    images, _ = still((6, 7), high, dtype, (2, 3), low=low).reset(0)
    assert images.dtype == torch.float32
    assert images[:, 0, 2, 3].tolist() == [1, 1]
    assert images.sum().item() == 2


WRONG = {
    "Catch-v0": "must be the id of a Gymnasium environment; got 'Catch-v0'.*mean foveal/Catch-v0",
    "foveal/Cath-v0": "Did you mean: `Catch`",
    "nomodule:Catch-v0": "No module named 'nomodule'",
    "CartPole-v1": "observations of CartPole-v1 must be images",
}


@pytest.mark.parametrize("name", WRONG)
def test_unknown_and_unfit_environments_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=WRONG[name]):
        Games(EnvConfig(name), 2)


def test_actions_that_are_not_discrete_are_refused() -> None:
    with pytest.raises(ValueError, match="the actions of test/Steering-v0 must be discrete"):
        Games(EnvConfig("test/Steering-v0"), 2)


def test_options_of_the_wrong_kind_are_refused() -> None:
    assert read_options(["size=48", "speed=0.5", "mode=hard"]) == {
        "size": 48,
        "speed": 0.5,
        "mode": "hard",
    }
    with pytest.raises(ValueError, match="must be NAME=VALUE, such as size=48; got 'size'"):
        read_options(["size"])
    with pytest.raises(ValueError, match="could not be made with sze=3: .* argument 'sze'"):
        Games(EnvConfig(CATCH_ID, ("sze=3",)), 2)
    with pytest.raises(ValueError, match="size must be a whole number from 2 to 1,024"):
        Games(EnvConfig(CATCH_ID, ("size=1",)), 2)
    with pytest.raises(ValueError, match="must be images.*from 0 to 1"):
        Games(EnvConfig("test/Countdown-v0", ("high=7",)), 2)
    with (
        pytest.warns(UserWarning, match="maximum and minimum values are equal"),
        pytest.raises(ValueError, match="must be images"),
    ):
        still((6, 7), 3, "uint8", (0, 0), low=3)
    deep = "(" * 10_000
    for odd in (deep, "{[]: 1}"):
        assert read_options([f"mode={odd}"]) == {"mode": odd}


class Feeling(Countdown):
    """Beside the screen, whose first pixel is lit, it feels the time left in several ways."""

    def __init__(self, cut_short: bool = False, kind: str = "", actions: int = 2) -> None:
        super().__init__(cut_short)
        self.action_space = gymnasium.spaces.Discrete(actions)
        self.parts: dict[str, Any] = {
            "view": self.observation_space,
            "heading": gymnasium.spaces.Discrete(6, start=-1),
            "text": gymnasium.spaces.MultiDiscrete([3, 2], start=[0, 5]),
            "flags": gymnasium.spaces.MultiBinary(2),
            "scaled": gymnasium.spaces.Box(np.float32([0, 2]), np.float32([10, 4])),
            "free": gymnasium.spaces.Box(-np.inf, np.inf, (1, 2), np.float64),
        }
        if kind:
            wrong = {"text": gymnasium.spaces.Text(5), "view": self.observation_space}
            self.parts[f"odd {kind}"] = wrong[kind]
        self.observation_space = gymnasium.spaces.Dict(self.parts)

    def _image(self) -> Any:
        return {
            "view": super()._image(),
            "heading": np.int64(self.left - 1),
            "text": np.array([self.left % 3, 5 + self.left % 2]),
            "flags": np.array([1, self.left % 2], np.int8),
            "scaled": np.float32([self.left, 3]),
            "free": np.array([[self.left, -0.5]]),
        }


gymnasium.register("test/Feeling-v0", entry_point=Feeling)
gymnasium.register(
    "test/FeelingAtOnce-v0",
    entry_point=Feeling,
    vector_entry_point=lambda num_envs, cut_short=False: SyncVectorEnv(
        [lambda: Feeling(cut_short)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
    ),
)


def felt(left: int) -> dict[str, list[float]]:
    """What is felt with so many decisions left, worked out by hand."""
    return {
        "flags": [1, left % 2],
        "free": [left, -0.5],
        "heading": [float(left == place) for place in range(6)],
        "scaled": [left / 5 - 1, 0],
        "text": [*(float(left % 3 == word) for word in range(3)), 1 - left % 2, left % 2],
    }


def test_what_is_observed_beside_the_image_is_numbers() -> None:
    """Lengths 2 and 3."""
    games = Games(EnvConfig("test/Feeling-v0"), 2)
    assert games.image_shape == (1, 4, 5)
    assert games.senses == {"flags": 2, "free": 2, "heading": 6, "scaled": 2, "text": 5}
    images, (senses, _) = games.reset(0)
    turn = games.step(torch.zeros(2, dtype=torch.long))
    for seen, sensed, left in ((images, senses, (2, 3)), (turn.images, turn.senses, (1, 2))):
        assert seen[:, 0, 0, 0].tolist() == pytest.approx([part / 10 for part in left])
        assert sensed.keys() == games.senses.keys()
        for game in range(2):
            for name, numbers in felt(left[game]).items():
                assert sensed[name][game].tolist() == pytest.approx(numbers, abs=1e-6), name


def test_senses_are_chosen_and_the_last_ones_are_kept() -> None:
    env = EnvConfig("test/FeelingAtOnce-v0", ("cut_short=True",), env_senses=("heading",))
    games = Games(env, 2)
    games.reset(0)
    turns = [games.step(torch.zeros(2, dtype=torch.long)) for _ in range(2)]
    assert games.senses == {"heading": 6}
    assert turns[0].final_senses is None
    last = turns[1].final_senses
    assert last is not None
    assert last["heading"].argmax(1).tolist() == [0, 1]
    assert turns[1].senses["heading"].argmax(1).tolist() == [2, 1]
    assert not Games(EnvConfig("test/Feeling-v0", env_senses=()), 1).senses


@pytest.mark.parametrize(
    ("kind", "senses", "words"),
    [
        ("text", None, r"'odd text' of test/Feeling-v0 must be a Box, .* got Text\(.*--env-senses"),
        ("view", None, "must have one image; got 2: odd view, view"),
        ("", ("smell",), "has no sense 'smell'; beside the image it has flags, free, heading"),
    ],
)
def test_senses_that_are_no_numbers_are_refused(kind: str, senses: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Games(EnvConfig("test/Feeling-v0", (f"kind={kind}",) if kind else (), "auto", senses), 1)


class Broken(Feeling):
    """A fault of a kind shows at the first decision, or in the maker."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        if fault == "maker":
            raise RuntimeError("no ROM")
        self.fault = fault

    def step(self, action: int) -> Any:
        image, reward, *rest = super().step(action)
        wrong = {"heading": np.int64(5), "text": np.array([0, 7]), "free": np.array([[np.nan, 0]])}
        wrong |= {"scaled": np.float32([1, 4.5])}
        if self.fault in ("no view", "no heading"):
            del image[self.fault.removeprefix("no ")]
            return image, reward, *rest
        if self.fault == "bare":
            return image["view"], reward, *rest
        if self.fault in wrong:
            image[self.fault] = wrong[self.fault]
        elif self.fault == "raises":
            raise KeyError("paddle")
        elif self.fault == "reward":
            reward = np.nan
        else:
            image["view"] = np.full_like(image["view"], np.float32(self.fault))
        return image, reward, *rest


gymnasium.register("test/Broken-v0", entry_point=Broken)
gymnasium.register(
    "test/BrokenWorkers-v0",
    entry_point=Broken,
    vector_entry_point=lambda num_envs: AsyncVectorEnv([partial(Broken, "raises")] * num_envs),
)
gymnasium.register(
    "test/NoVector-v0", entry_point=Feeling, vector_entry_point=lambda **_: Feeling()
)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("heading", r"sense 'heading' must be of Discrete\(6, start=-1\); got \[5\] of env"),
        ("text", r"sense 'text' must be of MultiDiscrete.*; got \[0, 7\]"),
        ("free", r"sense 'free' must be of Box.*; got \[nan, 0.0\] of environment 0 of 2"),
        ("scaled", r"sense 'scaled' must be of Box.*; got \[1.0, 4.5\] of environment 0 of 2"),
        ("reward", "rewards of test/Broken-v0 must be numbers; got nan of environment 0 of 2"),
        ("raises", "test/Broken-v0 failed with KeyError: 'paddle'. Mend it"),
        ("nan", "must stay from 0 to 1, as its space says; got nan"),
        ("37", "must stay from 0 to 1, as its space says; got 37"),
        ("maker", "could not be made with fault=maker: no ROM"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Gymnasium's own, of the same
def test_what_environments_get_wrong_is_named(fault: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):  # noqa: PT012
        games = Games(EnvConfig("test/Broken-v0", (f"fault={fault}",)), 2)
        games.reset(0)
        games.step(torch.zeros(2, dtype=torch.long))


@pytest.mark.filterwarnings("error")
def test_of_the_dead_in_workers_no_traceback_is_shown() -> None:
    games = Games(EnvConfig("test/BrokenWorkers-v0"), 2)
    games.reset(0)
    level = gymnasium.logger.min_level
    with pytest.raises(ChildProcessError, match="of 2 died in its worker: KeyError: .*paddle"):
        games.step(torch.zeros(2, dtype=torch.long))
    assert gymnasium.logger.min_level == level


@pytest.mark.filterwarnings("ignore")  # Gymnasium misses its metadata
def test_what_is_made_must_be_a_vector_environment() -> None:
    with pytest.raises(ValueError, match="must be made as a gymnasium.vector.VectorEnv; its vec"):
        Games(EnvConfig("test/NoVector-v0"), 2)
