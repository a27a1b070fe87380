"""An image as people see it, with the squares of a look, drawn with Pillow."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from foveal.model.sensor import GlimpseSensor

SCREEN = 336  # pixels of the longer side of an image
# Okabe and Ito's palette (2008). One for each scale, finest first, on pictures of any brightness.
SCALE_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00")
Square = tuple[int, int, int]  # left, top, side, in pixels of the image


def looked_at(image: Tensor, location: Tensor, sensor: GlimpseSensor) -> Image.Image:
    """A ``(C, H, W)`` image with the squares of a look at ``(2,)``, or with a zoom ``(3,)``."""
    height, width = image.shape[-2:]
    screen = on_screen(viewable(image), (height, width))
    outline(screen, sensor.squares(location, height, width), (height, width))
    return screen


def on_screen(pixels: NDArray[np.float32], image_size: tuple[int, int]) -> Image.Image:
    """An image at the size at which it is shown: whole pixels where it is enlarged."""
    height, width = image_size
    longer = max(height, width)
    zoom = SCREEN // longer if longer <= SCREEN else SCREEN / longer
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    enlarged = size[0] >= pixels.shape[1]
    method = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
    return as_picture(pixels).convert("RGB").resize(size, method)


def enlargement(screen: Image.Image, image_size: tuple[int, int]) -> float:
    """How much an image is enlarged on its screen, of which the shorter side may be rounded up."""
    return max(screen.size) / max(image_size)


def outline(
    screen: Image.Image, squares: Mapping[int, Square], image_size: tuple[int, int]
) -> None:
    """Draw the square of every scale, the finest on top; what lies outside the image is cut."""
    lines, zoom = ImageDraw.Draw(screen), enlargement(screen, image_size)
    for scale, (left, top, side) in reversed(list(squares.items())):
        x, y, length = left * zoom, top * zoom, max(side * zoom - 1, 0)  # of a huge image: a point
        corners = (x, y, x + length, y + length)
        lines.rectangle(corners, outline=scale_color(scale), width=2)


def scale_color(scale: int) -> str:
    """The colour of a scale's squares; they repeat after six."""
    return SCALE_COLORS[scale % len(SCALE_COLORS)]


def viewable(images: Tensor) -> NDArray[np.float32]:
    """``(..., C, H, W)`` as people see it: ``(..., H, W)`` grey, or ``(..., H, W, 3)`` of colours.

    Of channels that are neither, the brightest.
    """
    if images.shape[-3] not in (1, 3):
        images = images.amax(-3, keepdim=True)
    moved = images.movedim(-3, -1)
    shown = moved if moved.shape[-1] == 3 else moved[..., 0]
    return np.ascontiguousarray(shown.float().cpu().numpy())


def as_picture(pixels: NDArray[np.float32]) -> Image.Image:
    """``(H, W)`` or ``(H, W, 3)`` in [0, 1] as a picture of bytes."""
    shown: NDArray[np.uint8] = (255 * pixels.clip(0, 1)).round().astype(np.uint8)
    return Image.fromarray(shown)
