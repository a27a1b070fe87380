"""What is done to images before a model looks, so that they are like those that it was trained on.

It is done alike for files of every size, for arrays, and in an exported graph: dark becomes light
first, then a larger image is scaled down.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.scene.dense import averaged_by_products
from foveal.scene.files.sources import LARGE, ArraySource, Floats, Level, Source
from foveal.scene.pictures import Picture, height_and_width

FAR = 3  # times the largest image in training: a larger one is unlike it
EDGE = 16  # pixels a side, at most, of the eight pieces of an image's edge that tell its ground
FLAGS = ("--fit", "--invert")


@dataclass(frozen=True)
class Preparation:
    """What is done to images before a model looks at them; nothing by default."""

    uint8: bool = False  # the images of a graph are bytes from 0 to 255, not floats from 0 to 1
    invert: bool = False  # dark becomes light, as for ink on paper
    side: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` as they are given, to floats in [0, 1]: in a graph."""
        if self.uint8:
            images = images.float() / 255
        if self.invert:
            images = 1 - images
        if self.side is None:
            return images
        height, width = images.shape[2:]
        box = self.box(height, width)
        cells = (height + box - 1) // box, (width + box - 1) // box
        return averaged_by_products(images, box, cells)

    def box(self, height: int, width: int) -> int:
        """Pixels a side of the boxes that bring the longer side of such an image nearest to `side`.

        That is 1 up to one and a half times the side: there an image is as near to it as its half.
        """
        if self.side is None:
            return 1
        longer: int = torch.sym_max(height, width)  # type: ignore[no-untyped-call]
        box: int = torch.sym_max(1, (longer + self.side // 2) // self.side)  # type: ignore[no-untyped-call]
        return box

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of an image of this size when it is prepared, ``(height, width)``."""
        box = self.box(height, width)
        return -(-height // box), -(-width // box)

    def picture(self, picture: Picture) -> Picture:
        """A decoded file or a source, prepared; what stays large is still read by windows."""
        old = height_and_width(picture)
        new = self.size(*old)
        if new == old and not self.invert:
            return picture
        if not isinstance(picture, Source):
            if new == old and picture.dtype == np.uint8:
                inverted: Picture = np.invert(picture)
                return inverted
            picture = ArraySource(np.moveaxis(picture, 0, -1))
        box = self.box(*old)
        view = _View(picture, box, self.invert)
        if max(new) ** 2 > LARGE:
            return view
        with view:
            return view.read(0, 0, max(new), 1)[:, : new[0], : new[1]]

    def said(self) -> str:
        """What a graph takes, in words."""
        said = "uint8 in [0, 255]" if self.uint8 else "float32 in [0, 1]"
        if self.invert:
            said += "; dark becomes light"
        return said + (f"; scaled down to about {self.side} pixels a side" if self.side else "")


AS_IT_IS = Preparation()


class _View(Source):
    """A source inverted, or with boxes of its pixels for pixels, which is read by windows too."""

    def __init__(self, source: Source, box: int, invert: bool) -> None:
        self._source, self._box, self._invert = source, box, invert
        height, width = (-(-length // box) for length in (source.height, source.width))
        super().__init__(source.name, [Level(height, width, 1)], source.num_channels, None)

    def read(self, left: int, top: int, count: int, box: int) -> Floats:
        """See `Source.read`."""
        left, top, box = left * self._box, top * self._box, box * self._box
        patch = self._source.read(left, top, count, box)
        if not self._invert:
            return patch
        # What share of each box lies in the image: there black becomes white, and nowhere else.
        edges = box * np.arange(count + 1)
        down = np.diff(np.clip(top + edges, 0, self._source.height)) / box
        across = np.diff(np.clip(left + edges, 0, self._source.width)) / box
        inverted: Floats = np.outer(down, across).astype(np.float32) - patch
        return inverted.clip(0, 1)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()


@dataclass
class Door:
    """Prepares pictures for a model, and says once of each kind in what they are unlike its own.

    Of what the model's ``config.json`` says (``about``) it asks the ``image_size``, the largest
    height and width in training, and the ``ground``, "dark" or "bright". Larger images are scaled
    down to that size if they are to ``fit``, `ValueError` if it is not known. The two flags have
    names where they are chosen; ``warn`` is told what is unlike, in a line.
    """

    about: Mapping[str, Any]
    fit: bool = False
    invert: bool = False
    warn: Callable[[str], None] = print
    flags: tuple[str, str] = FLAGS
    model: str = "the model"
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._size: Sequence[int] = self.about.get("image_size") or (0, 0)
        if self.fit and not any(self._size):
            raise ValueError(
                f"{self.flags[0]} needs the size of the images that {self.model} was trained on, "
                f"and its config.json says none. Leave out {self.flags[0]}, and scale the images "
                "yourself."
            )
        side = max(self._size) if self.fit else None
        self.preparation = Preparation(invert=self.invert, side=side)

    def __call__(self, picture: Picture, name: str) -> Picture:
        """A picture, prepared; a source that cannot be read raises `OSError` or `ValueError`."""
        unlike = self._unlike(picture)
        if new := [words for flag, words in unlike.items() if flag not in self._said]:
            self.warn(f"{name} {'; it '.join(new)}.")
        self._said.update(unlike)
        return self.preparation.picture(picture)

    def _unlike(self, picture: Picture) -> dict[str, str]:
        """In what a picture is unlike those of training, by the flag that mends it."""
        fit, invert = self.flags
        height, width = height_and_width(picture)
        ground, unlike = self.about.get("ground"), {}
        if not self.fit and max(height, width) > FAR * max(self._size) > 0:
            unlike[fit] = (
                f"has {height:,} x {width:,} pixels, and no image in training more than "
                f"{self._size[0]:,} x {self._size[1]:,} ({fit} scales it down)"
            )
        if ground and invert not in self._said:
            bright = _is_bright(picture)
            if bright is not None and (bright != self.invert) != (ground == "bright"):
                mended = f"leave out {invert}" if self.invert else f"{invert} makes dark light"
                unlike[invert] = (
                    f"is {'bright' if bright else 'dark'} at its edge, and the images in training "
                    f"were {ground} ({mended})"
                )
        return unlike


def _is_bright(picture: Picture) -> bool | None:
    """Whether an image is bright at its edge; None where that cannot be read."""
    height, width = height_and_width(picture)
    side = min(EDGE, max(1, min(height, width) // 8))
    tops, lefts = ((0, (size - side) // 2, size - side) for size in (height, width))
    places = list(itertools.product(tops, lefts))
    del places[4]  # the middle
    if isinstance(picture, Source):
        with suppress(OSError, ValueError):  # who looks at it finds out
            return bool(np.median([picture.read(x, y, 1, side).mean() for y, x in places]) > 0.5)
        return None
    whole = 255 if picture.dtype == np.uint8 else 1
    pieces = [picture[:, y : y + side, x : x + side].mean() / whole for y, x in places]
    return bool(np.median(pieces) > 0.5)
