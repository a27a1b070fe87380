"""Looking until sure: a stop that needs no training, and what it costs in error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from foveal.evaluation.classifier import (
    EVALUATION_SEED,
    check_judged,
    evaluation_of,
    judging,
    rollouts,
)
from foveal.model.attention import RecurrentAttention
from foveal.names import Range, check_value
from foveal.scene import Images, as_scene
from foveal.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# From few looks to nearly all; beliefs crowd together below 1.
ALL_LOOKS = 1.1  # a threshold that no belief reaches
THRESHOLDS = [1 - 10 ** -(0.1 * step) for step in range(1, 61)]


class Stopped(NamedTuple):
    """What a model answers where it stops.

    Attributes:
        logits: ``(B, K)``, after the last look that each image got.
        looks: ``(B,)`` int64, how many those were.
        locations: ``(B, T, 2)``, where they fell; NaN behind the last.
    """

    logits: Tensor
    looks: Tensor
    locations: Tensor


@dataclass(frozen=True)
class Point:
    """A threshold, and what stopping there is worth."""

    threshold: float  # of the belief in the likeliest class
    looks: float  # mean number
    error: float  # in %
    interval: tuple[float, float]  # 95 %


@dataclass(frozen=True)
class Beliefs:
    """What a model believed after each look at N images, without a stop."""

    confidence: Tensor  # (N, T), in the likeliest class
    right: Tensor  # (N, T) bool, whether that is the right one

    def at(self, threshold: float) -> Point:
        """What stopping at a threshold is worth."""
        sure = self.confidence >= threshold
        sure[:, -1] = True
        stop = sure.int().argmax(1)
        wrong = ~self.right.gather(1, stop[:, None])
        found = evaluation_of(int(wrong.sum()), len(wrong))
        return Point(threshold, float(stop.float().mean()) + 1, found.error, found.interval)

    @property
    def curve(self) -> list[Point]:
        """Error against mean looks, a point a threshold."""
        return [self.at(threshold) for threshold in THRESHOLDS]

    def calibrated(self) -> float:
        """The lowest threshold from which on stopping makes no more errors than all looks do."""
        whole = self.at(ALL_LOOKS).error
        worse = [point.threshold for point in self.curve if point.error > whole]
        return next((t for t in THRESHOLDS if not worse or t > worse[-1]), THRESHOLDS[-1])


def check_stop(model: RecurrentAttention, threshold: float | None = None) -> None:
    """Refuse a threshold, or a model, that cannot stop.

    Raises:
        ValueError: saying why.
    """
    inside = Range(0, 1, "It is a probability.", above=True, below=True)
    check_value("threshold", threshold, float | None, inside)
    if model.config.max_answers > 1:
        raise ValueError(
            f"a stop is for a single answer; the model gives {model.config.max_answers}. Leave "
            "--stop out."
        )


def look_until_sure(
    model: RecurrentAttention,
    images: Images,
    threshold: float,
    *,
    num_glimpses: int | None = None,
    generator: torch.Generator | None = None,
) -> Stopped:
    """Look at each image until the belief in one class is as high as the threshold.

    An image that is done with leaves the batch: it is not looked at again, and takes no time.

    Args:
        model: in any mode, and left in it; its mean policy looks.
        images: as for `RecurrentAttention.forward`.
        threshold: above 0 and below 1.
        num_glimpses: looks at most; the model's own if None.
        generator: of a first location that is random.

    Raises:
        ValueError: if the threshold makes no sense, or the model gives several answers.
    """
    check_stop(model, threshold)
    most = model.config.num_glimpses if num_glimpses is None else num_glimpses
    scene = as_scene(images)
    with judging(model):
        location, state = model.begin(scene, generator)
        scene = model.sensor.prepare(scene)
        rows = torch.arange(len(scene), device=location.device)
        logits = location.new_zeros(len(scene), model.config.num_classes)
        looks = torch.full_like(rows, most)
        locations = location.new_full((len(scene), most, location.shape[1]), torch.nan)
        for look in range(most):
            locations[rows, look] = location
            state = model.look(scene, location, state).state
            answer = model.action_head(state[0]).float()
            logits[rows] = answer
            going = answer.softmax(-1).amax(-1) < threshold
            if not going.all():
                looks[rows[~going]] = look + 1
                rows, state = rows[going], tuple(part[going] for part in state)
            if not len(rows) or look + 1 == most:
                break
            if not going.all():
                scene = scene.rows(going.nonzero()[:, 0].tolist())
            location = model.decide(state).location
    return Stopped(logits, looks, locations)


def beliefs(
    model: RecurrentAttention, task: Task, split: str, *, num_glimpses: int | None = None
) -> Beliefs:
    """What a model believes after each look at a split's fixed draw, as `evaluate` looks at it."""
    check_stop(model)
    confidence, right = [], []
    for _, labels, rollout in rollouts(model, task, split, num_glimpses=num_glimpses):
        most, answers = rollout.step_logits.float().softmax(-1).max(-1)
        confidence.append(most.cpu())
        right.append((answers == labels[:, None]).cpu())
    check_judged(right, split)
    return Beliefs(torch.cat(confidence), torch.cat(right))


def stopped(
    model: RecurrentAttention,
    task: Task,
    split: str,
    threshold: float,
    *,
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
            model, scene, threshold, num_glimpses=num_glimpses, generator=generator
        )
        kept = slice(None) if scene.intact is None else scene.intact
        right.append(labels[kept].cpu())
        given.append(found.logits.argmax(-1)[kept].cpu())
        looks.append(found.looks[kept].cpu())
    check_judged(right, split)
    return torch.cat(right), torch.cat(given), torch.cat(looks)


def draw_curve(curve: list[Point], chosen: Point | None, full: Point) -> Figure:
    """Error against mean looks: of all thresholds, of the one that is chosen, of all looks."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axis = figure.subplots()
    looks, errors = [p.looks for p in curve], [p.error for p in curve]
    low, high = ([p.interval[side] for p in curve] for side in (0, 1))
    axis.fill_between(looks, low, high, color="#56B4E9", alpha=0.3, linewidth=0)
    axis.plot(looks, errors, color="#0072B2", label="stops when sure")
    axis.plot(full.looks, full.error, "o", color="#1a1a1a", label="all looks")
    if chosen is not None:
        name = f"threshold {chosen.threshold:.4f}"
        axis.plot(chosen.looks, chosen.error, "D", color="#D55E00", label=name)
    axis.set(xlabel="looks, mean", ylabel="error, %", ylim=(0, None))
    axis.legend(frameon=False)
    return figure
