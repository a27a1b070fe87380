"""``foveal make-dataset``: a task as image files on disk."""

import dataclasses
import time
from itertools import count
from pathlib import Path
from typing import Any, Literal

import tyro

from foveal.commands.console import counting, print_json, say
from foveal.names import choose
from foveal.tasks import HAYSTACKS, TASKS, CanvasTask, HaystackTask, TaskConfig
from foveal.tasks.files import MANIFEST, write_dataset
from foveal.tasks.haystacks.config import Question

PNG_UP_TO = 2048  # pixels a side; larger canvases become tiled pyramids if nothing is said


def make_dataset(
    task: tyro.conf.Positional[str],
    out: Path,
    train: int = 1000,
    validation: int = 200,
    test: int = 200,
    format: Literal["auto", "png", "tiff"] = "auto",
    digits: str | None = None,
    canvas_size: int | None = None,
    num_clutter: int | None = None,
    clutter_size: int | None = None,
    vary_clutter: bool | None = None,
    clutter_from: Literal["all", "others"] | None = None,
    num_digits: tuple[int, int] | None = None,
    arrangement: Literal["anywhere", "apart", "row", "trail"] | None = None,
    slope: int | None = None,
    hops: int | None = None,
    distance: int | None = None,
    answer: Literal["class", "pair", "sum", "sequence", "set", "last"] | None = None,
    digit_scales: tuple[float, float] | None = None,
    composition: Literal["add", "over", "under"] | None = None,
    question: Question | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Write a task to image files, with a manifest that says what each one shows.

    Files are OUT/SPLIT/CLASS/NUMBER.png or .tif. OUT/manifest.csv lists path, label and split;
    OUT/places.csv the square of each digit asked about: x and y of its top left corner, width,
    height, in pixels. Where a label is a sequence, as in "3 1 4", files are OUT/SPLIT/NUMBER.png,
    and foveal train folder reads OUT/manifest.csv with --separator " ", or ", " where a class has a
    space in its name. Canvases of any size are written in little memory: foveal make-dataset
    cluttered-60 --canvas-size 4096 --num-clutter 1000 --out big. OUT is there whole, or, after an
    error or Ctrl-C, not at all.

    Args:
        task: what to write: mnist-28, megapixel or another task of digits (foveal tasks).
        out: a new or empty directory.
        train: number of training canvases, drawn from the seed; of megapixel and needle the first
            of a fixed draw, as of the others.
        validation: number of validation canvases, the first of the fixed draw that foveal evaluate
            measures on.
        test: number of test canvases, likewise.
        format: png, or tiff for tiled pyramids; auto is png up to 2,048 pixels a side.
        digits: mnist, uci, or the path of IDX files or an image folder; the task's if not given.
        canvas_size: pixels a side; the task's if not given.
        num_clutter: pieces of other digits on each canvas; the task's if not given.
        clutter_size: pixels a side of each piece; the task's if not given.
        vary_clutter: on each canvas from none to so many pieces; the task's if not given.
        clutter_from: all digits or others, those of other classes; the task's if not given.
        num_digits: least and most digits on a canvas; the task's if not given.
        arrangement: anywhere, apart, row or trail, of several digits; the task's if not given.
        slope: most pixels a digit that a row rises or falls; the task's if not given.
        hops: from the first digit of a trail to its last; the task's if not given.
        distance: pixels from a site of a trail's lattice to the next; the task's if not given.
        answer: class, pair, sum, sequence, set or last, the label; the task's if not given.
        digit_scales: least and most magnification of the digit; the task's if not given.
        composition: add (clutter adds to the digit's light), over (digits lie over it) or, of
            megapixel, under; the task's if not given.
        question: what is asked about the digits of megapixel; the task's if not given.
        seed: of the training canvases; megapixel and needle have none.
        json: print one JSON object.
    """
    wanted = {
        "digits": digits,
        "canvas_size": canvas_size,
        "num_clutter": num_clutter,
        "clutter_size": clutter_size,
        "vary_clutter": vary_clutter,
        "clutter_from": clutter_from,
        "num_digits": num_digits,
        "arrangement": arrangement,
        "slope": slope,
        "hops": hops,
        "distance": distance,
        "answer": answer,
        "digit_scales": digit_scales,
        "composition": composition,
        "question": question,
    }
    known = (TASKS | HAYSTACKS)[choose(task, (*TASKS, *HAYSTACKS), "task")]
    changes: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    for name in changes:
        if name not in vars(known):
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is nothing that {task} has. Leave it out.")
    data: CanvasTask | HaystackTask
    if isinstance(known, TaskConfig):
        data = CanvasTask(dataclasses.replace(known, **changes))
    else:
        if seed:
            raise ValueError(f"--seed is nothing that {task} has: its images are fixed.")
        if train > 0:
            changes["train_images"] = train
        data = HaystackTask(dataclasses.replace(known, **changes))
    chosen = format
    if chosen == "auto":
        chosen = "png" if max(data.image_size) <= PNG_UP_TO else "tiff"
    counts = {"train": train, "validation": validation, "test": test}
    began = time.perf_counter()
    total, done = sum(counts.values()), count(1)
    with counting("writing", quiet=json) as progress:
        options: dict[str, Any] = {"file_format": chosen, "seed": seed}
        write_dataset(data, counts, out, written=lambda: progress(next(done), total), **options)
    height, width = data.image_size
    size = sum(path.stat().st_size for path in out.rglob("*.*"))
    checksums = {}
    if isinstance(data, HaystackTask):
        checksums = {split: data.drawn(split).checksum() for split, n in counts.items() if n}
    if json:
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
