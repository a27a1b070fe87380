"""The fixed draws: which pieces lie where on each image, the same on every machine.

A thousand images come from one generator, so that fewer images are the first of more.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.tasks.canvases.digits import ByClass, LabelledImages
from foveal.tasks.haystacks.config import ALIKE, DIGITS, MOST_IMAGES, HaystackConfig
from foveal.tasks.task import SPLITS

SEED = 15_001_500
BLOCK = 1000  # images that come from one generator
MOST_BLOCKS = MOST_IMAGES // BLOCK
PATTERNS = 50  # of noise

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]  # of `Drawn`


class Drawn(NamedTuple):
    """What lies on n images.

    Attributes:
        pieces: ``(n, N)`` int32, of a bank: the digits of the split, then the patterns of noise; in
            the order of painting.
        places: ``(n, N, 2)`` int16, (y, x) of their top left corners.
        sought: ``(n, N)`` bool, the digits that the question is about.
        labels: ``(n,)`` int64; ``(n, 3)`` where all classes are asked for, as sequences of labels
            are (`foveal.model.rollout`), in rising order.
    """

    pieces: NDArray[np.int32]
    places: NDArray[np.int16]
    sought: NDArray[np.bool_]
    labels: NDArray[np.int64]

    def checksum(self) -> str:
        """SHA-256 of what lies where, and of the labels."""
        digest = hashlib.sha256()
        for part, kind in ((self.pieces, "<i4"), (self.places, "<i2"), (self.labels, "<i8")):
            digest.update(np.ascontiguousarray(part, dtype=kind).tobytes())
        return digest.hexdigest()


def draw(
    config: HaystackConfig, digits: LabelledImages, needle: int, split: str, count: int
) -> Drawn:
    """The first ``count`` images of a split; ``needle`` is the class sought, where one is."""
    blocks = []
    for first in range(0, count, BLOCK):
        seed = SEED + MOST_BLOCKS * SPLITS.index(split) + first // BLOCK
        block = _Block(config, digits, torch.Generator().manual_seed(seed))
        blocks.append(block.needles(needle) if config.question == "needle" else block.five())
    return Drawn(*(np.concatenate(parts)[:count] for parts in zip(*blocks, strict=True)))


def patterns(height: int, width: int) -> NDArray[np.uint8]:
    """``(50, height, width)``, two straight lines each, of 0.8 to 1 times white.

    As attention sampling draws them: lines are a pixel wide and begin in a corner, 0 to 72 degrees
    from the vertical; the second one is mirrored left to right in 4 of 9.
    """
    generator = torch.Generator().manual_seed(SEED - 1)
    bank = torch.zeros(PATTERNS, height, width, dtype=torch.bool)
    for pattern in bank:
        for line in range(2):
            angle, mirrored = torch.rand(2, generator=generator).tolist()
            slope = math.tan(angle * math.pi / 2.5)
            reach = torch.linspace(0, 1, 2 * max(height, width)) * min(
                height - 0.51, (width - 0.51) / slope
            )
            across = (slope * reach).round().long()
            if line and mirrored < 4 / 9:
                across = width - 1 - across
            pattern[reach.round().long(), across] = True
    light = 0.8 + 0.2 * torch.rand(bank.shape, generator=generator)
    return (bank * light * 255).round().to(torch.uint8).numpy()


class _Block:
    """A thousand images of one generator."""

    def __init__(
        self, config: HaystackConfig, digits: LabelledImages, generator: torch.Generator
    ) -> None:
        self.config, self.generator = config, generator
        self.labels = torch.from_numpy(digits.labels.astype(np.int64))
        self.by_class = ByClass.of(self.labels, int(self.labels.max()) + 1)
        self.room = [config.canvas_size - side + 1 for side in digits.images.shape[1:]]
        self.size = digits.images.shape[1:]

    def five(self) -> Arrays:
        number = len(self.by_class.counts)
        classes = torch.randint(number, (BLOCK, 1), generator=self.generator)
        chosen = torch.cat([self._of(classes, ALIKE), self._beside(classes, DIGITS - ALIKE)], dim=1)
        places = self._places(DIGITS)
        while len(again := self._overlapping(places).nonzero()[:, 0]):
            places[again] = self._places(DIGITS)[: len(again)]
        shape = (BLOCK, self.config.pieces)
        noise = len(self.labels) + torch.randint(PATTERNS, shape, generator=self.generator)
        shown = self.labels[chosen]
        # Of two equally high the left one.
        highest = (places[..., 0] * self.config.canvas_size + places[..., 1]).argmin(
            1, keepdim=True
        )
        answers = {
            "majority": classes[:, 0],
            "max": shown.amax(1),
            "top": shown.gather(1, highest)[:, 0],
            "multi": self._all_classes(shown),
        }
        labels = answers[self.config.question]
        return self._together(chosen, places, noise, self._places(noise.shape[1]), labels)

    def needles(self, needle: int) -> Arrays:
        there = torch.randint(2, (BLOCK, 1), generator=self.generator)
        classes = torch.full_like(there, needle)
        others = self._beside(classes, self.config.pieces + 1)
        first = self._of(classes, 1).where(there > 0, others[:, :1])
        places = self._places(others.shape[1])
        pieces, corners, sought, labels = self._together(
            first, places[:, :1], others[:, 1:], places[:, 1:], there[:, 0]
        )
        return pieces, corners, sought & (there > 0).numpy(), labels

    def _all_classes(self, shown: Tensor) -> Tensor:
        """``(n, 3)``, the two or three classes of ``(n, 5)`` digits, and the end behind two."""
        end = len(self.by_class.counts)
        there = torch.zeros(len(shown), end, dtype=torch.bool).scatter(1, shown, value=True)
        return torch.arange(end).where(there, end).sort(1).values[:, : self.config.max_answers]

    def _together(
        self, digits: Tensor, places: Tensor, clutter: Tensor, elsewhere: Tensor, labels: Tensor
    ) -> Arrays:
        sought = [torch.ones_like(digits) > 0, torch.zeros_like(clutter) > 0]
        parts = [[digits, clutter], [places, elsewhere], sought]
        if self.config.composition == "over":
            parts = [part[::-1] for part in parts]
        pieces, corners, marks = (torch.cat(part, dim=1).numpy() for part in parts)
        return pieces.astype(np.int32), corners.astype(np.int16), marks, labels.numpy()

    def _of(self, classes: Tensor, count: int) -> Tensor:
        """Digits of ``(n, 1)`` classes; ``(n, count)``."""
        return self.by_class.within(classes, self._below(self.by_class.counts[classes], count))

    def _beside(self, classes: Tensor, count: int) -> Tensor:
        """Digits of all other classes alike; ``(n, count)``."""
        others = len(self.labels) - self.by_class.counts[classes]
        return self.by_class.beside(classes, self._below(others, count))

    def _below(self, limits: Tensor, count: int) -> Tensor:
        share = torch.rand(len(limits), count, generator=self.generator, dtype=torch.float64)
        return (share * limits).long()

    def _places(self, count: int) -> Tensor:
        drawn = [
            torch.randint(room, (BLOCK, count), generator=self.generator) for room in self.room
        ]
        return torch.stack(drawn, dim=-1)

    def _overlapping(self, places: Tensor) -> Tensor:
        """Whether squares at ``(n, N, 2)`` places overlap; ``(n,)``."""
        apart = (places[:, :, None] - places[:, None]).abs()
        touching = (apart < torch.tensor(self.size)).all(-1).sum((1, 2))
        return touching > places.shape[1]
