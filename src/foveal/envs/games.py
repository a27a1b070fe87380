"""Any Gymnasium vector environment of images and discrete actions, as tensors."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from numpy.typing import NDArray
from torch import Tensor

from foveal.envs.actions import Together
from foveal.envs.eye import GLIMPSE
from foveal.envs.frames import RepeatAction
from foveal.envs.observations import Screen, find_senses
from foveal.names import Range, check_fields, import_here, nearest
from foveal.scene.files.sources import LUMA


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how it is made.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    # id of a Gymnasium environment; MODULE:ID imports MODULE first, as MODULE.py in this directory
    env: str = "foveal/Catch-v0"
    env_options: tuple[str, ...] = ()  # what its maker is given, as in size=48 speed=0.5
    # Where the channels of its images are; auto: the axis that is shorter than both others.
    env_channels: Literal["auto", "first", "last"] = "auto"
    env_senses: tuple[str, ...] | None = None  # used of a Dict beside its image; all if not given
    # frames for each action, of which the last two are seen, of each pixel the brighter one
    env_skip: int = 1
    env_grey: bool = False  # images in colour become grey (ITU-R BT.601)
    env_stack: int = 1  # the last images seen at once, as channels, the oldest first

    def __post_init__(self) -> None:
        check_fields(self, env_skip=Range(1, 1000), env_stack=Range(1, 1000))


class Turn(NamedTuple):
    """What one action in each of B games led to.

    Attributes:
        images: ``(B, C, H, W)`` float in [0, 1], the scene after it; of several stacked as
            channels the oldest first, and all the same where a game begins.
        senses: ``(B, width)`` of each sense beside the image, by name.
        rewards: ``(B,)`` float.
        played: ``(B,)`` bool; False where the game had ended before, and the action only began the
            next one (Gymnasium's `AutoresetMode.NEXT_STEP`).
        terminated: ``(B,)`` bool, whether the game ended by its rules: nothing follows. Also where
            it was cut short and its last scene is not to be had.
        over: ``(B,)`` bool, whether it ended, by its rules or cut short.
        fresh: ``(B,)`` bool, whether the images begin another game.
        info: the environment's own.
        final_images: as the images, but of games that are over the last scene; from it what follows
            can be estimated where a game was cut short. None where the images themselves show it,
            or no game is over.
        final_senses: as the senses, likewise.
    """

    images: Tensor
    senses: dict[str, Tensor]
    rewards: Tensor
    played: Tensor
    terminated: Tensor
    over: Tensor
    fresh: Tensor
    info: dict[str, Any]
    final_images: Tensor | None = None
    final_senses: dict[str, Tensor] | None = None


class Games:
    """B games of one environment, in step with one another.

    Args:
        config: which environment.
        num_envs: B.
        device: where the images go.

    Attributes:
        image_shape: ``(C, H, W)``.
        senses: the numbers of each sense beside the image, by name.
        num_actions: how many there are; of several whole numbers at once, their combinations.
        through_fovea: whether the images are the glimpses of a `foveal.envs.Fovea`.

    Raises:
        ValueError: if there is no such environment, it takes no such options, or it observes no
            image, or two, or anything else that is no numbers, or its actions are not discrete, or
            have too many combinations.
    """

    def __init__(
        self, config: EnvConfig, num_envs: int, device: torch.device | str = "cpu"
    ) -> None:
        self.num_envs, self.device, self.name = num_envs, torch.device(device), config.env
        self.vector = _make(config, num_envs)
        space: Any = self.vector.single_observation_space
        self._screen = Screen.find(space, config.env_channels, config.env)
        channels, height, width = self._screen.image_shape
        if config.env_grey and channels != 3:
            raise ValueError(
                f"--env-grey must be of images of 3 channels, in colour; those of {config.env} "
                f"have {channels}. Leave it out."
            )
        self.through_fovea = self._screen.key == GLIMPSE
        self._grey, self._stack = config.env_grey, config.env_stack
        channels = self._stack * (1 if self._grey else channels)
        self.image_shape = (channels, height, width)
        self._last = torch.empty(0)  # what was seen last, of each game
        self._senses = find_senses(space, self._screen, config.env_senses)
        self.senses = {key: sense.width for key, sense in self._senses.items()}
        self._actions = Together(self.vector.single_action_space, config.env)
        self.num_actions = self._actions.count
        mode = self.vector.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if mode == AutoresetMode.DISABLED:
            raise ValueError(
                f"{config.env} must start ended games itself; its autoreset_mode is DISABLED. "
                "Make it with another."
            )
        self._at_once = mode == AutoresetMode.SAME_STEP
        self._ended = torch.ones(num_envs, dtype=torch.bool)

    def reset(self, seed: int) -> tuple[Tensor, tuple[dict[str, Tensor], dict[str, Any]]]:
        """Begin all games anew; images; and senses, as in `Turn`, with the environment's info."""
        with naming_the_dead(self.vector, self.name):
            observations, info = self.vector.reset(seed=seed)
        self._ended.zero_()
        images, senses = self._seen(observations)
        self._last = images.repeat(1, self._stack, 1, 1)
        return self._last, (senses, info)

    def step(self, actions: Tensor) -> Turn:
        """One action, ``(B,)`` int64, in each game.

        Raises:
            ValueError: if a reward is not a number, what is observed is not as the spaces say, or
                an environment fails.
        """
        chosen = self._actions.of(actions.cpu().numpy())
        with naming_the_dead(self.vector, self.name):
            observations, rewards, terminated, truncated, info = self.vector.step(chosen)
        if not np.isfinite(rewards).all():
            game = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise ValueError(
                f"the rewards of {self.name} must be numbers; got {rewards[game]} of environment "
                f"{game} of {self.num_envs}. Mend it, or wrap it."
            )
        ended = torch.from_numpy(terminated | truncated)
        before, self._ended = self._ended, ended & (not self._at_once)
        final: tuple[Any, Any] = (None, None)
        if self._at_once and ended.any():
            keys = [] if self._screen.key is None else [self._screen.key, *self.senses]
            last, known = _final(observations, info, keys, self.num_envs)
            terminated = terminated | (truncated & ~known)
            final_images, final_senses = self._seen(last)
            final = self._stacked(final_images), final_senses
        fresh = (ended if self._at_once else before).to(self.device)
        images, senses = self._seen(observations)
        self._last = self._stacked(images, fresh)
        return Turn(
            images=self._last,
            senses=senses,
            rewards=torch.from_numpy(rewards).float().to(self.device),
            played=~before.to(self.device),
            terminated=torch.from_numpy(terminated).to(self.device),
            over=ended.to(self.device),
            fresh=fresh,
            info=info,
            final_images=final[0],
            final_senses=final[1],
        )

    def _seen(self, observations: Any) -> tuple[Tensor, dict[str, Tensor]]:
        images = self._screen.read(observations).whole().to(self.device)
        if self._grey:
            with torch.autocast(images.device.type, enabled=False):
                images = torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMA))[:, None]
        senses = {key: sense.read(observations) for key, sense in self._senses.items()}
        return images, {key: numbers.to(self.device) for key, numbers in senses.items()}

    def _stacked(self, images: Tensor, fresh: Tensor | None = None) -> Tensor:
        """The images before, but for the oldest, and these; in a fresh game these alone."""
        if self._stack == 1:
            return images
        stacked = torch.cat((self._last[:, images.shape[1] :], images), 1)
        if fresh is None:
            return stacked
        return torch.where(fresh[:, None, None, None], images.repeat(1, self._stack, 1, 1), stacked)

    @property
    def all_over(self) -> bool:
        """Whether every game has ended, and none has begun anew."""
        return bool(self._ended.all())

    def close(self) -> None:
        """End what the environment holds: processes, windows."""
        self.vector.close()


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """``size=48`` and the like as keyword arguments; a value is Python's, or else text.

    Raises:
        ValueError: if there is no ``=``.
    """
    options = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name.isidentifier():
            raise ValueError(f"env options must be NAME=VALUE, such as size=48; got {word!r}.")
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            options[name] = text
    return options


