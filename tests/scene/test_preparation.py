"""Images far from those of training: scaled down, inverted, and told of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from foveal.io.models import ground_of
from foveal.runs.classifier import CanvasRun
from foveal.runs.run import saved_as
from foveal.scene.files import LARGE, ArraySource, Source, open_source
from foveal.scene.preparation import Door, Preparation

DIGITS = {"image_size": [60, 60], "ground": "dark"}


def by_boxes(image: np.ndarray, invert: bool, side: int) -> np.ndarray:
    """``(C, H, W)`` bytes, prepared box by box: an independent answer."""
    light = image / 255
    light = 1 - light if invert else light
    _, height, width = image.shape
    longer = max(height, width)
    # The nearest of all; of two equally near the smaller image.
    box = min(range(1, longer + 1), key=lambda box: (abs(longer / side - box), -box))
    rows, columns = -(-height // box), -(-width // box)
    boxes = np.zeros((len(image), rows, columns))
    for y in range(rows):
        for x in range(columns):
            inside = light[:, y * box : (y + 1) * box, x * box : (x + 1) * box]
            boxes[:, y, x] = inside.sum((1, 2)) / box**2
    return boxes


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 61, 140), (3, 60, 61), (1, 89, 20), (1, 90, 7), (1, 7, 200), (1, 20, 29)]
)
def test_files_arrays_and_graphs_are_prepared_alike(
    shape: tuple[int, int, int], invert: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    wanted = by_boxes(image, invert, 60)
    prepare = Preparation(invert=invert, side=60)
    assert prepare.size(*shape[1:]) == wanted.shape[1:]
    given = prepare.picture(image)
    assert isinstance(given, np.ndarray)
    light = given / 255 if given.dtype == np.uint8 else given
    np.testing.assert_allclose(light, wanted, atol=1e-6)
    source = prepare.picture(ArraySource(np.moveaxis(image, 0, -1)))
    pixels = source.read(0, 0, max(wanted.shape), 1) if isinstance(source, Source) else source
    np.testing.assert_allclose(pixels[:, : wanted.shape[1], : wanted.shape[2]], wanted, atol=1e-6)
    in_graph = Preparation(True, invert, 60)(torch.from_numpy(image)[None])
    np.testing.assert_allclose(in_graph[0], wanted, atol=1e-6)


def test_a_file_that_stays_large_is_inverted_window_by_window(tmp_path: Path) -> None:
    """And what lies outside of it stays black."""
    pixels = np.random.default_rng(0).integers(0, 256, (2100, 2200), np.uint8)
    assert pixels.size > LARGE
    tifffile.imwrite(tmp_path / "large.tif", pixels, tile=(256, 256))
    view = Preparation(invert=True).picture(open_source(tmp_path / "large.tif", 1))
    assert isinstance(view, Source)
    assert (view.height, view.width) == pixels.shape
    frame = np.zeros((1, 40, 40))
    frame[0, 10:, :20] = 1 - pixels[:30, -20:] / 255
    with view:
        np.testing.assert_allclose(view.read(2180, -10, 40, 1), frame, atol=1e-6)
        boxes = frame.reshape(1, 10, 4, 10, 4).mean((2, 4))
        np.testing.assert_allclose(view.read(2180, -10, 10, 4), boxes, atol=1e-6)


def said_of(image: np.ndarray, *, about: dict[str, object] = DIGITS, **asked: bool) -> list[str]:
    said: list[str] = []
    door = Door(about, **asked, warn=said.append)
    door(image, "one.png")
    door(image, "two.png")
    return said


def test_what_is_unlike_training_is_said_once() -> None:
    white = np.full((1, 300, 400), 250, np.uint8)
    white[:, 100:200, 100:300] = 0
    assert said_of(white) == [
        "one.png has 300 x 400 pixels, and no image in training more than 60 x 60 (--fit scales "
        "it down); it is bright at its edge, and the images in training were dark (--invert makes "
        "dark light)."
    ]
    assert said_of(white, fit=True, invert=True) == []
    assert said_of(255 - white, fit=True) == []
    (said,) = said_of(255 - white, fit=True, invert=True)
    assert "leave out --invert" in said
    assert said_of(white[:, :180, :180], about={"image_size": [60, 60], "ground": None}) == []
    assert said_of(white, about={}) == []
    assert ["is dark" in line for line in said_of(255 - white, about={"ground": "bright"})] == [
        True
    ]
    assert said_of(np.zeros((1, 1, 1), np.uint8)) == []


def test_a_size_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(ValueError, match="--fit needs the size of the images that old was trained"):
        Door({}, fit=True, model="old")


def test_the_ground_is_that_of_training() -> None:
    assert ground_of(saved_as(CanvasRun())) == "dark"
    own = {"kind": "folder"}
    assert ground_of(own | {"model": {"pixel_mean": [0.9, 0.92, 0.95]}}) == "bright"
    assert ground_of(own | {"model": {"pixel_mean": [0.13]}}) == "dark"
    assert ground_of(own | {"model": {"pixel_mean": [0.48, 0.45, 0.41]}}) is None
    assert ground_of({"model": {"pixel_mean": []}}) is None
