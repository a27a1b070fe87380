"""Digits on canvases: centred, translated, cluttered (Mnih et al. 2014, §4.1).

Training canvases are made fresh for every batch, on the device where training runs, by gathers
and scatters without a loop over images. Those of the validation and test splits are one fixed
draw each, the same on every machine.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from foveal.geometry import PaddedImages
from foveal.parallel import random_rows
from foveal.tasks.augmentation import AugmentationConfig, augment
from foveal.tasks.digits import SPLITS, Digits, load_digits

FIXED_DRAW_SEED = 14066247  # of the validation and test canvases
COMPOSITIONS = ("add", "over")
LARGEST_CANVAS = 16_384  # pixels a side; a batch of larger ones fits no memory


@dataclass(frozen=True)
class TaskConfig:
    """A classification task: which digits, on what canvas.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    digits: str = "mnist"  # "mnist", "uci", or the path of IDX files or of an image folder
    canvas_size: int = 0  # pixels a side; 0 for the digit alone, filling the image
    num_clutter: int = 0  # pieces of other digits on the canvas
    clutter_size: int = 8  # pixels a side of each piece
    composition: Literal["add", "over"] = (
        "add"  # clutter adds to the digit's light, or lies under it
    )
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)  # of the digits

    def __post_init__(self) -> None:
        if not 0 <= self.canvas_size <= LARGEST_CANVAS:
            raise ValueError(
                f"canvas_size must be 0 (the digit alone) to {LARGEST_CANVAS} pixels; "
                f"got {self.canvas_size}."
            )
        if self.num_clutter < 0:
            raise ValueError(f"num_clutter must be at least 0; got {self.num_clutter}.")
        if self.num_clutter and not self.canvas_size:
            raise ValueError(
                f"clutter needs a canvas: got num_clutter {self.num_clutter} and canvas_size 0. "
                "Pass --canvas-size 60, say."
            )
        if self.composition not in COMPOSITIONS:
            raise ValueError(
                f"composition must be one of {', '.join(COMPOSITIONS)}; got {self.composition!r}."
            )
        if self.clutter_size < 1:
            raise ValueError(f"clutter_size must be at least 1 pixel; got {self.clutter_size}.")


@dataclass(frozen=True)
class _Split:
    images: Tensor  # (N, H, W) uint8
    labels: Tensor  # (N,) int64


