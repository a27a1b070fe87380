"""From the strokes of a pen to a digit as MNIST has them, and to a canvas with it."""

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from foveal.scene import as_scene
from foveal.tasks import CanvasTask

SIDE, DIGIT = 28, 20  # pixels: MNIST's images, and the longer side of the digits in them
PEN = 2.6  # pixels of MNIST's images
FINER = 8  # the drawing's pixels in one of MNIST's, a side
SMALLEST = 0.03  # of the canvas; what is smaller is a dot
NEAR = 0.03  # of the canvas; strokes whose boxes are as near belong to one digit
MOST_POINTS = 20_000
NOTHING = "Nothing is drawn yet. Draw a digit on the black canvas."

Strokes = list[NDArray[np.float64]]


def read_strokes(value: Any) -> Strokes:
    """Strokes as a page sends them: lists of points ``[x, y]`` in [0, 1], from the top left.

    They become arrays ``(N, 2)``, one a stroke, and none if nothing was drawn. Raises `ValueError`
    if they are anything else, or too many.
    """
    try:
        strokes = [np.asarray(stroke, dtype=float).reshape(-1, 2) for stroke in value or []]
    except (TypeError, ValueError):
        raise ValueError("strokes must be lists of points [x, y], numbers from 0 to 1.") from None
    count = sum(map(len, strokes))
    if count > MOST_POINTS:
        raise ValueError(
            f"a drawing may have {MOST_POINTS:,} points; this one has {count:,}. Clear it, and "
            "draw a digit."
        )
    if not all(np.isfinite(stroke).all() for stroke in strokes):
        raise ValueError("strokes must be lists of points [x, y], numbers from 0 to 1.")
    return [stroke.clip(0, 1) for stroke in strokes if len(stroke)]


def draw_digit(strokes: Strokes) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """A drawing as MNIST would have it: brought to 20 pixels, its centre of mass in the middle.

    LeCun, Bottou, Bengio and Haffner 1998, §III-A. The lines are scaled, not their pixels, so large
    and small drawings have a pen of the same width. Gives ``(28, 28)`` uint8, white on black; and
    the middle of the drawing, ``(x, y)`` in [0, 1]. Raises `ValueError` if nothing was drawn, or a
    dot.
    """
    if not strokes:
        raise ValueError(NOTHING)
    low, high = _box(strokes)
    extent, middle = float((high - low).max()), (low + high) / 2
    if extent < SMALLEST:
        raise ValueError("That is only a dot. Draw a digit, a little larger.")
    scale = (DIGIT - PEN) / extent
    scaled = [(stroke - middle) * scale for stroke in strokes]
    first = _ink(scaled, np.full(2, SIDE / 2))
    light = np.asarray(first, dtype=float)
    places = np.arange(SIDE) + 0.5
    mass = np.array([light.sum(0) @ places, light.sum(1) @ places]) / light.sum()
    centred = _ink(scaled, SIDE - mass)
    return np.asarray(centred, dtype=np.uint8), (float(middle[0]), float(middle[1]))


def digits_of(strokes: Strokes) -> list[Strokes]:
    """The strokes of each digit of a drawing of several: those whose boxes touch, or nearly so."""
    digits: list[Strokes] = []
    for stroke in strokes:
        low, high = _box([stroke])
        boxes = [_box(digit) for digit in digits]
        near = [((low <= b + NEAR) & (a <= high + NEAR)).all() for a, b in boxes]
        joined = [
            part for digit, close in zip(digits, near, strict=True) if close for part in digit
        ]
        digits = [digit for digit, close in zip(digits, near, strict=True) if not close]
        digits.append([*joined, stroke])
    return digits


def _box(strokes: Strokes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.concatenate(strokes)
    return points.min(0), points.max(0)


def _ink(strokes: Strokes, middle: NDArray[np.float64]) -> Image.Image:
    """Lines round ``middle``, in pixels of a 28 x 28 image, drawn with a round pen."""
    sheet = Image.new("L", (SIDE * FINER, SIDE * FINER))
    pen, radius = ImageDraw.Draw(sheet), PEN * FINER / 2
    for stroke in strokes:
        line = [tuple(point) for point in ((stroke + middle) * FINER).tolist()]
        if len(line) > 1:
            pen.line(line, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (line[0], line[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return sheet.resize((SIDE, SIDE), Image.Resampling.BOX)


def compose(
    task: CanvasTask,
    strokes: Strokes,
    num_clutter: int,
    seed: int,
    counts: tuple[int, int] = (1, 1),
) -> Tensor:
    """The drawn digits on a canvas of a task, among clutter; ``(1, H, W)`` in [0, 1].

    The task is of one digit of 28 x 28 pixels, with a canvas and at least so many pieces on it; the
    seed is that of the clutter. All strokes are one digit, unless there may be several: then those
    that are apart. Raises `ValueError` if nothing was drawn, a dot, or fewer or more digits than
    the ``counts`` say, the least and the most.
    """
    least, most = counts
    apart = digits_of(strokes) if most > 1 and strokes else [strokes]
    if strokes and not least <= len(apart) <= most:
        reads = f"{least} to {most}" if least < most else str(most)
        raise ValueError(
            f"this model reads {reads} digits; {len(apart)} drawn. Draw as many, the strokes of a "
            "digit so that they touch, and digits apart."
        )
    side, places = task.config.canvas_size, []
    digits, middles = zip(*map(draw_digit, apart), strict=True)
    for x, y in middles:
        corner = (math.floor(at * side - SIDE / 2 + 0.5) for at in (y, x))
        places.append([min(max(at, 0), side - SIDE) for at in corner])
    # Canvases as in training, but with other digits, at other places, among fewer pieces.
    drawn = task.layout("train", torch.tensor([0]), torch.Generator().manual_seed(seed))
    layout = dataclasses.replace(
        drawn,
        digits=torch.from_numpy(np.stack(digits))[None],
        extents=torch.full((1, len(digits), 2), SIDE),
        places=torch.tensor([places]),
        donors=drawn.donors[:, :num_clutter],
        cuts=drawn.cuts[:, :num_clutter],
        pieces=drawn.pieces[:, :num_clutter],
    )
    canvases, _ = task.render(layout)
    return as_scene(canvases).image(0)
