"""Train an agent that has to look where the ball is, in order to catch it.

One sees how many balls an agent catches that sees a 24 x 24 screen only through a 6 x 6 fovea and
gets one reward a game. The default is a beginning, some minutes on one core; the pretrained agent,
after a million games, is shown beside it. It goes on where it was stopped: run it again.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from foveal import RecurrentAttention
from foveal.evaluation.agent import play
from foveal.runs.agent_recipes import agent_recipe
from foveal.training.agent import ControlTrainer
from foveal.training.progress import Progress, TrainingStopped


def show(progress: Progress) -> None:
    if progress.validated:
        rate = progress.validation["validation_success_rate"]
        print(f"update {progress.step}: catches {rate:.0f} %")


def main(out: Path, games: int, quick: bool) -> None:
    recipe = agent_recipe("catch", "fast")
    at_once = 32 if quick else 256
    training = dataclasses.replace(
        recipe.training,
        decisions=23 * (64 if quick else games),  # a game of Catch takes 23
        num_envs=at_once,
        validate_every=1 if quick else 20,
        validation_episodes=at_once,
    )
    torch.manual_seed(0)
    agent = RecurrentAttention(recipe.model)
    trainer = ControlTrainer(agent, recipe.env, training, recipe.objective, out, listener=show)
    trainer.restore()  # what was learned before, if it was stopped
    try:
        trainer.run()
    except TrainingStopped as stopped:
        raise SystemExit(f"{stopped}; run it again to go on") from None
    agent.save_pretrained(out / "model")
    pretrained = RecurrentAttention.from_pretrained("catch")
    for name, player in (("this agent", agent), ("the pretrained one", pretrained)):
        result = play(player, recipe.env, 50 if quick else 1000, seed=1)
        print(f"{name} catches {result.success_rate:.0f} % of {len(result.returns)} balls")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/control-example"))
    parser.add_argument("--games", type=int, default=50_000)
    parser.add_argument("--quick", action="store_true")
    main(**vars(parser.parse_args()))
