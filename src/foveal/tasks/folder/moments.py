"""Mean and standard deviation of pixels: of whole pictures exactly, of large files from samples."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.scene.files import Source

SAMPLES, SAMPLE = 4, 64  # a side: windows of a large file, and pixels of each
OVERVIEW = 2**22  # pixels of a level that is read whole for the mean
DARKEST_STD = 1 / 255  # of a channel that is the same everywhere

Sums = NDArray[np.float64]


@functools.singledispatch
def sums_of(picture: Any) -> Sums:
    """Of each channel of a picture: how many pixels, their sum, that of their squares; ``(3, C)``.

    Of a source, which may not be readable, they are estimates. The mean is that of its coarsest
    level, which averages all its pixels; the squares are those of 16 windows of 64 x 64 pixels on a
    grid. A file without smaller levels has its mean estimated from the windows, too.
    """
    flat = picture.reshape(len(picture), -1)
    squares = np.square(flat, dtype=np.uint16).sum(1, dtype=np.uint64)
    light = flat.sum(1, dtype=np.uint64)
    return np.stack([np.full(len(flat), flat.shape[1]), light / 255, squares / 255**2])


def mean_and_std(sums: list[Sums]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel, over images of which `sums_of` gave the sums."""
    count, light, squares = np.sum(sums, axis=0)
    mean = light / count
    std = np.sqrt(np.maximum(squares / count - mean**2, DARKEST_STD**2))
    rounded = [tuple(round(value, 6) for value in part.tolist()) for part in (mean, std)]
    return rounded[0], rounded[1]


@sums_of.register
def _estimated(source: Source) -> Sums:
    side = min(SAMPLE, source.height, source.width)
    starts = [
        np.linspace(0, length - side, SAMPLES).astype(int)
        for length in (source.height, source.width)
    ]
    windows = np.stack(
        [source.read(int(left), int(top), side, 1) for top in starts[0] for left in starts[1]], 1
    ).reshape(source.num_channels, -1)
    mean = windows.mean(1)
    coarsest = source.levels[-1]
    if coarsest.factor > 1 and coarsest.height * coarsest.width <= OVERVIEW:
        longest = max(source.height, source.width)
        share = source.height * source.width / longest**2  # of a box as large as that
        mean = source.read(0, 0, 1, longest).ravel() / share
    spread = np.square(windows - mean[:, None]).mean(1)
    count = source.height * source.width
    return np.stack([np.ones_like(mean), mean, mean**2 + spread]).astype(np.float64) * count
