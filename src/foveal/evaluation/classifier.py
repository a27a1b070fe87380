"""How good a model is: its error on the fixed draw of a split, with an interval."""

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from foveal.model.attention import RecurrentAttention
from foveal.model.config import check_looks
from foveal.model.rollout import Rollout, ended, right_answers
from foveal.names import Range, check_value
from foveal.scene import Scene, as_scene
from foveal.tasks.task import Task

EVALUATION_SEED = 2014  # of the first locations when a model is evaluated
MOST_ROLLOUTS = 1000


@dataclass(frozen=True)
class Evaluation:
    """The error of a model on a split."""

    error: float  # share of wrong answers, in %; of sequences, of those with any
    interval: tuple[float, float]  # its 95 % confidence interval (Wilson), in %
    count: int  # number of images
    answer_error: float  # share of single answers that are wrong, in %; the end is one


def evaluate(
    model: nn.Module, task: Task, split: str, *, num_glimpses: int | None = None, rollouts: int = 1
) -> Evaluation:
    """Error on a split's fixed draw: see `answers`, whose arguments these are."""
    return judged(*answers(model, task, split, num_glimpses=num_glimpses, rollouts=rollouts))


def judged(labels: Tensor, given: Tensor) -> Evaluation:
    """The error of ``(N,)`` or ``(N, A)`` answers, as `answers` gives them."""
    wrong = (labels != given).view(len(labels), -1)
    found = evaluation_of(int(wrong.any(1).sum()), len(labels))
    wanted = labels.view(len(labels), -1) >= 0
    return replace(found, answer_error=100 * float(wrong[wanted].float().mean()))


def by_length(labels: Tensor, given: Tensor, end: int | None) -> list[dict[str, Any]]:
    """The error of ``(N, A)`` sequences by how many answers, less the end, they have."""
    lengths = ((labels >= 0) & (labels != end)).sum(1)
    wrong = (labels != given).any(1)
    rows = []
    for number in sorted(set(lengths.tolist())):
        mine = wrong[lengths == number]
        found = evaluation_of(int(mine.sum()), len(mine))
        row = {"error": found.error, "interval": list(found.interval), "count": found.count}
        rows.append({"answers": number, **row})
    return rows


def answers(
    model: nn.Module, task: Task, split: str, *, num_glimpses: int | None = None, rollouts: int = 1
) -> tuple[Tensor, Tensor]:
    """What a model answers on a split's fixed draw: one rollout, the mean policy, a random start.

    The locations drawn are one fixed draw too, on every device, so that the figure can be repeated.
    Images of which something could not be read are left out (`Scene.intact`).

    Args:
        model: a `RecurrentAttention`, or a network from images to logits.
        task: where the split comes from, on the model's device.
        split: "validation" or "test".
        num_glimpses: of a `RecurrentAttention`; its own if None.
        rollouts: of a `RecurrentAttention`, from as many first locations; the answer is the class
            of the largest mean probability. More than one is not the paper's protocol.

    Returns:
        The right classes and those answered, ``(N,)`` int64 each, on the CPU; of sequences
        ``(N, A)``, `IGNORED` behind their ends. The right ones are in the order of `right_answers`.

    Raises:
        ValueError: if the split has no images, or the looks or rollouts are out of their range.
    """
    check_looks(num_glimpses)
    check_value("rollouts", rollouts, int, Range(1, MOST_ROLLOUTS))
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    right, given = [], []
    end = model.config.end if isinstance(model, RecurrentAttention) else None
    with judging(model):
        for images, labels in task.fixed_batches(split):
            scene = as_scene(images)
            if isinstance(model, RecurrentAttention):
                looks = {"num_glimpses": num_glimpses, "generator": generator}
                beliefs = [model(scene, **looks).answer_logits.softmax(-1) for _ in range(rollouts)]
                belief = torch.stack(beliefs).sum(0)
                belief = belief if task.max_answers > 1 else belief[:, -1]
            else:
                belief = model(scene.whole())
            check_answers(belief)
            kept = slice(None) if scene.intact is None else scene.intact
            answer = belief.argmax(-1)
            if task.max_answers > 1:
                labels = right_answers(labels, belief, end, ordered=task.ordered)
                answer = ended(answer, end)
            right.append(labels[kept])
            given.append(answer[kept])
    check_judged(right, split)
    return torch.cat(right).cpu(), torch.cat(given).cpu()


