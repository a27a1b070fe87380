"""Runs that learn to act: the paper's game, and any other environment of images and actions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch

from foveal.envs import EnvConfig, Games
from foveal.evaluation.agent import check_fit, play
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.names import shell_line
from foveal.runs.run import KEPT, Completed, Run
from foveal.training.agent import ControlConfig, ControlTrainer
from foveal.training.control_objective import ControlObjective
from foveal.viz.illustrations import draw_game

PROTOCOL = "fresh games, likeliest action, mean policy, {} weights of the run"
TEST_SEED = 2014  # of the games that an agent is judged in


@dataclass(frozen=True)
class AgentRun(Run):
    """Everything that decides what the run of an agent computes."""

    kind, plays = "agent", True
    measure, compared = "success_rate", ControlTrainer.COMPARED
    lower_is_better = ControlTrainer.LOWER_IS_BETTER
    curve, axis = ("seconds", "validation_return", "validation_success_rate"), "decisions"

    env: EnvConfig = field(default_factory=EnvConfig)
    start: str | None = None  # MODEL whose weights training begins with; random ones if not given
    model: RAMConfig = field(default_factory=RAMConfig)
    objective: ControlObjective = field(default_factory=ControlObjective)
    training: ControlConfig = field(default_factory=ControlConfig)

    def along(self, step: int) -> int:
        """See `Run`."""
        return step * self._decisions_a_step

    def completed(self, *_: Any) -> Completed:
        """See `Run`: the model takes the actions, channels and senses of the games.

        Raises `ValueError` if the environment is not one of images and discrete actions.
        """
        if not self.env.env:
            raise ValueError(
                "which environment? Pass --env with the id of one of images and discrete actions, "
                "as in: foveal train control --env foveal/Catch-v0"
            )
        games = Games(self.env, 1)
        sizes = {
            "num_classes": games.num_actions,
            "num_channels": games.image_shape[0],
            "senses": tuple(games.senses.items()),
        }
        games.close()
        return self.altered(model=sizes), None

    def open(self, *_: Any, **__: Any) -> None:
        """See `Run`; games are begun by the trainer."""

    def trainer(self, _: None, /, *, drawn: bool, **engine: Any) -> ControlTrainer:
        """See `Run`."""
        engine.pop("capture")  # of a classifier's step
        torch.manual_seed(self.training.seed)
        agent = RecurrentAttention(self.model)
        draw = partial(draw_game, agent, self.env, engine["device"]) if drawn else None
        trainer = ControlTrainer(
            agent, self.env, self.training, self.objective, illustrate=draw, **engine
        )
        check_fit(agent, trainer.games, self.env)
        return trainer

    def judge(self, agent: RecurrentAttention, _: None, device: torch.device) -> dict[str, Any]:
        """See `Run`: what the agent earns in fresh games."""
        result = play(agent, self.env, self.training.test_episodes, TEST_SEED, device)
        return {
            "env": self.env.env,
            **result.summary(),
            "protocol": PROTOCOL.format(KEPT[self.training.keep]),
            "parameters": agent.count_parameters(),
            "multiply_adds": agent.count_multiply_adds(),
            "pixels_read": agent.count_pixels_read(1),
        }

    def done(self, lines: Sequence[Mapping[str, Any]]) -> float:
        """See `Run`."""
        return float(lines[-1]["step"] / (self.training.decisions // self._decisions_a_step))

    def shortened(self, seed: int, part: int) -> Self:
        """See `Run`; at least one update."""
        decisions = max(self._decisions_a_step, self.training.decisions // part)
        return self.altered(training={"seed": seed, "decisions": decisions})

    def told(self, result: Mapping[str, Any]) -> list[str]:
        """See `Run`."""
        low, high = result["interval"]
        return [
            f"{result['episodes']:,} fresh games: mean return {result['mean_return']:.2f}, success "
            f"{result['success_rate']:.2f} % (95 % interval {low:.2f} to {high:.2f}); "
            f"{result['decisions_seen']:,} decisions in {result['seconds']:,.0f} s",
            f"See it play: {shell_line('play', result['run'], '--gif', 'play.gif')}",
        ]

    @property
    def _decisions_a_step(self) -> int:
        return self.training.num_envs * self.training.rollout_length
