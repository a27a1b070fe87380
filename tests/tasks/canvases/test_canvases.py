from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from foveal.geometry import PaddedImages
from foveal.scene.sparse import SparseScene
from foveal.tasks import TASKS, CanvasTask, TaskConfig
from foveal.tasks.augmentation import WARP_GRID, AugmentationConfig, augment
from tests.conftest import idx_bytes


def uci(**values: object) -> CanvasTask:
    return CanvasTask(TaskConfig(digits="uci", **values))  # type: ignore[arg-type]


def test_centred_digits_are_the_digits(generator: torch.Generator) -> None:
    task = uci()
    images, labels = task.batch("train", torch.tensor([3, 0]), generator)
    assert images.shape == (2, 1, 28, 28)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    wanted = task._splits["train"]
    torch.testing.assert_close(images[0, 0], wanted.images[3].float() / 255)
    assert labels.tolist() == wanted.labels[[3, 0]].tolist()


def test_translated_canvases_hold_the_whole_digit_at_uniform_places(
    generator: torch.Generator,
) -> None:
    task = uci(canvas_size=33)
    digit = task._splits["train"].images[5].numpy()
    images, _ = task.batch("train", torch.full((3000,), 5), generator)
    canvases = (images[:, 0] * 255).round().byte().numpy()
    ys, xs = np.nonzero(digit)
    counts = np.zeros((6, 6))
    for canvas in canvases:
        rows, columns = np.nonzero(canvas)
        top, left = rows.min() - ys.min(), columns.min() - xs.min()
        wanted = np.zeros((33, 33), np.uint8)
        wanted[top : top + 28, left : left + 28] = digit
        assert np.array_equal(canvas, wanted)
        counts[top, left] += 1
    expected = 3000 / 36
    assert ((counts - expected) ** 2 / expected).sum() < 66.6  # chi-square, 35 degrees, p = 0.001


