"""``foveal evaluate``: the error of a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from foveal.commands import (
    choose_device,
    parse,
    print_json,
    say,
    set_threads,
    task_of,
    working,
)
from foveal.evaluation import evaluate as measure
from foveal.model import RecurrentAttention
from foveal.reference_models import ReferenceNetwork
from foveal.runs import load_network
from foveal.tasks import CanvasTask


def run(arguments: list[str]) -> None:
    parse(evaluate, "evaluate", arguments)


def evaluate(
    model: tyro.conf.Positional[str],
    task: str | None = None,
    digits: str | None = None,
    split: Literal["test", "validation"] = "test",
    num_glimpses: int | None = None,
    rollouts: int = 1,
    device: str = "auto",
    threads: int = 0,
    json: bool = False,
) -> None:
    """Measure the error of a model: one rollout, mean policy, random first location.

    The canvases and the first locations are one fixed draw, so that the figure can be repeated.

    Args:
        model: a run directory, a saved model, or the name of a pretrained one (foveal models).
        task: what to evaluate on; the task it was trained on if not given.
        digits: mnist, uci, or the path of IDX files or an image folder; the model's own if not
            given.
        split: test, or validation for choosing between recipes.
        num_glimpses: looks at each image; as in training if not given.
        rollouts: average the probabilities of so many rollouts, each from another first location;
            more than 1 is another protocol than the paper's.
        device: cpu, cuda or auto.
        threads: cores for arithmetic; 0 for all.
        json: print one JSON object.
    """
    if rollouts < 1:
        raise ValueError(f"rollouts must be at least 1; got {rollouts}.")
    set_threads(threads)
    place = choose_device(device)
    network, content = load_network(model, place)
    config = task_of(content, task, digits, Path(model))
    data = CanvasTask(config, place)
    height, width = data.image_size
    looks, pixels = 0, height * width
    if isinstance(network, RecurrentAttention):
        looks = network.config.num_glimpses if num_glimpses is None else num_glimpses
        pixels = network.count_pixels_read(looks)
    else:
        _check_whole_image(network, data, num_glimpses)
        rollouts = 1
    if len(data.classes) != network.config.num_classes:
        raise ValueError(
            f"the task has {len(data.classes)} classes; the model was made for "
            f"{network.config.num_classes}. Choose other digits or another model."
        )
    with working("evaluating", quiet=json):
        result = measure(network, data, split, num_glimpses=num_glimpses, rollouts=rollouts)
    answer = {
        "model": model,
        "task": task or content.get("name"),
        "split": split,
        **dataclasses.asdict(result),
        "num_glimpses": looks,
        "rollouts": rollouts,
        "pixels_read": rollouts * pixels,
        "parameters": network.count_parameters(),
    }
    if json:
        print_json(answer)
        return
    low, high = result.interval
    say(
        f"{split} error {result.error:.2f} % of {result.count:,} images (95 % interval {low:.2f} "
        f"to {high:.2f}); {_protocol(looks, rollouts)}{rollouts * pixels:,} pixels "
        f"read of {height} x {width}"
    )


def _protocol(looks: int, rollouts: int) -> str:
    if not looks:
        return ""
    return f"{looks} glimpses, " + (f"the mean of {rollouts} rollouts, " if rollouts > 1 else "")


def _check_whole_image(
    network: ReferenceNetwork, data: CanvasTask, num_glimpses: int | None
) -> None:
    if num_glimpses is not None:
        raise ValueError("--num-glimpses is for networks that look; this one sees the whole image.")
    if data.image_size != network.config.image_size:
        raise ValueError(
            f"the network was made for images of {network.config.image_size} pixels (height, "
            f"width); the task's have {data.image_size}. Choose another --task."
        )
