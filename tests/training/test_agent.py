from __future__ import annotations

import dataclasses
import math
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import tests.envs.test_games  # noqa: F401 (registers test/Feeling-v0)
from foveal.envs import CATCH_ID, EnvConfig
from foveal.io.files import read_tensors
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.context import ConvContextSettings
from foveal.model.core import State
from foveal.model.map_policy import MapSettings
from foveal.runs.agent import TEST_SEED
from foveal.training import agent as control
from foveal.training.agent import VALIDATION_SEED, ControlConfig, ControlTrainer
from foveal.training.best import BEST_FILE, keep_if_best
from foveal.training.control_objective import ControlObjective, control_loss
from foveal.training.engine import CHECKPOINT_FILE
from foveal.training.journal import read_metrics
from foveal.training.progress import TrainingDiverged, TrainingStopped
from tests.conftest import StopAt

SMALL_CATCH = EnvConfig(CATCH_ID, ("size=5", "speed=0.25"))
AGENT = RAMConfig(
    glimpse_size=3,
    num_scales=2,
    num_glimpses=1,
    num_classes=3,
    glimpse_hidden=16,
    location_hidden=16,
    glimpse_features=32,
    core="lstm",
    core_size=32,
    glimpse_gain=3.0,
    scale_gain=4.0,
    location_std=0.2,
    detach_policy=False,
)
BRIEF = ControlConfig(
    decisions=6 * 4 * 32,
    num_envs=32,
    rollout_length=4,
    num_minibatches=2,
    lr=3e-3,
    log_every=1,
    validate_every=3,
    validation_episodes=40,
    gradient_clip=1.0,
)


def with_context(config: RAMConfig, context: str) -> RAMConfig:
    if context == "none":
        return config
    settings = ConvContextSettings(thumbnail_size=5, context_layers=1)
    return dataclasses.replace(config, context=context, context_settings=settings)


def make_trainer(directory: Path, **changes: object) -> ControlTrainer:
    options = {"env": SMALL_CATCH, "agent": AGENT, "listener": None, **changes}
    torch.manual_seed(0)
    config = ControlConfig(**{**vars(BRIEF), **options.get("config", {})})  # type: ignore[dict-item]
    agent = RecurrentAttention(options["agent"])  # type: ignore[arg-type]
    if agent.context is not None:
        for layer in agent.context.to_state:  # it begins with nothing to tell
            torch.nn.init.normal_(layer.weight)
    return ControlTrainer(
        agent,
        options["env"],  # type: ignore[arg-type]
        config,
        ControlObjective(detach_baseline=False),
        directory,
        listener=options["listener"],  # type: ignore[arg-type]
    )


def test_no_game_is_begun_twice(tmp_path: Path) -> None:
    """Environments take a seed and those behind it; evaluations have theirs."""
    trainer, count = make_trainer(tmp_path), BRIEF.num_envs
    begun = set()
    for trainer.step in range(2000):
        begun |= set(range(trainer._seed(), trainer._seed() + count))
    assert len(begun) > 0.999 * 2000 * count
    assert max(begun) < 2**31 - 1, "ALE's seeds have 32 bits"
    judged = {*range(VALIDATION_SEED, VALIDATION_SEED + 999), *range(TEST_SEED, TEST_SEED + 999)}
    assert not begun & judged


