"""Digits on canvases: centred, translated, cluttered (Mnih et al. 2014, §4.1).

Training canvases are made fresh for every batch, on the device where training runs, by gathers
and scatters without a loop over images. Those of the validation and test splits are one fixed
draw each, the same on every machine.

A `Layout` says where everything lies on canvases; from it they are made whole, or, where one fits
no memory, a band of rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.geometry import PaddedImages
from foveal.names import IGNORED
from foveal.scene.sparse import SparseScene
from foveal.tasks.augmentation import AS_THEY_ARE, augment
from foveal.tasks.canvases.config import TaskConfig
from foveal.tasks.canvases.digits import ByClass, LabelledImages, load_digits
from foveal.tasks.canvases.magnification import magnify
from foveal.tasks.canvases.painting import Layout, paint, scatter
from foveal.tasks.canvases.several import (
    DIRECTIONS,
    Draws,
    apart,
    classes_of,
    in_a_row,
    labels_of,
    reading_order,
    trails,
)
from foveal.tasks.task import SPLITS, Shown, Task

FIXED_DRAW_SEED = 14066247  # of the validation and test canvases
FIXED_BLOCK = 1000  # canvases of the fixed draw that come from one generator
MOST_PIECES = 2_000_000  # of clutter in a block; with more a canvas, each is a block of its own
LARGEST_WHOLE = 16_384  # pixels a side; a larger canvas fits no memory, and is written to a file
SMALLEST_POOL = 64  # digits that the clutter of a batch is cut from, where they are augmented
SPARSE = 16  # times as many pixels as may be lit, from which on canvases are sparse
FRAME = 2  # pixels wide, round the first digit of a trail, inside its square
CANVASES_AT_ONCE = 2**24  # pixels; so many are made in one piece of the fixed draw


@dataclass(frozen=True)
class _Split:
    images: Tensor  # (N, H, W) uint8
    labels: Tensor  # (N,) int64
    by_class: ByClass

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, classes: int) -> _Split:
        return cls(images, labels, ByClass.of(labels, classes))


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
        height, width = digits.train.images.shape[1:]
        config.check_room(max(height, width))
        self.checksum = digits.checksum
        self.max_answers, self.with_end = config.max_answers, config.with_end
        self.ordered, self.repeats = config.ordered, config.max_answers > 1
        self.classes = classes_of(config.answer, digits.classes, config.with_end)
        self._num_digits = len(digits.classes)
        most = config.digit_scales[1]
        self.digit_size = (round(most * height), round(most * width))  # of the largest
        canvas = config.canvas_size
        if canvas and (config.smallest_canvas or canvas) < max(self.digit_size):
            raise ValueError(
                f"canvas_size must be at least a digit's {max(self.digit_size)} pixels; got "
                f"{config.smallest_canvas or canvas}. For the digit alone pass 0."
            )
        if config.num_clutter and config.clutter_size > min(height, width):
            raise ValueError(
                f"clutter_size must be at most a digit's {min(height, width)} pixels, of which "
                f"it is cut; got {config.clutter_size}."
            )
        if config.clutter_from == "others" and self._num_digits < 2:
            raise ValueError(
                f"clutter of other classes needs 2 classes; {config.digits} has "
                f"{self._num_digits}. Pass --clutter-from all."
            )
        if config.arrangement == "trail" and self._num_digits < DIRECTIONS:
            raise ValueError(
                f"a trail needs digits of {DIRECTIONS} classes, one for each direction; "
                f"{config.digits} has {self._num_digits}. Pass other --digits."
            )
        if config.arrangement == "trail":
            digits.check_every_class("a trail", config.digits)
        self.image_size = (canvas, canvas) if canvas else self.digit_size
        # What may be lit, in pixels.
        lit = config.num_digits[1] * math.prod(self.digit_size)
        lit += config.num_clutter * config.clutter_size**2
        self._sparse = bool(config.smallest_canvas) or canvas**2 >= SPARSE * lit
        # Whether making a batch can be captured (see `foveal.training.capture`).
        self.made_on_device = not self._sparse
        self._splits = {name: self._on_device(digits.split(name)) for name in SPLITS}

    def _on_device(self, part: LabelledImages) -> _Split:
        images = torch.tensor(part.images, device=self.device)
        labels = torch.tensor(part.labels, dtype=torch.long, device=self.device)
        return _Split.of(images, labels, self._num_digits)

    def size(self, split: str) -> int:
        """Number of digits in a split."""
        return len(self._splits[split].labels)

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor | SparseScene, Tensor]:
        """Fresh canvases for the ``(B,)`` digits of a split; those for training augmented.

        Clutter comes from digits of the same split, augmented likewise: else it could be told from
        the digit by how sharp it is. Places and clutter come from the generator, on any device.
        Gives ``(B, 1, H, W)`` float32 in [0, 1], sparse where nearly all is black or sizes differ,
        and ``(B,)`` int64 labels, on the task's device.
        """
        return self.render(self.layout(split, indices, generator))

    def layout(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> Layout:
        """Where digits ``indices`` of a split, and clutter, are to lie; see `batch`."""
        draw = Draws(generator, self.device)
        batch, whole = len(indices), self.config.canvas_size or max(self.image_size)
        count, piece = self.config.num_clutter, self.config.clutter_size
        part = self._splits[split]
        height, width = part.images.shape[1:]
        least, most = self.config.num_digits
        indices, trail = indices.to(self.device)[:, None], None
        if self.config.arrangement == "trail":
            trail, indices = self._trails(part, indices, draw)
        elif most > 1:  # the others are any of the split
            others = draw((batch, most - 1), len(part.labels))
            indices = torch.cat([indices, others], dim=1)
        digits, labels = part.images[indices.view(-1)], part.labels[indices]
        if split == "train" and self.config.augmentation != AS_THEY_ARE:
            digits = self._augmented(digits, draw)
            part = self._augmented_part(part, max(batch, SMALLEST_POOL), draw)
        extents = self._sides_of(digits)
        room: tuple[int | Tensor, ...] = (height, width)
        if self.config.digit_scales != (1, 1):
            digits, extents = self._magnified(digits, draw)
            room = extents.unbind(1)
        digits, extents = (of.view(batch, most, *of.shape[1:]) for of in (digits, extents))
        none = torch.zeros((batch, 0, 2), dtype=torch.long, device=self.device)
        places, donors, cuts, pieces = none.new_zeros(batch, 1, 2), none[..., 0], none, none
        sides = torch.full((batch,), whole, device=self.device)
        side: int | Tensor = whole
        if split == "train" and self.config.smallest_canvas:
            side = sides = self._random_sides(batch, draw)
        if trail is not None:
            places, labels = trail, labels[:, : self.config.hops + 1]
            labels = labels[:, -1] if self.config.answer == "last" else labels
            digits[:, 0] = digits[:, 0].maximum(self._frame())
            if split == "train" and (fewest := self.config.fewest_digits):
                share = draw.share((batch, 1))
                counts = (fewest * (most / fewest) ** share).round_().long()
                kept = torch.arange(most, device=self.device) < counts
                digits, extents = digits * kept[..., None, None], extents * kept[..., None]
                if self.config.answer == "sequence":
                    labels = labels.where(kept[:, : labels.shape[1]], IGNORED)
        elif most > 1:
            counts = least + draw((batch,), most - least + 1)
            places = self._places(split, counts, draw)
            order = reading_order(places, counts)
            kept = (torch.arange(most, device=self.device) < counts[:, None])[..., None, None]
            rows = torch.arange(batch, device=self.device)[:, None]
            digits, extents = digits[rows, order] * kept, extents * kept[..., 0]
            labels, places = labels[rows, order], places[rows, order] * kept[..., 0]
            end = len(self.classes) - 1 if self.with_end else None
            labels = labels_of(self.config.answer, labels, counts, end)
        else:
            labels = labels[:, 0]
        if most == 1 and self.config.canvas_size:
            places = draw.places((batch, 1), side - room[0] + 1, side - room[1] + 1)
        if count:
            donors = self._donors(part, labels, count, draw)
            cuts = draw.places((batch, count), height - piece + 1, width - piece + 1)
            pieces = draw.places((batch, count), side - piece + 1, side - piece + 1)
        pool = part.images
        return Layout(digits, extents, labels, places, pool, donors, cuts, pieces, sides)

    def _places(self, split: str, counts: Tensor, draw: Draws) -> Tensor:
        """``(B, M, 2)``, where several digits lie, as `TaskConfig.arrangement` says."""
        side, (height, width) = self.config.canvas_size, self.digit_size
        most = self.config.num_digits[1]
        if self.config.arrangement == "row":
            slope = self.config.slope
            return in_a_row(draw, len(counts), most, side, max(height, width), slope)
        if self.config.arrangement == "apart":
            return apart(draw, counts, most, side, max(height, width))
        room = (side - height + 1, side - width + 1)
        places = draw.places((len(counts), most), *room)
        if split != "train" or not self.config.overlapping:
            return places
        # Made on the device, which copies from the host would have to wait for.
        half, last = (
            torch.stack([places.new_full((), end) for end in ends])
            for ends in ((height // 2, width // 2), (room[0] - 1, room[1] - 1))
        )
        away = draw.places((len(counts), most), height // 2 * 2 + 1, width // 2 * 2 + 1)
        beside = (places[:, :1] + away - half).clamp(min=0)
        beside = beside.minimum(last)
        beside[:, 0] = places[:, 0]
        share = draw.share((len(counts), 1, 1))
        return torch.where(share < self.config.overlapping, beside, places)

    def _trails(self, part: _Split, last: Tensor, draw: Draws) -> tuple[Tensor, Tensor]:
        """``(B, M, 2)`` places and ``(B, M)`` digits of `trails`, of given ``(B, 1)`` last ones.

        Each digit lies anywhere on its site.
        """
        hops, most, sites = self.config.hops, self.config.num_digits[1], self.config.sites
        where, classes = trails(draw, part.labels[last[:, 0]], hops, most, sites, self._num_digits)
        chosen = draw((len(last), most), 2**30) % part.by_class.counts[classes]
        indices = part.by_class.within(classes, chosen)
        indices[:, hops] = last[:, 0]
        corner = torch.stack([where // sites, where % sites], dim=-1) * self.config.distance
        room = [self.config.distance - size + 1 for size in self.digit_size]
        aside = torch.stack([draw((len(last), most), each) for each in room], dim=-1)
        margin = (self.config.canvas_size - sites * self.config.distance) // 2
        return corner + aside + margin, indices

    def _frame(self) -> Tensor:
        """The mark of the first digit of a trail, ``(h, w)`` uint8."""
        frame = torch.full(self.digit_size, 255, dtype=torch.uint8, device=self.device)
        frame[FRAME:-FRAME, FRAME:-FRAME] = 0
        return frame

    def _donors(self, part: _Split, labels: Tensor, count: int, draw: Draws) -> Tensor:
        """The digits that ``count`` pieces are cut from, as `Layout` has them."""
        shape, size = (len(labels), count), len(part.labels)
        if self.config.clutter_from == "all":
            donors = draw(shape, size)
        else:
            others = draw(shape, size - part.by_class.counts[labels])
            donors = part.by_class.beside(labels[:, None], others)
        if not self.config.vary_clutter:
            return donors
        kept = draw((len(labels), 1), count + 1)
        return donors.where(torch.arange(count, device=self.device) < kept, -1)

    def render(self, layout: Layout) -> tuple[Tensor | SparseScene, Tensor]:
        """The canvases of a layout, and their labels, as `batch` returns them.

        Raises `ValueError` if they are too large to be made whole.
        """
        canvases = layout.digits[:, 0]
        if side := self.config.canvas_size:
            if side > LARGEST_WHOLE:
                raise ValueError(
                    f"canvases of {side:,} pixels a side are too large to be made whole (at most "
                    f"{LARGEST_WHOLE:,}). Write them to files with foveal make-dataset."
                )
            if self._sparse:
                return scatter(layout, self.config), layout.labels
            canvases = paint(layout, self.config, side)
        return canvases[:, None].float() / 255, layout.labels

    def render_rows(self, layout: Layout, top: int, height: int) -> Tensor:
        """Some rows of the one canvas of a layout: ``(height, W)`` uint8."""
        if not self.config.canvas_size:
            return layout.digits[0, 0, top : top + height]
        margin = max(*self.digit_size, self.config.clutter_size)
        touches = [
            (place[0, :, 0] > top - margin) & (place[0, :, 0] < top + height)
            for place in (layout.places, layout.pieces)
        ]
        shift = torch.tensor([margin - top, 0], device=self.device)
        band = Layout(
            layout.digits[:, touches[0]],
            layout.extents[:, touches[0]],
            layout.labels,
            layout.places[:, touches[0]] + shift,
            layout.pool,
            layout.donors[:, touches[1]],
            layout.cuts[:, touches[1]],
            layout.pieces[:, touches[1]] + shift,
            layout.sides,
        )
        return paint(band, self.config, height + 2 * margin)[0, margin:-margin].byte()

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
                yield self.render(layout.part(slice(first, first + step)))

    def shown(self, split: str, count: int, seed: int) -> Iterator[Shown]:
        """See `Task.shown`: training canvases have every digit once before one comes again."""
        layouts = self.fixed_layouts(split, count)
        if split == "train":
            layouts = self._fresh_layouts(count, seed)
        for layout in layouts:
            for row in range(len(layout.digits)):
                yield self._shown(layout.part(slice(row, row + 1)))

    def _fresh_layouts(self, count: int, seed: int) -> Iterator[Layout]:
        """A smaller count is a start."""
        generator, block = torch.Generator().manual_seed(seed), self.block_size()
        order = torch.randperm(self.size("train"), generator=generator)
        for first in range(0, count, block):
            chosen = order[torch.arange(first, first + block) % len(order)]
            yield self.layout("train", chosen, generator).part(slice(0, count - first))

    def _shown(self, layout: Layout) -> Shown:
        squares = torch.cat([layout.places[0], layout.extents[0]], dim=1).tolist()
        if self.config.arrangement == "trail":
            squares = squares[: self.config.hops + 1]

        def rows(top: int, height: int) -> NDArray[np.uint8]:
            band: NDArray[np.uint8] = self.render_rows(layout, top, height).numpy()
            return band

        lit = [(x, y, width, height) for y, x, height, width in squares if height]
        return Shown(self.told(layout.labels.view(-1).tolist()), lit, rows)

    def _augmented(self, digits: Tensor, draw: Draws) -> Tensor:
        images = PaddedImages(digits[:, None].float(), self._sides_of(digits))
        moved = augment(images, self.config.augmentation, draw.generator).pixels
        return moved[:, 0].round_().to(torch.uint8)

    def _augmented_part(self, part: _Split, count: int, draw: Draws) -> _Split:
        """So many random digits of a split, augmented."""
        if not self.config.num_clutter:
            return part
        chosen = draw((count,), len(part.labels))
        images = self._augmented(part.images[chosen], draw)
        return _Split.of(images, part.labels[chosen], self._num_digits)

    def _sides_of(self, digits: Tensor) -> Tensor:
        """``(B, 2)`` height and width of ``(B, h, w)`` digits, each the same."""
        # Filled on the device: a copy of host memory to it would wait for its work.
        sides = [torch.full((len(digits),), side, device=self.device) for side in digits.shape[1:]]
        return torch.stack(sides, dim=1)

    def _magnified(self, digits: Tensor, draw: Draws) -> tuple[Tensor, Tensor]:
        """Digits magnified, each by its own factor, and what they then measure; see `Layout`."""
        low, high = self.config.digit_scales
        share = draw.share((len(digits), 1))
        factors = low + share * (high - low)
        extents = (factors * self._sides_of(digits)).round_().clamp_(min=1).long()
        return magnify(digits, extents, self.digit_size), extents

    def _random_sides(self, batch: int, draw: Draws) -> Tensor:
        """Sides of training canvases: as many from 100 to 200 pixels as from 200 to 400."""
        low, high = self.config.smallest_canvas, self.config.canvas_size
        share = draw.share((batch,))
        return (low * (high / low) ** share).round_().long()
