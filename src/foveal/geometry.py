"""The one coordinate convention: normalized locations to pixels and back.

A location is ``(x, y)`` with -1 and +1 at the *outer edges* of the image, as in
``torch.nn.functional.grid_sample(align_corners=False)``; (-1, -1) is the top left corner and
(0, 0) the centre. In pixels, a position counts the boundaries between pixels: 0 is the left or
top edge of the image and ``width`` or ``height`` the right or bottom one.

A model that zooms has locations ``(x, y, zoom)``: the zoom names a scale of its sensor, from -1,
the finest, to +1, the coarsest.

Images of different sizes share a batch as `PaddedImages`; a location then is each image's own.

No other module converts between the two.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

ROUNDING = 1e-6  # more than float32 is off near 1, less than a pixel of what is 2 million wide


class PaddedImages(NamedTuple):
    """Images of different sizes in one tensor, each at the top left.

    As pixels outside an image are 0, nothing but the sizes tells the padding from the outside.
    """

    pixels: Tensor  # (B, C, H, W), with zeros to the right and below
    sizes: Tensor  # (B, 2) int64, each image's own (height, width) in pixels

    def image(self, index: int) -> Tensor:
        """One of them, without padding; ``(C, H, W)``."""
        height, width = self.sizes[index].tolist()
        return self.pixels[index, :, :height, :width]


def pad_images(images: Sequence[Tensor]) -> PaddedImages:
    """Put ``(C, H_i, W_i)`` images of one number of channels and one type into one tensor."""
    shapes = [image.shape[1:] for image in images]
    sizes = torch.tensor(shapes)
    if len(set(shapes)) == 1:
        pixels = torch.stack(list(images))
        return PaddedImages(pixels, sizes.to(pixels.device))
    height, width = sizes.amax(0).tolist()
    pixels = images[0].new_zeros((len(images), images[0].shape[0], height, width))
    for place, image in zip(pixels, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return PaddedImages(pixels, sizes.to(pixels.device))


def to_pixels(locations: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
    """Round normalized locations to the nearest pixel boundary.

    Args:
        locations: ``(..., 2)`` float, ``(x, y)``, or `ValueError`; -1 and +1 are the image's outer
            edges, values beyond them lie outside the image. A third number, the zoom, changes
            nothing.
        height: of the image, in pixels; where each location has its own image, a tensor that
            broadcasts with ``locations[..., 0]``.
        width: of the image, likewise.

    Returns:
        ``(..., 2)`` int64, ``(x, y)`` in pixels: ``floor((x + 1) / 2 * width + 0.5)``.
    """
    if locations.ndim < 1 or locations.shape[-1] not in (2, 3):
        raise ValueError(
            f"locations must be (..., 2), an (x, y) for each image; got {tuple(locations.shape)}. "
            "For a single point pass torch.tensor([[x, y]])."
        )
    x, y = locations[..., 0], locations[..., 1]
    # In bfloat16 a location would have too few digits to name a pixel.
    x, y = x.float(), y.float()
    pixels = torch.stack([(x + 1) * (width / 2), (y + 1) * (height / 2)], dim=-1)
    return pixels.add_(0.5).floor_().long()


def to_scales(zooms: Tensor, num_scales: int) -> Tensor:
    """The scale nearest to each zoom, the third number of a location that has one.

    Args:
        zooms: ``(...)`` float; -1 is the finest scale, +1 the coarsest, the others lie evenly
            between.
        num_scales: S, 2 or more.

    Returns:
        ``(...)`` int64, from 0, the finest, to S - 1.
    """
    scales = ((zooms.float() + 1) * ((num_scales - 1) / 2) + 0.5).floor()
    return scales.clamp(0, num_scales - 1).long()


def to_zooms(scales: Tensor, num_scales: int) -> Tensor:
    """The zoom of each ``(...)`` int64 scale, the inverse of `to_scales`; ``(...)`` float32."""
    return scales.float() * (2 / (num_scales - 1)) - 1


def pixels_per_unit(
    height: int | Tensor, width: int | Tensor
) -> tuple[float | Tensor, float | Tensor]:
    """The slope of `to_pixels`, without its rounding: pixels in x and y for a step of 1."""
    return width / 2, height / 2


def thumbnail_box(height: int | Tensor, width: int | Tensor, side: int) -> Any:
    """Pixels a side of the boxes whose averages bring the longer side of an image to ``side``.

    Height and width are in pixels, or ``(B,)`` of each image, and the answer is a whole number, or
    ``(B,)`` of them.
    """
    if isinstance(height, Tensor) and isinstance(width, Tensor):
        longer: Any = torch.maximum(height, width)
    else:
        longer = torch.sym_max(height, width)  # type: ignore[no-untyped-call]
    return (longer + side - 1) // side  # of positive numbers: exported graphs round to zero


def begins_inside(middles: Tensor) -> Tensor:
    """Whether cells begin within their image, by their ``(B, 2, h, w)`` middles; ``(B, 1, h, w)``.

    The first begins with the image, at -1, so that its middle is half of a cell away.
    """
    half = middles[:, :, :1, :1] + 1
    return (middles - half < 1 - ROUNDING).all(1, keepdim=True)


def thumbnail_places(
    height: int | Tensor,
    width: int | Tensor,
    side: int,
    device: torch.device | None = None,
    box: int | Tensor | None = None,
) -> Tensor:
    """Where the pixels of a thumbnail lie in its image, as (x, y) of the middle of each.

    Height and width are in pixels, or ``(B,)`` of each image, as is the box, `thumbnail_box` of
    them if None. Gives ``(1, 2, side, side)``, or ``(B, 2, side, side)``, in the image's
    coordinates: above 1 where the thumbnail goes on beyond the image. They are made on the device
    of the sizes, or on ``device`` where these are numbers.
    """
    box = thumbnail_box(height, width, side) if box is None else box
    device = height.device if isinstance(height, Tensor) else device
    middles = torch.arange(side, device=device) + 0.5
    across, down = (
        (
            middles * (2 * box / size).view(-1, 1)
            if isinstance(size, Tensor)
            else middles[None] * (2 * box / size)
        )
        - 1
        for size in (width, height)
    )
    shape = (len(across), side, side)
    return torch.stack([across[:, None, :].expand(shape), down[:, :, None].expand(shape)], dim=1)


def patch_start(center: int, size: int) -> int:
    """The first pixel of a patch of ``size`` pixels round the pixel boundary ``center``."""
    return center - size // 2
