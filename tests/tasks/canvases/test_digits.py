from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.tasks import TASKS
from foveal.tasks.canvases import digits
from foveal.tasks.canvases.canvases import CanvasTask
from foveal.tasks.canvases.digits import IDX_FILES, load_digits
from foveal.tasks.haystacks.config import HaystackConfig
from foveal.tasks.haystacks.drawing import draw
from foveal.tasks.haystacks.task import HaystackTask
from tests.conftest import idx_bytes


@pytest.fixture
def idx_directory(tmp_path: Path) -> Path:
    """Twelve training images and five test images of 6 x 5, each filled with its number."""
    directory = tmp_path / "idx"
    directory.mkdir()
    for part, count in (("train", 12), ("test", 5)):
        numbers = np.arange(count, dtype=np.uint8)
        images = np.broadcast_to(numbers[:, None, None], (count, 6, 5))
        (directory / IDX_FILES[f"{part} images"]).write_bytes(idx_bytes(images))
        (directory / f"{IDX_FILES[f'{part} labels']}.gz").write_bytes(
            gzip.compress(idx_bytes(numbers % 4))
        )
    return directory


def test_idx_files_are_read_and_split_in_order(idx_directory: Path) -> None:
    """Where the end of the file has its share of each class, as in MNIST's."""
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1], np.uint8)
    (idx_directory / f"{IDX_FILES['train labels']}.gz").write_bytes(
        gzip.compress(idx_bytes(labels))
    )
    source = load_digits(str(idx_directory))
    assert source.train.images[:, 0, 0].tolist() == list(range(10))
    assert source.validation.images[:, 5, 4].tolist() == [10, 11]
    assert source.test.labels.tolist() == [0, 1, 2, 3, 0]
    assert source.classes == ("0", "1", "2", "3")
    assert source.train.images.shape[1:] == (6, 5)


