"""What an agent saw, did and earned between two updates."""

from typing import NamedTuple

from torch import Tensor

from foveal.model.core import State


class Played(NamedTuple):
    """N decisions in each of B games, and all that learning from them takes.

    Glimpses and not screens are kept: they are what the agent saw, and far smaller.

    Attributes:
        state: the core's, before the screen of the first decision was there; where a game then
            begins, any.
        fresh: ``(N, B)`` bool, whether a game began with this decision: nothing is remembered.
        thumbnails: ``(N, B, C + 2, side, side)``, what the context read; None without one.
        senses: ``(N, B, width)`` of each sense beside the image, by name.
        glimpses: ``(N, B, S, C, G, G)``.
        locations: ``(N, B, 2)``, where each was taken.
        actions: ``(N, B)`` int64.
        choices: ``(N, B, 2)``, the next locations before they were clamped.
        log_probs: ``(N, B)`` of the actions.
        location_log_probs: ``(N, B)`` of the choices.
        baselines: ``(N + 1, B)``.
        rewards: ``(N, B)``, what is learned from; clipped if the objective says so.
        scores: ``(N, B)``, the game's own.
        beyond: ``(N, B)``, what a game that was cut short, and begun anew at once, was worth still.
        played: ``(N, B)`` bool, whether the action counted.
        terminated, over: ``(N, B)`` bool; see `foveal.envs.Turn`.
    """

    state: State
    thumbnails: Tensor | None
    senses: dict[str, Tensor]
    fresh: Tensor
    glimpses: Tensor
    locations: Tensor
    actions: Tensor
    choices: Tensor
    log_probs: Tensor
    location_log_probs: Tensor
    baselines: Tensor
    rewards: Tensor
    scores: Tensor
    beyond: Tensor
    played: Tensor
    terminated: Tensor
    over: Tensor
