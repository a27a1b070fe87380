from __future__ import annotations

import pytest
import torch

from foveal.geometry import pad_images
from foveal.model.sensor import GlimpseSensor
from foveal.scene.sparse import SparseScene


def scattered(generator: torch.Generator) -> tuple[SparseScene, list[torch.Tensor]]:
    """Three images of different sizes, pixel by pixel, and the same as sparse ones.

    Some pixels are named twice, some more often and beyond white, some not at all.
    """
    sizes = torch.tensor([[20, 31], [9, 40], [33, 7]])
    share = torch.rand(3, 60, 2, generator=generator)
    places = (share * sizes[:, None]).long()
    places[:, 30:50] = places[:, :1]
    light = torch.randint(1, 256, (3, 60), generator=generator)
    light[:, 50:] = 0
    images = []
    for spots, lights, (height, width) in zip(places, light, sizes.tolist(), strict=True):
        image = torch.zeros(1, height, width, dtype=torch.long)
        for (y, x), value in zip(spots.tolist(), lights.tolist(), strict=True):
            image[0, y, x] += value
        images.append(image.clamp(max=255) / 255)
    return SparseScene(places, light, sizes), images


def test_a_sparse_image_is_the_image_that_its_pixels_make(generator: torch.Generator) -> None:
    sparse, images = scattered(generator)
    assert len(sparse) == 3
    for row, image in enumerate(images):
        torch.testing.assert_close(sparse.image(row), image)


@pytest.mark.parametrize("factor", [2, 3])
def test_glimpses_and_their_slopes_are_those_of_the_whole_images(
    factor: int, generator: torch.Generator
) -> None:
    sparse, images = scattered(generator)
    padded = pad_images(images)
    sensor = GlimpseSensor(5, 3, factor)
    for reach in (1.0, 1.5):
        locations = (torch.rand(3, 2, generator=generator) * 2 - 1) * reach
        got, wanted = sensor(sparse, locations), sensor(padded, locations)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
        slopes = sensor.slopes(padded, locations)
        torch.testing.assert_close(sensor.slopes(sparse, locations), slopes, rtol=0, atol=1e-4)
