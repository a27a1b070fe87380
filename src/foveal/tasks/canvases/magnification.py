"""Digits made larger and smaller, each to a size of its own, the same on every machine."""

from __future__ import annotations

import torch
from torch import Tensor


def magnify(digits: Tensor, extents: Tensor, most: tuple[int, int]) -> Tensor:
    """Digits of other sizes, by linear interpolation; over as many more pixels as one gets smaller.

    Args:
        digits: ``(B, h, w)`` uint8.
        extents: ``(B, 2)`` int64, the height and width of each then, at least 1.
        most: (H, W), of the largest.

    Returns:
        ``(B, H, W)`` uint8, each digit at the top left, zeros right and below.
    """
    rows, columns = (
        _shares(extents[:, axis], digits.shape[1 + axis], most[axis]) for axis in (0, 1)
    )
    # Whole numbers, of which float64 is exact.
    light = rows @ digits.double() @ columns.transpose(1, 2)
    totals = rows.sum(2)[:, :, None] * columns.sum(2)[:, None]
    return light.div_(totals.clamp_(min=1)).round_().to(torch.uint8)


def _shares(extents: Tensor, source: int, most: int) -> Tensor:
    """How much each pixel of a line counts in each of its pixels after; ``(B, most, source)``.

    Whole numbers; zeros for pixels beyond the line's new length.
    """
    extent = extents[:, None, None]
    pixels = torch.arange(most, device=extents.device)[:, None]
    sources = torch.arange(source, device=extents.device)
    # Distances of the pixels' middles, times twice both lengths, to be whole.
    apart = ((2 * sources + 1) * extent - (2 * pixels + 1) * source).abs()
    reach = 2 * extent.clamp(min=source)
    return ((reach - apart).clamp_(min=0) * (pixels < extent)).double()
