"""Clutter in any number and of other classes, and digits of several sizes (Cheung et al. 2016)."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.tasks import TASKS, CanvasTask, TaskConfig
from foveal.tasks.canvases.magnification import magnify
from tests.conftest import idx_bytes
from tests.tasks.canvases.test_canvases import uci


def test_as_many_pieces_from_none_to_the_most_are_equally_often() -> None:
    task = uci(canvas_size=60, num_clutter=4, vary_clutter=True)
    layout = task.layout("train", torch.arange(1000).repeat(4), torch.Generator().manual_seed(1))
    counts = (layout.donors >= 0).sum(1).bincount(minlength=5).numpy()
    expected = 4000 / 5
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # chi-square, 4 degrees, p = 0.001


def test_a_canvas_is_its_layout_by_loops() -> None:
    """A slow reference of both compositions: piece by piece, pixel by pixel."""
    options = {"vary_clutter": True, "clutter_from": "others", "digit_scales": (0.4, 2.0)}
    for composition in ("add", "over"):
        task = uci(canvas_size=60, num_clutter=9, composition=composition, **options)
        pool = task._splits["train"].images.int().numpy()
        layout = task.layout("train", torch.arange(40), torch.Generator().manual_seed(3))
        assert (layout.donors < 0).any()
        images, _ = task.render(layout)
        for row in range(40):
            wanted = np.zeros((60, 60), int)
            y, x = layout.places[row, 0].tolist()
            height, width = layout.extents[row, 0].tolist()
            digit = layout.digits[row, 0, :height, :width].numpy()
            assert y + height <= 60
            assert x + width <= 60
            assert layout.digits[row].sum() == digit.sum(), "beyond its extent all is black"
            for donor, cut, piece in zip(
                layout.donors[row], layout.cuts[row], layout.pieces[row], strict=True
            ):
                if donor >= 0:
                    (top, left), (down, across) = cut.tolist(), piece.tolist()
                    wanted[down : down + 8, across : across + 8] += pool[
                        donor, top : top + 8, left : left + 8
                    ]
            square = wanted[y : y + height, x : x + width]
            square[:] = digit + (square if composition == "add" else 0)
            got = (images[row, 0] * 255).round().int().numpy()
            np.testing.assert_array_equal(got, wanted.clip(max=255))
            band = task.render_rows(layout.part(slice(row, row + 1)), 11, 30)
            np.testing.assert_array_equal(band.numpy(), got[11:41])


def test_clutter_comes_from_every_digit_of_the_other_classes_alike(tmp_path: Path) -> None:
    """Of three classes with 2, 4 and 6 digits in an order of their own."""
    labels = np.array([2, 0, 1, 2, 2, 1, 0, 2, 1, 2, 2, 1], np.uint8)
    pools = {"train": np.concatenate([labels] * 6), "t10k": labels}
    for part, classes in pools.items():
        for kind, array in (
            ("images-idx3", np.ones((len(classes), 9, 9))),
            ("labels-idx1", classes),
        ):
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(idx_bytes(array.astype(np.uint8)))
    config = TaskConfig(
        digits=str(tmp_path), canvas_size=20, num_clutter=50, clutter_size=3, clutter_from="others"
    )
    task = CanvasTask(config)
    chosen = torch.arange(task.size("test")).repeat(40)
    layout = task.layout("test", chosen, torch.Generator().manual_seed(0))
    drawn = torch.from_numpy(labels).long()[layout.donors]
    assert (drawn != layout.labels[:, None]).all()
    for label in range(3):
        donors = layout.donors[layout.labels == label].flatten()
        others = np.flatnonzero(labels != label)
        counts = donors.bincount(minlength=12).numpy()[others]
        expected = len(donors) / len(others)
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert chi_square < 29.6, label  # 10 degrees at most, p = 0.001
    for part, classes in pools.items():
        same = idx_bytes(np.zeros_like(classes))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(same)
    with pytest.raises(ValueError, match="clutter of other classes needs 2 classes; .* has 1"):
        CanvasTask(config)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (13, 22)])
def test_digits_are_magnified_as_pillow_does(height: int, width: int) -> None:
    """Pillow rounds in between, across and then down: within 1 of 255."""
    digits = np.random.default_rng(0).integers(0, 256, (60, height, width), np.uint8)
    sizes = list(itertools.product((1, 5, 9, 27, 28, 29, 60, 84), (1, 9, 13, 28, 70, 84)))
    extents = torch.tensor(sizes)
    got = magnify(torch.from_numpy(digits[: len(sizes)]), extents, (84, 90)).numpy()
    for digit, (down, across), ours in zip(digits, sizes, got, strict=False):
        resized = Image.fromarray(digit).resize((across, down), Image.Resampling.BILINEAR)
        wanted = np.zeros((84, 90), int)
        wanted[:down, :across] = np.asarray(resized)
        assert np.abs(wanted - ours).max() <= 1, (down, across)


def test_magnifications_and_places_are_uniform() -> None:
    task = uci(canvas_size=100, digit_scales=(0.33, 3.0))
    layout = task.layout("train", torch.arange(1000).repeat(4), torch.Generator().manual_seed(1))
    sides = layout.extents[:, 0, 0]
    assert torch.equal(sides, layout.extents[:, 0, 1])
    assert (int(sides.min()), int(sides.max())) == (9, 84)
    edges = 28 * torch.linspace(0.33, 3.0, 6)[1:-1]
    counts = torch.bucketize(sides.float(), edges).bincount(minlength=5).float()
    assert (counts - 800).abs().max() < 4 * (4000 * 0.2 * 0.8) ** 0.5 + 4000 / 75
    room = (100 - sides)[:, None]
    places = layout.places[:, 0]
    assert ((places >= 0) & (places <= room)).all()
    assert (places == room).any()
    assert ((places + 0.5) / (room + 1)).mean().item() == pytest.approx(0.5, abs=0.02)


def test_sparse_canvases_are_the_same() -> None:
    options = {"vary_clutter": True, "digit_scales": (0.5, 2.0), "composition": "over"}
    task = uci(canvas_size=400, num_clutter=6, **options)
    layout = task.layout("train", torch.arange(5), torch.Generator().manual_seed(2))
    layout.pieces[:, :4] = layout.places + torch.tensor([[[2, 3], [4, 5], [4, 5], [12, 9]]])
    layout.places[0] = 400 - layout.extents[0]  # in the corner
    canvases, _ = task.render(layout)
    for row in range(5):
        wanted = task.render_rows(layout.part(slice(row, row + 1)), 0, 400)
        got = (canvases.image(row)[0] * 255).round().byte()  # type: ignore[union-attr]
        assert torch.equal(got, wanted)


def test_the_tasks_of_the_paper() -> None:
    first, second = TASKS["cheung-1"], TASKS["cheung-2"]
    assert (first.num_clutter, first.vary_clutter, first.clutter_from) == (20, True, "others")
    assert (first.digit_scales, second.digit_scales) == ((1.0, 1.0), (0.33, 3.0))
