"""Which image files there are, of which class, in which split: from folders or from a manifest."""

import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.names import END, printable
from foveal.tasks.folder.pictures import count_files, find_pictures, is_hidden, is_picture
from foveal.tasks.folder.tables import as_text, read_csv, read_parquet

MANIFESTS = (".csv", ".parquet")
COLUMNS = ("path", "label", "split")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "tst"), "test"),
}
BEGINNING = 2**16  # bytes by which copies of a file are known
# What may stand beside such a word, as in training_set or TestImages.
FILLERS = {"set", "data", "dataset", "split", "image", "images", "img", "imgs", "photos"}


@dataclass(frozen=True)
class Entry:
    """One image."""

    path: str  # below the listing's root
    label: str  # the name of its class, or those of its sequence with a separator between
    split: str = ""  # "train", "validation" or "test"; empty while it has none
    size: tuple[int, int] = (0, 0)  # (height, width) in pixels; zeros while it is not known


@dataclass(frozen=True)
class Listing:
    """The images of a data set, in a fixed order."""

    root: Path  # what the entries' paths are relative to
    entries: list[Entry]
    problems: list[str] = field(default_factory=list)  # what is wrong with files left out
    passed_over: str = ""  # how many files are no images of the user's, in words
    separator: str = ""  # between the names of a sequence; empty where labels are classes

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted; numbers by their size; then that of the end."""
        names = {name for entry in self.entries for name in self.names(entry)}
        return (*sorted(names, key=_by_number), *((END,) if self.with_end else ()))

    @property
    def max_answers(self) -> int:
        """How many classes an image has at most."""
        return max(len(self.names(entry)) for entry in self.entries)

    @property
    def with_end(self) -> bool:
        """Whether sequences differ in length, so that there is a class for their end."""
        return len({len(self.names(entry)) for entry in self.entries}) > 1

    def names(self, entry: Entry) -> list[str]:
        """The names of the classes of an image."""
        return entry.label.split(self.separator) if self.separator else [entry.label]

    def path(self, entry: Entry) -> Path:
        """Where an entry's file is."""
        return self.root / entry.path

    def of(self, split: str) -> "Listing":
        """The images of a split."""
        return replace(self, entries=[entry for entry in self.entries if entry.split == split])

    def without(self, others: "Listing") -> "Listing":
        """The images that are none of these, by whatever name, nor copies under their name.

        A copy has its name, class and size, in whatever directory; the files begin alike. Where
        the other is not there any more, a copy has the whole of its path.
        """
        theirs = {_identity(others.path(entry)) for entry in others.entries}
        copied: dict[tuple[object, ...], list[Path]] = {}
        gone: set[tuple[object, ...]] = set()
        for one in others.entries:
            path, shown = others.path(one), (*others.names(one), one.size)
            if path.exists():
                key = (path.name, *shown, path.stat().st_size)
                copied.setdefault(key, []).append(path)
            else:
                gone.add((one.path, *shown))

        def is_other(entry: Entry) -> bool:
            path, shown = self.path(entry), (*self.names(entry), entry.size)
            if _identity(path) in theirs or (entry.path, *shown) in gone:
                return True
            key = (path.name, *shown, path.stat().st_size if path.exists() else 0)
            return any(_begin_alike(path, other) for other in copied.get(key, ()))

        return replace(self, entries=[entry for entry in self.entries if not is_other(entry)])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``(N, 2)``, height and width of each image."""
        return np.array([entry.size for entry in self.entries])


def list_images(data: Path, separator: str = "") -> Listing:
    """The images of a directory or a manifest.

    A directory has one subfolder a class, or ``train``, and ``validation`` (``val``) or ``test``
    beside it, with one subfolder a class in each; ``training_set`` and the like are such names,
    too. What is hidden is passed over. A manifest is a CSV or Parquet file with the columns
    ``path`` (relative to the manifest, or absolute), ``label`` and, if wanted, ``split``. With a
    separator its labels are sequences of classes.

    Class names are compared in one Unicode form (NFC). A file that is there by two names, or named
    twice, is one image.

    Raises:
        OSError: if there is no such file or directory.
        ValueError: if it holds no such images, the manifest is not as above, or one file is in two
            classes or two splits.
    """
    if not data.exists():
        raise FileNotFoundError(
            f"--data must be a directory or a manifest; there is no {str(data)!r}."
        )
    passed_over, problems = Counter[str](), list[str]()
    if data.is_dir():
        root, found = data, _list_directory(data, passed_over)
    else:
        root, found = data.parent, _read_manifest(data, problems)
    entries = _each_once(root, found, passed_over)
    if not entries:
        what = f" ({problems[0]})" if problems else ""
        raise ValueError(
            f"{data} holds no images{what}. Put the images of each class into a subfolder of "
            "their own, as PNG, JPEG, WebP, TIFF or BMP."
        )
    if separator and data.is_dir():
        raise ValueError(
            f"--separator {separator!r} is for the labels of a manifest; {data} is a directory, "
            "whose subfolders are classes. Leave it out, or name a manifest."
        )
    separator = class_name(separator)  # as the labels are by now
    entries = [_sequence(data, entry, separator) for entry in entries] if separator else entries
    listing = Listing(root, entries, problems, _in_words(passed_over), separator)
    if not data.is_dir():
        _check_sequences(data, listing)
    return listing


def _sequence(data: Path, entry: Entry, separator: str) -> Entry:
    names = [name.strip() for name in entry.label.split(separator)]
    if not all(names):
        raise ValueError(
            f"{data}: the label {entry.label!r} of {entry.path} has nothing before, after or "
            f"between separators {separator!r}. A sequence is classes with one between each two."
        )
    return replace(entry, label=separator.join(names))


def _check_sequences(data: Path, listing: Listing) -> None:
    """Refuse sequences without a separator beside their classes, and a class named as the end."""
    labels = {entry.label for entry in listing.entries}
    if listing.separator:
        if listing.with_end and any(END in listing.names(entry) for entry in listing.entries):
            raise ValueError(
                f"{data}: {END!r} is what closes sequences of different lengths, and one of the "
                "classes. Rename that class."
            )
        return
    for separator in (" ", ",", ";", "|", "-", "_"):
        for label in sorted(labels):
            names = label.split(separator)
            if len(names) > 1 and set(names) <= labels:
                raise ValueError(
                    f"{data} mixes single and several labels: {label!r} is made of classes that "
                    f"other images have alone. For sequences pass --separator {separator!r}; "
                    "otherwise rename it."
                )


def class_name(text: str) -> str:
    """A name in the Unicode form in which names are compared; controls are spelled out."""
    return unicodedata.normalize("NFC", printable(text))


def split_of(name: str) -> tuple[str, bool]:
    """The split that a name speaks of, or "", and whether it says nothing else."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [
        re.sub(r"(?<=[a-z])(set|data|images)$", "", word)
        for word in re.findall(r"[^\W\d_]+|\d+", spaced.lower())
    ]
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    plain = all(word in SPLIT_WORDS or word in FILLERS for word in words)
    return min(splits, default=""), plain and len(splits) == 1


