"""How good a model is: its error on the fixed draw of a split, with an interval."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from foveal.geometry import PaddedImages
from foveal.model.attention import RecurrentAttention, Rollout
from foveal.scene.sources import PatchSource, undamaged
from foveal.scene.sparse import SparseImages

EVALUATION_SEED = 2014  # of the first locations when a model is evaluated


# (B, C, H, W), or padded where they differ in size, or sparse, or read where they are looked at
Images = Tensor | PaddedImages | SparseImages | Sequence[PatchSource]


class Task(Protocol):
    """What training and evaluation ask of a task; `foveal.tasks.CanvasTask` is one."""

    def size(self, split: str) -> int:
        """How many images the split "train", "validation" or "test" has."""
        ...

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None
    ) -> tuple[Images, Tensor]:
        """Images in [0, 1] for B ``(B,)`` int64 indices of a split, and their ``(B,)`` labels.

        ``generator`` is the source of what is random about them; there is none if None.
        """
        ...

    def fixed_batches(self, split: str) -> Iterator[tuple[Images, Tensor]]:
        """The whole of a split in order, batch by batch, the same each time: for evaluation."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """The error of a model on a split.

    Attributes:
        error: share of wrong answers, in %.
        interval: its 95 % confidence interval (Wilson), in %.
        count: number of images.
    """

    error: float
    interval: tuple[float, float]
    count: int


def pixels_and_sizes(
    images: Images,
) -> tuple[Tensor | SparseImages | Sequence[PatchSource], Tensor | None]:
    """The images as a model takes them, and each one's height and width where they are padded."""
    return (images.pixels, images.sizes) if isinstance(images, PaddedImages) else (images, None)


def whole(images: Tensor | SparseImages | Sequence[PatchSource]) -> Tensor:
    """Images for a network that sees all of them.

    Raises:
        ValueError: if they are sources, which are never in memory whole.
    """
    if isinstance(images, Tensor):
        return images
    if isinstance(images, SparseImages):
        return torch.stack([images.image(row) for row in range(len(images))])
    raise ValueError(
        f"a network that sees the whole image takes none of {images[0].height:,} x "
        f"{images[0].width:,} pixels, which is read where it is looked at. Choose a recurrent "
        "attention model (--network ram), or scale the images down."
    )


def image_in(images: Images, row: int) -> Tensor | PatchSource:
    """One ``(C, H, W)`` image of a batch, without what it is padded with; or its source."""
    return images.image(row) if isinstance(images, PaddedImages | SparseImages) else images[row]


def evaluate(
    model: nn.Module,
    task: Task,
    split: str,
    *,
    num_glimpses: int | None = None,
    rollouts: int = 1,
) -> Evaluation:
    """Error on a split's fixed draw: see `answers`, whose arguments these are."""
    labels, given = answers(model, task, split, num_glimpses=num_glimpses, rollouts=rollouts)
    return evaluation_of(int((labels != given).sum()), len(labels))


def answers(
    model: nn.Module,
    task: Task,
    split: str,
    *,
    num_glimpses: int | None = None,
    rollouts: int = 1,
) -> tuple[Tensor, Tensor]:
    """What a model answers on a split's fixed draw: one rollout, the mean policy, a random start.

    The locations drawn are one fixed draw too, on every device, so that the figure can be repeated.
    Images of which something could not be read are left out (`foveal.scene.sources.GuardedSource`).

    Args:
        model: a `RecurrentAttention`, or a network from images to logits.
        task: where the split comes from, on the model's device.
        split: "validation" or "test".
        num_glimpses: of a `RecurrentAttention`; its own if None.
        rollouts: of a `RecurrentAttention`, from as many first locations; the answer is the class
            of the largest mean probability. More than one is not the paper's protocol.

    Returns:
        The right classes and those answered, ``(N,)`` int64 each, on the CPU.

    Raises:
        ValueError: if the split has no images.
    """
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    training = model.training
    model.eval()
    right, given = [], []
    with torch.inference_mode():
        for images, labels in task.fixed_batches(split):
            pixels, sizes = pixels_and_sizes(images)
            if isinstance(model, RecurrentAttention):
                belief = sum(
                    model(
                        pixels, sizes=sizes, num_glimpses=num_glimpses, generator=generator
                    ).logits.softmax(-1)
                    for _ in range(rollouts)
                )
            else:
                belief = model(whole(pixels))
            assert isinstance(belief, Tensor)
            sound = undamaged(pixels)
            kept = slice(None) if sound is None else sound
            right.append(labels[kept])
            given.append(belief.argmax(-1)[kept])
    model.train(training)
    if not sum(map(len, right)):
        raise ValueError(f"the {split} split has no images to judge the model by.")
    return torch.cat(right).cpu(), torch.cat(given).cpu()


@torch.inference_mode()
def rollouts(
    model: RecurrentAttention,
    task: Task,
    split: str,
    *,
    num_glimpses: int | None = None,
    seed: int = EVALUATION_SEED,
) -> Generator[tuple[Images, Tensor, Rollout], None, None]:
    """The very rollouts that `evaluate` counts, batch by batch: images, labels, rollout.

    Args:
        model: on the task's device; in eval mode until the last batch.
        task: where the split comes from.
        split: "validation" or "test".
        num_glimpses: the model's own if None.
        seed: of the first locations; with another, the same images are looked at from others.
    """
    generator = torch.Generator().manual_seed(seed)
    training = model.training
    model.eval()
    try:
        for images, labels in task.fixed_batches(split):
            pixels, sizes = pixels_and_sizes(images)
            rollout = model(pixels, sizes=sizes, num_glimpses=num_glimpses, generator=generator)
            if undamaged(pixels) != [False]:  # a source comes alone
                yield images, labels, rollout
    finally:
        model.train(training)


@dataclass(frozen=True)
class Gaze:
    """Where a model looked in N images, and what each look was worth.

    Attributes:
        locations: ``(N, T, 2)`` in [-1, 1], on the CPU.
        wrong: T numbers: of wrong answers after each look.
    """

    locations: Tensor
    wrong: tuple[int, ...]

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
        missed = (rollout.step_logits.argmax(-1) != labels[:, None]).sum(0)
        wrong = wrong.to(missed.device) + missed
    return Gaze(torch.cat(places), tuple(int(number) for number in wrong.tolist()))


def evaluation_of(wrong: int, count: int) -> Evaluation:
    """The error and its interval when ``wrong`` of ``count`` answers were wrong."""
    return Evaluation(*share_of(wrong, count), count)


def share_of(number: int, count: int) -> tuple[float, tuple[float, float]]:
    """``number`` of ``count`` in %, and its 95 % confidence interval (Wilson)."""
    from scipy.stats import binomtest  # noqa: PLC0415 (slow to import)

    low, high = binomtest(number, count).proportion_ci(0.95, method="wilson")
    return 100 * number / count, (100 * float(low), 100 * float(high))