class CanvasTask:
    """Batches of canvases with digits, on a device.

    Args:
        config: the task.
        device: where the digits lie and the canvases are made.

    Attributes:
        classes: names, by label.
        image_size: ``(height, width)`` of the canvases, in pixels.

    Raises:
        ValueError: if the canvas is smaller than a digit, or clutter larger than a digit.
        OSError: if the digits cannot be read (see `foveal.tasks.digits`).
    """

    num_channels = 1

    def __init__(self, config: TaskConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        digits = load_digits(config.digits)
        self.classes = digits.classes
        height, width = digits.train.images.shape[1:]
        self.digit_size = (height, width)
        canvas = config.canvas_size
        if canvas and canvas < max(self.digit_size):
            raise ValueError(
                f"canvas_size must be at least a digit's {max(self.digit_size)} pixels; got "
                f"{canvas}. For the digit alone pass 0."
            )
        if config.num_clutter and config.clutter_size > min(self.digit_size):
            raise ValueError(
                f"clutter_size must be at most a digit's {min(self.digit_size)} pixels, of which "
                f"it is cut; got {config.clutter_size}."
            )
        self.image_size = (canvas, canvas) if canvas else self.digit_size
        self._splits = {name: self._on_device(digits, name) for name in SPLITS}

    def _on_device(self, digits: Digits, name: str) -> _Split:
        part = digits.split(name)
        images, labels = torch.tensor(part.images), torch.tensor(part.labels, dtype=torch.long)
        return _Split(images.to(self.device), labels.to(self.device))

    def size(self, split: str) -> int:
        """Number of digits in a split."""
        return len(self._splits[split].labels)

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fresh canvases for the digits ``indices`` of a split; those for training augmented.

        Args:
            split: "train", "validation" or "test"; clutter comes from the same one.
            indices: ``(B,)`` int64.
            generator: source of places and clutter, on any device.

        Returns:
            ``(B, 1, H, W)`` float32 in [0, 1], and ``(B,)`` int64 labels, on the task's device.
        """
        part = self._splits[split]
        indices = indices.to(self.device)
        digits, labels = part.images[indices], part.labels[indices]
        if split == "train" and self.config.augmentation != AugmentationConfig():
            digits = self._augmented(digits, generator)
        if self.config.canvas_size:
            digits = self._compose(digits, part.images, generator)
        return digits[:, None].float() / 255, labels

    def fixed_batches(self, split: str, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
        """The one fixed draw of a split's canvases, in order, as `batch` returns them.

        The draw comes from the CPU's generator, a thousand canvases at a time, so that neither
        the device nor ``batch_size`` changes it.
        """
        block = 1000
        for first in range(0, self.size(split), block):
            generator = torch.Generator().manual_seed(
                FIXED_DRAW_SEED + 1000 * SPLITS.index(split) + first // block
            )
            indices = torch.arange(first, min(first + block, self.size(split)))
            images, labels = self.batch(split, indices, generator)
            parts = torch.split(images, batch_size), torch.split(labels, batch_size)
            yield from zip(*parts, strict=True)

    def _augmented(self, digits: Tensor, generator: torch.Generator | None) -> Tensor:
        sizes = torch.tensor([self.digit_size], device=self.device).expand(len(digits), 2)
        images = PaddedImages(digits[:, None].float(), sizes)
        moved = augment(images, self.config.augmentation, generator).pixels
        return moved[:, 0].round_().to(torch.uint8)

    def _compose(self, digits: Tensor, pool: Tensor, generator: torch.Generator | None) -> Tensor:
        """Digits and clutter at random places; added, and clipped as one adds light.

        What the paper did is not stated. With "over" the digit's own square stays free of clutter,
        as in some re-implementations: an easier task.
        """
        batch, side = len(digits), self.config.canvas_size
        count, piece = self.config.num_clutter, self.config.clutter_size
        height, width = self.digit_size
        place = self._below((batch, 1), side - height + 1, side - width + 1, generator)
        # int32: bytes would wrap round where pieces overlap.
        canvas = torch.zeros(batch, side * side, dtype=torch.int32, device=self.device)
        digit_at = self._square(place, height, width, side).view(batch, -1)
        canvas.scatter_(1, digit_at, digits.flatten(1).int())
        if count:
            donors = self._integers((batch, count), len(pool), generator)
            cut = self._below((batch, count), height - piece + 1, width - piece + 1, generator)
            place = self._below((batch, count), side - piece + 1, side - piece + 1, generator)
            source = self._square(cut, piece, piece, width) + donors[..., None] * (height * width)
            pieces = pool.view(-1)[source.view(batch, -1)].int()
            where = self._square(place, piece, piece, side)
            canvas.scatter_add_(1, where.view(batch, -1), pieces)
        if count and self.config.composition == "over":
            canvas.scatter_(1, digit_at, digits.flatten(1).int())
        return canvas.clamp_(max=255).view(batch, side, side)

    def _square(self, corner: Tensor, height: int, width: int, row: int) -> Tensor:
        """Flat indices ``(B, N, height * width)`` of rectangles at ``corner (B, N, 2)``, (y, x)."""
        rows = torch.arange(height, device=self.device) * row
        inside = (rows[:, None] + torch.arange(width, device=self.device)).view(-1)
        return (corner[..., 0] * row + corner[..., 1])[..., None] + inside

    def _below(
        self, shape: tuple[int, int], rows: int, columns: int, generator: torch.Generator | None
    ) -> Tensor:
        """Uniform ``(y, x)`` with y below ``rows`` and x below ``columns``; ``(*shape, 2)``."""
        y, x = (self._integers(shape, limit, generator) for limit in (rows, columns))
        return torch.stack([y, x], dim=-1)

    def _integers(
        self, shape: tuple[int, int], limit: int, generator: torch.Generator | None
    ) -> Tensor:
        return random_rows(functools.partial(torch.randint, limit), shape, generator, self.device)
