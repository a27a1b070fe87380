"""``foveal demo``: the whole story in about two minutes."""

from __future__ import annotations

import dataclasses
import json as notation
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.commands.console import print_json, say, stops_explained, training_bar
from foveal.commands.flags import parse, set_threads
from foveal.evaluation.classifier import Evaluation, evaluate
from foveal.io.files import write_json
from foveal.io.models import CONFIG_FILE, FORMAT, VERSION, WEIGHTS_FILE, read_config, save_model
from foveal.model.attention import RecurrentAttention
from foveal.model.whole_image import make_reference_network
from foveal.runs.recipes import RunConfig, demo_run
from foveal.scene import as_scene
from foveal.tasks import CanvasTask
from foveal.training.classifier import Trainer
from foveal.viz.drawing import draw, save_picture
from foveal.viz.scanpath import follow


def run(arguments: list[str]) -> None:
    parse(demo, "demo", arguments)


def demo(
    out: Path = Path("demo"), epochs: int | None = None, threads: int = 0, json: bool = False
) -> None:
    """Train on small digits lost on a large canvas, beside a network that sees all of it.

    Uses scikit-learn's 1,797 handwritten digits, so that nothing is downloaded. Takes about two
    minutes on two cores, and writes the model and a picture of its scanpath.

    Args:
        out: directory for the model and the picture; an earlier demo there is replaced, one
            that was stopped goes on.
        epochs: passes over the digits; fewer for a quick look at the machinery.
        threads: cores for arithmetic; 0 for all.
        json: print the figures as one JSON object.
    """
    set_threads(threads)
    config = demo_run()
    if epochs is not None:
        training = dataclasses.replace(config.training, epochs=epochs)
        config = dataclasses.replace(config, training=training)
    task = CanvasTask(config.task)
    content: dict[str, Any] = {"name": "demo", "recipe": "demo", "classes": list(task.classes)}
    content |= {"format": FORMAT, "version": VERSION, **dataclasses.asdict(config)}
    _clear(out, content)
    write_json(out / CONFIG_FILE, content)
    height, width = task.image_size
    torch.manual_seed(config.training.seed)
    model = RecurrentAttention(config.model)
    rival = make_reference_network("fc-256", task.image_size, len(task.classes))
    if not json:
        say(
            f"Digits somewhere on a {width} x {height} canvas, with clutter. The attention model "
            f"reads {model.count_pixels_read():,} numbers in {config.model.num_glimpses} glimpses; "
            f"the fully-connected network reads all {height * width:,} pixels."
        )
    ours = _train(model, task, config, out, "attention", json)
    theirs = _train(rival, task, config, out / "fully-connected", "fully connected", json)
    save_model(out, model, content)
    picture = out / "look.png"
    images, labels = next(iter(task.fixed_batches("test")))
    shown = follow(
        model,
        as_scene(images).only(0),
        classes=task.classes,
        label=int(labels[0]),
        generator=torch.Generator().manual_seed(0),
    )
    save_picture(draw(shown), picture)
    if json:
        print_json({"error": ours.error, "interval": ours.interval, "rival_error": theirs.error})
        return
    say(f"test error after {config.training.epochs} epochs each:")
    say(f"  attention        {_in_words(ours)}")
    say(f"  fully connected  {_in_words(theirs)}")
    say(f"Where it looked, and what it believed after each look: {picture}")
    say(f"Next, another picture: foveal look {out} --index 1 --out {out}/look-1.png")


def _train(
    model: nn.Module, task: CanvasTask, config: RunConfig, out: Path, title: str, quiet: bool
) -> Evaluation:
    with training_bar(title, quiet=quiet) as show, stops_explained("the same command"):
        trainer = Trainer(model, task, config.training, config.objective, out, listener=show)
        trainer.restore()
        trainer.run()
    return evaluate(model, task, "test")


def _clear(out: Path, content: dict[str, Any]) -> None:
    """Remove an earlier demo, and nothing else; one of this content that was stopped goes on."""
    if not out.exists():
        return
    if not out.is_dir():
        raise NotADirectoryError(f"--out must be a directory; {out} is a file.")
    if not any(out.iterdir()):
        return
    found = read_config(out) if (out / CONFIG_FILE).exists() else {}
    if found.get("name") != "demo":
        raise FileExistsError(
            f"{out} holds other files than an earlier demo's. Choose another --out."
        )
    if found != notation.loads(notation.dumps(content)) or (out / WEIGHTS_FILE).exists():
        shutil.rmtree(out)


def _in_words(result: Evaluation) -> str:
    low, high = result.interval
    return f"{result.error:5.2f} %  (95 % interval {low:.2f} to {high:.2f})"
