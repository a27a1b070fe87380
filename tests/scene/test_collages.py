from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from foveal.scene.collages import Collage
from foveal.scene.dense import DenseScene
from foveal.scene.memory import Budget, Kept
from foveal.scene.photographs import PhotographScene


def collage(side: int, added: bool, seed: int = 0) -> tuple[Collage, np.ndarray]:
    """A crowded picture, and the same painted pixel by pixel."""
    random = np.random.default_rng(seed)
    bank = random.integers(0, 256, (7, 5, 4), np.uint8)
    pieces = random.integers(0, 7, 30).astype(np.int32)
    places = np.stack([random.integers(0, side - s + 1, 30) for s in (5, 4)], 1).astype(np.int16)
    places[0], places[1] = (0, 0), (side - 5, side - 4)
    wanted = np.zeros((side, side), int)
    for piece, (y, x) in zip(pieces, places, strict=True):
        for i, j in itertools.product(range(5), range(4)):
            light = bank[piece, i, j]
            wanted[y + i, x + j] = min(255, wanted[y + i, x + j] + light) if added else light
    return Collage(bank, pieces, places, side, added), wanted


def test_thumbnails_are_kept_as_long_as_there_is_room() -> None:
    """For those of two pictures; that of a third is made each time, and is the same."""
    budget = Budget(2 * 5 * 5 * 2 + 10)  # sums of 16 bits, in boxes of 6 x 6
    pictures = [
        dataclasses.replace(collage(29, True, seed)[0], sums=Kept(budget)) for seed in range(3)
    ]
    for picture, other in zip(
        pictures, [collage(29, True, seed)[0] for seed in range(3)], strict=True
    ):
        for _ in range(2):
            assert torch.equal(picture.thumbnail(5), other.thumbnail(5))
    assert [len(picture.sums) for picture in pictures] == [1, 1, 0]
    assert budget.left == 10


@pytest.mark.parametrize("added", [False, True])
def test_it_is_painted_piece_by_piece(added: bool) -> None:
    picture, wanted = collage(29, added)
    assert picture.shape == (1, 29, 29)
    assert (wanted == 255).sum() > 3 or not added
    np.testing.assert_array_equal(picture.read(slice(0, 29), slice(0, 29))[0], wanted)
    for top, left in itertools.product((0, 3, 20), (0, 7, 24)):
        window = picture.read(slice(top, top + 9), slice(left, left + 5))[0]
        np.testing.assert_array_equal(window, wanted[top : top + 9, left : left + 5])


@pytest.mark.parametrize("added", [False, True])
def test_looks_and_thumbnails_are_those_of_the_same_picture_in_memory(added: bool) -> None:
    pictures, painted = zip(*(collage(61, added, seed) for seed in range(3)), strict=True)
    scene = PhotographScene(pictures, torch.device("cpu"))
    dense = DenseScene(torch.from_numpy(np.stack(painted))[:, None].float() / 255)
    for center, boxes in itertools.product(((5, 60), (30, 30), (-4, 2)), ([1], [1, 2, 4])):
        centers = torch.tensor(center).expand(3, 2)
        torch.testing.assert_close(
            scene.patches(centers, 6, boxes), dense.patches(centers, 6, boxes)
        )
    for side in (61, 20, 16, 3):  # 20: boxes of 4, of which the last reach beyond
        torch.testing.assert_close(scene.thumbnail(side), dense.thumbnail(side))
        assert torch.equal(scene.thumbnail(side), scene.thumbnail(side)), "kept as it was made"
    torch.testing.assert_close(scene.whole(), dense.whole())


def test_a_large_box_does_not_overflow() -> None:
    bank = np.full((1, 40, 40), 255, np.uint8)
    picture = Collage(bank, np.zeros(1, np.int32), np.zeros((1, 2), np.int16), 40, False)
    assert picture.thumbnail(1).item() == 1
    assert functional.avg_pool2d(picture.thumbnail(2), 2).item() == 1
