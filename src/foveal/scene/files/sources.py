"""What every source has in common: the choice of a level, and exact averages of its pixels.

A level is the image, or a smaller copy of it that the file also holds. A box of b x b pixels is
read from the coarsest level in which it is still `FINEST_BOX` pixels a side, and from the image
itself where there is none: so a glimpse reads about as many pixels at every scale, whatever the
scale, and a copy's rounding to bytes is averaged away. Where the edge of a box cuts a pixel of the
level, the pixel counts by the part that lies inside.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FINEST_BOX = 8  # pixels of a level in a side of a box, at least, unless the level is the image
LARGE = 2048 * 2048  # pixels; what has more is read by windows, what has fewer whole
BLOCK = 1024  # pixels a side that are in memory at once, where a window is wider
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601, as Pillow's grey)

UNREAD = r"unsupported|not supported|unknown|cannot handle|not implemented|too large"
EXCESS = 1e-4  # what rounding may add to floats in [0, 1]

Floats = NDArray[np.float32]


def explained(
    path: Path | str, problem: Exception, damage: str = "is damaged or cut off"
) -> OSError | ValueError:
    """What to say of a file of which a decoder raised anything at all."""
    words = " ".join(str(problem).split())[:200] or type(problem).__name__
    if isinstance(problem, (OSError, ValueError)) and str(problem).startswith(f"{path} "):
        return problem  # said already
    full = isinstance(problem, OSError) and problem.errno == errno.ENOMEM
    if isinstance(problem, MemoryError) or full:
        return NoMemory(f"{path} takes more memory than there is. Scale it down, or cut it up.")
    if isinstance(problem, OSError) and problem.errno is not None:
        return type(problem)(f"{path} cannot be read ({problem.strerror}).")
    if "imagecodecs" in words:
        return ValueError(
            f"{path} needs a codec that is not here; pip install --upgrade imagecodecs brings it."
        )
    unread = not isinstance(problem, TypeError) and re.search(UNREAD, words, re.IGNORECASE)
    if isinstance(problem, NotImplementedError) or unread:
        return ValueError(
            f"{path} is of a kind that is not read ({words}). Convert it to PNG or a plain TIFF."
        )
    return ValueError(f"{path} {damage} ({words}). Fetch it again, or remove it.")


class NoMemory(ValueError):
    """A file that takes more memory than there is."""


@contextmanager
def naming(path: Path | str, damage: str = "is damaged or cut off") -> Iterator[None]:
    """Name the file in whatever fails within. Raises `OSError` or `ValueError` in its place."""
    try:
        yield
    except Exception as problem:
        raise explained(path, problem, damage) from None


@dataclass(frozen=True)
class Level:
    """The image (factor 1), or a smaller copy of it."""

    height: int  # of the copy, in its own pixels
    width: int  # likewise
    factor: float  # pixels of the image in a pixel of the copy, a side
    tile: tuple[int, int] = (1, 1)  # pixels a side read at once; where blocks of a window end


def level_factor(full: tuple[int, int], size: tuple[int, int]) -> float | None:
    """By how much a ``(height, width)`` copy is smaller; None if it is no copy of the whole image.

    A whole number where rounding (up or down) of the quotient explains the size of the copy.
    """
    if min(*full, *size) < 1:
        return None
    rough = (full[0] / size[0] + full[1] / size[1]) / 2
    whole = round(rough)
    if all(
        side // whole <= part <= -(-side // whole) for side, part in zip(full, size, strict=True)
    ):
        return float(whole)
    exact = all(abs(side / rough - part) <= 1 for side, part in zip(full, size, strict=True))
    return rough if exact else None


class Source:
    """An image that is read window by window: a `foveal.scene.sources.PatchSource`.

    Safe to read from several threads. A subclass gives the levels, finest first, and reads pixels.

    Args:
        name: of the file, for messages.
        levels: finest first; the first is the image.
        native_channels: of the pixels that `_pixels` gives.
        num_channels: what to convert to: 1 (grey), 3 (red, green, blue); None leaves it as it is.
            `ValueError` if there is no such conversion.
    """

    def __init__(
        self, name: str, levels: list[Level], native_channels: int, num_channels: int | None
    ) -> None:
        self.name = name
        self.levels = levels
        self.height, self.width = levels[0].height, levels[0].width
        self.num_channels = native_channels if num_channels is None else num_channels
        self._native_channels = native_channels
        self._damaged: set[int] = set()  # levels that could not be read
        if (native_channels, self.num_channels) not in {(1, 3), (3, 1)} and (
            native_channels != self.num_channels
        ):
            raise ValueError(
                f"{name} has {native_channels} channels and the model takes {self.num_channels}; "
                "only grey and RGB are converted to each other. Save the channels that it takes."
            )

    def read(self, left: int, top: int, count: int, box: int) -> Floats:
        """See `foveal.scene.sources.PatchSource.read`.

        A smaller copy that is damaged is not read again, but a larger one in its place, which a
        warning says once.

        Raises:
            OSError, ValueError: if the file cannot be read, or is damaged where it is read.
        """
        # The coarsest from which boxes of this side are read.
        fitting = {i for i, one in enumerate(self.levels) if one.factor * FINEST_BOX <= box}
        number = max(fitting - self._damaged, default=0)
        try:
            return self._averages(number, left, top, count, box)
        except (OSError, ValueError) as problem:
            if not number:
                raise
            if number not in self._damaged:
                self._damaged.add(number)
                copy = self.levels[number]
                warnings.warn(
                    f"{problem} It is in the copy of {copy.height:,} x {copy.width:,} pixels: a "
                    "larger one is read in its place.",
                    stacklevel=2,
                )
            return self.read(left, top, count, box)

    def _averages(self, number: int, left: int, top: int, count: int, box: int) -> Floats:
        """`read`, from one level."""
        level = self.levels[number]
        row, rows = _shares(top, count, box, level.factor, level.height, self.height)
        column, columns = _shares(left, count, box, level.factor, level.width, self.width)
        patch = np.zeros((self._native_channels, count, count), dtype=np.float32)
        for y, height in _blocks(row, rows.shape[1], level.tile[0]):
            high, down = _touched(rows[:, y - row : y - row + height])
            for x, width in _blocks(column, columns.shape[1], level.tile[1]):
                wide, across = _touched(columns[:, x - column : x - column + width])
                with naming(self.name):
                    pixels = self._pixels(number, y, x, height, width).transpose(2, 0, 1)
                patch[:, high, wide] += down @ pixels @ across.T
        return self._converted(patch)

    def whole(self) -> NDArray[np.uint8]:
        """All of it, ``(num_channels, height, width)``, rounded to bytes; raises as `read`."""
        image = np.empty((self.num_channels, self.height, self.width), dtype=np.uint8)
        for y, height in _blocks(0, self.height, self.levels[0].tile[0]):
            with naming(self.name):
                pixels = self._pixels(0, y, 0, height, self.width).transpose(2, 0, 1)
            image[:, y : y + height] = np.rint(self._converted(pixels) * 255)
        return image

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _converted(self, patch: Floats) -> Floats:
        if self._native_channels == self.num_channels:
            return patch
        if self.num_channels == 3:
            return np.repeat(patch, 3, axis=0)
        weights = np.asarray(LUMA, dtype=np.float32)
        return np.tensordot(weights, patch, axes=1)[None]

    def _pixels(self, number: int, top: int, left: int, height: int, width: int) -> Floats:
        """Pixels of level ``number``, all inside it: ``(height, width, C)`` float in [0, 1]."""
        raise NotImplementedError


class ArraySource(Source):
    """An array, or a memory map of one on disk, of which only windows are read.

    It is ``(H, W)`` or ``(H, W, C)``; bytes or 16-bit numbers (scaled to [0, 1]), bool, or float in
    [0, 1], which is checked here of a small array, and of what is read of a large one. Anything
    else raises `ValueError`.
    """

    def __init__(
        self, array: NDArray[Any], num_channels: int | None = None, name: str = "the array"
    ) -> None:
        if array.ndim not in (2, 3) or not array.size:
            raise ValueError(f"{name} must be (H, W) or (H, W, C), with pixels; got {array.shape}.")
        if array.dtype.kind not in "buf":
            raise ValueError(
                f"{name} must hold bytes, unsigned 16-bit numbers, or floats in [0, 1]; "
                f"got {array.dtype}."
            )
        self._array = array if array.ndim == 3 else array[..., None]
        height, width, channels = self._array.shape
        super().__init__(name, [Level(height, width, 1)], channels, num_channels)
        if height * width <= LARGE and array.dtype.kind == "f":
            scaled(self._array, name=name)

    def _pixels(self, _number: int, top: int, left: int, height: int, width: int) -> Floats:
        return scaled(self._array[top : top + height, left : left + width], name=self.name)


def open_array(path: Path, num_channels: int | None = None) -> ArraySource:
    """A ``.npy`` file, memory-mapped; `ValueError` if it is damaged, or holds no image."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as problem:
        raise ValueError(
            f"{path} is not a readable array ({problem}). Write it with numpy.save."
        ) from None
    return ArraySource(array, num_channels, str(path))


