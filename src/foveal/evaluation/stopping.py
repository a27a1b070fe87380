"""Looking until sure: a stop that needs no training, or a learned one, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from foveal.evaluation.classifier import (
    EVALUATION_SEED,
    check_answers,
    check_judged,
    evaluation_of,
    judging,
    rollouts,
)
from foveal.model.attention import RecurrentAttention
from foveal.model.config import check_looks
from foveal.model.rollout import UNLIKELY, Rollout
from foveal.names import Range, check_value, choose
from foveal.scene import Images, as_scene
from foveal.tasks.task import Task

ALL_LOOKS = 1.1  # a threshold that no belief reaches
# From few looks to nearly all; beliefs crowd together below 1.
THRESHOLDS = [1 - 10 ** -(0.1 * step) for step in range(1, 61)]
HALF = 0.5  # where a learned stop stops
# confident: at a belief in one class; learned: at the model's own probability of stopping.
Kind = Literal["confident", "learned"]
StopRule = Literal["none", "confident", "learned"]


class Rule(NamedTuple):
    """When to stop looking: what has to be as high as which threshold."""

    stop: Kind
    threshold: float


class Stopped(NamedTuple):
    """What a model answers where it stops.

    Attributes:
        logits: ``(B, K)``, after the last look that each image got; of several answers
            ``(B, A, K)``, zeros behind the end.
        looks: ``(B,)`` int64, how many those were.
        locations: ``(B, T, 2)``, where they fell; NaN behind the last.
    """

    logits: Tensor
    looks: Tensor
    locations: Tensor


@dataclass(frozen=True)
class Point:
    """A threshold, and what stopping there is worth."""

    threshold: float  # of the belief in the likeliest class, or of the probability of stopping
    looks: float  # mean number
    error: float  # in %
    interval: tuple[float, float]  # 95 %


@dataclass(frozen=True)
class Beliefs:
    """What a model believed after each look at N images, without a stop."""

    confidence: Tensor  # (N, T), in the likeliest class; or how likely it was to stop
    right: Tensor  # (N, T) bool, whether that is the right one
    stop: Kind = "confident"

    def at(self, threshold: float) -> Point:
        """What stopping at a threshold is worth."""
        looks = _looks_until(self.confidence, threshold)
        wrong = ~self.right.gather(1, looks[:, None] - 1)
        found = evaluation_of(int(wrong.sum()), len(wrong))
        return Point(threshold, float(looks.float().mean()), found.error, found.interval)

    @property
    def curve(self) -> list[Point]:
        """Error against mean looks, a point a threshold."""
        low = [1 - threshold for threshold in THRESHOLDS] if self.stop == "learned" else []
        return [self.at(each) for each in sorted({*low, *THRESHOLDS})]

    def calibrated(self) -> float:
        """The lowest threshold from which on stopping makes no more errors than all looks do.

        `ALL_LOOKS` where there is none, as of beliefs that are rounded to 1.
        """
        whole = self.at(ALL_LOOKS).error
        worse = [point.threshold for point in self.curve if point.error > whole]
        return next((t for t in THRESHOLDS if not worse or t > worse[-1]), ALL_LOOKS)


def check_stop(model: RecurrentAttention, stop: Kind, threshold: float | None = None) -> None:
    """Refuse a threshold, or a model, that cannot stop.

    Raises:
        ValueError: saying why.
    """
    choose(stop, get_args(Kind), "stop")
    inside = Range(0, 1, "It is a probability.", above=True, below=True)
    check_value("threshold", threshold, float | None, inside)
    if model.config.max_answers > 1:
        raise ValueError(
            f"a stop is for a single answer; the model gives {model.config.max_answers}. Leave "
            "out --stop, --threshold and --looks-curve."
        )
    if stop == "learned" and model.stop_head is None:
        raise ValueError(
            "the model has learned no stop. Train one: foveal train TASK --start MODEL --stop "
            "--only-stop; or stop when it is sure: --threshold 0.99, say."
        )


def rule_of(model: RecurrentAttention, stop: StopRule, threshold: float | None) -> Rule | None:
    """When to stop, checked: a threshold alone is of a confident stop, a learned one has its own.

    Raises:
        ValueError: if there is nothing to stop by.
    """
    kind = "confident" if stop == "none" and threshold is not None else stop
    if kind == "none":
        return None
    if threshold is None and kind == "confident":
        raise ValueError(
            "a confident stop needs a threshold of the belief. Pass --threshold 0.99, say."
        )
    check_stop(model, kind, threshold)
    return Rule(kind, HALF if threshold is None else threshold)


def looks_taken(rollout: Rollout, rule: Rule) -> Tensor:
    """``(B,)`` int64, how many of a rollout's looks a model takes that stops by a rule."""
    return _looks_until(_sure(rollout, rule.stop), rule.threshold)


def _sureness(logits: Tensor, stop_logits: Tensor | None) -> Tensor:
    """What a stop is decided by, ``(...)``: of ``(..., K)`` answers, or ``(...)`` of its own."""
    return logits.float().softmax(-1).amax(-1) if stop_logits is None else stop_logits.sigmoid()


