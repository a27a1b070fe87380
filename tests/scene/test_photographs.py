"""Pictures that stay bytes, against the same pictures in one padded tensor of floats."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from foveal.geometry import pad_images
from foveal.model.attention import RecurrentAttention
from foveal.model.context import ConvContextSettings
from foveal.scene import as_scene
from foveal.scene.photographs import Photograph, PhotographScene
from foveal.tasks.augmentation import AugmentationConfig
from tests.conftest import TINY


@pytest.fixture
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    sizes = ((40, 61), (97, 33), (200, 150), (1, 1))
    return [random.integers(0, 256, (3, *size), dtype=np.uint8) for size in sizes]


def test_windows_and_thumbnails_are_those_of_floats(pictures: list[np.ndarray]) -> None:
    views = [pictures[0][:, :, ::-1], pictures[1][:, ::-1], pictures[2], pictures[3]]
    scene = PhotographScene([Photograph(view) for view in views], torch.device("cpu"))
    floats = as_scene(pad_images([torch.from_numpy(view.copy()) / 255 for view in views]))
    for side in (7, 16, 40, 300):
        torch.testing.assert_close(scene.thumbnail(side), floats.thumbnail(side))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        centers = torch.randint(-60, 260, (4, 2), generator=generator)
        for count, boxes in ((8, (1, 2, 4)), (5, (1,)), (7, (1, 3))):
            wanted = floats.patches(centers, count, boxes)
            torch.testing.assert_close(scene.patches(centers, count, boxes), wanted)
    torch.testing.assert_close(scene.whole(), floats.whole())
    torch.testing.assert_close(scene.only(1, 2).image(0), floats.image(1))


@pytest.mark.parametrize("size", [(194, 150), (300, 400), (97, 33)])
def test_a_shifted_view_is_seen_at_its_pictures_scale(size: tuple[int, int]) -> None:
    """Else images would be judged at another scale than a model was trained on."""
    picture = np.random.default_rng(1).integers(0, 256, (1, *size), dtype=np.uint8)
    change, side = AugmentationConfig(shift=0.1, flips="horizontal"), 96
    box = -(-max(size) // side)
    view, _, margins = change.cut(picture, (0.1, 0.8, 0.9, 0.2))
    assert -(-max(view.shape) // side) < box, "or nothing is tried here"
    scene = PhotographScene([Photograph(view, {}, margins)], torch.device("cpu"))
    made, height, width = scene.thumbnail(side)[0, 0], *view.shape[1:]
    for row, column in np.ndindex(side, side):
        inside = view[0, row * box : (row + 1) * box, column * box : (column + 1) * box]
        assert made[row, column] == pytest.approx(inside.sum() / 255 / box**2, abs=1e-5)
    assert scene.box(side).tolist() == [box]
    settings = ConvContextSettings(thumbnail_size=side)
    config = dataclasses.replace(TINY.with_parts(context="conv"), context_settings=settings)
    thumbnail = RecurrentAttention(config).thumbnail(scene)
    assert thumbnail is not None
    middles = (torch.arange(side) + 0.5) * box
    torch.testing.assert_close(thumbnail[0, 1, 0], 2 * middles / width - 1)
    torch.testing.assert_close(thumbnail[0, 2, :, 0], 2 * middles / height - 1)


def test_a_thumbnail_is_made_once(pictures: list[np.ndarray]) -> None:
    kept: dict[int, torch.Tensor] = {}
    first = Photograph(pictures[0], kept).thumbnail(7)
    assert Photograph(pictures[1], kept).thumbnail(7) is first


def test_a_cut_is_a_view_shifted_and_mirrored() -> None:
    picture = np.arange(2 * 10 * 20, dtype=np.uint8).reshape(2, 10, 20)
    change = AugmentationConfig(shift=0.5, flips="horizontal")
    for chance, rows, columns, across in (
        ((0.5, 0.5, 0.0, 0.9), slice(0, 10), slice(0, 20), False),
        ((0.0, 0.5, 0.0, 0.9), slice(5, 10), slice(0, 20), False),  # half cut from the top
        ((0.8, 0.3, 0.0, 0.1), slice(0, 7), slice(4, 20), True),
        ((0.99, 0.99, 0.9, 0.1), slice(0, 5), slice(0, 10), True),
    ):
        view, mirrored, margins = change.cut(picture, chance)
        wanted = picture[:, rows, columns]
        np.testing.assert_array_equal(view, wanted[:, :, ::-1] if across else wanted)
        assert mirrored == (False, across)
        assert view.base is not None  # nothing is copied
        # With its margins a view is the picture that a shift leaves, and black where it was not.
        whole = PhotographScene([Photograph(view, {}, margins)], torch.device("cpu")).whole()[0]
        moved, back = np.zeros_like(picture), [slice(None)]
        for kept, length in ((rows, 10), (columns, 20)):
            back.append(
                slice(length - kept.start) if kept.start else slice(length - kept.stop, None)
            )
        moved[tuple(back)] = wanted
        wanted = moved[:, :, ::-1] if across else moved
        np.testing.assert_array_equal((whole * 255).round().numpy(), wanted)
    one = AugmentationConfig(shift=1.0).cut(picture, (0.0, 1.0, 0.0, 0.0))[0]
    assert one.shape == (2, 1, 1)
    np.testing.assert_array_equal(one, picture[:, -1:, :1])