def scaled(pixels: NDArray[Any], bits: int | None = None, name: str = "the image") -> Floats:
    """Numbers as float32 in [0, 1]: unsigned ones over their largest, of ``bits`` bits if given.

    Floats outside of [0, 1] raise `ValueError`.
    """
    if pixels.dtype.kind == "u":
        largest = 2 ** (bits or 8 * pixels.dtype.itemsize) - 1
        return pixels.astype(np.float32) * np.float32(1 / largest)
    if pixels.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            low, high = pixels.min(), pixels.max()
        if not (low >= -EXCESS and high <= 1 + EXCESS):
            got = f"floats from {low:g} to {high:g}" if low <= high else "values that are no number"
            raise ValueError(
                f"{name} holds {got}; floats must be in [0, 1], from black to white. Scale them."
            )
        pixels = pixels.clip(0, 1)
    return pixels.astype(np.float32)


def composited(pixels: Floats, background: Floats | float) -> Floats:
    """Colours ``(..., C + 1)`` with their opacity last, laid over a background: ``(..., C)``."""
    opacity = pixels[..., -1:]
    return pixels[..., :-1] * opacity + background * (1 - opacity)


def _shares(
    first: int, count: int, box: int, factor: float, length: int, full: int
) -> tuple[int, Floats]:
    """What share of each box each pixel of a level is, along one side.

    Returns the first pixel of the level that counts, and ``(count, N)`` shares of the N from there
    on. Those of a box sum to 1 where it lies inside the image.
    """
    edges = np.clip(first + box * np.arange(count + 1, dtype=np.int64), 0, full)
    start = min(int(edges[0] // factor), length - 1)
    end = min(int(-(-edges[-1] // factor)), length)
    pixels = np.arange(start, max(start, end) + 1)
    borders = pixels * factor
    borders[pixels >= length] = full  # the last pixel stands for what is left of the image
    overlap = np.minimum(edges[1:, None], borders[1:]) - np.maximum(edges[:-1, None], borders[:-1])
    return start, (np.maximum(overlap, 0) / box).astype(np.float32)


def _touched(shares: Floats) -> tuple[slice, Floats]:
    """Which boxes any of the pixels are in, and the shares of those."""
    inside = np.flatnonzero(shares.any(1))
    boxes = slice(inside[0], inside[-1] + 1) if len(inside) else slice(0)
    return boxes, shares[boxes]


def _blocks(first: int, length: int, tile: int) -> Iterator[tuple[int, int]]:
    """Cut ``length`` pixels from ``first`` on into ``(start, length)``, at multiples of tiles."""
    step = max(BLOCK // tile, 1) * tile
    start, end = first, first + length
    while start < end:
        stop = min((start // step + 1) * step, end)
        yield start, stop - start
        start = stop
