"""``foveal make-dataset``: a task as image files on disk."""

import dataclasses
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from foveal.commands.console import counting, print_json, say
from foveal.commands.flags import HELP, parse
from foveal.names import choose
from foveal.tasks import HAYSTACKS, TASKS, CanvasTask, HaystackTask, TaskConfig
from foveal.tasks.files import MANIFEST, write_dataset
from foveal.tasks.haystacks.config import HaystackConfig
from foveal.tasks.task import SPLITS

CLUTTERED = "cluttered-60"  # a task for examples
PNG_UP_TO = 2048  # pixels a side; larger canvases become tiled pyramids if nothing is said


# Of training alone, or what --train and --question say.
FIXED = ("smallest_canvas", "overlapping", "fewest_digits", "augmentation", "train_images")


@dataclass(frozen=True)
class DatasetOptions:
    """Write a task to image files, with a manifest that says what each one shows.

    Files are OUT/SPLIT/CLASS/NUMBER.png or .tif. OUT/manifest.csv lists path, label and split;
    OUT/places.csv the square of each digit asked about: x and y of its top left corner, width,
    height, in pixels. Where a label is a sequence, as in "3 1 4", files are OUT/SPLIT/NUMBER.png,
    and foveal train folder reads OUT/manifest.csv with --separator " ", or ", " where a class has a
    space in its name. Canvases of any size are written in little memory: foveal make-dataset
    cluttered-60 --canvas-size 4096 --num-clutter 1000 --out big. OUT is there whole, or, after an
    error or Ctrl-C, not at all. The task's own flags begin as the task has them.
    """

    task: Annotated[str, tyro.conf.Positional]  # mnist-28, megapixel or another (foveal tasks)
    config: TaskConfig | HaystackConfig
    out: Path  # a new or empty directory
    # number of training canvases, drawn from the seed; of megapixel and needle the first of a fixed
    # draw, as of the others
    train: int = 1000
    # number of validation canvases, the first of the fixed draw that foveal evaluate measures on
    validation: int = 200
    test: int = 200  # number of test canvases, likewise
    # png, or tiff for tiled pyramids; auto is png up to 2,048 pixels a side
    format: Literal["auto", "png", "tiff"] = "auto"
    seed: int = 0  # of the training canvases; megapixel and needle have none
    json: bool = False  # print one JSON object


def run(arguments: list[str]) -> None:
    named = bool(arguments) and not arguments[0].startswith("-")
    known = TASKS | HAYSTACKS
    if not named and not HELP & set(arguments):
        raise ValueError(
            f"which task? It must be one of {', '.join(known)}, as in: foveal make-dataset "
            f"{CLUTTERED} --out {CLUTTERED}"
        )
    task = choose(arguments[0] if named else CLUTTERED, known, "task")
    usual = DatasetOptions(task, known[task], out=tyro.MISSING)
    words = arguments if named else [task, *arguments]
    write(parse(DatasetOptions, "make-dataset", words, usual, fixed=FIXED))


def write(options: DatasetOptions) -> None:
    """Write the files, and say what was written."""
    out, config = options.out, options.config
    data: CanvasTask | HaystackTask
    if isinstance(config, TaskConfig):
        data = CanvasTask(config)
    else:
        if options.seed:
            raise ValueError(f"--seed is nothing that {options.task} has: its images are fixed.")
        if options.train > 0:
            config = dataclasses.replace(config, train_images=options.train)
        data = HaystackTask(config)
    chosen = options.format
    if chosen == "auto":
        chosen = "png" if max(data.image_size) <= PNG_UP_TO else "tiff"
    counts = {name: getattr(options, name) for name in SPLITS}
    began = time.perf_counter()
    total, done = sum(counts.values()), count(1)
    with counting("writing", quiet=options.json) as progress:
        how: dict[str, Any] = {"file_format": chosen, "seed": options.seed}
        write_dataset(data, counts, out, written=lambda: progress(next(done), total), **how)
    height, width = data.image_size
    size = sum(path.stat().st_size for path in out.rglob("*.*"))
    checksums = {}
    if isinstance(data, HaystackTask):
        checksums = {split: data.drawn(split).checksum() for split, n in counts.items() if n}
    if options.json:
        print_json(
            out=str(out),
            format=chosen,
            image_size=[height, width],
            counts=counts,
            bytes=size,
            seconds=round(time.perf_counter() - began, 1),
            **({"checksums": checksums} if checksums else {}),
        )
        return
    listed = ", ".join(f"{number:,} {split}" for split, number in counts.items() if number)
    say(f"{out}: {listed}; {height:,} x {width:,} pixels, {size / 1e6:,.1f} MB, {out / MANIFEST}")
    for split, checksum in checksums.items():
        say(f"SHA-256 of what lies where, of all {data.size(split):,} {split} images: {checksum}")