def check_judged(right: list[Tensor], split: str) -> None:
    """Refuse batches of labels of which nothing is left; `ValueError`."""
    if not sum(map(len, right)):
        raise ValueError(f"the {split} split has no images to judge the model by.")


@contextlib.contextmanager
def judging(model: nn.Module, *, sampled: bool = False) -> Iterator[None]:
    """A model without gradients, and its mean policy or samples; left in the mode it was in."""
    training = model.training
    model.train(sampled)
    try:
        with torch.inference_mode(), exact_products():
            yield
    finally:
        model.train(training)


@contextlib.contextmanager
def exact_products(*, tf32: bool = False) -> Iterator[None]:
    """Have GPUs multiply float32 matrices, and convolve, as float32, or both as TF32.

    That is 10 bits of fraction, not 23; left alone, PyTorch does so in convolutions.
    """
    products: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in products]
    try:
        for kind in products:
            kind.allow_tf32 = tf32
        yield
    finally:
        for kind, allowed in zip(products, before, strict=True):
            kind.allow_tf32 = allowed


def rollouts(
    model: RecurrentAttention,
    task: Task,
    split: str,
    *,
    num_glimpses: int | None = None,
    seed: int = EVALUATION_SEED,
) -> Generator[tuple[Scene, Tensor, Rollout], None, None]:
    """The very rollouts that `evaluate` counts, batch by batch: scene, labels, rollout.

    The model is on the task's device, and left in the mode it was in. With another seed, the same
    images are looked at from other first locations. Raises `ValueError`, at the end, if there was
    no image.
    """
    generator, seen = torch.Generator().manual_seed(seed), []
    for images, labels in task.fixed_batches(split):
        scene = as_scene(images)
        with judging(model):
            rollout = model(scene, num_glimpses=num_glimpses, generator=generator)
        check_answers(rollout.step_logits)
        if scene.intact != [False]:  # a source comes alone
            seen.append(labels)
            yield scene, labels, rollout
    check_judged(seen, split)


def check_answers(given: Tensor) -> None:
    """Refuse, by `ValueError`, what is no number: it would be taken for one of the classes."""
    if not bool(given.isfinite().all()):
        raise ValueError(
            "the model answers with what is no number (NaN or infinity), as a part of one's own "
            "may make it. Mend that part, or train the model again."
        )


@dataclass(frozen=True)
class Gaze:
    """Where a model looked in N images, and what each look was worth."""

    locations: Tensor  # (N, T, 2) in [-1, 1], on the CPU
    wrong: tuple[int, ...]  # of wrong answers after each look, or after each of every answer

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """The error after each look, with its interval."""
        return tuple(evaluation_of(wrong, len(self.locations)) for wrong in self.wrong)


def observe(
    model: RecurrentAttention,
    task: Task,
    split: str,
    *,
    num_glimpses: int | None = None,
    seed: int = EVALUATION_SEED,
) -> Gaze:
    """Look once at every image of a split's fixed draw; see `rollouts` for the arguments.

    With a learned policy's mean the first looks do not depend on how many follow, so that the
    error after t of them is what `evaluate` finds with ``num_glimpses=t``.
    """
    places: list[Tensor] = []
    wrong = torch.zeros(())
    for _, labels, rollout in rollouts(model, task, split, num_glimpses=num_glimpses, seed=seed):
        places.append(rollout.locations.cpu())
        given, end = rollout.answer_logits, model.config.end
        wanted = right_answers(labels, given, end, ordered=task.ordered).view(len(labels), -1)
        looked = rollout.step_logits.argmax(-1).view(*wanted.shape, -1)  # (B, A, N)
        missed = ((looked != wanted[..., None]) & (wanted[..., None] >= 0)).any(1).sum(0)
        wrong = wrong.to(missed.device) + missed
    return Gaze(torch.cat(places), tuple(int(number) for number in wrong.tolist()))


def evaluation_of(wrong: int, count: int) -> Evaluation:
    """The error and its interval when ``wrong`` of ``count`` answers were wrong."""
    error, interval = share_of(wrong, count)
    return Evaluation(error, interval, count, error)


def share_of(number: int, count: int) -> tuple[float, tuple[float, float]]:
    """``number`` of ``count`` in %, and its 95 % confidence interval (Wilson)."""
    from scipy.stats import binomtest  # noqa: PLC0415 (slow to import)

    low, high = binomtest(number, count).proportion_ci(0.95, method="wilson")
    return 100 * number / count, (100 * float(low), 100 * float(high))
