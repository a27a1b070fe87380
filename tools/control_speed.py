"""Decisions a second of ``foveal train control`` beside Stable-Baselines3's PPO, in turns.

    python tools/control_speed.py [--env MinAtar/Breakout-v1] [--rounds 3]

All learn one environment, on one thread. PPO sees the whole screen, through two hidden layers for
actions and two for the value, with as many weights in all as our agent that has no context; once
with our numbers of games, decisions between updates, passes and minibatches, and once with its own.
Ours looks: by the recipe ``fast``, and by ``best``, with a thumbnail and a map. It needs
foveal[sb3,games].
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from foveal.envs import EnvConfig
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.runs.agent import AgentRun
from foveal.runs.agent_recipes import agent_recipe
from foveal.runs.screens import suggest_for_screens
from foveal.training.agent import ControlConfig, ControlTrainer
from foveal.training.machine import hardware

DECISIONS = 2**15


def run_of(env: str, recipe: str) -> AgentRun:
    """What the command trains by its defaults, but for its length."""
    run = agent_recipe("control", recipe)
    fitted, _ = suggest_for_screens(EnvConfig(env), run.model.context)
    length = {"decisions": DECISIONS, "validate_every": DECISIONS, "validation_episodes": 1}
    made, _ = run.altered(env={"env": env}, model=fitted, training=length).completed()
    assert isinstance(made, AgentRun)
    return made


def ours(run: AgentRun) -> float:
    """Seconds of training."""
    with tempfile.TemporaryDirectory() as place:
        model = RecurrentAttention(run.model)
        trainer = ControlTrainer(model, run.env, run.training, run.objective, Path(place, "run"))
        begun = time.perf_counter()
        trainer.run()
        return time.perf_counter() - begun


def theirs(env: str, model: RAMConfig, training: ControlConfig | None) -> float:
    """Seconds of training."""
    games = make_vec_env(env, n_envs=8 if training is None else training.num_envs)
    # Twice w x w and from the screen, and to actions and value: as many weights as ours.
    ends = (2 * math.prod(games.observation_space.shape or ()) + model.num_classes + 1) / 4
    weights = sum(part.numel() for part in RecurrentAttention(model).parameters())
    width = round(math.sqrt(ends**2 + weights / 2) - ends)
    numbers: dict[str, Any] = {"policy_kwargs": {"net_arch": [width, width]}}
    if training is not None:
        decisions = training.num_envs * training.rollout_length
        numbers |= {
            "n_steps": training.rollout_length,
            "batch_size": decisions // training.num_minibatches,
            "n_epochs": training.update_epochs,
        }
    trainer = PPO("MlpPolicy", games, device="cpu", **numbers)
    share = sum(part.numel() for part in trainer.policy.parameters()) / weights
    assert abs(share - 1) < 0.02, share
    begun = time.perf_counter()
    trainer.learn(DECISIONS)
    return time.perf_counter() - begun


def main(env: str, rounds: int) -> None:
    torch.set_num_threads(1)
    fast, best = (run_of(env, recipe) for recipe in ("fast", "best"))
    trained: dict[str, Callable[[], float]] = {
        "ours, fast": partial(ours, fast),
        "ours, best": partial(ours, best),
        "SB3's PPO, our numbers": partial(theirs, env, fast.model, fast.training),
        "SB3's PPO, its own": partial(theirs, env, fast.model, None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in trained}
    for _ in range(rounds):
        for name, train in trained.items():
            seconds[name].append(train())
    rates = {name: [DECISIONS / each for each in some] for name, some in seconds.items()}
    for name, some in rates.items():
        print(f"{name}: {statistics.median(some):,.0f} ({min(some):,.0f} to {max(some):,.0f})")
    on = hardware(torch.device("cpu"))
    print(json.dumps({"env": env, "decisions": DECISIONS, "rates": rates, "on": on}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="MinAtar/Breakout-v1")
    parser.add_argument("--rounds", type=int, default=3)
    main(**vars(parser.parse_args()))
