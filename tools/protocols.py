"""Print the tables of protocols other than training's own that the documentation quotes.

    python tools/protocols.py looks cluttered-60     error after 1 to 12 looks, or half as many
                                                     again as in training (validation)
    python tools/protocols.py sizes cluttered-60     error on canvases of other sizes (test)
    python tools/protocols.py first mnist-28         what the first look leaves to do (validation)
    python tools/protocols.py stop cluttered-60      error, looks and time of its stops (test)
    python tools/protocols.py anew cluttered-60      error on canvases drawn anew, by NumPy alone
    python tools/protocols.py near RUN               error of two digits by how near they are, and
                                                     where both were looked at (validation)
    python tools/protocols.py clutter cluttered-60-best   error with and without the clutter, and by
                                                     how much of it is at the digit (validation)
    python tools/protocols.py sought needle-128      digits sought on a large canvas that looks did
                                                     not meet, and the error by that (validation)

Any number of runs and models may be named, a column each; --out FILE.json keeps the figures too.
All are single rollouts with the mean policy from random first locations, but for one from the
centre that "first" shows as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from foveal.evaluation.classifier import evaluate, evaluation_of, judging, observe
from foveal.evaluation.stopping import ALL_LOOKS, HALF, beliefs, look_until_sure
from foveal.geometry import to_pixels
from foveal.io.files import write_json
from foveal.model.attention import RecurrentAttention
from foveal.model.rollout import right_answers
from foveal.runs.saved import load
from foveal.tasks import TASKS, CanvasTask, HaystackConfig, HaystackTask, TaskConfig
from foveal.tasks.canvases.digits import load_digits
from foveal.training.machine import commit, hardware

LOOKS = 12  # or more, where training took more
SIZES = (60, 100, 200, 400, 1000)  # pixels a side, all with the 4 pieces of clutter of cluttered-60
ROLLOUTS = 4  # from random first places
TIMED, TURNS = 5, 6  # batches of the test split, and how often each is looked at
BATCH = 500  # canvases drawn anew at once
BLACK = 0.5  # less light than this in all of a glimpse is none
DISTANCES = (0, 6, 12, 20, 73)  # pixels between two digits' corners, across or down
NEAR = 8  # pixels from a digit's middle, across and down, is a look at it
LIT = 0.3  # more light than this is ink
MET, CROWDED = 10, 16  # of a large canvas: a look at a digit, and a digit that lies on another
ABOVE = (0, 30, 80, 200)  # pixels from the topmost digit down to the next
Cells = Iterator[dict[str, Any]]


def looks(model: RecurrentAttention, task: TaskConfig | HaystackConfig) -> Cells:
    """Yield the error after each number of looks."""
    data = HaystackTask(task) if isinstance(task, HaystackConfig) else CanvasTask(task)
    most = max(LOOKS, 3 * model.config.num_glimpses // 2)
    found = observe(model, data, "validation", num_glimpses=most)
    for number, evaluation in enumerate(found.evaluations, 1):
        yield {"looks": number, **dataclasses.asdict(evaluation)}


def sizes(model: RecurrentAttention, _: TaskConfig) -> Cells:
    """Yield the error on canvases of each size."""
    for size in SIZES:
        task = CanvasTask(dataclasses.replace(TASKS["cluttered-60"], canvas_size=size))
        found = dataclasses.asdict(evaluate(model, task, "test"))
        yield {"canvas_size": size, **found, "pixels_read": model.count_pixels_read()}


@torch.no_grad()
def first(model: RecurrentAttention, task: TaskConfig) -> Cells:
    """Yield the error by where the first look falls, and by whether it saw only black there."""
    generator = torch.Generator().manual_seed(0)
    saw_black, wrong, from_centre = [], [], []
    for images, labels in CanvasTask(task).fixed_batches("validation"):
        for _ in range(ROLLOUTS):
            place = torch.rand(len(images), 2, generator=generator) * 2 - 1
            saw_black.append(model.sensor(images, place).flatten(1).sum(1) < BLACK)
            wrong.append(model(images, first_location=place).logits.argmax(-1) != labels)
        answers = model(images, first_location=torch.zeros(len(images), 2)).logits.argmax(-1)
        from_centre.append(answers != labels)
    black, missed = torch.cat(saw_black), torch.cat(wrong)
    for name, some in (
        ("anywhere", missed),
        ("on black alone", missed[black]),
        ("elsewhere", missed[~black]),
        ("the centre", torch.cat(from_centre)),
    ):
        yield {"first": name, **dataclasses.asdict(evaluation_of(int(some.sum()), len(some)))}


@torch.no_grad()
def anew(model: RecurrentAttention, task: TaskConfig) -> Cells:
    """Yield the error on the test canvases, and on others of the same digits.

    These are drawn here from what the authors published of theirs: pieces of other digits are
    added, then the digit, all at uniform places, and the light is clipped.
    """
    own = evaluate(model, CanvasTask(task), "test")
    yield {"canvases": "of the task", **dataclasses.asdict(own)}
    test = load_digits(task.digits).test
    digits, labels = test.images, test.labels
    draw, side, piece = np.random.default_rng(1).integers, task.canvas_size, task.clutter_size
    generator, wrong = torch.Generator().manual_seed(1), 0

    def add(canvas: NDArray[np.int64], light: NDArray[np.uint8]) -> None:
        y, x = (draw(side - length + 1) for length in light.shape)
        canvas[y : y + len(light), x : x + light.shape[1]] += light

    for first in range(0, len(digits), BATCH):
        canvases = np.zeros((len(digits[first : first + BATCH]), side, side), dtype=np.int64)
        for canvas, digit in zip(canvases, digits[first:], strict=False):
            for _ in range(task.num_clutter):
                other = digits[draw(len(digits))]
                y, x = (draw(length - piece + 1) for length in other.shape)
                add(canvas, other[y : y + piece, x : x + piece])
            add(canvas, digit)
        images = torch.from_numpy(canvases.clip(max=255)[:, None]).float() / 255
        answers = model(images, generator=generator).logits.argmax(-1)
        wrong += int((answers.numpy() != labels[first : first + BATCH]).sum())
    found = evaluation_of(wrong, len(digits))
    yield {"canvases": "drawn anew", **dataclasses.asdict(found)}


def stop(model: RecurrentAttention, task: TaskConfig) -> Cells:
    """Yield what each stop is worth, and its processor time as a share of that of all looks."""
    data = CanvasTask(task)
    batches = [images for images, _ in data.fixed_batches("test")][:TIMED]
    calibrated = beliefs(model, data, "validation").calibrated()
    rules: dict[str, Any] = {"all looks": ("confident", ALL_LOOKS)}
    rules |= {f"confident, {calibrated:.3f}": ("confident", calibrated)}
    rules |= {"learned": ("learned", HALF)} if model.stop_head is not None else {}
    times: dict[str, list[float]] = {name: [] for name in rules}
    for _ in range(TURNS):
        for name, (kind, threshold) in rules.items():
            look: Callable[[Any], object] = partial(
                look_until_sure, model, threshold=threshold, stop=kind
            )
            began = time.process_time()
            with judging(model):
                for images in batches:
                    (model if threshold == ALL_LOOKS else look)(images)
            times[name].append(time.process_time() - began)
    whole = statistics.median(times["all looks"])
    for name, (kind, threshold) in rules.items():
        found = dataclasses.asdict(beliefs(model, data, "test", stop=kind).at(threshold))
        share = statistics.median(times[name]) / whole
        label = f"{name}: {found['looks']:.2f} looks, {share:.2f} of the time"
        yield {"stop": label, **found, "count": data.size("test"), "time": share}


@torch.no_grad()
def near(model: RecurrentAttention, task: TaskConfig) -> Cells:
    """Yield the error on two digits by how far they are apart, and where looks were at both."""
    data, side = CanvasTask(task), task.canvas_size
    gaps, missed, met = [], [], []
    for layout in data.fixed_layouts("validation"):
        images, labels = data.render(layout)
        rollout = model(images)
        given, end = rollout.answer_logits, model.config.end
        wanted = right_answers(labels, given, end, ordered=data.ordered).view(len(labels), -1)
        missed.append((given.argmax(-1) != wanted).any(1))
        gaps.append((layout.places[:, 0] - layout.places[:, 1]).abs().amax(1))
        middles = layout.places.flip(-1) + layout.digits.shape[-1] // 2
        looks_at = to_pixels(rollout.locations, side, side)[:, :, None] - middles[:, None]
        met.append((looks_at.abs().amax(-1) <= NEAR).any(1).all(1))
    gap, wrong, both = torch.cat(gaps), torch.cat(missed), torch.cat(met)
    groups = {
        f"{low} to {high - 1} pixels apart": (gap >= low) & (gap < high)
        for low, high in itertools.pairwise(DISTANCES)
    }
    for name, some in {**groups, "both looked at": both, "all": gap >= 0}.items():
        found = evaluation_of(int(wrong[some].sum()), int(some.sum()))
        yield {"digits": name, **dataclasses.asdict(found)}


def clutter(model: RecurrentAttention, task: TaskConfig) -> Cells:
    """Yield the error on the same canvases with and without clutter, and by where clutter lies."""
    data, side = CanvasTask(task), task.canvas_size
    missed, missed_alone, meets, beside = [], [], [], []
    for layout in data.fixed_layouts("validation"):
        images, labels = data.render(layout)
        alone = dataclasses.replace(layout, donors=torch.full_like(layout.donors, -1))
        other = dataclasses.replace(layout, digits=torch.zeros_like(layout.digits))
        (digit, _), (pieces, _) = data.render(alone), data.render(other)
        rollout = model(images)
        missed.append(rollout.logits.argmax(-1) != labels)
        missed_alone.append(model(digit).logits.argmax(-1) != labels)
        ink = functional.max_pool2d(digit, 5, 1, 2) > LIT
        meets.append((ink & (pieces > LIT)).flatten(1).sum(1))
        middles = layout.places.flip(-1) + layout.digits.shape[-1] // 2
        away = (to_pixels(rollout.locations, side, side) - middles).abs().amax(-1)
        beside.append((away > NEAR).all(1))
    wrong, wrong_alone, met, off = map(torch.cat, (missed, missed_alone, meets, beside))
    groups = {
        "no clutter at the digit": wrong[met == 0],
        "1 to 9 pixels of it": wrong[(met > 0) & (met < 10)],
        "10 and more": wrong[met >= 10],
        "the digit was looked at": wrong[~off],
        "all": wrong,
        "without clutter": wrong_alone,
    }
    for name, some in groups.items():
        found = evaluation_of(int(some.sum()), len(some))
        yield {"canvases": name, **dataclasses.asdict(found)}


@torch.no_grad()
def sought(model: RecurrentAttention, task: HaystackConfig) -> Cells:
    """Yield the share of digits sought that looks did not meet, and the error where they did.

    Of needles also the error by whether another digit lies on the one sought, and of the topmost
    of several by how far it is above the next.
    """
    data = HaystackTask(task)
    drawn, side = data.drawn("validation"), task.canvas_size
    middles = torch.from_numpy(drawn.places).flip(-1) + data.piece_size[0] // 2
    looked, wrong = [], []
    with judging(model):
        for images, labels in data.fixed_batches("validation"):
            rollout = model(images)
            looked.append(to_pixels(rollout.locations, side, side))
            wrong.append(rollout.logits.argmax(-1) != labels)
    missed, marked = torch.cat(wrong), torch.from_numpy(drawn.sought)
    where = torch.cat(looked)[:, :, None] - middles[:, None]  # (n, looks, pieces, 2)
    met = (where.abs().amax(-1) < MET) & marked[:, None]
    there, found = marked.any(1), met.any(1).sum(1) == marked.sum(1)
    groups = {
        "digits that the first look did not meet": ~met[:, 0][marked],
        "digits that no look met": ~met.any(1)[marked],
        "error where all were met": missed[there & found],
        "error where one was not": missed[there & ~found],
    }
    if task.question == "needle":
        needles = middles.gather(1, marked.int().argmax(1)[:, None, None].expand(-1, 1, 2))
        beside = ((middles - needles).abs().amax(-1) < CROWDED) & ~marked
        crowded = beside.any(1)
        groups |= {
            "error where another digit lies on it": missed[there & crowded],
            "error where none does": missed[there & ~crowded],
            "error where there is none": missed[~there],
        }
    if task.question == "top":
        heights = middles[..., 1].int().masked_fill(~marked, side).sort(1).values
        above = heights[:, 1] - heights[:, 0]
        groups |= {
            f"error where it is {low} to {high - 1} pixels above the next": missed[
                (above >= low) & (above < high)
            ]
            for low, high in itertools.pairwise((*ABOVE, side))
        }
    for name, some in {**groups, "error": missed}.items():
        share = evaluation_of(int(some.sum()), len(some))
        yield {"share": name, **dataclasses.asdict(share)}


PROTOCOLS: dict[str, Callable[..., Cells]] = {
    protocol.__name__: protocol
    for protocol in (looks, sizes, first, stop, anew, near, clutter, sought)
}


def measured(name: str, protocol: str) -> dict[str, Any]:
    """Measure a model, and say how it was made."""
    saved = load(name)
    made, model, task = saved.result, saved.looking, saved.run.task
    kept = ("command", "commit", "hardware", "images_seen", "seconds", "seed")
    about = {key: made[key] for key in kept if key in made}
    return {"model": Path(name).name, **about, protocol: list(PROTOCOLS[protocol](model, task))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        models = [measured(name, options.protocol) for name in options.models]
    except (OSError, ValueError) as problem:
        raise SystemExit(str(problem)) from None
    if options.out is not None:
        about = {"commit": commit(), "hardware": hardware(torch.device("cpu"))}
        write_json(options.out, {**about, "models": models})
    print("|", *(f"| {model['model']}, % (95 % interval, of)" for model in models), "|")
    print("|---" * (len(models) + 1) + "|")
    for row in zip(*(model[options.protocol] for model in models), strict=True):
        print(f"| {next(iter(row[0].values()))}", end=" ")
        for cell in row:
            low, high = cell["interval"]
            print(f"| {cell['error']:.2f} ({low:.2f} to {high:.2f}, {cell['count']:,})", end=" ")
        print("|")


if __name__ == "__main__":
    main()
