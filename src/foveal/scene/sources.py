"""Images that are read patch by patch, without loading them: what is asked of each, and scenes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.geometry import patch_start, thumbnail_box
from foveal.scene.scene import Scene

BLOCK = 256  # pixels a side, of what is read at once of a thin image, at least
LARGEST_WHOLE = 2**26  # pixels of an image that is read whole, as a viewer may ask


class PatchSource(Protocol):
    """An image that the sensor reads patch by patch; `foveal.scene.files` opens files as such."""

    @property
    def height(self) -> int:
        """H, in pixels."""

    @property
    def width(self) -> int:
        """W, in pixels."""

    @property
    def num_channels(self) -> int:
        """C."""

    def read(self, left: int, top: int, count: int, box: int) -> NDArray[np.float32]:
        """Averages of boxes of pixels, side by side. Safe to call from several threads.

        Args:
            left: where the first box starts, in pixels; outside the image all are 0.
            top: likewise.
            count: boxes a side.
            box: pixels a side of each box.

        Returns:
            ``(C, count, count)`` float32 in [0, 1].
        """


class MirroredSource:
    """A source as if it were mirrored, down, across or both."""

    def __init__(self, source: PatchSource, *, down: bool, across: bool) -> None:
        self.source, self.down, self.across = source, down, across
        self.height, self.width = source.height, source.width
        self.num_channels = source.num_channels

    def read(self, left: int, top: int, count: int, box: int) -> NDArray[np.float32]:
        """See `PatchSource.read`."""
        left = self.width - left - count * box if self.across else left
        top = self.height - top - count * box if self.down else top
        patch = self.source.read(left, top, count, box)
        mirrored = patch[:, :: -1 if self.down else 1, :: -1 if self.across else 1]
        return np.ascontiguousarray(mirrored)


class GuardedSource:
    """A source that stops nothing: where it cannot be read it is black, and counts as ``damaged``.

    ``report`` is told what is wrong whenever a read fails; what it raises is passed on. Thumbnails
    of each side that was asked for are kept in ``thumbnails``, which may outlive the source.
    """

    def __init__(
        self,
        source: PatchSource,
        report: Callable[[str], None],
        thumbnails: dict[int, Tensor] | None = None,
    ) -> None:
        self.source, self.report = source, report
        self.thumbnails = {} if thumbnails is None else thumbnails
        self.height, self.width = source.height, source.width
        self.num_channels = source.num_channels
        self.damaged = False

    def read(self, left: int, top: int, count: int, box: int) -> NDArray[np.float32]:
        """See `PatchSource.read`."""
        try:
            return self.source.read(left, top, count, box)
        except (OSError, ValueError) as problem:
            self.damaged = True
            self.report(str(problem))
            return np.zeros((self.num_channels, count, count), dtype=np.float32)


class SourceScene(Scene):
    """Images that are read where they are looked at, each patch by itself and several at once.

    Args:
        sources: B of any sizes; `ValueError` if there are none, or their channels differ.
    """

    def __init__(self, sources: Sequence[PatchSource]) -> None:
        if not len(sources) or not all(hasattr(source, "read") for source in sources):
            kinds = sorted({type(source).__name__ for source in sources})
            raise ValueError(
                "images must be a (B, C, H, W) tensor or a sequence of sources; got a sequence of "
                f"{', '.join(kinds) or 'none'}. For tensors of different sizes see "
                "foveal.geometry.pad_images."
            )
        channels = sorted({source.num_channels for source in sources})
        if len(channels) > 1:
            raise ValueError(
                f"the sources of a batch must have as many channels; got {channels}. Open them "
                "with open_source(path, num_channels)."
            )
        self.sources = sources
        self.batch_size, self.num_channels = len(sources), sources[0].num_channels
        self.height = torch.tensor([source.height for source in sources])
        self.width = torch.tensor([source.width for source in sources])

    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """See `Scene.patches`."""
        places = centers.tolist()
        sides = [boxes] * len(places)
        if chosen is not None:
            sides = [(boxes[scale],) for scale in chosen.tolist()]

        def read(row: int) -> NDArray[np.float32]:
            source, (x, y) = self.sources[row], places[row]
            corners = ((patch_start(0, count * box), box) for box in sides[row])
            return np.stack(
                [source.read(x + corner, y + corner, count, box) for corner, box in corners]
            )

        return self._read_all(read).to(centers.device)

    def thumbnail(self, side: int) -> Tensor:
        """See `Scene.thumbnail`; from a file's own smaller copies, where it has some."""

        def read(row: int) -> NDArray[np.float32]:
            source = self.sources[row]
            kept = source.thumbnails if isinstance(source, GuardedSource) else {}
            if side in kept:
                return np.asarray(kept[side])
            made = source.read(0, 0, side, thumbnail_box(source.height, source.width, side))
            if self.intact[row]:
                kept[side] = torch.from_numpy(made)
            return made

        return self._read_all(read)

    def image(self, index: int) -> Tensor:
        """See `Scene.image`; `ValueError` if it has more than 67 million pixels."""
        source = self.sources[index]
        height, width = source.height, source.width
        if height * width > LARGEST_WHOLE:
            raise ValueError(
                f"an image of {height:,} x {width:,} pixels is not read whole; take a thumbnail."
            )
        # In squares: one of the longer side of a thin image would be too much.
        step, down = max(BLOCK, min(height, width)), height > width
        starts = [(0, s) if down else (s, 0) for s in range(0, max(height, width), step)]
        squares = [source.read(*start, step, 1) for start in starts]
        whole = np.concatenate(squares, axis=1 if down else 2)[:, :height, :width]
        return torch.from_numpy(np.ascontiguousarray(whole))

    def rows(self, kept: Sequence[int]) -> SourceScene:
        """See `Scene.rows`."""
        return SourceScene([self.sources[row] for row in kept])

    def whole(self) -> Tensor:
        """See `Scene.whole`; always raises `ValueError`."""
        raise ValueError(
            f"a network that sees the whole image takes none of {self.sources[0].height:,} x "
            f"{self.sources[0].width:,} pixels, which is read where it is looked at. Choose a "
            "recurrent attention model (--network ram), or scale the images down."
        )

    @property
    def intact(self) -> list[bool]:
        """See `Scene.intact`."""
        return [not (isinstance(one, GuardedSource) and one.damaged) for one in self.sources]

    def _read_all(self, read: Callable[[int], NDArray[np.float32]]) -> Tensor:
        rows = range(len(self.sources))
        if len(rows) == 1:
            return torch.from_numpy(read(0)[None])
        # Threads are enough: decompression and file access do not hold Python's lock.
        with ThreadPoolExecutor(min(len(rows), 2 * (os.cpu_count() or 1))) as pool:
            return torch.from_numpy(np.stack(list(pool.map(read, rows))))
