"""Rounds of Catch: what the agent does and sees in one, and what a person's moves earn in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveal.app.models import Agent
from foveal.envs import CatchEnv, EnvConfig, read_options
from foveal.evaluation.agent import Moment, play
from foveal.model.attention import RecurrentAttention
from foveal.model.drawn import viewable


@dataclass(frozen=True)
class Replay:
    """A game of Catch from its seed and its T moves."""

    balls: list[tuple[int, ...]]  # T + 1 pixels (x, y) of the ball, the first before any move
    paddles: list[int]  # T + 1 leftmost columns of the paddle
    caught: bool  # whether the paddle was under the ball at the end
    over: bool  # whether the game has ended


def replay(env: EnvConfig, seed: int, moves: Sequence[int]) -> Replay:
    """Play the moves of a game of Catch, of any options, by its own rules.

    The moves are 0 (left), 1 (stay) or 2 (right) each; `ValueError` otherwise, or if there are
    moves after the end. The seed is as for `foveal.evaluation.agent.play`.
    """
    catch = CatchEnv(**read_options(env.env_options))
    if len(moves) > catch.games.length or any(move not in (0, 1, 2) for move in moves):
        raise ValueError(
            f"a game has {catch.games.length} moves, each 0 (left), 1 (stay) or 2 (right); got "
            f"{len(moves)} moves."
        )
    _, info = catch.reset(seed=seed)
    balls, paddles, reward = [tuple(map(int, info["ball"]))], [int(catch.games.paddle)], 0.0
    for move in moves:
        _, reward, _, _, info = catch.step(np.int64(move))
        balls.append(tuple(map(int, info["ball"])))
        paddles.append(int(catch.games.paddle))
    return Replay(balls, paddles, reward > 0, catch.games.over)


def deal(agent: Agent, seed: int) -> dict[str, Any]:
    """A game as the agent plays it, for the page to show.

    It is for JSON. ``size``: pixels a side of the screen; ``paddleWidth``: pixels; ``balls``: T + 1
    places ``[x, y]``; ``paddles``: T + 1 leftmost columns of the agent's paddle; ``caught``;
    ``patchSizes``: pixels a side of each scale's square, finest first; ``corners``: for each of the
    T looks and each scale, the top left pixel of its square; ``glimpses``: for each look and scale,
    G rows of G numbers from 0 to 255; both None at a scale that was not read.
    """
    moments: list[Moment] = []
    play(agent.network, agent.env, 1, seed, num_envs=1, watch=moments.append)
    game = replay(agent.env, seed, [int(moment.actions) for moment in moments])
    looks = [_look(agent.network, moment) for moment in moments]
    sensor = agent.network.sensor
    return {
        "size": moments[0].images.shape[-1],
        "paddleWidth": CatchEnv(**read_options(agent.env.env_options)).games.config.paddle_width,
        "balls": game.balls,
        "paddles": game.paddles,
        "caught": game.caught,
        "patchSizes": list(sensor.patch_sizes),
        "corners": [corners for corners, _ in looks],
        "glimpses": [glimpses for _, glimpses in looks],
    }


def _look(network: RecurrentAttention, moment: Moment) -> tuple[list[Any], list[Any]]:
    """Corners of the squares of every scale, and what the look brought."""
    sensor = network.sensor
    squares = sensor.squares(moment.locations[0], *moment.images.shape[-2:])
    corners: list[Any] = [None] * sensor.num_scales
    glimpses: list[Any] = [None] * sensor.num_scales
    seen = (255 * viewable(sensor(moment.images, moment.locations)[0])).round().astype(int)
    for (scale, (left, top, _)), patch in zip(squares.items(), seen.tolist(), strict=True):
        corners[scale], glimpses[scale] = [left, top], patch
    return corners, glimpses
