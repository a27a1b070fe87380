"""Pictures that stay bytes, against the same pictures in one padded tensor of floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foveal.geometry import pad_images
from foveal.scene import as_scene, photographs
from foveal.scene.photographs import Photograph, PhotographScene


@pytest.fixture
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    sizes = ((40, 61), (97, 33), (200, 150), (1, 1))
    return [random.integers(0, 256, (3, *size), dtype=np.uint8) for size in sizes]


def test_windows_and_thumbnails_are_those_of_floats(
    pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "BAND", 1000)  # several bands a picture
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


def test_a_thumbnail_is_made_once(pictures: list[np.ndarray]) -> None:
    kept: dict[int, torch.Tensor] = {}
    first = Photograph(pictures[0], kept).thumbnail(7)
    assert Photograph(pictures[1], kept).thumbnail(7) is first