Found = list[tuple[str, Entry]]  # each with where it is named, for messages


def _list_directory(root: Path, passed_over: Counter[str]) -> Found:
    folders = _subfolders(root, passed_over)
    named = {folder: split_of(folder.name) for folder in folders}
    splits = {folder: split for folder, (split, sure) in named.items() if sure}
    others = [folder for folder in folders if folder not in splits]
    if "train" not in splits.values() and (others or not splits):
        # Classes, but for splits by names that are not understood.
        hints = [folder for folder, (split, _) in named.items() if split]
        several = len({named[folder][0] for folder in hints}) > 1
        flat = all(_holds_pictures(folder) for folder in hints)
        if (splits or several) and (not flat or len(hints) == len(folders)):
            raise ValueError(_mixed(root, hints[0], next(f for f in folders if f != hints[0])))
        return _of_classes(root, folders, "", passed_over)
    if others:
        raise ValueError(_mixed(root, next(iter(splits)), others[0]))
    found: Found = []
    for folder, split in splits.items():
        same = [other for other in splits if splits[other] == split]
        if len(same) > 1:
            raise ValueError(_mixed(root, *same[:2]))
        inside = _subfolders(folder, passed_over)
        if not inside and _holds_pictures(folder):
            raise ValueError(
                f"{folder} is a split, and must hold one subfolder of images a class; it holds "
                "images alone. Move them into such subfolders."
            )
        found += _of_classes(root, inside, split, passed_over)
    return found


def _mixed(root: Path, split: Path, other: Path) -> str:
    return (
        f"{root} holds {other.name!r} beside the split {split.name!r}: it must hold splits or "
        "classes, not both. Name splits train, validation and test, with one subfolder a class in "
        "each, and move anything else elsewhere; or rename what is a class."
    )