def test_clutter_is_added_cuts_of_digits_of_the_same_split(
    tmp_path: Path, generator: torch.Generator
) -> None:
    """On digits whose pixels tell where they were cut from: 1 + 64 n + 8 y + x, all below 128."""
    coded = (1 + np.arange(128, dtype=np.uint8)).reshape(2, 8, 8)
    pools = {"train": np.concatenate([coded] * 6), "t10k": coded // 2}
    for part, images in pools.items():
        for kind, array in (("images-idx3", images), ("labels-idx1", images[:, 0, 0] % 2)):
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(idx_bytes(array))
    config = TaskConfig(digits=str(tmp_path), canvas_size=20, num_clutter=1, clutter_size=3)
    task = CanvasTask(config)
    images, _ = task.batch("train", torch.zeros(400, dtype=torch.long), generator)
    donors, cuts, places = set(), set(), set()
    for canvas in (images[:, 0] * 255).round().int().numpy():
        rest = next(
            rest
            for y, x in itertools.product(range(13), repeat=2)
            if ((rest := without(canvas, coded[0], y, x)) >= 0).all() and (rest > 0).sum() == 9
        )
        ys, xs = np.nonzero(rest)
        piece = rest[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        donor, where = divmod(int(piece[0, 0]) - 1, 64)
        top, left = divmod(where, 8)
        assert np.array_equal(piece, coded[donor, top : top + 3, left : left + 3])
        donors.add(donor)
        cuts.add((top, left))
        places |= {("y", int(ys.min())), ("x", int(xs.min()))}
    assert donors == {0, 1}
    assert cuts == set(itertools.product(range(6), repeat=2))
    assert places == set(itertools.product("xy", range(18)))


def without(canvas: np.ndarray, digit: np.ndarray, y: int, x: int) -> np.ndarray:
    rest = canvas.copy()
    rest[y : y + 8, x : x + 8] -= digit
    return rest


def test_where_pieces_overlap_light_adds_up_to_white(generator: torch.Generator) -> None:
    task = uci(canvas_size=28, num_clutter=200, clutter_size=8)
    images, _ = task.batch("train", torch.arange(4), generator)
    assert images.max() == 1
    assert (images == 1).float().mean() > 0.3
    plain = task._splits["train"].images[:4].float() / 255
    assert (images[:, 0] >= plain).all(), "clutter never darkens"


def test_a_digit_over_clutter_keeps_its_square_free() -> None:
    chosen = torch.arange(4)
    under, over = (
        uci(canvas_size=28, num_clutter=9, composition=composition).batch(
            "train", chosen, torch.Generator().manual_seed(0)
        )[0]
        for composition in ("add", "over")
    )
    plain = uci()._splits["train"].images[:4].float() / 255
    assert torch.equal(over[:, 0], plain), "the digit fills this canvas"
    assert not torch.equal(under, over)
    large = uci(canvas_size=60, num_clutter=30, composition="over")
    images, _ = large.batch("train", chosen, torch.Generator().manual_seed(0))
    assert (images.flatten(1).sum(1) > plain.flatten(1).sum(1)).all(), "clutter lies around it"


def test_batches_come_from_the_generator() -> None:
    task = uci(canvas_size=60, num_clutter=4)
    chosen = torch.arange(20)
    first, second, other = (
        task.batch("train", chosen, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_fixed_draw_does_not_depend_on_the_batch_size() -> None:
    task = uci(canvas_size=60, num_clutter=4)
    whole = torch.cat([images for images, _ in task.fixed_batches("test")])
    parts = torch.cat([images for images, _ in task.fixed_batches("test", batch_size=37)])
    assert torch.equal(whole, parts)
    assert len(whole) == task.size("test")
    validation = torch.cat([images for images, _ in task.fixed_batches("validation")])
    assert not torch.equal(whole, validation)


def test_the_fixed_draw_is_the_same_on_every_machine() -> None:
    config = TaskConfig(digits="uci", canvas_size=100, num_clutter=8)
    images, labels = next(iter(CanvasTask(config).fixed_batches("test")))
    content = (images * 255).round().byte().numpy().tobytes() + labels.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "a6b6912103b55e0f"


@pytest.mark.skipif("FOVEAL_DATA" not in os.environ, reason="needs MNIST; FOVEAL_DATA is not set")
@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("translated-60", "3c7da23fe6aa5cff"),
        ("cluttered-60", "ac59518215ca4da7"),
        ("cluttered-100", "ee19dcfe97dfcac0"),
        ("cheung-1", "770cabc864496e4b"),
        ("cheung-2", "c99bb66c994eb9d5"),
        ("pairs", "58b655b538d04f17"),
        ("addition", "e46faf4df4985d37"),
        ("row-3", "43d1fef1bfa7244d"),
        ("digits-5", "cb79501ff0d13b26"),
    ],
)
def test_the_test_canvases_of_the_tables_are_these(task: str, wanted: str) -> None:
    content = hashlib.sha256()
    for images, labels in CanvasTask(TASKS[task]).fixed_batches("test"):
        content.update((images * 255).round().byte().numpy().tobytes())
        content.update(labels.numpy().tobytes())
    assert content.hexdigest()[:16] == wanted


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"canvas_size": 20}, "canvas_size must be at least a digit's 28 pixels; got 20"),
        (
            {"canvas_size": -1},
            "canvas_size must be .* from 0 to 131,072; got -1. 0 is the digit alone",
        ),
        ({"num_clutter": -2, "canvas_size": 60}, "num_clutter must be a whole number from 0"),
        (
            {"canvas_size": 60, "num_clutter": 1, "clutter_size": 29},
            "clutter_size must be at most a digit's 28 pixels",
        ),
        ({"num_clutter": 3}, "clutter needs a canvas"),
        (
            {"canvas_size": 60, "num_clutter": 100_000},
            "num_clutter must be at most 1,125, .* 60 x 60 pixels 20 times over; got 100,000",
        ),
        ({"composition": "max"}, "composition must be one of add, over; got 'max'"),
        ({"digit_scales": (1.0, 2.0)}, "digits of several sizes need a canvas"),
        ({"digit_scales": (3.0, 2.0), "canvas_size": 90}, "digit_scales must be the least and"),
        ({"digit_scales": (0.0, 2.0), "canvas_size": 90}, "digit_scales must be a number from"),
        (
            {"digit_scales": (1.0, 3.0), "canvas_size": 83},
            "canvas_size must be at least a digit's 84 pixels; got 83",
        ),
    ],
)
def test_impossible_canvases_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        uci(**values)


