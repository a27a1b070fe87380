"""An environment of one's own: find a small mark on a noisy screen, and say which it is.

Any module that registers a Gymnasium environment will do; in the directory of this file:

    foveal train control --env find:Find-v0 --out runs/find
    foveal play runs/find --gif find.gif

A cross or a ring of 5 x 5 pixels lies anywhere on 24 x 24. An agent looks on (action 0) or answers
(1: cross, 2: ring). The right answer earns 1, the wrong one loses 1, and after 12 looks it is over.
"""

from typing import Any

import gymnasium
import numpy as np

SIDE, LOOKS = 24, 12
CROSS = np.eye(5, dtype=bool) | np.eye(5, dtype=bool)[::-1]
RING = np.pad(np.zeros((3, 3), dtype=bool), 1, constant_values=True)


class Find(gymnasium.Env[np.ndarray, int]):
    """One game; the screen does not change while it is looked at."""

    def __init__(self, noise: int = 60) -> None:
        self.noise = noise  # foveal's --env-options noise=90 sets it
        self.observation_space = gymnasium.spaces.Box(0, 255, (SIDE, SIDE), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.screen = self.np_random.integers(0, self.noise, (SIDE, SIDE), dtype=np.uint8)
        self.mark = int(self.np_random.integers(2))
        top, left = self.np_random.integers(SIDE - 4, size=2)
        self.screen[top : top + 5, left : left + 5][(CROSS, RING)[self.mark]] = 255
        self.looks = 0
        return self.screen.copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.looks += 1
        answered = action > 0
        reward = (1.0 if action == 1 + self.mark else -1.0) if answered else 0.0
        return self.screen.copy(), reward, answered, self.looks == LOOKS, {}


gymnasium.register("Find-v0", entry_point=Find)
