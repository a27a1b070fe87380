"""Digit sources: real MNIST, scikit-learn's small digits, or one's own files.

A source is named by a word (``mnist``, ``uci``) or by the path of a directory: either the four
IDX files of MNIST's format (plain or gzipped), or an image folder, found and read as
`foveal.tasks.folder` does.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.request
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.io.files import write_file
from foveal.tasks.folder.listing import list_images
from foveal.tasks.folder.pictures import read_picture
from foveal.tasks.folder.splits import split_images
from foveal.tasks.task import SPLITS

BUILT_IN = ("mnist", "uci")
IDX_FILES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
# Of the decompressed files, so that any packing of the same data is accepted.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
DOWNLOAD_TIMEOUT = 30  # seconds without an answer
VALIDATION_SHARE = 6  # one in six of the training file, as MNIST's 10,000 of 60,000
SPLIT_SEED = 20140624  # of what is split by a draw
MOST_CLASSES = 256  # labels are bytes

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledImages:
    """``images (N, H, W)`` and ``labels (N,)``, both uint8."""

    images: Bytes
    labels: Bytes


@dataclass(frozen=True)
class Digits:
    """A source of digits, split once and for all; a recipe is chosen on validation."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]  # their names, by label
    checksum: str = ""  # SHA-256 of all of it, where it is what a directory of the user's holds

    def split(self, name: str) -> LabelledImages:
        """The split of one of the names in `SPLITS`; `ValueError` if it is none of them."""
        if name not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {name!r}.")
        part: LabelledImages = getattr(self, name)
        return part

    def check_every_class(self, what: str, source: str) -> None:
        """Raise `ValueError` if a split has no image of a class; ``what`` draws them by class."""
        for name in SPLITS:
            missing = set(range(len(self.classes))) - set(self.split(name).labels.tolist())
            if missing:
                raise ValueError(
                    f"{what} needs digits of every class in each split; the {name} digits of "
                    f"{source} have no {self.classes[min(missing)]!r}. Pass other --digits."
                )


@dataclass(frozen=True)
class ByClass:
    """Where the images of each class are among those of some labels."""

    order: Tensor  # (N,) int64, the images by class
    counts: Tensor  # (K,) int64, images of each class
    before: Tensor  # (K,) int64, images of the classes before it

    @classmethod
    def of(cls, labels: Tensor, classes: int) -> ByClass:
        """Of ``(N,)`` int64 labels below ``classes``, on their device, which nothing waits for."""
        # So not by `bincount`.
        counts = (labels[:, None] == torch.arange(classes, device=labels.device)).sum(0)
        return cls(labels.argsort(stable=True), counts, counts.cumsum(0) - counts)

    def within(self, classes: Tensor, numbers: Tensor) -> Tensor:
        """The images of such numbers, each below `counts`, within their classes."""
        return self.order[self.before[classes] + numbers]

    def beside(self, classes: Tensor, numbers: Tensor) -> Tensor:
        """The images of such numbers, below N less `counts`, among those of all other classes."""
        # What lies behind its own moves up.
        return self.order[numbers + (numbers >= self.before[classes]) * self.counts[classes]]


def load_digits(source: str) -> Digits:
    """Load and split "mnist", "uci", or what is in a directory.

    "mnist" comes from ``$FOVEAL_DATA/mnist``, the cache, or is downloaded: 50,000 training, 10,000
    validation and 10,000 test images of 28 x 28. "uci" is scikit-learn's 1,797 digits of 8 x 8,
    scaled to 28 x 28; it needs no file. Raises `ValueError` if a file is not what its name says, or
    its SHA-256 is wrong, and `OSError` if a file or the network is missing: `FileNotFoundError`,
    `NotADirectoryError`.
    """
    if source == "mnist":
        return _from_idx(_find_mnist(), MNIST_SHA256)
    if source == "uci":
        return _from_uci()
    directory = Path(source).expanduser()
    if not directory.exists():
        raise FileNotFoundError(
            f"digits must be 'mnist', 'uci' or a directory; got {source!r}, which does not exist."
        )
    if not directory.is_dir():
        raise NotADirectoryError(
            f"digits must be 'mnist', 'uci' or a directory; got the file {source!r}. "
            "Pass the directory that holds it."
        )
    if any(_idx_path(directory, name) for name in IDX_FILES.values()):
        found = _from_idx(directory, _listed_checksums(directory))
    else:
        found = _from_folder(directory)
    digest = hashlib.sha256("\n".join(found.classes).encode())
    for split in SPLITS:
        part = found.split(split)
        digest.update(np.ascontiguousarray(part.images).tobytes() + part.labels.tobytes())
    return replace(found, checksum=digest.hexdigest())


