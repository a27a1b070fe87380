"""Environments whose actions are repeated over several frames."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from foveal.envs.observations import Screen


class RepeatAction(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Repeats an action, and shows of each pixel the brighter one of the last two frames.

    Rewards are added up. Where a game ends before that, its last two frames are seen, or its only
    one: `gymnasium.wrappers.MaxAndSkipObservation` then shows older ones, and knows no Dict.

    Args:
        env: one whose observations are images, or a Dict with one, of which all else is as in the
            last frame.
        frames: how often each action is taken.

    Raises:
        ValueError: if it observes no image, or two.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], frames: int) -> None:
        RecordConstructorArgs.__init__(self, frames=frames)
        super().__init__(env)
        self._frames = frames
        # Which axis has the channels is nothing to it.
        self._screen = Screen.find(env.observation_space, "last", str(env))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        images, earned = [], 0.0
        for _ in range(self._frames):
            seen, reward, terminated, truncated, info = self.env.step(action)
            images.append(np.array(self._screen.part(seen)))
            earned += float(reward)
            if terminated or truncated:
                break
        image, key = np.maximum(images[-2:][0], images[-1]), self._screen.key
        seen = image if key is None else {**seen, key: image}
        return seen, earned, terminated, truncated, info
