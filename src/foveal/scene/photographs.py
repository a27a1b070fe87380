"""Pictures that stay bytes: windows become floats where they are looked at, thumbnails are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from foveal.geometry import pad_images, thumbnail_box
from foveal.scene.dense import averaged
from foveal.scene.scene import Scene
from foveal.scene.screens import box_sums, inside


class Readable(Protocol):
    """A picture of which windows are read as bytes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""

    @property
    def margins(self) -> tuple[int, ...]:
        """See `Photograph`."""

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """``(C, h, w)``, what lies at those rows and columns."""

    def thumbnail(self, side: int) -> Tensor:
        """``(C, side, side)``; see `foveal.scene.Scene.thumbnail`."""


@dataclass(frozen=True)
class Photograph:
    """A picture in memory, or a view of one, as if mirrored.

    Attributes:
        pixels: ``(C, H, W)`` uint8.
        thumbnails: of each side that was asked for, where they are kept.
        margins: pixels left, right, above and below that a view lacks of its picture's size. To a
            network that sees all they are black; to an eye the view is so much smaller, and its
            thumbnail of the scale that the picture's is.
    """

    pixels: NDArray[np.uint8]
    thumbnails: dict[int, Tensor] = field(default_factory=dict)
    margins: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Readable`."""
        return self.pixels.shape

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """See `Readable`."""
        return self.pixels[:, rows, columns]

    def thumbnail(self, side: int) -> Tensor:
        """``(C, side, side)``; see `foveal.scene.Scene.thumbnail`."""
        made = self.thumbnails.get(side)
        if made is None:
            box = thumbnail_box(*whole_size(self), side)
            sums = box_sums(self.pixels, box)
            _, rows, columns = sums.shape
            made = torch.zeros(len(sums), side, side)
            made[:, :rows, :columns] = torch.from_numpy(np.ascontiguousarray(sums, np.float32))
            made /= 255 * box**2
            self.thumbnails[side] = made
        return made


def whole_size(picture: Readable) -> tuple[int, int]:
    """``(height, width)`` of what a view is of, or of a picture itself."""
    left, right, above, below = picture.margins or (0, 0, 0, 0)
    return picture.shape[1] + above + below, picture.shape[2] + left + right


class PhotographScene(Scene):
    """Pictures of any sizes in memory, of which only windows become floats.

    Args:
        photographs: B, of as many channels.
        device: where patches and thumbnails go.
    """

    def __init__(self, photographs: Sequence[Readable], device: torch.device) -> None:
        self.photographs, self.device = photographs, device
        self.batch_size, self.num_channels = len(photographs), photographs[0].shape[0]
        sizes = torch.tensor([photograph.shape[1:] for photograph in photographs])
        self.height, self.width = sizes.to(device).unbind(1)
        whole = torch.tensor([whole_size(photograph) for photograph in photographs])
        self._high, self._wide = whole.to(device).unbind(1)

    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """See `Scene.patches`: of each picture the widest window is read, and averaged down."""
        size = count * boxes[-1]
        windows = np.zeros((len(self), self.num_channels, size, size), dtype=np.uint8)
        for window, photograph, (x, y) in zip(
            windows, self.photographs, centers.tolist(), strict=True
        ):
            rows, down = inside(y, size, photograph.shape[1])
            columns, across = inside(x, size, photograph.shape[2])
            window[:, down, across] = photograph.read(rows, columns)
        pixels = _floats(windows).to(self.device)
        return averaged(pixels, count, boxes, chosen)

    def thumbnail(self, side: int) -> Tensor:
        """See `Scene.thumbnail`."""
        made = [photograph.thumbnail(side) for photograph in self.photographs]
        return torch.stack(made).to(self.device)

    def box(self, side: int) -> Tensor:
        """See `Scene.box`: that of the whole pictures, also where views of them are seen."""
        box: Tensor = thumbnail_box(self._high, self._wide, side)
        return box

    def image(self, index: int) -> Tensor:
        """See `Scene.image`."""
        photograph = self.photographs[index]
        height, width = photograph.shape[1:]
        return _floats(photograph.read(slice(0, height), slice(0, width))).to(self.device)

    def rows(self, kept: Sequence[int]) -> PhotographScene:
        """See `Scene.rows`."""
        return PhotographScene([self.photographs[row] for row in kept], self.device)

    def whole(self) -> Tensor:
        """See `Scene.whole`: padded with zeros, right and below, where their sizes differ."""
        margins = [photograph.margins for photograph in self.photographs]
        images = [functional.pad(self.image(row), black) for row, black in enumerate(margins)]
        return pad_images(images).pixels


def _floats(pixels: NDArray[np.uint8]) -> Tensor:
    """Bytes as floats in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(255)