def test_the_papers_tasks() -> None:
    sizes = {name: (task.canvas_size, task.num_clutter) for name, task in TASKS.items()}
    assert sizes == {
        "mnist-28": (0, 0),
        "translated-60": (60, 0),
        "cluttered-60": (60, 4),
        "cluttered-100": (100, 8),
        "cheung-1": (100, 20),
        "cheung-2": (100, 20),
        "pairs": (100, 0),
        "addition": (100, 0),
        "row-3": (100, 8),
        "digits-5": (100, 0),
        "trail": (200, 0),
    }


def test_clutter_is_augmented_as_digits_are() -> None:
    """Mirrored, which no interpolation blurs: half of the pieces come from mirrored digits."""
    change = AugmentationConfig(flips="vertical")
    task = uci(canvas_size=60, num_clutter=4, augmentation=change)
    plain = {digit.numpy().tobytes() for digit in task._splits["train"].images}
    layout = task.layout("train", torch.arange(200), torch.Generator().manual_seed(1))
    cut = [layout.pool[donor] for donor in layout.donors.flatten()]
    assert all({d.numpy().tobytes(), d.flip(0).numpy().tobytes()} & plain for d in cut)
    mirrored = sum(digit.numpy().tobytes() not in plain for digit in cut)
    assert 250 < mirrored < 550, "of 800; few digits are their own mirror images"
    images, _ = task.render(layout)
    top, left = layout.pieces[0, 0].tolist()
    (down, across), donor = layout.cuts[0, 0].tolist(), layout.pool[layout.donors[0, 0]]
    seen = (255 * images[0, 0, top : top + 8, left : left + 8]).round()
    assert (seen >= donor[down : down + 8, across : across + 8]).all()
    fixed = next(task.fixed_layouts("validation", 100))
    assert fixed.pool is task._splits["validation"].images


def test_only_training_digits_are_augmented() -> None:
    plain = CanvasTask(TaskConfig(digits="uci"))
    moved = CanvasTask(TaskConfig(digits="uci", augmentation=AugmentationConfig(rotation=20)))
    first = torch.arange(9)
    for split, same in (("train", False), ("validation", True), ("test", True)):
        ours = moved.batch(split, first, torch.Generator().manual_seed(0))[0]
        theirs = plain.batch(split, first, torch.Generator().manual_seed(0))[0]
        assert torch.equal(ours, theirs) == same
    fixed = (next(task.fixed_batches("test"))[0] for task in (plain, moved))
    assert torch.equal(*fixed)


