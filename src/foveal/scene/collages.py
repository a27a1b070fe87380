"""Pictures that are kept as pieces and their places, and painted where they are looked at.

Memory and the cost of a look depend on the pieces, not on the picture's size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.geometry import thumbnail_box
from foveal.scene.screens import box_sums

SHORT_SUM = 16  # pixels a side of the largest box whose sum of bytes has 16 bits


@dataclass(frozen=True)
class Collage:
    """A grey picture of pieces on black; see `foveal.scene.photographs.Readable`.

    Attributes:
        bank: ``(P, h, w)`` uint8, the pieces that there are.
        pieces: ``(N,)``, which of them lie on the picture, in the order of painting.
        places: ``(N, 2)``, (y, x) of the top left corner of each, all of which is in the picture.
        side: pixels of the picture a side.
        added: whether light adds up, to white at most; else a piece hides what is under its square.
        sums: of the boxes of thumbnails by the thumbnail's side, where they are kept.
    """

    bank: NDArray[np.uint8]
    pieces: NDArray[np.int32]
    places: NDArray[np.int32]
    side: int
    added: bool
    sums: dict[int, NDArray[np.unsignedinteger]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Readable`."""
        return 1, self.side, self.side

    @property
    def margins(self) -> tuple[int, ...]:
        """See `Readable`."""
        return ()

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """See `Readable`; what lies beyond the picture is black."""
        height, width = self.bank.shape[1:]
        # With a margin of a piece, so that none has to be cut.
        shape = rows.stop - rows.start + 2 * height, columns.stop - columns.start + 2 * width
        canvas = np.zeros(shape, np.uint16 if self.added else np.uint8)
        corners = self.places - (rows.start - height, columns.start - width)
        near = ((corners > 0) & (corners < np.subtract(shape, (height, width)))).all(1)
        for piece, (y, x) in zip(self.pieces[near], corners[near].tolist(), strict=True):
            square = canvas[y : y + height, x : x + width]
            if self.added:
                square += self.bank[piece]
            else:
                square[:] = self.bank[piece]
        inner = canvas[None, height:-height, width:-width]
        return np.minimum(inner, 255).astype(np.uint8) if self.added else inner

    def thumbnail(self, side: int) -> Tensor:
        """See `Readable`."""
        box = thumbnail_box(self.side, self.side, side)
        sums = self.sums.get(side)
        if sums is None:
            whole = slice(0, self.side)
            sums = box_sums(self.read(whole, whole), box)[0]
            sums = sums.astype(np.uint16 if box <= SHORT_SUM else np.uint32)
            self.sums[side] = sums
        made = torch.zeros(1, side, side)
        made[0, : len(sums), : len(sums)] = torch.from_numpy(sums.astype(np.float32))
        return made.div_(255 * box**2)
