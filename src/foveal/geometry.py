"""The one coordinate convention: normalized locations to pixels and back.

A location is ``(x, y)`` with -1 and +1 at the *outer edges* of the image, as in
``torch.nn.functional.grid_sample(align_corners=False)``; (-1, -1) is the top left corner and
(0, 0) the centre. In pixels, a position counts the boundaries between pixels: 0 is the left or
top edge of the image and ``width`` or ``height`` the right or bottom one.

No other module converts between the two.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_pixels(locations: Tensor, height: int, width: int) -> Tensor:
    """Round normalized locations to the nearest pixel boundary.

    Args:
        locations: ``(..., 2)`` float, ``(x, y)``; -1 and +1 are the image's outer edges, values
            beyond them lie outside the image.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        ``(..., 2)`` int64, ``(x, y)`` in pixels: ``floor((x + 1) / 2 * width + 0.5)``.

    Raises:
        ValueError: if the last dimension is not 2.
    """
    x, y = _split(locations, "locations")
    # In bfloat16 a location would have too few digits to name a pixel.
    x, y = x.float(), y.float()
    pixels = torch.stack([(x + 1) * (width / 2), (y + 1) * (height / 2)], dim=-1)
    return pixels.add_(0.5).floor_().long()


def to_normalized(pixels: Tensor, height: int, width: int) -> Tensor:
    """Convert pixel positions to normalized locations: the inverse of `to_pixels`.

    Args:
        pixels: ``(..., 2)`` int or float, ``(x, y)`` from the top left corner.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        ``(..., 2)`` float32, ``(x, y)``; -1 and +1 are the image's outer edges.

    Raises:
        ValueError: if the last dimension is not 2.
    """
    x, y = _split(pixels, "pixels")
    return torch.stack([x.float() * (2 / width) - 1, y.float() * (2 / height) - 1], dim=-1)


def pixels_per_unit(height: int, width: int) -> tuple[float, float]:
    """The slope of `to_pixels`, without its rounding: pixels in x and y for a step of 1."""
    return width / 2, height / 2


def patch_start(center: int, size: int) -> int:
    """The first pixel of a patch of ``size`` pixels round the pixel boundary ``center``."""
    return center - size // 2


def _split(points: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(
            f"{name} must be (..., 2), an (x, y) for each image; got {tuple(points.shape)}. "
            "For a single point pass torch.tensor([[x, y]])."
        )
    return points[..., 0], points[..., 1]
