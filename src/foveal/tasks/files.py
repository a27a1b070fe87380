"""A task as image files on disk, with a manifest that says what each one shows."""

import csv
import io
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveal.io.files import check_writable, write_file
from foveal.names import Range, check_value
from foveal.tasks import pyramids
from foveal.tasks.task import Task

FORMATS = {"png": ".png", "tiff": ".tif"}
MANIFEST = "manifest.csv"
PLACES = "places.csv"
MOST_TRAINING = 10_000_000  # canvases
LARGEST_PNG = 16_384  # pixels a side; a PNG is made whole, in memory


def write_dataset(
    task: Task,
    counts: Mapping[str, int],
    directory: Path,
    *,
    file_format: Literal["png", "tiff"] = "png",
    seed: int = 0,
    written: Callable[[], None] = lambda: None,
) -> None:
    """Write canvases as ``SPLIT/CLASS/NUMBER.png`` (or ``.tif``), and what they show.

    ``manifest.csv`` has a line a file: path, label, split. ``places.csv`` has the square of each
    digit that it is about: x and y of the top left corner, width, height, in pixels. Files whose
    label is a sequence, as in "3 1 4", lie in ``SPLIT``. Validation and test images are the first
    of the task's fixed draw, which `foveal.evaluation` measures on; training canvases are drawn
    from the seed, but those of a haystack are fixed too. All is written beside the directory first,
    which is there whole or not at all; if it is there, and empty, in a hidden one within it.

    The task is on the CPU. TIFFs are tiled pyramids, of any size. ``written`` is called after each
    file.

    Raises:
        ValueError: if the numbers or the format do not fit the task.
        FileExistsError, OSError: if the directory is not empty, or files cannot be written.
    """
    _check(task, counts, file_format)
    directory = directory.absolute()
    there = directory.exists()
    if there and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(
            f"{directory} must be a new or empty directory; it is not. Choose another --out."
        )
    check_writable(directory / MANIFEST)
    # A link, a mounted disk, or where a shell stands, cannot be replaced by another directory.
    hidden = f".{directory.name}.{os.getpid()}.partial"
    partial = directory / hidden if there else directory.with_name(hidden)
    try:
        manifest: list[tuple[object, ...]] = [("path", "label", "split")]
        places: list[tuple[object, ...]] = [("path", "x", "y", "width", "height")]
        for split, count in counts.items():
            for number, (label, squares, rows) in enumerate(task.shown(split, count, seed)):
                folder = Path(split) if task.max_answers > 1 else Path(split, label)
                path = folder / f"{number:06d}{FORMATS[file_format]}"
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                _write_image(rows, task.image_size, partial / path)
                manifest.append((path.as_posix(), label, split))
                places += ((path.as_posix(), *square) for square in squares)
                written()
        _write_table(partial / MANIFEST, manifest)
        _write_table(partial / PLACES, places)
        if there:
            for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == MANIFEST):
                entry.replace(directory / entry.name)
        else:
            partial.replace(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(task: Task, counts: Mapping[str, int], file_format: str) -> None:
    for split, count in counts.items():
        drawn = split != "train" or task.fixed_training
        advice = "So many canvases has its fixed draw." if drawn else ""
        most = Range(0, task.size(split) if drawn else MOST_TRAINING, advice)
        check_value(f"--{split}", count, int, most)
    if not sum(counts.values()):
        raise ValueError(
            "nothing to write: one of --train, --validation and --test must be above 0."
        )
    if file_format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {file_format!r}.")
    if file_format == "png" and max(task.image_size) > LARGEST_PNG:
        raise ValueError(
            f"a PNG has at most {LARGEST_PNG:,} pixels a side here, as it is made in memory; got "
            f"{max(task.image_size):,}. Pass --format tiff."
        )


def _write_image(
    rows: Callable[[int, int], NDArray[np.uint8]], size: tuple[int, int], path: Path
) -> None:
    height, width = size
    if path.suffix == FORMATS["png"]:
        from PIL import Image  # noqa: PLC0415 (slow to import)

        Image.fromarray(rows(0, height)).save(path)
        return
    step = pyramids.band_height(height, width)
    bands = (rows(top, min(step, height - top)) for top in range(0, height, step))
    pyramids.write_pyramid(path, bands, height, width)


def _write_table(path: Path, rows: list[tuple[object, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_file(path, text.getvalue().encode())
