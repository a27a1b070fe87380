"""What the first look, which falls anywhere, leaves for the others to do.

    python tools/first_look.py RUN_OR_MODEL...

The validation split of the model's task, mean policy: four rollouts of each image from uniformly
random first places, and those of them where the first look saw nothing but black; and one from the
image's centre.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from foveal.model.attention import RecurrentAttention
from foveal.model.layers import uniform_locations
from foveal.runs.run import load_network, run_config
from foveal.tasks import CanvasTask

ROLLOUTS = 4
BLACK = 0.5  # less light than this in all of a glimpse is none


@torch.no_grad()
def main(name: str) -> None:
    model, content = load_network(name, torch.device("cpu"))
    if not isinstance(model, RecurrentAttention):
        raise SystemExit(f"{name} sees the whole image and looks nowhere; give one with glimpses.")
    task = CanvasTask(run_config(content, Path(name)).task)
    generator = torch.Generator().manual_seed(0)
    saw_nothing, wrong, wrong_from_centre = [], [], []
    for images, labels in task.fixed_batches("validation"):
        for _ in range(ROLLOUTS):
            first = uniform_locations(images, generator)
            saw_nothing.append(model.sensor(images, first).flatten(1).sum(1) < BLACK)
            wrong.append(model(images, first_location=first).logits.argmax(-1) != labels)
        first = torch.zeros(len(images), 2)
        wrong_from_centre.append(model(images, first_location=first).logits.argmax(-1) != labels)
    blind, error = torch.cat(saw_nothing), torch.cat(wrong).double() * 100
    from_centre = torch.cat(wrong_from_centre).double() * 100
    print(
        f"{name}: error {error.mean():.2f} %, from the centre {from_centre.mean():.2f} %; "
        f"the first look saw nothing in {blind.double().mean() * 100:.1f} %: "
        f"error {error[blind].mean():.2f} % there, {error[~blind].mean():.2f} % elsewhere"
    )


if __name__ == "__main__":
    if not sys.argv[1:]:
        raise SystemExit(__doc__)
    for argument in sys.argv[1:]:
        try:
            main(argument)
        except (OSError, ValueError) as problem:
            raise SystemExit(str(problem)) from None
