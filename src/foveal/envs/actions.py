"""Spaces of actions that are whole numbers, one or several at once."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

WHOLE = Discrete | MultiDiscrete | MultiBinary
MOST_TOGETHER = 4096  # actions, each with a logit of its own


def choices(space: Any) -> list[int]:
    """How many values each whole number of a space has, in order."""
    if isinstance(space, MultiBinary):
        return [2] * int(np.prod(space.shape))
    return [int(space.n)] if isinstance(space, Discrete) else [int(n) for n in space.nvec.ravel()]


def of_space(space: Any, numbers: NDArray[Any]) -> NDArray[Any]:
    """Actions of a space from their whole numbers, ``(..., K)``, each from 0 to its choices.

    One of a `Discrete` is a number, not an array without axes, which could be no key of a dict.
    """
    if not isinstance(space, MultiBinary):
        numbers = numbers + np.ravel(space.start)
    actions: NDArray[Any] = numbers.reshape((*numbers.shape[:-1], *space.shape)).astype(space.dtype)
    return actions[()]


class Together:
    """The actions of a space numbered from 0: of several whole numbers, the last changes first.

    Every combination has a number, so that a network with an answer for each also says which go
    together.

    Args:
        space: of one environment.
        name: of the environment, for people.

    Attributes:
        count: how many actions there are.

    Raises:
        ValueError: if they are not whole numbers, or too many.
    """

    def __init__(self, space: gymnasium.Space[Any], name: str) -> None:
        if not isinstance(space, WHOLE):
            raise ValueError(
                f"the actions of {name} must be discrete (gymnasium.spaces.Discrete, MultiDiscrete "
                f"or MultiBinary); got {space}. Choose another environment, or wrap it."
            )
        self._space, self._choices = space, choices(space)
        self.count = int(np.prod(self._choices, dtype=object))
        if self.count > MOST_TOGETHER:
            raise ValueError(
                f"the actions of {name} must have at most {MOST_TOGETHER:,} combinations; got "
                f"{self.count:,} of {space}. Leave some out, or make them coarser, by a wrapper."
            )

    def of(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Actions of the space, from ``(B,)`` numbers."""
        return of_space(self._space, np.stack(np.unravel_index(numbers, self._choices), axis=-1))