def test_the_weights_that_earned_the_most_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Returns that we say: of the two best the later."""
    returns, then = {1: -3.0, 2: 0.5, 3: -1.0, 4: 0.5, 5: 0.0}, {}
    changes = {"keep": "best", "validate_every": 1, "decisions": 5 * 4 * 32, "lr": 0.1}
    trainer = make_trainer(tmp_path, config=changes)

    def played(agent: RecurrentAttention, *_: object) -> SimpleNamespace:
        then[trainer.step] = agent.action_head.bias.detach().clone()
        return SimpleNamespace(mean_return=returns[trainer.step], success_rate=0.0)

    monkeypatch.setattr(control, "play", played)
    outcome = trainer.run()
    assert outcome.validation == {"validation_return": 0.5, "validation_success_rate": 0.0}
    assert torch.equal(trainer.agent.action_head.bias, then[4])
    assert not torch.equal(then[4], then[5])
    # Games are begun anew by a resumed run, and need not go as they went before a kill.
    for step, worse in ((2, -1.0), (6, math.nan)):
        found = {"validation_return": worse}
        keep_if_best(
            tmp_path, trainer.agent, step, found, "validation_return", lower_is_better=False
        )
        assert read_tensors(tmp_path / BEST_FILE)[1]["step"] == 4


def test_a_batch_of_one_decision_is_learned_from(tmp_path: Path) -> None:
    changes = {"num_envs": 1, "rollout_length": 1, "num_minibatches": 1, "decisions": 6}
    trainer = make_trainer(tmp_path, config=changes)
    trainer.run()
    assert all(bool(weight.isfinite().all()) for weight in trainer.learner.parameters())


def test_weights_that_are_no_numbers_are_said_to_be_so(tmp_path: Path) -> None:
    """Not what fails because of them, as drawing an action does."""
    trainer = make_trainer(tmp_path)
    torch.nn.init.constant_(trainer.agent.action_head.bias, torch.nan)
    with pytest.raises(TrainingDiverged):
        trainer.run()


@pytest.mark.parametrize(
    ("apart", "settings", "words"),
    [
        (1.0, {}, "--apart and --steps are for several looks"),
        (0.0, {"map_pasted": 1.0}, "nothing is pasted into games. Leave it out"),
        (0.0, {"map_only": 0.5}, "--map-only of an agent must be 0 or 1"),
    ],
)
def test_what_is_for_images_alone_is_not_for_agents(
    apart: float, settings: dict[str, float], words: str, tmp_path: Path
) -> None:
    agent = dataclasses.replace(
        AGENT,
        policy="map",
        policy_settings=MapSettings(apart=apart),
        context="conv",
        context_settings=ConvContextSettings(thumbnail_size=9, **settings),
    )
    with pytest.raises(ValueError, match=words):
        make_trainer(tmp_path, agent=agent)


def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    outcome = whole.run()
    assert (outcome.steps, outcome.seen) == (6, 768)
    for step in (2, 5):
        trainer = make_trainer(tmp_path / "parts", listener=StopAt(step, signal.SIGTERM))
        trainer.restore()
        with pytest.raises(TrainingStopped):
            trainer.run()
    trainer = make_trainer(tmp_path / "parts")
    assert trainer.restore()
    assert trainer.run().validation == outcome.validation
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name]), name
    clock = ("decisions_per_second", "seconds")
    kept = [
        [{k: v for k, v in line.items() if k not in clock} for line in read_metrics(tmp_path / run)]
        for run in ("whole", "parts")
    ]
    assert kept[0] == kept[1]
    tensors, _ = read_tensors(tmp_path / "parts" / CHECKPOINT_FILE)
    assert not [name for name in tensors if "image" in name]


@pytest.mark.parametrize(
    ("policy", "zoom"),
    [("learned", False), ("random", False), ("center", False), ("learned", True), ("map", False)],
)
def test_what_was_played_is_scored_alike_afterwards(
    policy: str, zoom: bool, tmp_path: Path
) -> None:
    """Segments of 7 cut the games of 4 anywhere: step by step, and all at once."""
    agent = with_context(AGENT, "conv" if policy == "map" else "none")
    trainer = make_trainer(
        tmp_path,
        agent=RAMConfig(**{**vars(agent), "policy": policy, "zoom": zoom}),
        config={"rollout_length": 7, "decisions": 7 * 32},
    )
    for _ in range(3):
        with torch.no_grad():
            played = trainer._play(0.2)
            logits, location_log_probs, baselines = trainer._score(played, torch.arange(32), 0.2)
        log_probs = logits.log_softmax(-1).gather(-1, played.actions[..., None]).squeeze(-1)
        torch.testing.assert_close(log_probs, played.log_probs)
        torch.testing.assert_close(location_log_probs, played.location_log_probs)
        torch.testing.assert_close(baselines, played.baselines[:-1])
        assert played.played.float().mean() < 1, "an action between games counts for nothing"
        assert (played.rewards.sum(0) <= played.over.sum(0)).all()
        clamped = played.choices[:-1].clamp(-1, 1)
        going_on = ~played.fresh[1:]
        torch.testing.assert_close(played.locations[1:][going_on], clamped[going_on])


def test_what_was_sensed_is_scored_alike_afterwards(tmp_path: Path) -> None:
    """Games of 2, 3 and 4 decisions; the text is fed wrongly for a second look, which shows."""
    agent = RAMConfig(**{**vars(AGENT), "num_classes": 2, "senses": (("text", 5), ("heading", 6))})
    env = EnvConfig("test/Feeling-v0", env_senses=("text", "heading"))
    trainer = make_trainer(
        tmp_path, agent=agent, env=env, config={"rollout_length": 7, "decisions": 7 * 32}
    )
    with torch.no_grad():
        played = trainer._play(0.2)
        logits, _, baselines = trainer._score(played, torch.arange(32), 0.2)
        log_probs = logits.log_softmax(-1).gather(-1, played.actions[..., None]).squeeze(-1)
        torch.testing.assert_close(log_probs, played.log_probs)
        torch.testing.assert_close(baselines, played.baselines[:-1])
        assert played.senses["heading"].shape == (7, 32, 6)
        played.senses["text"].mul_(-1)
        other, _, _ = trainer._score(played, torch.arange(32), 0.2)
    assert (other - logits).abs().max() > 1e-3


def test_the_baseline_after_a_segment_is_that_before_the_next(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, config={"rollout_length": 3, "decisions": 96})
    with torch.no_grad():
        first, second = trainer._play(0.2), trainer._play(0.2)
    torch.testing.assert_close(first.baselines[-1], second.baselines[0])


def test_the_trainer_scores_no_look_that_is_never_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments of 7 over games of 4: an action between games, and the last location of each."""
    trainer = make_trainer(tmp_path, config={"rollout_length": 7, "decisions": 7 * 32})
    seen = []

    def keep(*arguments: Any) -> Any:
        seen.append(arguments[7])
        return control_loss(*arguments)

    monkeypatch.setattr(control, "control_loss", keep)
    trainer.run()
    played, looked = seen[0]
    assert played[:, 0].tolist() == [True, True, True, True, False, True, True]
    assert looked[:, 0].tolist() == [True, True, True, False, False, True, True]