def cache_directory() -> Path:
    """Where downloads are kept: ``$XDG_CACHE_HOME/foveal`` or ``~/.cache/foveal``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foveal"


def _find_mnist() -> Path:
    """A directory with the four files, downloaded where no file is at hand."""
    named = os.environ.get("FOVEAL_DATA")
    if named:
        directory = Path(named).expanduser() / "mnist"
        if all(_idx_path(directory, name) for name in IDX_FILES.values()):
            return directory
    cache = cache_directory() / "mnist"
    for name in IDX_FILES.values():
        if not _idx_path(cache, name):
            _download(name, cache)
    return cache


def _download(name: str, cache: Path) -> None:
    problems = []
    for mirror in MNIST_MIRRORS:
        url = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as answer:
                packed = answer.read()
            _verify(gzip.decompress(packed), MNIST_SHA256[name], url)
        except (OSError, EOFError, zlib.error, http.client.HTTPException, ValueError) as problem:
            problems.append(f"{url}: {problem}")
            continue
        write_file(cache / f"{name}.gz", packed)
        return
    raise OSError(
        f"MNIST's {name}.gz could not be downloaded ({'; '.join(problems)}). Put the four files "
        "in $FOVEAL_DATA/mnist, or use --digits uci, which needs no download."
    )


def _from_idx(directory: Path, checksums: dict[str, str]) -> Digits:
    arrays = {key: _read_idx(directory, name, checksums) for key, name in IDX_FILES.items()}
    parts = {}
    for part in ("train", "test"):
        images, labels = arrays[f"{part} images"], arrays[f"{part} labels"]
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(images):
            raise ValueError(
                f"{directory}: the {part} files must hold N images (N, H, W) and N labels; got "
                f"{images.shape} and {labels.shape}. Fetch the files again."
            )
        parts[part] = LabelledImages(images, labels)
    if parts["train"].images.shape[1:] != parts["test"].images.shape[1:]:
        raise ValueError(
            f"{directory}: training and test images must have the same size; got "
            f"{parts['train'].images.shape[1:]} and {parts['test'].images.shape[1:]}."
        )
    # Of EMNIST's letters, 1 to 26, there are 26 classes.
    names, numbers = np.unique(
        np.concatenate([part.labels for part in parts.values()]), return_inverse=True
    )
    labels = numbers.astype(np.uint8)
    count = len(parts["train"].labels)
    train = LabelledImages(parts["train"].images, labels[:count])
    test = LabelledImages(parts["test"].images, labels[count:])
    held = _held_out(train.labels)
    classes = tuple(str(name) for name in names)
    return Digits(_part(train, ~held), _part(train, held), test, classes)


def _idx_path(directory: Path, name: str) -> Path | None:
    paths = (directory / name, directory / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)


def _listed_checksums(directory: Path) -> dict[str, str]:
    """What a ``SHA256SUMS`` file beside the data, if any, says of the decompressed files."""
    listing = directory / "SHA256SUMS"
    if not listing.is_file():
        return {}
    pairs = (line.split() for line in listing.read_text(errors="replace").splitlines())
    return {pair[1].lstrip("*"): pair[0] for pair in pairs if len(pair) == 2}


def _read_idx(directory: Path, name: str, checksums: dict[str, str]) -> Bytes:
    path = _idx_path(directory, name)
    if path is None:
        raise FileNotFoundError(
            f"{directory} must hold {name} or {name}.gz; neither is there. "
            "All four IDX files are needed."
        )
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as problem:
            raise ValueError(
                f"{path} is not a whole gzip file ({problem}). Fetch it again."
            ) from problem
    if name in checksums:
        _verify(content, checksums[name], str(path))
    return _parse_idx(content, str(path))


def _verify(content: bytes, wanted: str, where: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != wanted:
        raise ValueError(
            f"{where}: the SHA-256 of the decompressed file must be {wanted}; got {got}. "
            "Remove the file and fetch it again."
        )


def _parse_idx(content: bytes, where: str) -> Bytes:
    """An IDX file of bytes: two zeros, the type 8, the number of dimensions, their sizes, data."""
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"{where} is not an IDX file of bytes: it must start with 00 00 08, got "
            f"{content[:3].hex(' ') or 'nothing'}."
        )
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise ValueError(f"{where} is truncated inside its header. Fetch it again.")
    shape = tuple(np.frombuffer(content, ">u4", count=content[3], offset=4).tolist())
    wanted = int(np.prod(shape, dtype=np.int64))
    if len(content) - header != wanted:
        raise ValueError(
            f"{where} must hold {wanted:,} bytes of data for its shape {shape}; got "
            f"{len(content) - header:,}. It is truncated or damaged: fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _from_uci() -> Digits:
    from PIL import Image  # noqa: PLC0415 (slow to import)
    from sklearn.datasets import load_digits as load_uci  # noqa: PLC0415 (slow to import)

    data = load_uci()
    # As MNIST's: 20 x 20 pixels of digit in a frame of 4.
    small = (Image.fromarray((image * (255 / 16)).astype(np.uint8)) for image in data.images)
    digits = (image.resize((20, 20), Image.Resampling.BICUBIC) for image in small)
    images = np.stack([np.pad(np.asarray(digit), 4) for digit in digits])
    names = tuple(str(name) for name in data.target_names)
    whole = LabelledImages(images, data.target.astype(np.uint8))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    held = len(images) // VALIDATION_SHARE
    parts = np.split(order, [len(order) - 2 * held, len(order) - held])
    train, validation, test = (_part(whole, part) for part in parts)
    return Digits(train, validation, test, names)


def _from_folder(directory: Path) -> Digits:
    """As one's own images, but grey and of one size."""
    try:
        listing = split_images(list_images(directory), 1 / VALIDATION_SHARE, SPLIT_SEED)
    except ValueError as problem:
        files = ", ".join(IDX_FILES.values())
        raise ValueError(f"{problem} Or name a directory of IDX files ({files}).") from None
    classes = listing.classes
    if len(classes) > MOST_CLASSES:
        raise ValueError(
            f"{directory} must have at most {MOST_CLASSES} classes; got {len(classes)}."
        )
    images = [read_picture(listing.path(entry), 1)[0] for entry in listing.entries]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(
            f"{directory}: all digit images must have one size; got {len(shapes)}, among them "
            f"{sorted(shapes)[:2]}. Scale them to one size first."
        )
    labels = [classes.index(entry.label) for entry in listing.entries]
    whole = LabelledImages(np.stack(images), np.array(labels, dtype=np.uint8))
    splits = np.array([entry.split for entry in listing.entries])
    train, validation, test = (_part(whole, splits == split) for split in SPLITS)
    return Digits(train, validation, test, classes)


def _part(whole: LabelledImages, chosen: NDArray[Any]) -> LabelledImages:
    return LabelledImages(whole.images[chosen], whole.labels[chosen])


def _held_out(labels: Bytes) -> NDArray[np.bool_]:
    """Which training images of an IDX file are for validation: the last sixth, as of MNIST.

    Where that is not half its share of a class, or more than half of the class, as in a file that
    is sorted by class, a sixth of each class is drawn.
    """
    held = np.arange(len(labels)) >= len(labels) - len(labels) // VALIDATION_SHARE
    counts = np.bincount(labels)
    late = np.bincount(labels[held], minlength=len(counts))
    if (2 * VALIDATION_SHARE * late < counts).any() or (2 * late > counts).any():
        random, held = np.random.default_rng(SPLIT_SEED), np.zeros_like(held)
        for label in np.unique(labels):
            mine = random.permutation(np.flatnonzero(labels == label))
            held[mine[: min(len(mine) - 1, max(1, len(mine) // VALIDATION_SHARE))]] = True
    return held
