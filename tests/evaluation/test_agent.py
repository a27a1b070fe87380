from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

import tests.envs.test_games  # noqa: F401 (registers test/Countdown-v0)
from foveal import cli, geometry
from foveal.envs import CATCH_ID, EnvConfig, Fovea
from foveal.evaluation import agent as judging
from foveal.evaluation.agent import Moment, Result, _ball_distances, play
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.viz.film import Film
from tests.training.test_agent import AGENT

COUNTDOWN = EnvConfig("test/Countdown-v0")
FEELING = EnvConfig("test/Feeling-v0", ("actions=3",), env_senses=("heading",))


def make_agent(**changes: object) -> RecurrentAttention:
    torch.manual_seed(0)
    return RecurrentAttention(RAMConfig(**{**vars(AGENT), **changes}))  # type: ignore[arg-type]


def test_short_and_long_games_weigh_the_same() -> None:
    """Seeds 0, 1 and 2 last 2, 3 and 4 decisions, and an agent that always earns takes them all."""
    agent = make_agent(num_classes=2)
    with torch.no_grad():
        agent.action_head.weight.zero_()
        agent.action_head.bias.copy_(torch.tensor([0.0, 1.0]))
    ended: list[int] = []
    result = play(agent, COUNTDOWN, 7, 0, num_envs=3, listener=ended.append)
    assert sorted(result.returns) == [2, 2, 2, 3, 3, 4, 4]
    assert result.lengths == tuple(int(gain) for gain in result.returns)
    assert ended == sorted(ended)
    assert ended[-1] == 7
    assert result.success_rate == 100
    assert result.ball_distances == ()
    assert "ball_distance" not in result.summary()


