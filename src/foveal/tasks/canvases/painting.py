"""Canvases from layouts: where everything lies on them, painted whole or by what may be lit."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from foveal.scene.sparse import SparseScene
from foveal.tasks.canvases.config import TaskConfig


@dataclass(frozen=True)
class Layout:
    """Where digits and clutter lie on a batch of canvases: (y, x) of their top left corners."""

    digits: Tensor  # (B, M, h, w) uint8, augmented and magnified where the task does that
    extents: Tensor  # (B, M, 2), (height, width) of each, 0 for one left out; beyond is black
    labels: Tensor  # as `Task.batch` gives them
    places: Tensor  # (B, M, 2), of the digits
    pool: Tensor  # (P, h, w) uint8, digits that clutter is cut from
    donors: Tensor  # (B, N), which of them each of N pieces is cut from; -1 for one left out
    cuts: Tensor  # (B, N, 2), where in the donors
    pieces: Tensor  # (B, N, 2), where on the canvas
    sides: Tensor  # (B,), pixels a side of each canvas

    def part(self, chosen: slice) -> Layout:
        """The layout of some of the canvases."""
        parts = {field.name: getattr(self, field.name)[chosen] for field in fields(self)}
        return Layout(**parts | {"pool": self.pool})


def paint(layout: Layout, config: TaskConfig, rows: int) -> Tensor:
    """Digits and clutter on ``rows`` of canvas, ``(B, rows, side)`` int32; added, then clipped.

    So the paper's authors have it (google-deepmind/mnist-cluttered). With "over" the digit's own
    square stays free of clutter, as in some re-implementations: an easier task.
    """
    batch, side, piece = len(layout.places), config.canvas_size, config.clutter_size
    digits = layout.digits.reshape(batch, -1).int()
    # int32: bytes would wrap round where pieces overlap.
    canvas = torch.zeros(batch, rows * side, dtype=torch.int32, device=digits.device)
    height, width = layout.digits.shape[2:]
    digit_at = _square(layout.places, height, width, side).view(batch, -1)
    # Beyond a digit of its own size all is black, and may lie beyond the canvas.
    canvas.scatter_add_(1, digit_at.clamp_(max=rows * side - 1), digits)
    if layout.donors.shape[1]:
        where = _square(layout.pieces, piece, piece, side)
        canvas.scatter_add_(1, where.view(batch, -1), _clutter(layout, config))
    return canvas.clamp_(max=255).view(batch, rows, side)


def scatter(layout: Layout, config: TaskConfig) -> SparseScene:
    """As `paint`, by the pixels that may be lit, on canvases of each layout's own side."""
    batch, piece = len(layout.places), config.clutter_size
    places = _pixels(layout.places, *layout.digits.shape[2:])
    light = layout.digits.reshape(batch, -1).int()
    if layout.donors.shape[1]:
        places = torch.cat([places, _pixels(layout.pieces, piece, piece)], dim=1)
        light = torch.cat([light, _clutter(layout, config)], dim=1)
    return SparseScene(places, light, layout.sides[:, None].expand(-1, 2))


def _clutter(layout: Layout, config: TaskConfig) -> Tensor:
    """The pixels of the clutter, where they are seen: ``(B, N * piece * piece)``."""
    piece = config.clutter_size
    height, width = layout.pool.shape[1:]
    source = _square(layout.cuts, piece, piece, width)
    source += layout.donors.clamp(min=0)[..., None] * (height * width)
    light = layout.pool.view(-1)[source].int() * (layout.donors >= 0)[..., None]
    if config.composition == "over" and layout.places.shape[1]:
        inside = _pixels(layout.pieces, piece, piece)[:, :, None] - layout.places[:, None]
        under = ((inside >= 0) & (inside < layout.extents[:, None])).all(-1).any(-1)
        return light.flatten(1).where(~under, 0)
    return light.flatten(1)


def _pixels(corner: Tensor, height: int, width: int) -> Tensor:
    """Where the pixels of rectangles at ``corner (B, N, 2)`` lie: ``(B, N * h * w, 2)``."""
    rows, columns = (torch.arange(side, device=corner.device) for side in (height, width))
    inside = torch.cartesian_prod(rows, columns)
    return (corner[:, :, None] + inside).flatten(1, 2)


def _square(corner: Tensor, height: int, width: int, row: int) -> Tensor:
    """Flat indices ``(B, N, height * width)`` of rectangles at ``corner (B, N, 2)``, (y, x)."""
    rows = torch.arange(height, device=corner.device) * row
    inside = (rows[:, None] + torch.arange(width, device=corner.device)).view(-1)
    return (corner[..., 0] * row + corner[..., 1])[..., None] + inside
