"""Measure a model on canvases of other sizes than it was trained on: results/canvas-sizes.json.

    python tools/canvas_sizes.py MODEL [MODEL...]

Each model, on the 10,000 test canvases of cluttered-60 at 60, 100, 200, 400 and 1,000 pixels,
with the same 4 pieces of clutter: one rollout, mean policy, random first location, as
`foveal evaluate MODEL --canvas-size 100`. Prints the table of docs/big-images.md.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from foveal.evaluation.classifier import evaluate
from foveal.io.files import read_json, write_json
from foveal.io.models import locate_model, read_config
from foveal.model.attention import RecurrentAttention
from foveal.tasks import TASKS, CanvasTask
from foveal.training.machine import commit, hardware

SIZES = (60, 100, 200, 400, 1000)  # pixels a side
OUT = Path("results", "canvas-sizes.json")


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    answer: dict[str, Any] = {"commit": commit(), "hardware": hardware(torch.device("cpu"))}
    answer["models"] = [_measure(name) for name in names]
    write_json(OUT, answer)
    print("| canvas |" + "".join(f" {model['model']}, % |" for model in answer["models"]))
    for place, size in enumerate(SIZES):
        cells = [model["sizes"][place] for model in answer["models"]]
        print(f"| {size} x {size} |" + "".join(f" {_in_words(cell)} |" for cell in cells))


def _measure(name: str) -> dict[str, Any]:
    """The error of a model at each size, and how it was made."""
    directory = locate_model(name)
    content = read_config(directory)
    result = directory / "result.json"
    made = read_json(result) if result.exists() else {}
    model = RecurrentAttention.from_pretrained(directory)
    sizes = []
    for size in SIZES:
        task = CanvasTask(dataclasses.replace(TASKS["cluttered-60"], canvas_size=size))
        found = dataclasses.asdict(evaluate(model, task, "test"))
        sizes.append({"canvas_size": size, **found, "pixels_read": model.count_pixels_read()})
        print(name, sizes[-1], flush=True)
    kept = ("commit", "hardware", "images_seen", "seconds", "seed")
    return {
        "model": Path(name).name,
        "command": content.get("command"),
        **{key: made[key] for key in kept if key in made},
        "sizes": sizes,
    }


def _in_words(cell: dict[str, Any]) -> str:
    low, high = cell["interval"]
    return f"{cell['error']:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main(sys.argv[1:])