def test_what_is_left_of_a_game_that_was_cut_is_no_game(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seeds 0, 1 and 2 the last is cut after 3 of its 4 decisions, and followed by none."""
    monkeypatch.setattr(judging, "LONGEST", 3)
    agent = make_agent(num_classes=2)
    with torch.no_grad():
        agent.action_head.weight.zero_()
        agent.action_head.bias.copy_(torch.tensor([0.0, 1.0]))
    assert sorted(play(agent, COUNTDOWN, 7, 0, num_envs=3).returns) == [2, 2, 2, 3, 3, 3]


def test_actions_are_drawn_by_how_likely_they_are() -> None:
    """An action that earns is taken once in four times, and never where the likeliest is."""
    agent = make_agent(num_classes=2)
    with torch.no_grad():
        agent.action_head.weight.zero_()
        agent.action_head.bias.copy_(torch.tensor([3.0, 1.0]).log())
    assert play(agent, COUNTDOWN, 300, 0).mean_return == 0
    first, again = (play(agent, COUNTDOWN, 300, 0, sample=True) for _ in range(2))
    assert first == again
    assert sum(first.returns) / sum(first.lengths) == pytest.approx(0.25, abs=0.06)


def test_it_looks_as_the_model_steps() -> None:
    """The same games, one look at a time by `RecurrentAttention.step`, first looks and all."""
    agent = make_agent()
    moments: list[Moment] = []
    env = EnvConfig(CATCH_ID, ("size=6",))
    result = play(agent, env, 5, 3, watch=moments.append)
    assert len(moments) == 5
    agent.eval()
    generator = torch.Generator().manual_seed(3)
    location, state = agent.begin(moments[0].images, generator)
    away = []
    for time, moment in enumerate(moments):
        torch.testing.assert_close(moment.locations, location)
        step = agent.step(moment.images, location, state)
        assert torch.equal(moment.actions, step.logits.argmax(-1))
        balls = moment.images[:, 0, time].argmax(-1)
        center = geometry.to_pixels(location, 6, 6)
        away.append(torch.hypot(center[:, 0] - balls - 0.5, center[:, 1] - time - 0.5))
        location, state = step.next_location, step.state
    assert moments[-1].over.all()
    assert result.returns == tuple(moments[-1].rewards.tolist())
    torch.testing.assert_close(torch.tensor(result.ball_distances), torch.stack(away).mean(0))


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({}, False),
        ({"ball": np.array([5, 6])}, False),
        ({"ball": np.array(["here", "there"])}, False),
        ({"ball": np.array([[1, 2], [0, 0]]), "_ball": np.array([True, False])}, False),
        ({"ball": np.array([[1.0, 2.0], [5.0, 9.0]])}, True),
    ],
)
def test_only_a_place_for_each_game_is_where_a_ball_is(info: dict[str, Any], told: bool) -> None:
    """Any environment may call something of its own a ball."""
    away = _ball_distances(info, torch.zeros(2, 2), 12, 12)
    assert (away is not None) == told
    if away is not None:  # from the middle, (6, 6), to the middles of pixels
        np.testing.assert_allclose(away, np.hypot([4.5, 0.5], [3.5, 3.5]))


def test_what_is_seen_through_a_fovea_is_not_where_the_ball_is() -> None:
    """The place in a glimpse says nothing of how far the ball on the screen is."""
    gymnasium.register(
        "test/FoveatedCatch-v0",
        entry_point=lambda: Fovea(gymnasium.make(CATCH_ID), glimpse_size=6, grid=2, flat=True),
    )
    agent = make_agent(num_classes=12, num_channels=3, senses=(("gaze", 2),))
    assert play(agent, EnvConfig("test/FoveatedCatch-v0"), 2, 0).ball_distances == ()


def test_games_are_of_the_seed_and_the_mode_is_kept() -> None:
    agent = make_agent().train()
    env = EnvConfig(CATCH_ID, ("size=6",))
    first, again, other = (play(agent, env, 300, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.returns != other.returns
    assert agent.training


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (COUNTDOWN, "made for 3 actions; test/Countdown-v0 has 2"),
        (FEELING, r"made for nothing beside the image; test/Feeling-v0 has heading \(6\)"),
        (EnvConfig("test/Nothing-v0"), "must be the id of a Gymnasium environment"),
    ],
)
def test_another_kind_of_game_is_refused(env: EnvConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        play(make_agent(), env, 3, 0)


def test_intervals_by_hand() -> None:
    result = Result(returns=(1.0, 0.0, 1.0, 2.0), lengths=(5, 5, 5, 9), ball_distances=(1.0, 2.0))
    summary = result.summary()
    assert (summary["success_rate"], summary["mean_return"], summary["episodes"]) == (75, 1, 4)
    assert (summary["mean_length"], summary["ball_distance"]) == (6, 1.5)
    # Wilson's formula, and the normal one with a standard deviation of sqrt(2/3).
    z, n, p = 1.959964, 4, 0.75
    middle, reach = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    wanted = 100 * np.array([middle - reach, middle + reach]) / (1 + z * z / n)
    assert summary["interval"] == pytest.approx(wanted, rel=1e-4)
    half = 1.96 * np.sqrt(2 / 3) / 2
    assert summary["return_interval"] == pytest.approx([1 - half, 1 + half])


def test_one_game_has_no_spread_and_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    for flags in (["--json"], []):
        assert cli.main(["play", "catch", "--episodes", "1", *flags]) == 0
        out = capsys.readouterr().out
        if flags:
            assert json.loads(out, parse_constant=refused)["return_interval"] is None
        else:
            assert "mean return 1.000, " in out


@pytest.mark.parametrize("num_envs", [1, 2, 4])
def test_a_film_shows_as_many_games_as_are_asked_for(num_envs: int) -> None:
    film = Film(make_agent(), 3)
    play(film.agent, EnvConfig(CATCH_ID, ("size=6",)), 3, 0, num_envs=num_envs, watch=film)
    assert [len(reel) for reel in film.reels] == [5, 5, 5]


def test_a_film_shows_screen_squares_and_glimpses(tmp_path: Path) -> None:
    agent = make_agent()
    film = Film(agent, 2)
    play(agent, EnvConfig(CATCH_ID, ("size=6",)), 8, 0, num_envs=4, watch=film)
    assert [len(reel) for reel in film.reels] == [5, 5]
    film.save(tmp_path / "play.gif")
    with Image.open(tmp_path / "play.gif") as movie:
        assert movie.format == "GIF"
        frame = np.asarray(movie.convert("RGB"), dtype=int)
    # The colours of both scales' squares, and on the screen the white ball and paddle.
    for color in ((0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)):
        assert (np.abs(frame - color).sum(-1) < 40).sum() > 100
    screen = frame[12 : 12 + 336, 12 : 12 + 336]
    white = (screen.min(-1) > 250).mean() * 36
    assert 1.5 < white <= 3, "about three of 36 pixels, less where a square is drawn"
