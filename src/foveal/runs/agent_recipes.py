"""Named configurations of agents: how one learns Catch, or a game of which nothing is known.

``paper`` is the published objective; ``fast`` the best that we found; ``best`` sees a thumbnail of
each screen, and a map says where to look (docs/agents.md).
"""

import dataclasses
from collections.abc import Callable

from foveal.envs import EnvConfig
from foveal.model.config import RAMConfig
from foveal.model.context import ConvContextSettings
from foveal.names import choose
from foveal.runs.agent import AgentRun
from foveal.training.agent import ControlConfig
from foveal.training.control_objective import ControlObjective

# A ball of one pixel is all that moves: a coarse scale enters as the sum over its boxes, not as
# their mean, and the whole glimpse larger still, or the first layer hardly feels it.
CATCH_RETINA = RAMConfig(
    glimpse_size=6,
    num_scales=3,
    num_glimpses=1,
    num_classes=3,
    glimpse_gain=3.0,
    scale_gain=4.0,
    core="lstm",
    location_std=0.15,
    detach_policy=False,
)


def _paper_agent(task: str) -> AgentRun:
    """§3.2 and §4.2: REINFORCE with a baseline for actions and locations, each batch used once.

    The paper states neither rate nor optimizer nor batch. Nothing limits how far a batch moves the
    policy, so steps are smaller than `_fast_agent`'s: at its rate the gaze drifts away before the
    game is learned.
    """
    often = {"num_envs": 256, "log_every": 40, "validate_every": 80} if task == "catch" else {}
    return _fast_agent(task).altered(
        objective=ControlObjective(
            detach_baseline=False,
            credit_decay=1.0,
            clip=0.0,
            entropy_weight=0.0,
            standardize_advantages=False,
        ),
        training={"lr": 8e-4, "update_epochs": 1, "num_minibatches": 1, **often},
    )


def _fast_agent(task: str) -> AgentRun:
    """Proximal policy optimization with Muon; the baseline shapes the core too."""
    catch = AgentRun(
        model=CATCH_RETINA,
        objective=ControlObjective(detach_baseline=False),
        training=ControlConfig(
            optimizer="muon", lr=1.5e-3, gradient_clip=5.0, precision="auto", log_every=10
        ),
    )
    if task == "catch":
        return catch
    # Any other environment: nothing is known of it, so averages come as they are.
    return catch.altered(
        env=EnvConfig(env=""),
        model={"glimpse_size": 8, "glimpse_gain": 1.0, "scale_gain": 1.0},
        objective={"discount": 0.99, "entropy_weight": 0.01},
        training={
            "decisions": 2_000_000,
            # MinAtar's Asterix and Breakout learn twice as much from half a million decisions as
            # by 128 x 32 twice; of 64 x 16 Asterix learns nothing.
            "num_envs": 128,
            "rollout_length": 16,
            "update_epochs": 4,
            "log_every": 20,
            "validate_every": 40,
            "validation_episodes": 64,
            "test_episodes": 256,
        },
    )


def _best_agent(task: str) -> AgentRun:
    """As `_fast_agent`, with a thumbnail of each screen and a map policy: where to look next."""
    fast = _fast_agent(task)
    # Of other games it follows from the screen; one convolution refuses no size that is asked for.
    layers = 3 if task == "catch" else 1
    settings = ConvContextSettings(thumbnail_size=12, map_features=16, context_layers=layers)
    model = dataclasses.replace(
        fast.model.with_parts(policy="map", context="conv"), context_settings=settings
    )
    # A map is soon sure, as no Gaussian of a fixed width can be.
    return dataclasses.replace(fast, model=model).altered(
        objective={"location_entropy_weight": 0.02}
    )


AGENT_RECIPES: dict[str, Callable[[str], AgentRun]] = {
    "paper": _paper_agent,
    "fast": _fast_agent,
    "best": _best_agent,
}
AGENT_TASKS = {
    "catch": "a ball to catch on a 24 x 24 screen, from nothing but the reward",
    "control": "any Gymnasium environment of images and discrete actions: --env ENV_ID",
}


def agent_recipe(task: str, name: str) -> AgentRun:
    """The configuration of a recipe for "catch" or "control"; `ValueError` if there is none."""
    return AGENT_RECIPES[choose(name, AGENT_RECIPES, "recipe")](choose(task, AGENT_TASKS, "task"))