@contextlib.contextmanager
def naming_the_dead(vector: VectorEnv[Any, Any, Any], name: str = "") -> Iterator[None]:
    """Where an environment dies in a worker process, say which, and of what; all are then ended.

    Raises:
        ChildProcessError: in place of what the dead left.
        ValueError: in place of an error in this process, if there is a name for who failed, or
            images have changed their shape.
    """
    level, quiet = gymnasium.logger.min_level, not os.environ.get("FOVEAL_DEBUG")
    if quiet and hasattr(vector.unwrapped, "processes"):
        gymnasium.logger.min_level = gymnasium.logger.ERROR + 1  # they show tracebacks
    try:
        yield
    except Exception as problem:
        base: Any = vector.unwrapped
        said = f"{type(problem).__name__}: {problem}"
        shaped = isinstance(problem, ValueError) and "shape" in said
        if shaped:
            said += " (observations must keep the shape that their space says; scale them to it)"
        workers = getattr(base, "processes", ())
        if isinstance(problem, EOFError | OSError):  # a pipe ends before its process does
            ended = wait([worker.sentinel for worker in workers], timeout=1)
            for worker in workers:
                worker.join(1 if worker.sentinel in ended else 0)
        dead = [
            f"{index} (exit code {worker.exitcode})" if worker.exitcode else str(index)
            for index, worker in enumerate(workers)
            if not base.closed and (base.parent_pipes[index] is None or not worker.is_alive())
        ]
        if not dead and hasattr(base, "_state"):
            base._state = AsyncState.DEFAULT  # what they sent was taken, or closing would wait
        if not dead and (name or shaped):
            raise ValueError(
                f"{name or vector} failed with {said}. Mend it; FOVEAL_DEBUG=1 shows where."
            ) from problem
        if not dead:
            raise
        base._state = AsyncState.DEFAULT  # nothing more comes, or closing would wait for it
        base.close(terminate=True)
        raise ChildProcessError(
            f"environment {', '.join(dead)} of {vector.num_envs} died in its worker: {said}"
        ) from problem
    finally:
        gymnasium.logger.min_level = level