def _subfolders(place: Path, passed_over: Counter[str]) -> list[Path]:
    """Those that are not hidden, in order of name; files beside them are passed over."""
    folders = []
    for path in sorted(place.iterdir()):
        if is_hidden(path.name):
            passed_over["hidden"] += count_files(path)
        elif path.is_dir():
            folders.append(path)
        else:
            passed_over[path.suffix.lower()] += 1
    return folders


def _holds_pictures(folder: Path) -> bool:
    return any(is_picture(path.name) and not is_hidden(path.name) for path in folder.iterdir())


def _of_classes(root: Path, folders: list[Path], split: str, passed_over: Counter[str]) -> Found:
    return [
        (str(path), Entry(path.relative_to(root).as_posix(), class_name(folder.name), split))
        for folder in folders
        for path in find_pictures(folder, passed_over)
    ]


def _each_once(root: Path, found: Found, passed_over: Counter[str]) -> list[Entry]:
    """The entries without those of a file that has one already; it has one label and one split."""
    known: dict[Any, tuple[str, Entry]] = {}
    for where, entry in found:
        before, first = known.setdefault(_identity(root / entry.path), (where, entry))
        for what, name in (("classes", "label"), ("splits", "split")):
            one, other = getattr(first, name), getattr(entry, name)
            if one != other:
                raise ValueError(
                    f"{before} and {where} are one file in two {what}, {one!r} and {other!r}. "
                    "Leave one of them out."
                )
        passed_over["named again"] += first is not entry
    return [entry for _, entry in known.values()]


def _identity(path: Path) -> Any:
    """Equal for all names of a file: links, hard links, roundabout ways."""
    try:
        status = path.stat()
    except OSError:  # said when it is read
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _begin_alike(path: Path, other: Path) -> bool:
    """Whether two files begin with the same bytes, or one cannot be read."""
    try:
        with path.open("rb") as one, other.open("rb") as two:
            return one.read(BEGINNING) == two.read(BEGINNING)
    except OSError:
        return True


def _in_words(passed_over: Counter[str]) -> str:
    kinds = Counter[str]()
    for kind, count in passed_over.items():
        plain = kind in ("hidden", "named again") or re.fullmatch(r"\.[a-z0-9]{1,8}", kind)
        kinds[kind if plain else "others"] += count
    total = kinds.total()
    if not total:
        return ""
    most = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5) if count)
    return f"{total:,} file{'s' * (total > 1)} passed over ({most})"


def _read_manifest(path: Path, problems: list[str]) -> Found:
    kind = path.suffix.lower()
    if kind not in MANIFESTS:
        raise ValueError(
            f"--data must be a directory, or a manifest in a .csv or .parquet file; got {path}."
        )
    columns, rows = read_csv(path) if kind == ".csv" else read_parquet(path)
    wanted = f"its columns must be path, label and, if wanted, split; got {', '.join(columns)}"
    missing = [name for name in COLUMNS[:2] if name not in columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}: {wanted}.")
    unknown = [name for n, name in enumerate(columns) if name not in COLUMNS or name in columns[:n]]
    if unknown:
        raise ValueError(f"{path} has an unknown column {unknown[0]!r}: {wanted}. Remove it.")
    found: Found = []
    for number, row in rows:
        where = f"{path} row {number}"
        place, label, split = (as_text(row.get(name), where) for name in COLUMNS)
        label, split = class_name(label.strip()), split.strip()
        if not place.strip() or not label:
            raise ValueError(
                f"{where} must have a path and a label; got {place.strip()!r} and {label!r}."
            )
        known, sure = split_of(split)
        if split and not sure:
            raise ValueError(f"{where}: split must be train, validation or test; got {split!r}.")
        forms = (place, place.strip(), *(unicodedata.normalize(f, place) for f in ("NFC", "NFD")))
        there = next((f for f in forms if os.path.isfile(path.parent / f)), None)  # noqa: PTH113
        if there is None:
            problems.append(f"{where} names {place}, which is missing. Correct the path.")
        else:
            found.append((f"{where} ({there})", Entry(there, label, known)))
    if len({bool(entry.split) for _, entry in found}) > 1:
        raise ValueError(f"{path}: some rows have a split and some have none. Give all, or none.")
    return found


def _by_number(name: str) -> tuple[bool, int, str]:
    number = name.isascii() and name.isdigit()
    return not number, int(name) if number else 0, name