@pytest.mark.parametrize(
    "order",
    [
        np.sort,
        lambda labels: np.sort(labels)[::-1],
        lambda labels: np.concatenate([np.sort(labels[:60]), np.sort(labels[60:])]),
        lambda labels: np.concatenate([labels[labels != 2], labels[labels == 2]]),
        lambda labels: np.append(np.arange(118) % 3, [3, 3]).astype(labels.dtype),
    ],
    ids=["sorted", "backwards", "in two runs", "one class last", "a rare class last"],
)
def test_idx_files_in_any_order_give_every_class_to_every_split(
    order: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    labels = order(np.random.default_rng(0).integers(0, 4, 120).astype(np.uint8))
    numbers = np.arange(120, dtype=np.uint8)
    for part in ("train", "test"):
        images = np.broadcast_to(numbers[:, None, None], (120, 2, 2))
        (tmp_path / IDX_FILES[f"{part} images"]).write_bytes(idx_bytes(images))
        (tmp_path / IDX_FILES[f"{part} labels"]).write_bytes(idx_bytes(labels))
    source = load_digits(str(tmp_path))
    train, held = source.train, source.validation
    whole = np.bincount(labels)
    assert np.bincount(held.labels).tolist() == [max(1, count // 6) for count in whole]
    assert sorted([*train.images[:, 0, 0], *held.images[:, 0, 0]]) == numbers.tolist()
    for part in (train, held):
        assert np.array_equal(labels[part.images[:, 0, 0]], part.labels), "labels stay with images"


def write_letters(directory: Path, labels: Sequence[int], size: int = 28) -> Path:
    """IDX files of training and test images that are as light as their label times 8."""
    directory.mkdir()
    for part in ("train", "test"):
        values = np.tile(np.array(labels, dtype=np.uint8), 12 if part == "train" else 4)
        images = np.broadcast_to(8 * values[:, None, None], (len(values), size, size))
        (directory / IDX_FILES[f"{part} images"]).write_bytes(idx_bytes(images))
        (directory / IDX_FILES[f"{part} labels"]).write_bytes(idx_bytes(values))
    return directory


def test_labels_with_a_gap_are_as_many_classes_as_there_are(tmp_path: Path) -> None:
    """As of EMNIST's letters, 1 to 26: what is drawn by class shows what its label says."""
    letters = str(write_letters(tmp_path / "letters", range(1, 12)))
    source = load_digits(letters)
    assert source.classes == tuple(str(label) for label in range(1, 12))
    assert (source.test.images[:, 0, 0] == 8 * (source.test.labels + 1)).all()
    part, config = source.test, HaystackConfig(canvas_size=300, num_clutter=0, digits=letters)
    drawn = draw(config, part, -1, "test", 200)
    shown = part.labels[drawn.pieces[drawn.sought].reshape(200, 5)]
    majority = [np.bincount(row).argmax() for row in shown]
    assert drawn.labels.tolist() == majority
    task = CanvasTask(dataclasses.replace(TASKS["trail"], digits=letters))
    images, _ = task.batch("train", torch.arange(4), torch.Generator().manual_seed(0))
    assert len(images) == 4


def test_a_class_that_a_split_lacks_is_refused_where_digits_are_drawn_by_class(
    tmp_path: Path,
) -> None:
    directory = write_letters(tmp_path / "letters", range(10))
    labels = np.arange(40, dtype=np.uint8) % 9
    (directory / IDX_FILES["test labels"]).write_bytes(idx_bytes(labels))
    for make in (
        lambda: HaystackTask(HaystackConfig(digits=str(directory))),
        lambda: CanvasTask(dataclasses.replace(TASKS["trail"], digits=str(directory))),
    ):
        with pytest.raises(ValueError, match=r"every class in each split; the test .* have no '9'"):
            make()


def test_uci_needs_no_file_and_is_always_split_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOVEAL_DATA", raising=False)
    source = load_digits("uci")
    assert source.train.images.shape == (1199, 28, 28)
    assert len(source.validation.labels) == len(source.test.labels) == 299
    assert source.train.images.max() > 200, "digits use the range of a byte"
    again = load_digits("uci")
    assert np.array_equal(again.test.images, source.test.images)
    parts = (source.train, source.validation, source.test)
    seen = {image.tobytes() for part in parts for image in part.images}
    assert len(seen) > 1780, "no image is in two splits, but for a few equal scans"


def test_real_mnist_if_it_is_here() -> None:
    try:
        directory = digits._find_mnist()
    except OSError:
        pytest.skip("no MNIST here, and no network to fetch it")
    source = load_digits("mnist")
    assert [len(part.labels) for part in (source.train, source.validation, source.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    # The first labels of both files, as published with the data.
    assert source.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert source.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert directory.is_dir()


def test_an_image_folder_is_read_by_class(tmp_path: Path) -> None:
    for name, shade in (("cat", 10), ("dog", 200)):
        (tmp_path / name).mkdir()
        for i in range(9):
            Image.new("L", (8, 7), shade + i).save(tmp_path / name / f"{i}.png")
    source = load_digits(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.train.images.shape == (10, 7, 8)
    assert source.validation.labels.tolist() == source.test.labels.tolist() == [0, 0, 1, 1]
    for part in (source.train, source.validation, source.test):
        assert ((part.images[:, 0, 0] >= 200) == (part.labels == 1)).all()


def test_a_folder_of_digits_is_found_and_read_as_any_images(tmp_path: Path) -> None:
    """16 bits, transparency and orientation; folders that are splits; nothing hidden."""
    shades = {"train": (1000, 30_000), "val": (2000, 40_000), "test_set": (3000, 50_000)}
    for folder, pair in shades.items():
        for name, shade in zip(("ant", "bee"), pair, strict=True):
            place = tmp_path / folder / name / ".cache"
            place.mkdir(parents=True)
            Image.new("L", (9, 9)).save(place / "0.png")
            Image.fromarray(np.full((3, 4), shade, np.uint16)).save(place.parent / "deep.png")
    turned = Image.new("L", (3, 4), 7)
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "train" / "ant" / "turned.png", exif=turned.getexif())
    clear = Image.new("LA", (4, 3), (255, 0))
    clear.save(tmp_path / "train" / "bee" / "transparent.JFIF", "PNG")
    source = load_digits(str(tmp_path))
    assert source.classes == ("ant", "bee")
    assert source.train.labels.tolist() == [0, 0, 1, 1]
    assert source.train.images.max((1, 2)).tolist() == [4, 7, 117, 0]
    assert source.train.images.min((1, 2)).tolist() == [4, 7, 117, 0]
    assert source.validation.images[:, 0, 0].tolist() == [8, 156]
    assert source.test.images[:, 0, 0].tolist() == [12, 195]


def test_missing_and_foreign_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'mnist', 'uci' or a directory; got '/nowhere'"):
        load_digits("/nowhere")
    file = tmp_path / "digits.txt"
    file.write_text("hello")
    with pytest.raises(NotADirectoryError, match="Pass the directory that holds it"):
        load_digits(str(file))
    with pytest.raises(ValueError, match="holds no images.* Or name a directory of IDX files"):
        load_digits(str(tmp_path))


def test_damaged_idx_files_are_refused(idx_directory: Path) -> None:
    images = idx_directory / IDX_FILES["train images"]
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="must hold 360 bytes .* got 359. It is truncated"):
        load_digits(str(idx_directory))
    images.write_bytes(whole[:10])
    with pytest.raises(ValueError, match="truncated inside its header"):
        load_digits(str(idx_directory))
    images.write_bytes(b"PK\x03\x04" + whole)
    with pytest.raises(ValueError, match="must start with 00 00 08, got 50 4b 03"):
        load_digits(str(idx_directory))
    images.write_bytes(whole)
    labels = idx_directory / f"{IDX_FILES['train labels']}.gz"
    packed = labels.read_bytes()
    labels.write_bytes(packed[:-9])
    with pytest.raises(ValueError, match="is not a whole gzip file"):
        load_digits(str(idx_directory))
    labels.unlink()
    with pytest.raises(FileNotFoundError, match="All four IDX files are needed"):
        load_digits(str(idx_directory))


def test_labels_and_images_must_match(idx_directory: Path) -> None:
    labels = idx_directory / f"{IDX_FILES['train labels']}.gz"
    labels.write_bytes(gzip.compress(idx_bytes(np.zeros(11, np.uint8))))
    with pytest.raises(ValueError, match=r"got \(12, 6, 5\) and \(11,\)"):
        load_digits(str(idx_directory))


def test_listed_checksums_are_checked(idx_directory: Path) -> None:
    name = IDX_FILES["test images"]
    right = hashlib.sha256((idx_directory / name).read_bytes()).hexdigest()
    (idx_directory / "SHA256SUMS").write_text(f"{right}  {name}\n")
    load_digits(str(idx_directory))
    (idx_directory / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(ValueError, match=f"must be {'0' * 64}; got {right}"):
        load_digits(str(idx_directory))


def test_mnist_with_a_wrong_checksum_is_refused(
    idx_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    idx_directory.rename(tmp_path / "data" / "mnist")
    monkeypatch.setenv("FOVEAL_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="the SHA-256 of the decompressed file must be"):
        load_digits("mnist")


class Mirror:
    """Stands in for the network: serves some files, refuses the others, counts the calls."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.calls = files, 0

    def __call__(self, url: str, **_: float) -> io.BytesIO:
        self.calls += 1
        name = url.rsplit("/", 1)[1]
        if name not in self.files:
            raise OSError("no route to host")
        return io.BytesIO(self.files[name])


def test_downloads_are_checked_and_kept(
    idx_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contents = {}
    for name in IDX_FILES.values():
        path = digits._idx_path(idx_directory, name)
        assert path is not None
        content = path.read_bytes()
        contents[name] = gzip.decompress(content) if path.suffix == ".gz" else content
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(digits, "MNIST_SHA256", sums)
    monkeypatch.delenv("FOVEAL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mirror = Mirror({f"{name}.gz": gzip.compress(content) for name, content in contents.items()})
    monkeypatch.setattr(urllib.request, "urlopen", mirror)
    assert len(load_digits("mnist").test.labels) == 5
    assert mirror.calls == 4
    load_digits("mnist")
    assert mirror.calls == 4, "the second time comes from the cache"


@pytest.mark.parametrize(
    "content",
    [None, b"<html>blocked</html>", gzip.compress(b"other")],
    ids=["no answer", "a page", "another file"],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing(
    content: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FOVEAL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = [] if content is None else [f"{name}.gz" for name in IDX_FILES.values()]
    mirror = Mirror(dict.fromkeys(names, content or b""))
    monkeypatch.setattr(urllib.request, "urlopen", mirror)
    with pytest.raises(OSError, match="Put the four files in .* or use --digits uci"):
        load_digits("mnist")
    assert not list((tmp_path).rglob("*idx*"))
