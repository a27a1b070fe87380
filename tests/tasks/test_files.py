from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from foveal.tasks import CanvasTask, TaskConfig, pyramids
from foveal.tasks.files import write_dataset
from foveal.tasks.folder.listing import list_images


def task(**values: object) -> CanvasTask:
    return CanvasTask(
        TaskConfig(**{"digits": "uci", "canvas_size": 60, "num_clutter": 4, **values})
    )  # type: ignore[arg-type]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("composition", ["add", "over"])
def test_bands_of_rows_are_the_rows_of_the_canvas(composition: str) -> None:
    data = task(canvas_size=131, num_clutter=40, composition=composition)
    layout = data.layout("train", torch.tensor([3, 8]), torch.Generator().manual_seed(1))
    canvases, labels = data.render(layout)
    for i, step in itertools.product(range(2), (1, 7, 64, 131)):
        one = layout.part(slice(i, i + 1))
        bands = [data.render_rows(one, top, min(step, 131 - top)) for top in range(0, 131, step)]
        assert torch.equal(torch.cat(bands).float() / 255, canvases[i, 0])
        assert one.labels == labels[i]


@pytest.mark.parametrize("config", [{}, {"canvas_size": 0, "num_clutter": 0}, {"num_clutter": 0}])
@pytest.mark.parametrize("file_format", ["png", "tiff"])
def test_test_files_are_the_canvases_that_models_are_evaluated_on(
    tmp_path: Path, config: dict[str, object], file_format: str
) -> None:
    data = task(**config)
    write_dataset(data, {"test": 12}, tmp_path / "out", file_format=file_format)  # type: ignore[arg-type]
    images, labels = next(iter(data.fixed_batches("test")))
    rows, places = (table(tmp_path / "out" / name) for name in ("manifest.csv", "places.csv"))
    assert len(rows) == len(places) == 12
    for row, place, image, label in zip(rows, places, images, labels, strict=False):
        path = tmp_path / "out" / row["path"]
        assert row["split"] == path.parts[-3] == "test"
        assert row["label"] == path.parts[-2] == data.classes[label]
        pixels = np.asarray(Image.open(path)) if file_format == "png" else tifffile.imread(path)
        np.testing.assert_array_equal(pixels, (image[0] * 255).round().byte().numpy())
        assert row["path"] == place["path"]
        x, y, width, height = (int(place[name]) for name in ("x", "y", "width", "height"))
        if not data.config.num_clutter:  # the rest is black
            assert pixels[y : y + height, x : x + width].sum() == pixels.sum() > 0


def test_names_with_spaces_are_read_back_from_a_manifest_of_sequences(tmp_path: Path) -> None:
    classes = ("red fox", "wolf")
    for name, number in itertools.product(classes, range(10)):
        place = tmp_path / "digits" / name / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 90 + 8 * number).save(place)
    pair = {"num_digits": (2, 2), "answer": "sequence", "num_clutter": 0}
    data = task(digits=str(tmp_path / "digits"), **pair)
    write_dataset(data, {"train": 20}, tmp_path / "out")
    found = list_images(tmp_path / "out" / "manifest.csv", ", ")
    assert set(found.classes) == set(classes)
    assert {len(found.names(entry)) for entry in found.entries} == {2}


def test_training_files_depend_on_the_seed_and_a_smaller_number_is_a_start(tmp_path: Path) -> None:
    def contents(name: str, count: int, seed: int) -> list[bytes]:
        write_dataset(task(), {"train": count}, tmp_path / name, seed=seed)
        rows = table(tmp_path / name / "manifest.csv")
        return [(tmp_path / name / row["path"]).read_bytes() for row in rows]

    five = contents("five", 5, 0)
    assert contents("three", 3, 0) == five[:3]
    assert not set(contents("other", 5, 1)) & set(five)


def test_every_digit_comes_once_before_one_comes_again(tmp_path: Path) -> None:
    data = task(canvas_size=0, num_clutter=0)
    size = data.size("train")
    write_dataset(data, {"train": size + 3}, tmp_path / "out")
    rows = table(tmp_path / "out" / "manifest.csv")
    everything = data.layout("train", torch.arange(size)).labels.tolist()
    labels = sorted(data.classes[label] for label in everything)
    assert sorted(row["label"] for row in rows[:size]) == labels
    assert [row["label"] for row in rows[size:]] == [row["label"] for row in rows[:3]]


@pytest.mark.parametrize("size", [(256, 256), (257, 513), (700, 300), (40, 2000)])
def test_every_pixel_of_a_copy_is_the_mean_of_what_it_stands_for(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    step = pyramids.band_height(*size)
    bands = (image[top : top + step] for top in range(0, size[0], step))
    pyramids.write_pyramid(tmp_path / "image.tif", bands, *size)
    with tifffile.TiffFile(tmp_path / "image.tif") as file:
        levels = file.series[0].levels
        assert max(levels[-1].shape) <= 256
        assert all(max(level.shape) > 256 for level in levels[:-1])
        for number, level in enumerate(levels):
            f, copy = 2**number, level.asarray()
            assert copy.shape == (-(-size[0] // f), -(-size[1] // f))
            for y, x in np.ndindex(*copy.shape):
                if (y * 31 + x) % 97 == 0 or y == copy.shape[0] - 1:
                    mean = image[y * f : (y + 1) * f, x * f : (x + 1) * f].mean()
                    assert abs(copy[y, x] - mean) <= 0.5


def test_a_band_is_a_whole_number_of_pixels_of_every_copy() -> None:
    assert pyramids.band_height(100, 100) == pyramids.band_height(65_536, 10) == 256
    assert pyramids.band_height(131_072, 10) == 512
    assert pyramids.count_copies(65_536, 65_536) == 8
    assert pyramids.count_copies(256, 256) == 0


def test_large_canvases_are_drawn_one_by_one() -> None:
    """With much clutter, the places of a thousand canvases would fill the memory."""
    data = task(canvas_size=70_000, num_clutter=10_000)
    first, second = data.fixed_layouts("test", 2)
    assert len(first.digits) == len(second.digits) == 1
    assert not torch.equal(first.pieces, second.pieces)
    band = data.render_rows(first, 69_744, 256)
    assert band.shape == (256, 70_000)
    assert band.any()
    with pytest.raises(ValueError, match="70,000 pixels a side are too large to be made whole"):
        data.render(first)


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(task(), {"train": 3}, tmp_path / "out", written=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_filled_where_it_is(tmp_path: Path) -> None:
    """A link stays one, and a shell that stands there stands there still."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    before = (tmp_path / "disk").stat().st_ino
    write_dataset(task(), {"train": 3}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk").stat().st_ino == before
    names = {path.name for path in (tmp_path / "disk").iterdir()}
    assert names == {"manifest.csv", "places.csv", "train"}


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileExistsError, match=r"full must be a new or empty directory"):
        write_dataset(task(), {"train": 1}, tmp_path / "full")
    for counts, words in (
        ({"test": -1}, r"--test must be .*0 to 29\d; got -1"),
        ({"validation": 10**6}, "--validation must be .*0 to .*got 1000000"),
        ({"train": 0, "test": 0}, "nothing to write"),
    ):
        with pytest.raises(ValueError, match=words):
            write_dataset(task(), counts, tmp_path / "out")
    with pytest.raises(ValueError, match=r"a PNG has at most 16,384 .* Pass --format tiff"):
        write_dataset(task(canvas_size=20_000), {"test": 1}, tmp_path / "out")
    write_dataset(task(), {"train": 1}, tmp_path / "empty")
    assert {path.name for path in tmp_path.iterdir()} == {"full", "empty"}
