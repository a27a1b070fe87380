from __future__ import annotations

import numpy as np
import pytest
import torch

from foveal.scene.screens import Screens

BOXES, COUNT = (1, 2, 6), 3


def slow_patch(frame: np.ndarray, x: int, y: int, box: int) -> np.ndarray:
    """``(N, N, C)``, box by box and pixel by pixel; outside is black."""
    height, width, channels = frame.shape
    patch = np.zeros((COUNT, COUNT, channels))
    start = -(COUNT * box // 2)
    for row in range(COUNT * box):
        for column in range(COUNT * box):
            down, across = y + start + row, x + start + column
            if 0 <= down < height and 0 <= across < width:
                patch[row // box, column // box] += frame[down, across] / box**2
    return patch


@pytest.mark.parametrize("kind", ["uint8", "bool", "float32", "float64", "uint8 from 16"])
@pytest.mark.parametrize("channels_first", [False, True])
def test_a_look_at_screens_is_the_mean_of_each_box(kind: str, channels_first: bool) -> None:
    random = np.random.default_rng(3)
    low, span = {"uint8": (0, 255), "uint8 from 16": (16, 219)}.get(kind, (0, 1))
    frames = random.integers(low, low + span + 1, (8, 11, 14, 2)).astype(kind.split(maxsplit=1)[0])
    if kind.startswith("float"):
        frames = random.random(frames.shape).astype(kind)
    wanted = (frames.astype(float) - low) / span
    centers = torch.tensor([[7, 5], [0, 0], [14, 11], [-3, 4], [40, -40], [13, 1], [2, 9], [5, 12]])
    given = np.ascontiguousarray(np.moveaxis(frames, -1, 1)) if channels_first else frames
    screens = Screens(given, channels_first, low, span)
    patches = screens.patches(centers, COUNT, BOXES)
    assert patches.shape == (8, 3, 2, COUNT, COUNT)
    assert patches.min() >= 0
    assert patches.max() <= 1
    for game, (x, y) in enumerate(centers.tolist()):
        for scale, box in enumerate(BOXES):
            patch = np.moveaxis(slow_patch(wanted[game], x, y, box), -1, 0)
            np.testing.assert_allclose(patches[game, scale], patch, atol=1e-6)
    np.testing.assert_allclose(screens.whole().movedim(1, -1), wanted, atol=1e-6)
    np.testing.assert_allclose(screens.image(5).movedim(0, -1), wanted[5], atol=1e-6)
    assert torch.equal(screens.only(5, 2).whole()[1], screens.image(5))
    assert torch.equal(screens.thumbnail(2)[5], screens.only(5).thumbnail(2)[0])


def test_wide_boxes_of_bytes_do_not_overflow() -> None:
    screens = Screens(np.full((1, 600, 600, 1), 255, np.uint8), span=255)
    assert screens.patches(torch.tensor([[300, 300]]), 2, (1, 300))[0, 1].tolist() == [
        [[1.0, 1.0], [1.0, 1.0]]
    ]


def test_what_lies_beyond_the_bounds_a_little_is_at_them_however_it_is_seen() -> None:
    screens = Screens(np.array([[[[1.001], [-0.001]]]], np.float32))
    assert screens.whole().flatten().tolist() == [1, 0]
    assert screens.patches(torch.tensor([[1, 0]]), 2, (1,)).amax() == 1
    assert (screens.thumbnail(2).amin(), screens.thumbnail(2).amax()) == (0, 1)
