"""Images that are nearly all black, kept as their lit pixels.

What a glimpse of such an image costs, and the memory that it takes, do not grow with its size: so
canvases of any size can be made and looked at in training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from foveal import geometry
from foveal.scene.scene import Scene


class SparseScene(Scene):
    """A batch of grey images of any sizes, each a list of its lit pixels.

    It is no dataclass and no tuple on purpose: what casts a batch to a lower precision on its way
    into a model would reach into those, and places would no longer name pixels.

    Args:
        places: ``(B, N, 2)`` int64, (y, x) of pixels inside the images. Where several are the same,
            their light adds up, to white at most.
        light: ``(B, N)`` int, 0 to 255.
        sizes: ``(B, 2)`` int64, each image's height and width.
    """

    num_channels = 1

    def __init__(self, places: Tensor, light: Tensor, sizes: Tensor) -> None:
        self.batch_size = len(sizes)
        self.height, self.width = sizes.unbind(1)
        height, width = sizes.amax(0).tolist()
        flat = places[..., 0] * width + places[..., 1]
        flat, order = flat.where(light > 0, height * width).sort(1)  # the dark ones last
        most = int((light > 0).sum(1).max())
        flat, light = flat[:, :most], light.gather(1, order)[:, :most].long()
        # Pixels named more than once follow one another now: their light goes to the first.
        fresh = torch.ones_like(flat, dtype=torch.bool)
        fresh[:, 1:] = flat[:, 1:] != flat[:, :-1]
        place = fresh.cumsum(1) - 1
        total = torch.zeros_like(light).scatter_add_(1, place, light).clamp_(max=255)
        flat = torch.zeros_like(flat).scatter_(1, place, flat).where(total > 0, 0)
        # Whole numbers in float32, which is exact to 2^24 and much faster to divide.
        self._y, self._x = (flat // width).float(), (flat % width).float()
        self._light = total.float() / 255

    def boxes(self, corners: Tensor, count: int, box: int | Tensor) -> Tensor:
        """Averages of boxes of pixels: ``(B, 1, count, count)`` float32 in [0, 1].

        Args:
            corners: ``(B, 2)`` int64, (x, y) of the first box's first pixel, anywhere.
            count: boxes a side.
            box: pixels a side of each; ``(B, 1)`` where each image has its own.
        """
        x, y = corners.float()[:, None].unbind(-1)
        column, row = ((self._x - x) / box).floor_(), ((self._y - y) / box).floor_()
        inside = (column >= 0) & (column < count) & (row >= 0) & (row < count)
        where = (row * count + column).where(inside, count * count).long()
        sums = self._light.new_zeros(len(self), count * count + 1)
        sums.scatter_add_(1, where, self._light)
        return (sums[:, :-1] / box**2).view(-1, 1, count, count)

    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """See `Scene.patches`."""
        if chosen is not None:
            box = torch.tensor(boxes, device=chosen.device)[chosen, None]
            corners = centers - count * box // 2
            return self.boxes(corners, count, box)[:, None]
        return torch.stack(
            [
                self.boxes(centers + geometry.patch_start(0, count * box), count, box)
                for box in boxes
            ],
            dim=1,
        )

    def thumbnail(self, side: int) -> Tensor:
        """See `Scene.thumbnail`."""
        box = geometry.thumbnail_box(self.height, self.width, side)
        return self.boxes(torch.zeros_like(self.sizes), side, box[:, None])

    def image(self, index: int) -> Tensor:
        """See `Scene.image`; ``(1, H, W)`` float32."""
        height, width = self.sizes[index].tolist()
        flat = (self._y[index] * width + self._x[index]).long()
        pixels = self._light.new_zeros(height * width)
        return pixels.scatter_add_(0, flat, self._light[index]).view(1, height, width)

    def rows(self, kept: Sequence[int]) -> SparseScene:
        """See `Scene.rows`."""
        part: SparseScene = copy.copy(self)
        rows = list(kept)
        part.batch_size = len(rows)
        for name in ("height", "width", "_y", "_x", "_light"):
            setattr(part, name, getattr(self, name)[rows])
        return part
