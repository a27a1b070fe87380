"""``foveal demo``: the whole story in about two minutes."""

import shutil
from pathlib import Path
from typing import Any

import torch

from foveal.commands.console import print_json, say, stops_explained, training_bar
from foveal.commands.flags import set_threads
from foveal.io.card import CARD_FILE
from foveal.io.models import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
)
from foveal.model.attention import RecurrentAttention
from foveal.names import shell_line
from foveal.runs.classifier import CanvasRun
from foveal.runs.recipes import demo_run
from foveal.runs.run import train_run
from foveal.runs.saved import load
from foveal.scene import as_scene
from foveal.tasks import CanvasTask
from foveal.training.machine import LOCK_FILES
from foveal.viz.drawing import draw, save_picture
from foveal.viz.scanpath import follow

RIVAL, PICTURE = "fully-connected", "look.png"
# What a demo writes, beside its checkpoints and events of TensorBoard.
FILES = {CONFIG_FILE, WEIGHTS_FILE, RESULT_FILE, METRICS_FILE, CARD_FILE, PICTURE, *LOCK_FILES}


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
        config = config.altered(training={"epochs": epochs})
    _clear(out, config)
    task = CanvasTask(config.task)
    height, width = task.image_size
    if not json:
        reads = RecurrentAttention(config.model).count_pixels_read()
        say(
            f"Digits somewhere on a {width} x {height} canvas, with clutter. The attention model "
            f"reads {reads:,} numbers in {config.model.num_glimpses} glimpses; "
            f"the fully-connected network reads all {height * width:,} pixels."
        )
    about = {"name": "demo", "recipe": "demo", "command": "foveal demo"}
    rival = config.altered(network="fc-256")
    runs = {"attention": (config, out), "fully connected": (rival, out / RIVAL)}
    results = []
    for title, (run, place) in runs.items():
        with training_bar(title, quiet=json) as show, stops_explained("the same command"):
            results.append(train_run(run, about, place, torch.device("cpu"), show, task=task))
    ours, theirs = results
    picture = out / PICTURE
    images, labels = next(iter(task.fixed_batches("test")))
    shown = follow(
        load(out).looking,
        as_scene(images).only(0),
        classes=task.classes,
        label=int(labels[0]),
        generator=torch.Generator().manual_seed(0),
    )
    save_picture(draw(shown), picture)
    if json:
        figures = {name: ours[name] for name in ("error", "interval")}
        print_json(**figures, rival_error=theirs["error"])
        return
    say(f"test error after {config.training.epochs} epochs each:")
    say(f"  attention        {_in_words(ours)}")
    say(f"  fully connected  {_in_words(theirs)}")
    say(f"Where it looked, and what it believed after each look: {picture}")
    more = shell_line("look", out, "--index", 1, "--out", out / "look-1.png")
    say(f"Next, another picture: {more}")


def _clear(out: Path, config: CanvasRun) -> None:
    """Remove an earlier demo, and nothing else beside it; one that was stopped goes on."""
    if not out.exists():
        return
    if not out.is_dir():
        raise NotADirectoryError(f"--out must be a directory; {out} is a file.")
    if not any(out.iterdir()):
        return
    saved = load(out) if (out / CONFIG_FILE).exists() else None
    if saved is None or saved.content.get("name") != "demo":
        raise FileExistsError(
            f"{out} holds other files than an earlier demo's. Choose another --out."
        )
    if saved.run == config and not (out / PICTURE).exists():
        return
    for path in out.iterdir():
        if path.is_dir() and path.name in {RIVAL, CHECKPOINT_FILE.parent.name}:
            shutil.rmtree(path)
        elif path.name in FILES or path.name.startswith("events.out."):
            path.unlink()


def _in_words(result: dict[str, Any]) -> str:
    low, high = result["interval"]
    return f"{result['error']:5.2f} %  (95 % interval {low:.2f} to {high:.2f})"
