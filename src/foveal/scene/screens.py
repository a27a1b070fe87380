"""Screens as environments give them: bytes or floats, of which only what is looked at is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal import geometry
from foveal.scene.dense import DenseScene
from foveal.scene.scene import Scene, at_scale


class Screens(Scene):
    """The screens of B games, on a CPU.

    For one look at each, without a pass over all their pixels: the window round it is copied, as
    whole rows, and summed.

    Args:
        frames: ``(B, H, W, C)`` bytes, truths or floats, or ``(B, C, H, W)``.
        channels_first: whether they are the second.
        low: the value that is black; outside a screen all is black.
        span: from black to white.
    """

    def __init__(
        self, frames: NDArray[Any], channels_first: bool = False, low: float = 0, span: float = 1
    ) -> None:
        self.channels_first, self.low, self.span = channels_first, low, span
        self.frames = np.moveaxis(frames, 1, -1) if channels_first else frames
        self.batch_size, self.height, self.width, self.num_channels = self.frames.shape

    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """See `Scene.patches`."""
        size = count * boxes[-1]
        window = self._window(centers, size)
        shape = (self.batch_size, len(boxes), self.num_channels, count, count)
        patches = np.empty(shape, dtype=np.float32)
        for scale, box in enumerate(boxes):
            edge = geometry.patch_start(0, count * box) - geometry.patch_start(0, size)
            inner = slice(edge, edge + count * box)
            sums = box_sums(window[:, inner, inner], box)
            patches[:, scale] = np.moveaxis(sums, -1, 1)
            patches[:, scale] /= box**2
        patches -= self.low
        patches /= self.span
        return at_scale(torch.from_numpy(patches.clip(0, 1, out=patches)), chosen)

    def _window(self, centers: Tensor, size: int) -> NDArray[Any]:
        """What is round each centre, ``(B, size, size, C)``, laid out in memory as the screens."""
        length, channels = self.batch_size, self.num_channels
        if self.channels_first:
            window = np.full((length, channels, size, size), self.low, self.frames.dtype)
            window = np.moveaxis(window, 1, -1)
        else:
            window = np.full((length, size, size, channels), self.low, self.frames.dtype)
        for row, (x, y) in enumerate(centers.tolist()):
            rows, down = inside(y, size, self.frames.shape[1])
            columns, across = inside(x, size, self.frames.shape[2])
            window[row, down, across] = self.frames[row, rows, columns]
        return window

    def thumbnail(self, side: int) -> Tensor:
        """See `Scene.thumbnail`."""
        return DenseScene(self.whole()).thumbnail(side)

    def image(self, index: int) -> Tensor:
        """See `Scene.image`."""
        return self._pixels(slice(index, index + 1))[0]

    def whole(self) -> Tensor:
        """See `Scene.whole`."""
        return self._pixels(slice(None))

    def _pixels(self, rows: slice) -> Tensor:
        pixels = torch.from_numpy(self.frames[rows].astype(np.float32))
        return pixels.sub_(self.low).div_(self.span).clamp_(0, 1).movedim(-1, 1)

    def only(self, index: int, times: int = 1) -> DenseScene:
        """See `Scene.only`."""
        return DenseScene(self.image(index).expand(times, -1, -1, -1))


def inside(center: int, size: int, length: int) -> tuple[slice, slice]:
    """What lies in an image of a window round ``center``: where in the image, and in the window."""
    start = geometry.patch_start(center, size)
    first = min(max(start, 0), length)
    last = max(min(start + size, length), first)
    return slice(first, last), slice(first - start, last - start)


def box_sums(pixels: NDArray[Any], box: int) -> NDArray[Any]:
    """The sums of the boxes of ``(N, H, W, ...)``, exact where the pixels are bytes or truths.

    The last box down and across may have fewer pixels. The sums of a box of 1 are the pixels.
    """
    if box == 1:
        return pixels
    kinds: tuple[Any, Any] = (np.uint16, np.uint32) if box <= 256 else (np.uint64, np.uint64)
    if pixels.dtype.kind == "f":
        kinds = (np.float64, np.float64)
    # Rows that are mirrored are added as they lie in memory, which is three times as fast.
    along = slice(None, None, -1 if pixels.strides[2] < 0 else 1)
    rows = _sums(pixels[:, :, along], box, 1, kinds[0])[:, :, along]
    return _sums(rows, box, 2, kinds[1])


def _sums(pixels: NDArray[Any], box: int, axis: int, kind: Any) -> NDArray[Any]:
    before = (slice(None),) * axis
    sums = pixels[(*before, slice(None, None, box))].astype(kind)
    for more in range(1, min(box, pixels.shape[axis])):
        part = pixels[(*before, slice(more, None, box))]
        sums[(*before, slice(part.shape[axis]))] += part
    return sums
