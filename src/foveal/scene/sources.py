"""What the sensor asks of an image that it reads patch by patch, without loading it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class PatchSource(Protocol):
    """An image that the sensor reads patch by patch; `foveal.scene.files` opens files as such."""

    @property
    def height(self) -> int:
        """H, in pixels."""
        ...

    @property
    def width(self) -> int:
        """W, in pixels."""
        ...

    @property
    def num_channels(self) -> int:
        """C."""
        ...

    def read(self, left: int, top: int, count: int, box: int) -> NDArray[np.float32]:
        """Averages of boxes of pixels, side by side. Safe to call from several threads.

        Args:
            left: where the first box starts, in pixels of the image; any whole number.
            top: likewise. Pixels outside the image are 0.
            count: boxes a side.
            box: pixels a side of each box.

        Returns:
            ``(C, count, count)`` float32 in [0, 1].
        """
        ...


class GuardedSource:
    """A source that stops nothing: where it cannot be read it is black, and counts as damaged.

    Args:
        source: what is read.
        report: told what is wrong whenever a read fails; what it raises is passed on.

    Attributes:
        damaged: whether a read has failed.
    """

    def __init__(self, source: PatchSource, report: Callable[[str], None]) -> None:
        self.source, self.report = source, report
        self.height, self.width, self.num_channels = (
            source.height,
            source.width,
            source.num_channels,
        )
        self.damaged = False

    def read(self, left: int, top: int, count: int, box: int) -> NDArray[np.float32]:
        """See `PatchSource.read`."""
        try:
            return self.source.read(left, top, count, box)
        except (OSError, ValueError) as problem:
            self.damaged = True
            self.report(str(problem))
            return np.zeros((self.num_channels, count, count), dtype=np.float32)


def undamaged(images: object) -> list[bool] | None:
    """Of each source of a batch, whether all reads so far went well; None if there are none."""
    if not isinstance(images, Sequence):
        return None
    return [not getattr(source, "damaged", False) for source in images]


def check_sources(sources: Sequence[PatchSource]) -> None:
    """Raise `ValueError` unless there are sources, all of them with as many channels."""
    if not sources or not all(hasattr(source, "read") for source in sources):
        kinds = sorted({type(source).__name__ for source in sources})
        raise ValueError(
            "images must be a (B, C, H, W) tensor or a sequence of sources; got a sequence of "
            f"{', '.join(kinds) or 'none'}. For tensors of different sizes see "
            "foveal.geometry.pad_images."
        )
    channels = sorted({source.num_channels for source in sources})
    if len(channels) > 1:
        raise ValueError(
            f"the sources of a batch must have as many channels; got {channels}. Open them with "
            "open_source(path, num_channels)."
        )


def sizes_of(sources: Sequence[PatchSource]) -> list[tuple[int, int]]:
    """``(height, width)`` of each source of a batch, in pixels.

    Raises:
        ValueError: see `check_sources`.
    """
    check_sources(sources)
    return [(source.height, source.width) for source in sources]
