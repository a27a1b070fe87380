"""Every kind of scene answers alike, against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

from foveal.geometry import PaddedImages, pad_images
from foveal.scene import Scene, as_scene, scene_of
from foveal.scene.files import ArraySource, open_source
from foveal.scene.sparse import SparseScene

SIZES = ((20, 31), (9, 40), (33, 7))


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(0, 256, (1, h, w), generator=generator) / 255 for h, w in SIZES]


def sparse(pictures: list[Tensor]) -> SparseScene:
    most = max(picture[0].numel() for picture in pictures)
    places = torch.zeros(len(pictures), most, 2, dtype=torch.long)
    light = torch.zeros(len(pictures), most, dtype=torch.long)
    for row, picture in enumerate(pictures):
        spots = torch.ones_like(picture[0]).nonzero()
        places[row, : len(spots)] = spots
        light[row, : len(spots)] = (picture[0].flatten() * 255).round().long()
    return SparseScene(places, light, torch.tensor([picture.shape[1:] for picture in pictures]))


def scenes() -> list[Scene]:
    pictures = images()
    padded = pad_images(pictures)
    sources = [ArraySource(picture[0].numpy()) for picture in pictures]
    return [
        as_scene(padded),
        as_scene(padded).prepared((1, 2, 4)),
        as_scene(sources),
        sparse(pictures),
    ]


def averaged(picture: np.ndarray, side: int) -> np.ndarray:
    """The thumbnail by loops: each cell the mean of a box of pixels, 0 where there are none."""
    box = int(np.ceil(max(picture.shape) / side))
    cells = np.zeros((side, side))
    for (row, column), light in np.ndenumerate(picture):
        cells[row // box, column // box] += light / box**2
    return cells


@pytest.mark.parametrize("side", [1, 5, 16, 64])
def test_thumbnails_are_exact_averages_of_the_whole(side: int) -> None:
    wanted = np.stack([averaged(picture[0].numpy(), side) for picture in images()])[:, None]
    for scene in scenes():
        np.testing.assert_allclose(scene.thumbnail(side).numpy(), wanted, atol=1e-5)


def test_of_some_of_the_images_all_is_as_of_all() -> None:
    """Twice in turn, as images leave a batch."""
    centers, chosen = torch.tensor([[5, 7], [-3, 4], [6, 40]]), torch.tensor([2, 0, 1])
    for scene in scenes():
        some = scene.rows([1, 2]).rows([1])
        assert some.sizes.tolist() == [list(SIZES[2])]
        of_all = scene.patches(centers, 6, (1, 2, 4))
        torch.testing.assert_close(some.patches(centers[2:], 6, (1, 2, 4)), of_all[2:])
        two, kept = scene.rows([2, 0]), [2, 0]
        for which in (None, chosen):
            whole = scene.patches(centers, 6, (1, 2, 4), which)
            part = None if which is None else which[kept]
            torch.testing.assert_close(two.patches(centers[kept], 6, (1, 2, 4), part), whole[kept])
        torch.testing.assert_close(two.thumbnail(5), scene.thumbnail(5)[kept])
        torch.testing.assert_close(two.image(1), scene.image(0))
        torch.testing.assert_close(some.only(0, 2).image(1), scene.image(2))


def test_every_kind_has_the_same_images_sizes_and_patches() -> None:
    first, *others = scenes()
    centers = torch.tensor([[5, 7], [-3, 4], [6, 40]])
    wanted = first.patches(centers, 6, (1, 2, 4))
    for scene in others:
        assert len(scene) == 3
        assert scene.sizes.tolist() == [list(size) for size in SIZES]
        torch.testing.assert_close(scene.patches(centers, 6, (1, 2, 4)), wanted)
    chosen = torch.tensor([2, 0, 1])
    for scene in scenes():
        one = scene.patches(centers, 6, (1, 2, 4), chosen)
        torch.testing.assert_close(one[:, 0], wanted[torch.arange(3), chosen])
    for scene in scenes():
        for row, picture in enumerate(images()):
            torch.testing.assert_close(scene.image(row), picture)
            assert len(scene.only(row, 4)) == 4
            torch.testing.assert_close(scene.only(row, 4).image(3), picture)


def test_a_files_thumbnail_comes_from_its_smaller_copies(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole image, 1,024 pixels a side, is never read for one of 16."""
    whole = np.random.default_rng(0).integers(0, 256, (1024, 1024), np.uint8)
    path = f"{tmp_path}/pyramid.tif"
    with tifffile.TiffWriter(path) as file:
        options = {"tile": (64, 64), "photometric": "minisblack", "metadata": None}
        file.write(whole, subifds=3, **options)
        for box in (2, 4, 8):
            smaller = whole.reshape(1024 // box, box, 1024 // box, box).mean((1, 3))
            file.write(smaller.round().astype(np.uint8), subfiletype=1, **options)
    with open_source(path) as source:
        read: list[int] = []
        pixels = source._pixels

        def noted(number: int, *place: int) -> np.ndarray:
            read.append(number)
            return pixels(number, *place)

        monkeypatch.setattr(source, "_pixels", noted)
        got = as_scene([source]).thumbnail(16)[0, 0].numpy()
    assert set(read) == {3}, "an eighth of the side"
    np.testing.assert_allclose(got, averaged(whole / 255, 16), atol=0.5 / 255)


def test_what_is_no_scene_says_what_was_wanted() -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\); got \(3, 4\)"):
        as_scene(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\); got \(1, 1, 3, 4\)"):
        scene_of(torch.zeros(1, 1, 3, 4))
    with pytest.raises(ValueError, match="takes none of 3 x 4 pixels"):
        as_scene([ArraySource(np.zeros((3, 4), np.uint8))]).whole()
    with pytest.raises(ValueError, match=r"sizes must be \(1, 2\) int"):
        as_scene(PaddedImages(torch.zeros(1, 1, 3, 4), torch.zeros(2)))
