"""An eye for any agent: environments whose screens are seen through a fovea, for any trainer."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Tuple
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from foveal.envs.eye import Eye, FoveaConfig, Seen
from foveal.envs.games import naming_the_dead
from foveal.names import shortened
from foveal.scene.screens import Screens

RGB = "rgb_array"


class Fovea(gymnasium.Wrapper[Seen, Any, Any, Any], RecordConstructorArgs):
    """One environment, seen through a fovea.

    ## Observation space
    A `Dict`: `glimpse`, `(S, C, G, G)` floats in [0, 1], as `foveal.GlimpseSensor` cuts it out of
    the screen, finest scale first; `gaze`, `(2,)`, the (x, y) where it looks, as in
    `foveal.geometry`; and what the environment observes beside its one image.

    ## Action space
    A `Dict`: `motor`, the environment's own action; `gaze`, where to look at what follows. That is
    `(2,)` floats, a place in [-1, 1] or, relative, a move of up to `reach` each way; or on a grid
    the number of a place or move, row by row. Flat, whole numbers and a grid make a
    `MultiDiscrete` whose last is the gaze, floats and any gaze a `Box` whose last two are. What
    leaves the screen is clamped to its edge.

    ## Starting state
    Each game is first looked at in the middle.

    Args:
        env: one whose observations are images, or a Dict with one.
        settings: the fields of `FoveaConfig`, by name.

    Raises:
        ValueError: if the environment has no image, or two, or its actions cannot be flat.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], **settings: Any) -> None:
        if not isinstance(env, gymnasium.Env):
            raise ValueError(
                f"Fovea must be given an environment, as gymnasium.make makes it; got "
                f"{shortened(env)}. For a vector environment take FoveaVector."
            )
        RecordConstructorArgs.__init__(self, **settings)
        super().__init__(env)
        self.eye = Eye(FoveaConfig.of(settings), env.observation_space, env.action_space, str(env))
        self.observation_space, self.action_space = self.eye.observations, self.eye.actions
        self.metadata = {**env.metadata, "render_modes": [RGB] if self.render_mode else []}
        self._looked, self._closed = self.eye.middle(1), False
        self._screens: Screens | None = None

    @property
    def render_mode(self) -> str | None:  # type: ignore[override]
        """Of an environment that knows pictures, "rgb_array"; it is drawn without its help."""
        return RGB if RGB in self.env.metadata.get("render_modes", ()) else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._see(observation, self.eye.middle(1)), info

    def step(self, action: Any) -> tuple[Seen, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`.

        Raises:
            ValueError: if there is no motor or no gaze in the action, or the gaze is not of its
                space; or the screen has changed its size.
        """
        motor, gaze = self.eye.split(action, batched=False)
        looked = self.eye.aim(self._looked, gaze)
        observation, reward, terminated, truncated, info = self.env.step(motor)
        return self._see(observation, looked), reward, terminated, truncated, info

    def render(self) -> Any:
        """The screen as it was last observed, with the square of every scale; None at first."""
        return None if self._screens is None else self.eye.draw(self._screens, self._looked)[0]

    def close(self) -> None:
        """Close the environment; once more does nothing."""
        if not self._closed:
            self._closed = True
            super().close()

    def _see(self, observation: Any, looked: NDArray[np.float32]) -> Seen:
        screens = self.eye.screen.read(observation, batched=False)
        self._screens, self._looked = screens, looked
        seen = self.eye.see(screens, looked)
        return {name: part[0] for name, part in seen.items()} | self.eye.others(
            observation, batched=False
        )


class FoveaVector(VectorWrapper[Seen, Any, Any, Any, Any]):
    """Environments in step with one another, each seen through a fovea: `Fovea`, of B at once.

    All screens are looked at together. Where a game begins, by whatever `AutoresetMode`, its
    screen is looked at in the middle; the last observation of the one before, which `SAME_STEP`
    keeps in the info as `final_obs`, is seen where its action looked.

    Args:
        env: a vector environment, as `gymnasium.make_vec` makes it.
        settings: the fields of `FoveaConfig`, by name.

    Raises:
        ValueError: as `Fovea`; and if it is not a vector environment.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], **settings: Any) -> None:
        if not isinstance(env, VectorEnv):
            raise ValueError(
                f"FoveaVector must be given a vector environment, as gymnasium.make_vec makes it; "
                f"got {shortened(env)}. For one environment take Fovea."
            )
        super().__init__(env)
        self.eye = Eye(
            FoveaConfig.of(settings),
            env.single_observation_space,
            env.single_action_space,
            str(env),
        )
        self.single_observation_space = self.eye.observations
        self.single_action_space = self.eye.actions
        self.observation_space = batch_space(self.eye.observations, env.num_envs)
        self.action_space = batch_space(self.eye.actions, env.num_envs)
        self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._looked = self.eye.middle(env.num_envs)
        self._screens: Screens | None = None
        self._ended = np.zeros(env.num_envs, dtype=bool)

    @property
    def render_mode(self) -> str:  # type: ignore[override]
        """What is observed is drawn, whatever the environments can draw."""
        return RGB

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """See `gymnasium.vector.VectorEnv.reset`.

        Raises:
            gymnasium.error.ClosedEnvironmentError: after `close`.
            ChildProcessError: if an environment dies in a worker; it says which, and of what.
        """
        self._check_open()
        begun = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        with naming_the_dead(self.env):
            observations, info = self.env.reset(seed=seed, options=options)
        self._ended = self._ended & ~begun
        looked = np.where(begun[:, None], self.eye.middle(self.num_envs), self._looked)
        return self._see(observations, looked), info

    def step(self, actions: Any) -> tuple[Seen, Any, Any, Any, dict[str, Any]]:
        """See `gymnasium.vector.VectorEnv.step`.

        Raises:
            ValueError: as `Fovea.step`.
            gymnasium.error.ClosedEnvironmentError: after `close`.
            ChildProcessError: if an environment dies in a worker; it says which, and of what.
        """
        self._check_open()
        motor, gaze = self.eye.split(actions)
        several = isinstance(self.eye.motor, Dict | Tuple)  # each of whose parts has them all
        counts = {len(gaze), self.num_envs if several else (np.shape(motor) or (0,))[0]}
        if counts != {self.num_envs}:
            raise ValueError(
                f"there must be a motor part and a gaze for each of {self.num_envs} environments; "
                f"got {' and '.join(map(str, sorted(counts)))}."
            )
        looked = self.eye.aim(self._looked, gaze)
        with naming_the_dead(self.env):
            observations, rewards, terminated, truncated, info = self.env.step(motor)
        ended = terminated | truncated
        at_once = self._mode == AutoresetMode.SAME_STEP
        if at_once and "final_obs" in info:
            info = info | {"final_obs": self._final(info["final_obs"], looked)}
        begun = ended if at_once else self._ended & (self._mode == AutoresetMode.NEXT_STEP)
        self._ended = ended
        looked = np.where(begun[:, None], self.eye.middle(self.num_envs), looked)
        return self._see(observations, looked), rewards, terminated, truncated, info

    def render(self) -> tuple[Any, ...] | None:
        """As `Fovea.render`, of each."""
        return None if self._screens is None else self.eye.draw(self._screens, self._looked)

    def close(self, **kwargs: Any) -> None:
        """Close the environments; once more does nothing."""
        if not self.closed:
            super().close(**kwargs)

    def _see(self, observations: Any, looked: NDArray[np.float32]) -> Seen:
        screens = self.eye.screen.read(observations)
        self._screens, self._looked = screens, looked
        return self.eye.see(screens, looked) | self.eye.others(observations)

    def _check_open(self) -> None:
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError(
                f"{self.env} is closed. Make it anew, as by gymnasium.make_vec."
            )

    def _final(self, observations: Any, looked: NDArray[np.float32]) -> NDArray[Any]:
        """The last observations of games, where there is one, as they were seen."""
        finals = np.full(len(observations), None, dtype=object)
        for game, last in enumerate(observations):
            if last is not None:
                screen = self.eye.screen.read(last, batched=False)
                seen = self.eye.see(screen, looked[game : game + 1])
                finals[game] = {name: part[0] for name, part in seen.items()}
                finals[game] |= self.eye.others(last, batched=False)
        return finals
