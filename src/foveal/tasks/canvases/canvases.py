"""Digits on canvases: centred, translated, cluttered (Mnih et al. 2014, §4.1).

Training canvases are made fresh for every batch, on the device where training runs, by gathers
and scatters without a loop over images. Those of the validation and test splits are one fixed
draw each, the same on every machine.

A `Layout` says where everything lies on canvases; from it they are made whole, or, where one fits
no memory, a band of rows at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor

from foveal.geometry import PaddedImages
from foveal.names import Range, check_fields
from foveal.randomness import random_rows
from foveal.scene.sparse import SparseScene
from foveal.tasks.augmentation import AugmentationConfig, augment
from foveal.tasks.canvases.digits import SPLITS, LabelledImages, load_digits
from foveal.tasks.task import Task

FIXED_DRAW_SEED = 14066247  # of the validation and test canvases
FIXED_BLOCK = 1000  # canvases of the fixed draw that come from one generator
MOST_PIECES = 2_000_000  # of clutter in a block; with more a canvas, each is a block of its own
LARGEST_CANVAS = 131_072  # pixels a side
LARGEST_WHOLE = 16_384  # pixels a side; a larger canvas fits no memory, and is written to a file
SPARSE = 16  # times as many pixels as may be lit, from which on canvases are sparse
MOST_COVER = 20  # times that clutter may cover a canvas; nothing is to be seen long before
CANVASES_AT_ONCE = 2**24  # pixels; so many are made in one piece of the fixed draw


@dataclass(frozen=True)
class TaskConfig:
    """A classification task: which digits, on what canvas."""

    digits: str = "mnist"  # "mnist", "uci", or the path of IDX files or of an image folder
    canvas_size: int = 0  # pixels a side; 0 for the digit alone, filling the image
    smallest_canvas: int = 0  # training canvases have random sizes from this up; 0: all alike
    num_clutter: int = 0  # pieces of other digits on the canvas
    clutter_size: int = 8  # pixels a side of each piece
    composition: Literal["add", "over"] = "add"  # clutter adds to the digit's light, or is under it
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)  # of the digits

    def __post_init__(self) -> None:
        check_fields(
            self,
            canvas_size=Range(0, LARGEST_CANVAS, "0 is the digit alone."),
            smallest_canvas=Range(0, LARGEST_CANVAS),
            num_clutter=Range(0, 10**9),
            clutter_size=Range(1, LARGEST_CANVAS),
        )
        if self.smallest_canvas and not 0 < self.smallest_canvas <= self.canvas_size:
            raise ValueError(
                f"smallest_canvas must be 0 (all canvases alike) or at most canvas_size, "
                f"{self.canvas_size}; got {self.smallest_canvas}."
            )
        if self.num_clutter and not self.canvas_size:
            raise ValueError(
                f"clutter needs a canvas: got num_clutter {self.num_clutter} and canvas_size 0. "
                "Pass --canvas-size 60, say."
            )
        most = MOST_COVER * self.canvas_size**2 // self.clutter_size**2
        if self.num_clutter > most > 0:
            raise ValueError(
                f"num_clutter must be at most {most:,}, pieces that cover a canvas of "
                f"{self.canvas_size} x {self.canvas_size} pixels {MOST_COVER} times over; got "
                f"{self.num_clutter:,}."
            )


@dataclass(frozen=True)
class _Split:
    images: Tensor  # (N, H, W) uint8
    labels: Tensor  # (N,) int64


@dataclass(frozen=True)
class Layout:
    """Where digits and clutter lie on a batch of canvases: (y, x) of their top left corners."""

    digits: Tensor  # (B, h, w) uint8, augmented where the task augments them
    labels: Tensor  # (B,) int64, of the digits
    places: Tensor  # (B, 1, 2), of the digits
    donors: Tensor  # (B, N), the digits of the split that the N pieces are cut from
    cuts: Tensor  # (B, N, 2), where in the donors
    pieces: Tensor  # (B, N, 2), where on the canvas
    sides: Tensor  # (B,), pixels a side of each canvas

    def part(self, chosen: slice) -> Layout:
        """The layout of some of the canvases."""
        return Layout(*(getattr(self, field.name)[chosen] for field in fields(self)))


class CanvasTask(Task):
    """Batches of canvases with digits, on a device, where the digits lie and the canvases are made.

    Raises:
        ValueError: if the canvas is smaller than a digit, or clutter larger than a digit.
        OSError: if the digits cannot be read (see `foveal.tasks.canvases.digits`).
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
        if canvas and (config.smallest_canvas or canvas) < max(self.digit_size):
            raise ValueError(
                f"canvas_size must be at least a digit's {max(self.digit_size)} pixels; got "
                f"{config.smallest_canvas or canvas}. For the digit alone pass 0."
            )
        if config.num_clutter and config.clutter_size > min(self.digit_size):
            raise ValueError(
                f"clutter_size must be at most a digit's {min(self.digit_size)} pixels, of which "
                f"it is cut; got {config.clutter_size}."
            )
        self.image_size = (canvas, canvas) if canvas else self.digit_size
        # What may be lit, in pixels.
        lit = height * width + config.num_clutter * config.clutter_size**2
        self._sparse = bool(config.smallest_canvas) or canvas**2 >= SPARSE * lit
        # Whether making a batch can be captured (see `foveal.training.capture`).
        self.made_on_device = not self._sparse
        self._splits = {name: self._on_device(digits.split(name)) for name in SPLITS}

    def _on_device(self, part: LabelledImages) -> _Split:
        images, labels = torch.tensor(part.images), torch.tensor(part.labels, dtype=torch.long)
        return _Split(images.to(self.device), labels.to(self.device))

    def size(self, split: str) -> int:
        """Number of digits in a split."""
        return len(self._splits[split].labels)

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor | SparseScene, Tensor]:
        """Fresh canvases for the ``(B,)`` digits of a split; those for training augmented.

        Clutter comes from the same split; places and clutter from the generator, on any device.
        Gives ``(B, 1, H, W)`` float32 in [0, 1], sparse where nearly all is black or sizes differ,
        and ``(B,)`` int64 labels, on the task's device.
        """
        return self.render(split, self.layout(split, indices, generator))

    def layout(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> Layout:
        """Where digits ``indices`` of a split, and clutter, are to lie; see `batch`."""
        batch, whole = len(indices), self.config.canvas_size or max(self.image_size)
        count, piece = self.config.num_clutter, self.config.clutter_size
        height, width = self.digit_size
        indices = indices.to(self.device)
        part = self._splits[split]
        digits, labels = part.images[indices], part.labels[indices]
        if split == "train" and self.config.augmentation != AugmentationConfig():
            digits = self._augmented(digits, generator)
        none = torch.zeros((batch, 0, 2), dtype=torch.long, device=self.device)
        places, donors, cuts, pieces = none.new_zeros(batch, 1, 2), none[..., 0], none, none
        sides = torch.full((batch,), whole, device=self.device)
        side: int | Tensor = whole
        if split == "train" and self.config.smallest_canvas:
            side = sides = self._random_sides(batch, generator)
        if self.config.canvas_size:
            places = self._below((batch, 1), side - height + 1, side - width + 1, generator)
        if count:
            donors = self._integers((batch, count), self.size(split), generator)
            cuts = self._below((batch, count), height - piece + 1, width - piece + 1, generator)
            pieces = self._below((batch, count), side - piece + 1, side - piece + 1, generator)
        return Layout(digits, labels, places, donors, cuts, pieces, sides)

    def render(self, split: str, layout: Layout) -> tuple[Tensor | SparseScene, Tensor]:
        """The canvases of a layout, and their labels, as `batch` returns them.

        Raises `ValueError` if they are too large to be made whole.
        """
        canvases = layout.digits
        if side := self.config.canvas_size:
            if side > LARGEST_WHOLE:
                raise ValueError(
                    f"canvases of {side:,} pixels a side are too large to be made whole (at most "
                    f"{LARGEST_WHOLE:,}). Write them to files with foveal make-dataset."
                )
            pool = self._splits[split].images
            if self._sparse:
                return self._scatter(pool, layout), layout.labels
            canvases = self._paint(pool, layout, side)
        return canvases[:, None].float() / 255, layout.labels

    def render_rows(self, split: str, layout: Layout, top: int, height: int) -> Tensor:
        """Some rows of the one canvas of a layout: ``(height, W)`` uint8."""
        pool = self._splits[split].images
        if not self.config.canvas_size:
            return layout.digits[0, top : top + height]
        margin = max(*self.digit_size, self.config.clutter_size)
        touches = [
            (place[0, :, 0] > top - margin) & (place[0, :, 0] < top + height)
            for place in (layout.places, layout.pieces)
        ]
        shift = torch.tensor([margin - top, 0], device=self.device)
        band = Layout(
            layout.digits[touches[0]],
            layout.labels[touches[0]],
            layout.places[:, touches[0]] + shift,
            layout.donors[:, touches[1]],
            layout.cuts[:, touches[1]],
            layout.pieces[:, touches[1]] + shift,
            layout.sides,
        )
        return self._paint(pool, band, height + 2 * margin)[0, margin:-margin].byte()

    def block_size(self) -> int:
        """Canvases whose layouts are drawn together: a thousand, or one with very much clutter."""
        return FIXED_BLOCK if FIXED_BLOCK * self.config.num_clutter <= MOST_PIECES else 1

    def fixed_layouts(self, split: str, limit: int | None = None) -> Iterator[Layout]:
        """The layouts of `fixed_batches`, `block_size` canvases in each; the first ``limit``."""
        block = self.block_size()
        count = self.size(split) if limit is None else min(limit, self.size(split))
        for first in range(0, count, block):
            # Each split has so many seeds to itself as it has blocks.
            seed = FIXED_DRAW_SEED + 1_000_000 // block * SPLITS.index(split) + first // block
            generator = torch.Generator().manual_seed(seed)
            indices = torch.arange(first, min(first + block, self.size(split)))
            layout = self.layout(split, indices, generator)
            yield layout.part(slice(0, count - first))

    def fixed_batches(
        self, split: str, batch_size: int = 1000
    ) -> Iterator[tuple[Tensor | SparseScene, Tensor]]:
        """The one fixed draw of a split's canvases, in order, as `batch` returns them.

        The draw comes from the CPU's generator, a thousand canvases at a time, so that neither
        the device nor ``batch_size`` changes it. Large canvases come in smaller batches.
        """
        height, width = self.image_size
        most = batch_size if self._sparse else CANVASES_AT_ONCE // (height * width)
        step = max(1, min(batch_size, most))
        for layout in self.fixed_layouts(split):
            for first in range(0, len(layout.digits), step):
                yield self.render(split, layout.part(slice(first, first + step)))

    def _augmented(self, digits: Tensor, generator: torch.Generator | None) -> Tensor:
        # Filled on the device: a copy of host memory to it would wait for its work.
        sides = [torch.full((len(digits),), side, device=self.device) for side in self.digit_size]
        images = PaddedImages(digits[:, None].float(), torch.stack(sides, dim=1))
        moved = augment(images, self.config.augmentation, generator).pixels
        return moved[:, 0].round_().to(torch.uint8)

    def _paint(self, pool: Tensor, layout: Layout, rows: int) -> Tensor:
        """Digits and clutter on ``rows`` of canvas; added, and clipped as one adds light.

        What the paper did is not stated. With "over" the digit's own square stays free of clutter,
        as in some re-implementations: an easier task.
        """
        batch, side = len(layout.places), self.config.canvas_size
        piece = self.config.clutter_size
        height, width = self.digit_size
        digits = layout.digits.reshape(batch, -1).int()
        # int32: bytes would wrap round where pieces overlap.
        canvas = torch.zeros(batch, rows * side, dtype=torch.int32, device=self.device)
        digit_at = self._square(layout.places, height, width, side).view(batch, -1)
        canvas.scatter_(1, digit_at, digits)
        if layout.donors.shape[1]:
            pieces = self._cut(pool, layout)
            where = self._square(layout.pieces, piece, piece, side)
            canvas.scatter_add_(1, where.view(batch, -1), pieces)
            if self.config.composition == "over":
                canvas.scatter_(1, digit_at, digits)
        return canvas.clamp_(max=255).view(batch, rows, side)

    def _scatter(self, pool: Tensor, layout: Layout) -> SparseScene:
        """As `_paint`, by the pixels that may be lit, on canvases of each layout's own side."""
        batch, piece = len(layout.places), self.config.clutter_size
        places = self._pixels(layout.places, *self.digit_size)
        light = layout.digits.reshape(batch, -1).int()
        if layout.donors.shape[1]:
            clutter_at = self._pixels(layout.pieces, piece, piece)
            clutter = self._cut(pool, layout)
            if self.config.composition == "over":
                inside = clutter_at - layout.places
                limit = torch.tensor(self.digit_size, device=self.device)
                clutter = clutter.where(~((inside >= 0) & (inside < limit)).all(-1), 0)
            places = torch.cat([places, clutter_at], dim=1)
            light = torch.cat([light, clutter], dim=1)
        return SparseScene(places, light, layout.sides[:, None].expand(-1, 2))

    def _cut(self, pool: Tensor, layout: Layout) -> Tensor:
        """The pixels of the clutter: ``(B, N * piece * piece)``."""
        piece = self.config.clutter_size
        height, width = self.digit_size
        source = self._square(layout.cuts, piece, piece, width)
        source += layout.donors[..., None] * (height * width)
        return pool.view(-1)[source.flatten(1)].int()

    def _pixels(self, corner: Tensor, height: int, width: int) -> Tensor:
        """Where the pixels of rectangles at ``corner (B, N, 2)`` lie: ``(B, N * h * w, 2)``."""
        rows, columns = (torch.arange(side, device=self.device) for side in (height, width))
        inside = torch.cartesian_prod(rows, columns)
        return (corner[:, :, None] + inside).flatten(1, 2)

    def _random_sides(self, batch: int, generator: torch.Generator | None) -> Tensor:
        """Sides of training canvases: as many from 100 to 200 pixels as from 200 to 400."""
        low, high = self.config.smallest_canvas, self.config.canvas_size
        share = random_rows(torch.rand, (batch,), generator, self.device)
        return (low * (high / low) ** share).round_().long()

    def _square(self, corner: Tensor, height: int, width: int, row: int) -> Tensor:
        """Flat indices ``(B, N, height * width)`` of rectangles at ``corner (B, N, 2)``, (y, x)."""
        rows = torch.arange(height, device=self.device) * row
        inside = (rows[:, None] + torch.arange(width, device=self.device)).view(-1)
        return (corner[..., 0] * row + corner[..., 1])[..., None] + inside

    def _below(
        self,
        shape: tuple[int, int],
        rows: int | Tensor,
        columns: int | Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Uniform ``(y, x)`` with y below ``rows`` and x below ``columns``; ``(*shape, 2)``."""
        y, x = (self._integers(shape, limit, generator) for limit in (rows, columns))
        return torch.stack([y, x], dim=-1)

    def _integers(
        self, shape: tuple[int, int], limit: int | Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Uniform whole numbers from 0 up, below a limit or below one for each row."""
        if isinstance(limit, int):
            draw = functools.partial(torch.randint, limit)
            return random_rows(draw, shape, generator, self.device)
        limits = limit[:, None]
        share = random_rows(torch.rand, shape, generator, self.device)
        return (share * limits).long().minimum(limits - 1)  # a product may be rounded up