def test_rewards_are_clipped_and_the_score_is_the_games_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catch, where a ball is worth 7."""
    shown = []
    for clip in (False, True):
        trainer = make_trainer(tmp_path / str(clip), config={"decisions": 4 * 32})
        trainer.objective = dataclasses.replace(trainer.objective, clip_rewards=clip)
        step = trainer.games.step

        def worth(actions: torch.Tensor, step: Any = step) -> Any:
            turn = step(actions)
            return turn._replace(rewards=7 * turn.rewards)

        monkeypatch.setattr(trainer.games, "step", worth)
        trainer.run()
        shown.append(next(line for line in read_metrics(trainer.directory) if "return" in line))
        played = trainer._play(0.2)
        assert set(played.rewards.unique().tolist()) == {0, 1 if clip else 7}
        assert set(played.scores.unique().tolist()) == {0, 7}
    assert shown[0]["return"] == shown[1]["return"] == 7 * shown[1]["clipped_return"] > 1
    assert "clipped_return" not in shown[0]
    assert shown[1]["baseline_loss"] < shown[0]["baseline_loss"] / 5


def test_the_returns_of_training_are_of_games_that_ended(tmp_path: Path) -> None:
    """Games of 2, 3 and 4 decisions that earn 1 for each action 1, read after one decision each."""
    trainer = make_trainer(
        tmp_path,
        env=EnvConfig("test/Countdown-v0"),
        agent=dataclasses.replace(AGENT, num_classes=2),
        config={"decisions": 12, "num_envs": 3, "rollout_length": 1, "num_minibatches": 1},
    )
    trainer.objective = dataclasses.replace(trainer.objective, clip_rewards=True)
    step, rewards = trainer.games.step, []

    def worth(actions: torch.Tensor) -> Any:
        turn = step(actions)
        turn = turn._replace(rewards=torch.full_like(turn.rewards, 3.0) * turn.played)
        rewards.append(turn)
        return turn

    trainer.games.step = worth  # type: ignore[method-assign]
    trainer.run()
    lines = [line for line in read_metrics(tmp_path) if "loss" in line]
    over = [turn.over.tolist() for turn in rewards]
    # None ends with the first decision; then one each: of 2, 3 and 4 decisions.
    assert [sum(ended) for ended in over] == [0, 1, 1, 1]
    assert [line.get("return") for line in lines] == [None, 6, 9, 12]
    assert [line.get("clipped_return") for line in lines] == [None, 2, 3, 4]


def test_an_agent_learns_to_catch(tmp_path: Path) -> None:
    """On 5 x 5 pixels with a ball that falls almost straight luck catches about half."""
    trainer = make_trainer(
        tmp_path,
        config={
            "decisions": 150 * 4 * 128,
            "num_envs": 128,
            "lr": 1e-2,
            "validate_every": 50,
            "validation_episodes": 500,
            "final_location_std": 0.05,
        },
    )
    result = trainer.run().validation
    assert result["validation_success_rate"] > 85, result
    rates = [line["return"] for line in read_metrics(tmp_path) if "return" in line]
    assert rates[0] < 0.6 < 0.8 < rates[-1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_envs": 0}, "num_envs must be a whole number from 1 to 1,000,000; got 0"),
        ({"num_minibatches": 3}, "num_envs must be a multiple of num_minibatches; got 1024 and 3"),
        ({"decisions": 100}, "at least those of one update.* = 23,552; got 100"),
        ({"lr": 0.0}, "lr must be a number above 0"),
    ],
)
def test_impossible_training_is_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ControlConfig(**values)  # type: ignore[arg-type]


class Endless(gymnasium.Env[np.ndarray, np.int64]):
    """Two decisions, cut short, a reward of 0: what is expected comes from the last scene alone."""

    observation_space = gymnasium.spaces.Box(0, 1, (6, 6), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:  # noqa: ARG002
        super().reset(seed=seed)
        self.time = 0
        return np.zeros((6, 6), np.float32), {}

    def step(self, _action: np.int64) -> Any:
        self.time += 1
        scene = np.full((6, 6), self.time / 2, np.float32)
        return scene, 0.0, False, self.time == 2, {}


gymnasium.register("test/Endless-v0", Endless)


@pytest.mark.parametrize("context", ["none", "conv"])
def test_a_game_cut_short_and_begun_anew_at_once_is_worth_what_its_last_scene_promises(
    context: str, tmp_path: Path
) -> None:
    """By the critic's word for the last scene, which is lit; the next game's is dark."""
    env = EnvConfig("test/Endless-v0", ("vector_kwargs={'autoreset_mode': 'SameStep'}",))
    trainer = make_trainer(tmp_path, env=env, agent=with_context(AGENT, context))

    def with_scene(state: State, light: float) -> State:
        """What the context makes of a scene is added to what is remembered."""
        told = trainer.agent.begin(torch.full((32, 1, 6, 6), light))[1]
        return tuple(old + new for old, new in zip(state, told[: len(state)], strict=True))

    with torch.no_grad():
        played = trainer._play(0.1)
        assert played.over[1].all()
        assert played.terminated[1].all(), "nothing else follows"
        agent = trainer.agent
        state = agent.core.initial(32)
        for t in range(2):
            features = agent.perceive(played.glimpses[t], played.locations[t])
            state = agent.remember(features, with_scene(state, t / 2))
        place = played.choices[1].clamp(-1, 1)
        features = agent.perceive(agent.sensor(torch.ones(32, 1, 6, 6), place), place)
        after = agent.remember(features, with_scene(state, 1.0))
        wanted = trainer.critic(after[0], agent.action_head(after[0]))
    torch.testing.assert_close(played.beyond[1], wanted)
    assert not played.beyond[0].any()
    assert not played.rewards.any(), "what was earned is told apart"