def _sure(rollout: Rollout, stop: Kind) -> Tensor:
    """`_sureness` after each look; ``(B, T)``."""
    return _sureness(rollout.step_logits, rollout.stop_logits if stop == "learned" else None)


def _looks_until(sureness: Tensor, threshold: float) -> Tensor:
    """``(N,)`` int64, looks until ``(N, T)`` is as high as the threshold; T where it never is."""
    sure = sureness >= threshold
    sure[:, -1] = True
    return sure.int().argmax(1) + 1


def look_until_sure(
    model: RecurrentAttention,
    images: Images,
    threshold: float | None = None,
    *,
    stop: StopRule = "none",
    num_glimpses: int | None = None,
    generator: torch.Generator | None = None,
) -> Stopped:
    """Look at each image until the belief in one class, or the wish to stop, is high enough.

    A sequence whose end is a class is looked at until the end is answered. An image that is done
    with leaves the batch: it is not looked at again, and takes no time.

    Args:
        model: in any mode, and left in it; its mean policy looks.
        images: as for `RecurrentAttention.forward`.
        threshold: above 0 and below 1; of a learned stop 0.5 if None.
        stop: "confident", also if there is nothing but a threshold, or "learned".
        num_glimpses: looks at most, of each answer; the model's own if None.
        generator: of all randomness: a first location, or a policy that draws.

    Raises:
        ValueError: if the threshold or the looks make no sense, or the model cannot stop.
    """
    config = model.config
    check_looks(num_glimpses, config.max_answers)
    rule = rule_of(model, stop, threshold)
    if rule is None and config.end is None:
        raise ValueError("when to stop? Pass a threshold of the belief, or stop='learned'.")
    each = config.num_glimpses if num_glimpses is None else num_glimpses
    most = each * config.max_answers
    scene = as_scene(images)
    with judging(model):
        location, state = model.begin(scene, generator)
        scene = model.sensor.prepare(scene)
        rows = torch.arange(len(scene), device=location.device)
        logits = location.new_zeros(len(scene), config.max_answers, config.num_classes)
        given = torch.zeros_like(logits[:, 0])
        looks = torch.zeros_like(rows)
        locations = location.new_full((len(scene), most, location.shape[1]), torch.nan)
        for look in range(most):
            locations[rows, look], looks[rows] = location, look + 1
            state = model.look(scene, location, state).state
            answer, told = model.action_head(state[0]).float() - given[rows], look // each
            logits[rows, told] = answer
            if rule is not None:
                wish = model.stops(state[0], answer) if rule.stop == "learned" else None
                going = (_sureness(answer, wish) < rule.threshold).nonzero()[:, 0]
            elif (look + 1) % each:
                going = torch.arange(len(rows), device=rows.device)
            else:
                likeliest = answer.argmax(-1, keepdim=True)
                if config.distinct:
                    given[rows] = given[rows].scatter(-1, likeliest, UNLIKELY)
                going = (likeliest[:, 0] != config.end).nonzero()[:, 0]
                state = model.asked(state, look + 1, each)
            if not len(going) or look + 1 == most:
                break
            if len(going) < len(rows):
                rows, state = rows[going], tuple(part[going] for part in state)
                scene = scene.rows(going.tolist())
            location = model.decide(state, generator=generator).location
    check_answers(logits)
    logits = logits if config.max_answers > 1 else logits[:, 0]
    return Stopped(*(found.clone() for found in (logits, looks, locations)))  # to go on with


def beliefs(
    model: RecurrentAttention,
    task: Task,
    split: str,
    *,
    stop: Kind = "confident",
    num_glimpses: int | None = None,
) -> Beliefs:
    """What a model believes after each look at a split's fixed draw, as `evaluate` looks at it."""
    check_stop(model, stop)
    sureness, right = [], []
    for _, labels, rollout in rollouts(model, task, split, num_glimpses=num_glimpses):
        sureness.append(_sure(rollout, stop).cpu())
        right.append((rollout.step_logits.argmax(-1) == labels[:, None]).cpu())
    return Beliefs(torch.cat(sureness), torch.cat(right), stop)


def stopped(
    model: RecurrentAttention,
    task: Task,
    split: str,
    threshold: float | None = None,
    *,
    stop: StopRule = "none",
    num_glimpses: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a model answers on a split's fixed draw where it stops when it is sure.

    Returns:
        The right classes, those answered, and the looks taken; ``(N,)`` int64 each, on the CPU.
    """
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    right, given, looks = [], [], []
    for images, labels in task.fixed_batches(split):
        scene = as_scene(images)
        found = look_until_sure(
            model, scene, threshold, stop=stop, num_glimpses=num_glimpses, generator=generator
        )
        kept = slice(None) if scene.intact is None else scene.intact
        right.append(labels[kept].cpu())
        given.append(found.logits.argmax(-1)[kept].cpu())
        looks.append(found.looks[kept].cpu())
    check_judged(right, split)
    return torch.cat(right), torch.cat(given), torch.cat(looks)
