"""Teach Stable-Baselines3's PPO where to look: Catch, seen through a fovea.

One sees how many balls a trainer catches that knows nothing of looking: to it the gaze is one more
action. It needs foveal[sb3].
"""

import argparse

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
from torch import nn

from foveal.envs import FoveaVector

LENGTH = 23  # decisions in a game of Catch


class Games(VecEnv):
    """A FoveaVector as SB3 wants it, of games that end together, as those of Catch do."""

    def __init__(self, games: FoveaVector) -> None:
        self.games = games
        spaces = games.single_observation_space, games.single_action_space
        super().__init__(games.num_envs, *spaces)

    def reset(self):
        return self.games.reset(seed=self._seeds[0])[0]

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        seen, rewards, over, _, _ = self.games.step(self.actions)
        infos = [{} for _ in over]
        if over.all():
            for game, info in enumerate(infos):
                info["terminal_observation"] = {name: part[game] for name, part in seen.items()}
            seen, _ = self.games.reset()
        return seen, rewards.astype(np.float32), over, infos

    def close(self):
        self.games.close()

    def get_attr(self, name, indices=None):
        return [getattr(self.games, name) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, _, indices=None):
        return [False for _ in self._get_indices(indices)]

    def set_attr(self, *_):
        raise NotImplementedError

    env_method = set_attr


class Brain(BaseFeaturesExtractor):
    """Shared by the actions and the value: what predicts the reward is what is worth seeing."""

    def __init__(self, space: gymnasium.spaces.Dict) -> None:
        super().__init__(space, 64)
        first = nn.Linear(gymnasium.spaces.flatdim(space), 128)
        self.layers = nn.Sequential(first, nn.ReLU(), nn.Linear(128, 64), nn.ReLU())

    def forward(self, seen):
        # A ball in a box of 4 x 4 pixels is 1/16 bright: coarse patches are made brighter.
        glimpses = seen["glimpse"] * torch.tensor([2.0, 8.0, 32.0]).view(3, 1, 1, 1)
        return self.layers(torch.cat([seen["gaze"], glimpses.flatten(1)], dim=1))


class Report(BaseCallback):
    caught: tuple[float, ...] = ()  # in each round of games

    def _on_step(self):
        if self.locals["dones"].all():
            self.caught += (100 * self.locals["rewards"].mean(),)
        if len(self.caught) == 50:
            print(f"{self.num_timesteps:,} decisions: {np.mean(self.caught):.1f} % caught")
            self.caught = ()
        return True


def main(decisions: int, num_envs: int, seed: int, lr: float) -> None:
    torch.set_num_threads(1)
    catch = gymnasium.make_vec("foveal/Catch-v0", num_envs=num_envs)
    # The default fovea, 8 x 8 pixels and twice more round them, at one of 2 x 2 places. The last
    # four looks are remembered: one alone does not tell which way the ball flies.
    games = VecFrameStack(Games(FoveaVector(catch, grid=2, flat=True)), 4)
    games.seed(seed)
    trainer = PPO(
        "MultiInputPolicy",
        games,
        learning_rate=lambda left: lr * left,
        n_steps=LENGTH,
        batch_size=num_envs * LENGTH // 4,
        n_epochs=4,
        gamma=1.0,
        ent_coef=0.01,
        policy_kwargs={"features_extractor_class": Brain, "net_arch": []},
        seed=seed,
        device="cpu",
    )
    trainer.learn(decisions, callback=Report())
    seen, caught = games.reset(), []
    while len(caught) * num_envs < min(decisions, 10_000):
        seen, rewards, over, _ = games.step(trainer.predict(seen, deterministic=True)[0])
        caught += [rewards] if over.all() else []
    share = 100 * np.concatenate(caught).mean()
    print(f"Stable-Baselines3 catches {share:.2f} % of {len(caught) * num_envs:,} fresh balls")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=30_000_000)
    parser.add_argument("--num-envs", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3)
    main(**vars(parser.parse_args()))
