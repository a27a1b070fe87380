"""What can be looked at: B images, whatever they are kept as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from foveal.geometry import thumbnail_box


class Scene(ABC):
    """B images that a model looks at: the one protocol of all that can be looked at.

    `foveal.scene.as_scene` makes one of whatever is given. What reads a file may raise `OSError` or
    `ValueError`.
    """

    batch_size: int  # B
    num_channels: int  # C
    height: int | Tensor  # of the images, in pixels; (B,) int64 where they may differ
    width: int | Tensor  # likewise

    def __len__(self) -> int:
        """B; not where a graph for any number of images is made: there take ``batch_size``."""
        return self.batch_size

    @abstractmethod
    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """Square patches round a place in each image, one at each size of box.

        Args:
            centers: ``(B, 2)`` int64, (x, y) of pixel boundaries as `foveal.geometry.to_pixels`
                gives them; they may lie outside the image, where all is 0.
            count: N, boxes a side of a patch.
            boxes: pixels a side of a box, of each of S patches, rising.
            chosen: ``(B,)`` int64, which one of the S each image is read at; all of them if None.

        Returns:
            ``(B, S, C, N, N)`` float32, exact averages of the boxes; ``(B, 1, C, N, N)`` where one
            was chosen.
        """

    @abstractmethod
    def thumbnail(self, side: int) -> Tensor:
        """The whole of each image, averaged down; ``(B, C, side, side)`` float32.

        Boxes of pixels are averaged exactly, the smallest that make the longer side fit
        (`foveal.geometry.thumbnail_box`). An image lies at the top left, zeros right and below.
        """

    def box(self, side: int) -> int | Tensor:
        """Pixels a side of the boxes that `thumbnail` averages, or ``(B,)`` of each image's."""
        box: int | Tensor = thumbnail_box(self.height, self.width, side)
        return box

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """All pixels of one of the images; ``(C, H, W)`` float. `ValueError` if it is too large."""

    def only(self, index: int, times: int = 1) -> Scene:
        """One of the images alone, as a scene of so many times the same."""
        return self.rows([index] * times)

    def rows(self, kept: Sequence[int]) -> Scene:
        """Some of the images, in this order, for looks that stop.

        Raises `NotImplementedError` of screens of games, and of what is moved in training.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rows; looks cannot stop in it.")

    def whole(self) -> Tensor:
        """All images with all their pixels, for a network that sees all; ``(B, C, H, W)``.

        `ValueError` if they are only read where they are looked at.
        """
        return torch.stack([self.image(row) for row in range(len(self))])

    def prepared(self, boxes: Sequence[int]) -> Scene:  # noqa: ARG002
        """The same images, made ready for several looks at patches of these boxes."""
        return self

    @property
    def intact(self) -> list[bool] | None:
        """Of each image, whether all that was read so far could be read; None: of course."""
        return None

    @property
    def sizes(self) -> Tensor:
        """``(B, 2)`` int64, the height and the width of each image, in pixels."""
        if isinstance(self.height, Tensor) and isinstance(self.width, Tensor):
            return torch.stack([self.height, self.width], dim=1)
        return torch.tensor([[self.height, self.width]]).expand(self.batch_size, 2)


def at_scale(patches: Tensor, chosen: Tensor | None) -> Tensor:
    """Of ``(B, S, ...)`` patches the one of the scale that ``(B,)`` chose; all if that is None."""
    if chosen is None:
        return patches
    return patches[torch.arange(chosen.shape[0], device=chosen.device), chosen][:, None]
