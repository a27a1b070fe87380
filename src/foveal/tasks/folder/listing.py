"""Which image files there are, of which class, in which split: from folders or from a manifest."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.io.files import write_file
from foveal.tasks.canvases.digits import SPLITS
from foveal.tasks.folder.pictures import find_pictures

MANIFESTS = (".csv", ".parquet")
COLUMNS = ("path", "label", "split")
SIZE_COLUMNS = ("height", "width")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
FEWEST = 3  # images of a class, one for each split


@dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        path: below the listing's root.
        label: the name of its class.
        split: "train", "validation" or "test"; empty while it has none.
        size: ``(height, width)`` in pixels; zeros while it is not known.
    """

    path: str
    label: str
    split: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Listing:
    """The images of a data set, in a fixed order.

    Attributes:
        root: what the entries' paths are relative to.
        entries: the images.
        problems: what is wrong with files that are left out, a line each.
    """

    root: Path
    entries: list[Entry]
    problems: list[str] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted; numbers by their size."""
        return tuple(sorted({entry.label for entry in self.entries}, key=_by_number))

    def path(self, entry: Entry) -> Path:
        """Where an entry's file is."""
        return self.root / entry.path

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``(N, 2)``, height and width of each image."""
        return np.array([entry.size for entry in self.entries])


def list_images(data: Path) -> Listing:
    """The images of a directory or a manifest.

    A directory has one subfolder a class, or ``train``, and ``validation`` (``val``) or ``test``
    beside it, with one subfolder a class in each. A manifest is a CSV or Parquet file with the
    columns ``path`` (relative to the manifest, or absolute), ``label`` and, if wanted, ``split``.

    Raises:
        OSError: if there is no such file or directory.
        ValueError: if it holds no such images, or the manifest is not as above.
    """
    if not data.exists():
        raise FileNotFoundError(
            f"--data must be a directory or a manifest; there is no {str(data)!r}."
        )
    listing = _list_directory(data) if data.is_dir() else _read_manifest(data)
    if not listing.entries:
        what = f" ({listing.problems[0]})" if listing.problems else ""
        raise ValueError(
            f"{data} holds no images{what}. Put the images of each class into a subfolder of "
            "their own, as PNG, JPEG, WebP, TIFF or BMP."
        )
    return listing


def _list_directory(root: Path) -> Listing:
    # Without names that begin with a dot: caches and thumbnails of other programs.
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    splits = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    if not any(SPLIT_NAMES[folder.name.lower()] == "train" for folder in splits):
        return Listing(root, _of_classes(root, folders, ""))
    others = [folder.name for folder in folders if folder not in splits]
    if others:
        raise ValueError(
            f"{root} holds {others[0]!r} beside the split {splits[0].name!r}: it must hold splits "
            "or classes, not both. Move it elsewhere."
        )
    entries = []
    for folder in splits:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
        entries += _of_classes(root, inside, SPLIT_NAMES[folder.name.lower()])
    return Listing(root, entries)


def _of_classes(root: Path, folders: list[Path], split: str) -> list[Entry]:
    return [
        Entry(path.relative_to(root).as_posix(), folder.name, split)
        for folder in folders
        for path in find_pictures(folder)
    ]


def _read_manifest(path: Path) -> Listing:
    kind = path.suffix.lower()
    if kind not in MANIFESTS:
        raise ValueError(
            f"--data must be a directory, or a manifest in a .csv or .parquet file; got {path}."
        )
    columns, rows = _read_csv(path) if kind == ".csv" else _read_parquet(path)
    wanted = f"its columns must be path, label and, if wanted, split; got {', '.join(columns)}"
    missing = [name for name in COLUMNS[:2] if name not in columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}: {wanted}.")
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise ValueError(f"{path} has an unknown column {unknown[0]!r}: {wanted}. Remove it.")
    entries: list[Entry] = []
    problems = []
    for number, row in enumerate(rows, start=2 if kind == ".csv" else 1):
        where = f"{path} row {number}"
        place, label, split = (str(row.get(name) or "").strip() for name in COLUMNS)
        if row.get("label") == 0:  # a number in a Parquet file
            label = "0"
        if not place or not label:
            raise ValueError(f"{where} must have a path and a label; got {place!r} and {label!r}.")
        if split and split.lower() not in SPLIT_NAMES:
            raise ValueError(f"{where}: split must be train, validation or test; got {split!r}.")
        if (path.parent / place).is_file():
            entries.append(Entry(place, label, SPLIT_NAMES.get(split.lower(), "")))
        else:
            problems.append(f"{where} names {place}, which is missing. Correct the path.")
    some = {bool(entry.split) for entry in entries}
    if len(some) > 1:
        raise ValueError(f"{path}: some rows have a split and some have none. Give all, or none.")
    return Listing(path.parent, entries, problems)


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="more values than columns", strict=True)
            rows = list(reader)
            columns = [str(name).strip() for name in reader.fieldnames or []]
    except (csv.Error, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({problem}). Save it again.") from None
    for number, row in enumerate(rows, start=2):
        if reader.restkey in row:
            raise ValueError(
                f"{path} row {number} has more values than the header has columns. Put values "
                "with commas in quotes."
            )
    return columns, [dict(zip(columns, row.values(), strict=False)) for row in rows]


def _read_parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 (an extra)
    except ImportError:
        raise ImportError(
            "a Parquet manifest needs PyArrow; pip install 'foveal[parquet]', or save it as CSV"
        ) from None
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError, ValueError) as problem:
        said = str(problem).splitlines()[0]
        raise ValueError(f"{path} is not a Parquet file ({said}). Save it again.") from None
    return list(table.column_names), table.to_pylist()


# --- Splits ---------------------------------------------------------------------------------


def split_images(listing: Listing, held_out: float, seed: int, name: str | None = None) -> Listing:
    """Give every image a split: its own, or one drawn class by class from a seed.

    Where the data has no splits, each class gives ``held_out`` of its images to validation and as
    many to the test split. Where it lacks one of the two, that comes out of its training images.

    Args:
        listing: the images.
        held_out: a share.
        seed: of the draw.
        name: of the data set, for messages; its root if None.

    Raises:
        ValueError: if there is one class only, or a class has too few images to be in each split.
    """
    classes, name = listing.classes, name or str(listing.root)
    if len(classes) < 2:
        raise ValueError(
            f"{name} has one class only, {classes[0]!r}: there is nothing to tell apart. "
            "Add a subfolder (or rows) of another class."
        )
    present = {entry.split or "train" for entry in listing.entries}
    wanted = [split for split in ("validation", "test") if split not in present]
    entries = [replace(entry, split=entry.split or "train") for entry in listing.entries]
    for number, label in enumerate(classes):
        mine = [
            index
            for index, entry in enumerate(entries)
            if entry.label == label and entry.split == "train"
        ]
        if not mine:
            raise ValueError(f"{name} has no training images of class {label!r}. Add some.")
        if len(mine) <= len(wanted):
            raise ValueError(
                f"{name} has {len(mine)} image{'s' * (len(mine) > 1)} of class {label!r}; "
                f"at least {1 + len(wanted)} are needed, one for each split. Add some, or leave "
                "the class out."
            )
        share = max(1, round(held_out * len(mine)))
        share = min(share, (len(mine) - 1) // max(1, len(wanted)))
        order = np.random.default_rng([seed, number]).permutation(len(mine))
        for turn, split in enumerate(wanted):
            for place in order[turn * share : (turn + 1) * share]:
                entries[mine[place]] = replace(entries[mine[place]], split=split)
    return Listing(listing.root, entries, listing.problems)


def write_split(listing: Listing, path: Path) -> None:
    """Write which image is in which split, and how large, as a CSV file, in one step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS + SIZE_COLUMNS)
    writer.writerows((e.path, e.label, e.split, *e.size) for e in listing.entries)
    write_file(path, text.getvalue().encode())


def read_split(path: Path, root: Path) -> Listing:
    """Read what `write_split` wrote, for images below ``root``.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: which images were in which split is unknown.")
    columns, rows = _read_csv(path)
    try:
        if columns != [*COLUMNS, *SIZE_COLUMNS] or any(row["split"] not in SPLITS for row in rows):
            raise ValueError("unknown columns or splits")
        entries = [
            Entry(row["path"], row["label"], row["split"], (int(row["height"]), int(row["width"])))
            for row in rows
        ]
    except (ValueError, TypeError) as problem:
        raise ValueError(f"{path} is damaged ({problem}). Restore it from a copy.") from None
    return Listing(root, entries)


def _by_number(name: str) -> tuple[bool, int, str]:
    number = name.isascii() and name.isdigit()
    return not number, int(name) if number else 0, name