def test_an_image_stays_whole_at_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at a half, between mirrored and not."""
    images = torch.rand(2, 1, 6, 6)
    monkeypatch.setattr(
        "foveal.tasks.augmentation.random_rows", lambda _, shape, *__: torch.full(shape, 0.5)
    )
    padded = PaddedImages(images, torch.tensor([[6, 6]]).expand(2, 2))
    moved = augment(padded, AugmentationConfig(flips="both"), None).pixels
    torch.testing.assert_close(moved, images)


def test_a_warp_shows_what_lies_at_displaced_places() -> None:
    """Against scipy's interpolation, at places displaced by smooth noise of the same draws."""
    images = torch.rand(3, 1, 24, 30, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[24, 30]]).expand(3, 2)
    config = AugmentationConfig(warp=0.03)
    ours = augment(PaddedImages(images, sizes), config, torch.Generator().manual_seed(2)).pixels
    draws = torch.Generator().manual_seed(2)
    torch.rand(3, 6, generator=draws)  # of the moves that are not asked for
    noise = torch.randn(3, 2, WARP_GRID, WARP_GRID, generator=draws)
    smooth = torch.nn.functional.interpolate(noise, (24, 30), mode="bicubic", align_corners=True)
    assert smooth.std() == pytest.approx(0.75, abs=0.25), "about what was drawn, and smooth"
    rows, columns = np.meshgrid(np.arange(24), np.arange(30), indexing="ij")
    for image, (across, down), got in zip(images[:, 0], smooth, ours[:, 0], strict=True):
        places = [rows + 0.03 * 24 * down.numpy(), columns + 0.03 * 30 * across.numpy()]
        padded = np.pad(image.numpy(), 8)
        wanted = map_coordinates(padded, [place + 8 for place in places], order=1)
        np.testing.assert_allclose(got.numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("composition", ["add", "over"])
def test_large_canvases_are_sparse_and_the_same(composition: str) -> None:
    """Against `render_rows`, which makes the file of a canvas of any size."""
    task = uci(canvas_size=400, num_clutter=6, composition=composition)
    chosen = torch.arange(5)
    layout = task.layout("train", chosen, torch.Generator().manual_seed(2))
    # Clutter on the digit, and on clutter: what is clipped, or lies under it.
    layout.pieces[:, :4] = layout.places + torch.tensor([[[2, 3], [4, 5], [4, 5], [12, 9]]])
    canvases, labels = task.render(layout)
    assert isinstance(canvases, SparseScene)
    for row in range(5):
        wanted = task.render_rows(layout.part(slice(row, row + 1)), 0, 400)
        assert torch.equal((canvases.image(row)[0] * 255).round().byte(), wanted)
    assert torch.equal(labels, layout.labels)
    assert isinstance(next(task.fixed_batches("test"))[0], SparseScene)
    assert isinstance(uci(canvas_size=100).batch("train", chosen)[0], torch.Tensor)


def test_training_canvases_of_several_sizes_hold_their_digits_and_others_are_alike() -> None:
    task = uci(canvas_size=320, smallest_canvas=40, num_clutter=4)
    chosen = torch.arange(800)
    canvases, _ = task.batch("train", chosen, torch.Generator().manual_seed(0))
    assert isinstance(canvases, SparseScene)
    sides = canvases.sizes[:, 0]
    assert torch.equal(sides, canvases.sizes[:, 1])
    assert (int(sides.min()), int(sides.max())) == (40, 320)
    # As many in each octave: 40 to 80, 80 to 160, 160 to 320.
    octaves = torch.bucketize(sides.float(), torch.tensor([80.0, 160.0])).bincount()
    assert (octaves - 800 / 3).abs().max() < 4 * (800 * 2 / 9) ** 0.5
    layout = task.layout("train", chosen, torch.Generator().manual_seed(0))
    for corners, size in ((layout.places, 28), (layout.pieces, 8)):
        room = layout.sides[:, None, None] - size
        assert ((corners >= 0) & (corners <= room)).all()
    share = layout.places[:, 0] / (layout.sides[:, None] - 28 + 1e-6)
    assert share.mean().item() == pytest.approx(0.5, abs=0.05)
    for split in ("validation", "test"):
        assert (next(task.fixed_batches(split))[0].sizes == 320).all()
    with pytest.raises(ValueError, match="smallest_canvas must be 0 .* at most canvas_size, 60"):
        uci(canvas_size=60, smallest_canvas=61)
    with pytest.raises(ValueError, match="canvas_size must be at least a digit's 28 pixels; got 9"):
        uci(canvas_size=60, smallest_canvas=9)
