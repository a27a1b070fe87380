"""Print the tables of protocols other than training's own that the documentation quotes.

    python tools/protocols.py looks cluttered-60     error after 1 to 12 looks (validation)
    python tools/protocols.py sizes cluttered-60     error on canvases of other sizes (test)
    python tools/protocols.py first mnist-28         what the first look leaves to do (validation)

Any number of runs and models may be named, a column each; --out FILE.json keeps the figures too.
All are single rollouts with the mean policy from random first locations, but for one from the
centre that "first" shows as well.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from foveal.evaluation.classifier import evaluate, evaluation_of, observe
from foveal.io.files import write_json
from foveal.model.attention import RecurrentAttention
from foveal.runs.saved import load
from foveal.tasks import TASKS, CanvasTask, TaskConfig
from foveal.training.machine import commit, hardware

LOOKS = 12  # at most
SIZES = (60, 100, 200, 400, 1000)  # pixels a side, all with the 4 pieces of clutter of cluttered-60
ROLLOUTS = 4  # from random first places
BLACK = 0.5  # less light than this in all of a glimpse is none
Cells = Iterator[dict[str, Any]]


def looks(model: RecurrentAttention, task: TaskConfig) -> Cells:
    """Yield the error after each number of looks."""
    found = observe(model, CanvasTask(task), "validation", num_glimpses=LOOKS)
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


PROTOCOLS = {protocol.__name__: protocol for protocol in (looks, sizes, first)}


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
