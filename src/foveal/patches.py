"""What the sensor asks of an image that it reads patch by patch, without loading it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class PatchSource(Protocol):
    """An image that the sensor reads patch by patch; `foveal.readers` opens files as such."""

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
