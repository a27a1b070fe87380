"""Which images train, validate and test: drawn once, and kept with a run."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from foveal.io.files import write_file
from foveal.tasks.folder.listing import COLUMNS, SPLIT_WORDS, Entry, Listing, class_name
from foveal.tasks.folder.tables import read_csv

SPLIT_FILE = "split.csv"  # of a run's directory
SIZE_COLUMNS = ("height", "width")


def split_images(listing: Listing, held_out: float, seed: int, name: str | None = None) -> Listing:
    """Give every image a split: its own, or one drawn class by class from a seed.

    Where the data has no splits, each class gives the share ``held_out`` of its images to
    validation and as many to the test split; of sequences all images do together, but for one of
    each class and of each length. Where it lacks one of the two, that comes out of its training
    images. Messages call the data set by ``name``, or by its root. Raises `ValueError` if there is
    one class only, or a class has too few images to be in each split.
    """
    name = name or str(listing.root)
    classes = listing.classes[:-1] if listing.with_end else listing.classes
    if len(classes) < 2:
        raise _too_few(
            listing,
            f"{name} has one class only, {classes[0]!r}: there is nothing to tell apart. "
            "Add a subfolder (or rows) of another class.",
        )
    present = {entry.split or "train" for entry in listing.entries}
    wanted = [split for split in ("validation", "test") if split not in present]
    entries = [replace(entry, split=entry.split or "train") for entry in listing.entries]
    for number, label in enumerate(("",) if listing.max_answers > 1 else classes):
        mine = [
            i
            for i, e in enumerate(entries)
            if e.split == "train" and (not label or listing.names(e) == [label])
        ]
        if not mine:
            raise _too_few(listing, f"{name} has no training images of class {label!r}. Add some.")
        if len(mine) <= len(wanted):
            raise _too_few(
                listing,
                f"{name} has {len(mine)} image{'s' * (len(mine) > 1)} of class {label!r}; "
                f"at least {1 + len(wanted)} are needed, one for each split. Add some, or leave "
                "the class out.",
            )
        share = max(1, round(held_out * len(mine)))
        share = min(share, (len(mine) - 1) // max(1, len(wanted)))
        order = np.random.default_rng([seed, number]).permutation(len(mine)).tolist()
        if not label:
            order = _needed_last(order, [listing.names(entries[i]) for i in mine])
        for turn, split in enumerate(wanted):
            for place in order[turn * share : (turn + 1) * share]:
                entries[mine[place]] = replace(entries[mine[place]], split=split)
    trained = {label for e in entries if e.split == "train" for label in listing.names(e)}
    if unseen := [label for label in classes if label not in trained]:
        raise _too_few(listing, f"{name} has no training images of class {unseen[0]!r}. Add some.")
    lengths = {len(listing.names(e)) for e in entries if e.split == "train"}
    most = listing.max_answers
    for there, words in (
        (most in lengths, f"of {most} labels, as many as others have"),
        (lengths != {most} or not listing.with_end, f"of fewer than {most} labels, as others have"),
    ):
        if not there:
            raise _too_few(listing, f"{name} has no training images {words}. Add some.")
    return replace(listing, entries=entries)


def _needed_last(order: list[int], names: list[list[str]]) -> list[int]:
    """Sequences in this order, but those at the end without which a class or a length has none."""
    seen: set[object] = set()
    needed = []
    for place in reversed(order):
        if new := {*names[place], len(names[place])} - seen:
            needed.append(place)
            seen |= new
    kept = set(needed)
    return [place for place in order if place not in kept] + needed[::-1]


def _too_few(listing: Listing, words: str) -> ValueError:
    """What is said of images that cannot be split: also of those that could not be read."""
    bad = listing.problems
    left_out = f" {len(bad):,} could not be read; the first: {bad[0]}" if bad else ""
    return ValueError(words + left_out)


def write_split(listing: Listing, path: Path) -> None:
    """Write which image is in which split, and how large, as a CSV file, in one step."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS + SIZE_COLUMNS)
    writer.writerows((e.path, e.label, e.split, *e.size) for e in listing.entries)
    write_file(path, text.getvalue().encode(errors="surrogateescape"))  # as file names may be


def read_split(path: Path, data: str, separator: str = "") -> Listing:
    """Read what `write_split` wrote, of images in a directory or beside a manifest.

    Raises `FileNotFoundError`, or `ValueError` if it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: which images were in which split is unknown.")
    columns, rows = read_csv(path, "surrogateescape")
    try:
        if columns != [*COLUMNS, *SIZE_COLUMNS]:
            raise ValueError("unknown columns")
        entries = []
        for _, row in rows:
            split, size = SPLIT_WORDS[row["split"]], (int(row["height"]), int(row["width"]))
            entries.append(Entry(row["path"], class_name(row["label"]), split, size))
    except (ValueError, KeyError) as problem:
        raise ValueError(f"{path} is damaged ({problem}). Restore it from a copy.") from None
    root = Path(data) if Path(data).is_dir() else Path(data).parent
    return Listing(root, entries, separator=class_name(separator))
