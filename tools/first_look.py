"""What the first look, which falls anywhere, leaves for the others to do.

    python tools/first_look.py RUN_OR_MODEL...

The validation split of the model's task, four rollouts of each image from uniformly random first
places, mean policy: the error where the first look saw nothing but black, and elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from foveal.layers import uniform_locations
from foveal.model import RecurrentAttention
from foveal.runs import load_network, run_config
from foveal.tasks import CanvasTask

ROLLOUTS, BATCH = 4, 1000
BLACK = 0.5  # less light than this in all of a glimpse is none


@torch.no_grad()
def main(name: str) -> None:
    model, content = load_network(name, torch.device("cpu"))
    assert isinstance(model, RecurrentAttention)
    task = CanvasTask(run_config(content, Path(name)).task)
    generator = torch.Generator().manual_seed(0)
    black, wrong = [], []
    for batch in torch.arange(task.size("validation")).repeat(ROLLOUTS).split(BATCH):
        images, labels = task.batch("validation", batch, None)
        first = uniform_locations(images, generator)
        black.append(model.sensor(images, first).flatten(1).sum(1) < BLACK)
        wrong.append(model(images, first_location=first).logits.argmax(-1) != labels)
    blind, errors = torch.cat(black), torch.cat(wrong).double() * 100
    print(
        f"{name}: error {errors.mean():.2f} %; the first look saw nothing in "
        f"{blind.double().mean() * 100:.1f} %: error {errors[blind].mean():.2f} % there, "
        f"{errors[~blind].mean():.2f} % elsewhere"
    )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(argument)