def _make(config: EnvConfig, num_envs: int) -> VectorEnv[Any, Any, Any]:
    options = read_options(config.env_options)
    if config.env_skip > 1:  # vector environments of their own kind take no wrappers
        repeating = [functools.partial(RepeatAction, frames=config.env_skip)]
        options = {"vectorization_mode": "sync", "wrappers": repeating} | options
    module, sign, _ = config.env.partition(":")
    if sign:
        import_here(module)
    elif config.env not in gymnasium.registry:
        _register_announced()
    if _clips(config.env) and not {"vectorization_mode", "wrappers"} & options.keys():
        options = {"reward_clipping": False} | options  # which would hide the score
    try:
        vector = gymnasium.make_vec(config.env, num_envs=num_envs, **options)
    except gymnasium.error.UnregisteredEnv as problem:
        hint = nearest(config.env, gymnasium.registry, cutoff=0.5)
        raise ValueError(
            f"env must be the id of a Gymnasium environment; got {config.env!r}. {problem}{hint} "
            "One that a package registers on import is MODULE:ID."
        ) from None
    except Exception as problem:
        skip = [f"--env-skip {config.env_skip}"] if config.env_skip > 1 else []
        given = " ".join((*config.env_options, *skip))
        options_given = f" with {given}" if given else ""
        said = str(problem) or type(problem).__name__
        raise ValueError(
            f"env {config.env!r} could not be made{options_given}: {said}"
        ) from problem
    if not isinstance(vector, VectorEnv):
        raise ValueError(
            f"env {config.env!r} must be made as a gymnasium.vector.VectorEnv; its "
            f"vector_entry_point gave {vector}."
        )
    return vector


def is_atari(env: str) -> bool:
    """Whether an id is of the Arcade Learning Environment, whose package is imported."""
    spec = gymnasium.registry.get(env.rpartition(":")[2])
    return spec is not None and str(spec.entry_point).startswith("ale_py")


def _clips(env: str) -> bool:
    """Whether an id of Atari has a vector environment of its own, which clips rewards."""
    return is_atari(env) and gymnasium.spec(env.rpartition(":")[2]).vector_entry_point is not None


@functools.cache
def _register_announced() -> None:
    """Register the environments that installed packages announce, as MinAtar does."""
    for point in importlib.metadata.entry_points(group="gymnasium.envs"):
        point.load()()


def _final(
    observations: Any, info: dict[str, Any], keys: Sequence[str], count: int
) -> tuple[Any, NDArray[np.bool_]]:
    """The observations with the last of each game in place of another's first; which are known.

    Args:
        observations: of B games, images or a dict.
        info: the environment's.
        keys: of a dict, those that are used.
        count: B.
    """
    last = {key: np.array(observations[key]) for key in keys} if keys else observations.copy()
    known = np.zeros(count, dtype=bool)
    for game, final in enumerate(info.get("final_obs", ())):
        if final is not None and info.get("_final_obs", known | True)[game]:
            known[game] = True
            if not keys:
                last[game] = final
            for key in keys:
                last[key][game] = final[key]
    return last, known
