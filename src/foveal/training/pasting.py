"""Pieces pasted into thumbnails, so that a map learns to see what does not belong there.

As in CutPaste (Li et al. 2021, arXiv 2104.04015), where a network that tells images with a pasted
piece from whole ones then finds real defects: no label says where anything is, and none is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from foveal.model.context import COORDINATES
from foveal.randomness import random_rows

PIECES = 6  # an image
SMALLEST, LARGEST = 6.0, 1 / 10  # pixels of the thumbnail a side, and share of its side
OUTLINE = 4  # random heights across and down, of which an outline is made
REDUCED = 4.0  # times at most that what it shows was larger where it was cut from
GREY = 0.5  # of the pieces have no colour
LEAST_CONTRAST = 0.5  # of a piece, beside what it was; the most is 2
MIDDLE = 1 / 3  # of a piece, that is to be found


def paste(thumbnails: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Paste pieces of one another into thumbnails.

    A piece has a random outline, size and place, is magnified or reduced, and of another brightness
    and contrast than where it was cut from; half of them lose their colour.

    Args:
        thumbnails: ``(B, C + 2, side, side)``, as a context reads them.
        generator: source of randomness, on their device.

    Returns:
        The thumbnails with pieces; and ``(B, side, side)``, 1 on their middle thirds, 0 elsewhere.
    """
    pixels, places = torch.tensor_split(thumbnails, [thumbnails.shape[1] - COORDINATES], dim=1)
    count, _, side, _ = pixels.shape
    device = pixels.device
    most = max(int(LARGEST * side), int(SMALLEST))
    inside = (places < 1).all(1)  # the image may end before the thumbnail does
    extent = torch.stack([inside.any(dim).sum(1) for dim in (1, 2)], dim=1)  # across, down
    low, high = pixels.amin(), pixels.amax()
    # With room for pieces whose middle is on the edge.
    around = (most // 2, most - most // 2) * 2
    whole, marked = functional.pad(pixels, around), functional.pad(torch.zeros_like(inside), around)
    step = torch.arange(most, device=device)
    grid = torch.stack(torch.meshgrid(step, step, indexing="xy"), dim=-1)
    rows = torch.arange(count, device=device)[:, None, None]
    smooth: Any = {"mode": "bicubic", "align_corners": False, "padding_mode": "border"}
    for piece in range(1, PIECES + 1):
        chance = random_rows(torch.rand, (count, 9), generator, device)
        heights = random_rows(torch.randn, (count, 1, OUTLINE, OUTLINE), generator, device)
        size, scale, grey, contrast, level = (
            chance[:, number].view(-1, 1, 1, 1) for number in range(5)
        )
        size = SMALLEST * (most / SMALLEST) ** size
        own = (grid + 0.5 - most / 2) * (2 / size)  # in [-1, 1] on the piece
        away = own.square().sum(-1)
        outline = functional.grid_sample(heights, own, **smooth)[:, 0]
        mask = (3 * (outline + 2 - 3 * away)).clamp(0, 1)
        # Cut from another image, of which it shows more or less than it covers.
        middle = (chance[:, 5:7] * extent.roll(piece, 0))[:, None, None]
        shown = (own * size / 2 * REDUCED**scale + middle) * (2 / side) - 1
        cut = functional.grid_sample(pixels.roll(piece, 0), shown, align_corners=False)
        cut = torch.where(grey < GREY, cut.mean(1, keepdim=True), cut)
        cut = (cut - cut.mean((1, 2, 3), keepdim=True)) * LEAST_CONTRAST ** (1 - 2 * contrast)
        cut = (cut + low + (high - low) * level).clamp(low, high)
        x, y = ((chance[:, 7:] * extent).long()[:, None, None] + grid).unbind(-1)
        before = whole[rows, :, y, x]
        whole[rows, :, y, x] = before + mask[..., None] * (cut.movedim(1, -1) - before)
        marked[rows, y, x] |= (mask > 0) & (away < MIDDLE**2)
    cropped = slice(most // 2, most // 2 + side)
    pasted = torch.where(inside[:, None], whole[..., cropped, cropped], pixels)
    return torch.cat([pasted, places], dim=1), (marked[:, cropped, cropped] & inside).float()


def pasted_loss(
    find: Callable[[Tensor], Tensor], thumbnails: Tensor, generator: torch.Generator | None
) -> Tensor:
    """How badly pieces are found: the cross-entropy of where they are, among all cells, in nats.

    Args:
        find: from thumbnails to ``(B, h, w)``, logarithms of how likely a piece is in each cell.
        thumbnails: as for `paste`.
        generator: likewise.
    """
    pasted, marked = paste(thumbnails, generator)
    found = find(pasted)
    there = functional.adaptive_max_pool2d(marked[:, None], found.shape[-2:]).flatten(1)
    each = there / there.sum(1, keepdim=True).clamp(min=1)
    return -(each * found.flatten(1).log_softmax(1)).sum(1).mean()
