"""An agent playing: what it earns, and where it looked."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from foveal import geometry
from foveal.envs import EnvConfig, Games
from foveal.evaluation.classifier import judging, share_of
from foveal.model.attention import RecurrentAttention
from foveal.model.senses import described

LONGEST = 10_000  # decisions; a game that an agent keeps from ending is counted as it stands
LAST_LOOKS = 8  # of a game, over which the distance to the ball is measured


class Moment(NamedTuple):
    """One look in each of B games, and the action taken after it."""

    images: Tensor  # (B, C, H, W)
    locations: Tensor  # (B, 2) in [-1, 1], where the agent looked
    actions: Tensor  # (B,) int64
    rewards: Tensor  # (B,), what followed
    over: Tensor  # (B,) bool, whether the game then ended
    played: Tensor  # (B,) bool; False where the action did no more than begin the next game


@dataclass(frozen=True)
class Result:
    """What games earned.

    The distances are the mean from the ball to the finest patch's centre, over the last 8 looks.
    """

    returns: tuple[float, ...]  # the sum of rewards of each game
    lengths: tuple[int, ...]  # the decisions of each game
    ball_distances: tuple[float, ...]  # of each game, in pixels; empty where no "ball" is told

    def summary(self) -> dict[str, Any]:
        """The figures: rates in %, intervals of 95 % (Wilson for the rate, normal for the mean).

        One game alone says nothing of the spread of returns: then their interval is None.
        """
        count, won = len(self.returns), sum(gain > 0 for gain in self.returns)
        reach = 1.96 * statistics.stdev(self.returns) / math.sqrt(count) if count > 1 else None
        mean = self.mean_return
        figures: dict[str, Any] = {
            "success_rate": self.success_rate,
            "interval": list(share_of(won, count)[1]),
            "mean_return": mean,
            "return_interval": None if reach is None else [mean - reach, mean + reach],
            "mean_length": statistics.fmean(self.lengths),
            "episodes": count,
        }
        if self.ball_distances:
            figures["ball_distance"] = statistics.fmean(self.ball_distances)
        return figures

    @property
    def mean_return(self) -> float:
        """Mean sum of rewards of a game."""
        return statistics.fmean(self.returns)

    @property
    def success_rate(self) -> float:
        """Share of games with a return above 0, in %."""
        return 100 * statistics.fmean(gain > 0 for gain in self.returns)


def play(
    agent: RecurrentAttention,
    env: EnvConfig,
    episodes: int,
    seed: int,
    device: torch.device | str = "cpu",
    *,
    num_envs: int = 1000,
    sample: bool = False,
    watch: Callable[[Moment], None] | None = None,
    listener: Callable[[int], None] | None = None,
) -> Result:
    """Play games with the mean policy and the likeliest action; `ValueError` if they do not fit.

    With ``sample`` actions are drawn by how likely they are, as in training; locations are not. As
    many games run at once as ``num_envs``, and each is followed by another until its share of
    the episodes is played: a short game weighs no more than a long one. A game that is cut after
    `LONGEST` decisions is followed by none, since it goes on. The agent is on the device,
    and left in the mode that it was in; the seed is of the games and of the first locations.
    ``watch`` is called with every look, the listener with the number of games that have ended, when
    it grows.
    """
    games = Games(env, min(num_envs, episodes), device)
    try:
        check_fit(agent, games, env)
        return _play(agent, games, episodes, seed, sample, watch, listener)
    finally:
        games.close()


def check_fit(agent: RecurrentAttention, games: Games, env: EnvConfig) -> None:
    """Refuse an environment that an agent was not made for; `ValueError` says what differs."""
    config = agent.config
    for what, ours, theirs in (
        ("actions", config.num_classes, games.num_actions),
        ("channels", config.num_channels, games.image_shape[0]),
        ("beside the image", described(dict(config.senses)), described(games.senses)),
    ):
        if ours != theirs:
            raise ValueError(
                f"the agent was made for {ours} {what}; {env.env} has {theirs}. "
                "Choose another --env or another agent."
            )


def _play(
    agent: RecurrentAttention,
    games: Games,
    episodes: int,
    seed: int,
    sample: bool,
    watch: Callable[[Moment], None] | None,
    listener: Callable[[int], None] | None,
) -> Result:
    count = games.num_envs
    wanted = np.full(count, episodes // count) + (np.arange(count) < episodes % count)
    generator = torch.Generator().manual_seed(seed)
    images, (senses, info) = games.reset(seed)
    gains, lengths = np.zeros(count), np.zeros(count, dtype=int)
    finished: list[tuple[float, int, float | None]] = []
    done = np.zeros(count, dtype=int)
    distances: list[list[float]] = [[] for _ in range(count)]
    _, *shape = games.image_shape
    with judging(agent):
        location, state = agent.begin(images, generator)
        while (done < wanted).any():
            away = None if games.through_fovea else _ball_distances(info, location, *shape)
            step = agent.step(images, location, state, senses=senses, generator=generator)
            actions = step.logits.argmax(-1)
            if sample:
                chances = step.logits.float().softmax(-1).cpu()
                actions = chances.multinomial(1, generator=generator)[:, 0].to(actions)
            turn = games.step(actions)
            if watch:
                watch(Moment(images, location, actions, turn.rewards, turn.over, turn.played))
            played = turn.played.cpu().numpy()
            gains += turn.rewards.cpu().numpy() * played
            lengths += played
            if away is not None:
                for game in np.flatnonzero(played):
                    distances[game].append(float(away[game]))
            over = turn.over.cpu().numpy()
            ended = played & (over | (lengths >= LONGEST))
            for game in np.flatnonzero(ended):
                if done[game] < wanted[game]:
                    last = distances[game][-LAST_LOOKS:]
                    mean = statistics.fmean(last) if last else None
                    finished.append((float(gains[game]), int(lengths[game]), mean))
                    done[game] += 1
                    wanted[game] = wanted[game] if over[game] else done[game]
                gains[game], lengths[game], distances[game] = 0.0, 0, []
            if listener and ended.any():
                listener(len(finished))
            images, senses, info = turn.images, turn.senses, turn.info
            location, state = agent.begin_where(
                turn.fresh, images, step.next_location, step.state, generator
            )
    return Result(
        returns=tuple(gain for gain, _, _ in finished),
        lengths=tuple(length for _, length, _ in finished),
        ball_distances=tuple(mean for _, _, mean in finished if mean is not None),
    )


def _ball_distances(
    info: dict[str, Any], location: Tensor, height: int, width: int
) -> np.ndarray[Any, Any] | None:
    """``(B,)`` pixels from the finest patch's centre to the ball's, where the info has it."""
    ball = np.asarray(info.get("ball", ()))
    told = np.all(info.get("_ball", True))  # Gymnasium's mark of the games whose info has it
    if not told or ball.shape != (len(location), 2) or not np.issubdtype(ball.dtype, np.number):
        return None
    centers = geometry.to_pixels(location, height, width).cpu().numpy()
    away: np.ndarray[Any, Any] = np.linalg.norm(centers - (ball + 0.5), axis=1)
    return away
