"""What the choices of a recipe are worth: short runs that differ from it in one thing each.

    python tools/ablations.py [--jobs 2] [--epochs 6]

Trains cluttered-60 with `foveal train`, one thread a run, in runs/ablations; goes on where it was
stopped. Then evaluates the recipe's run by other protocols. Writes results/ablations.json and
prints the tables for docs/reproducing.md. It compares validation errors: nothing is chosen on the
test split.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from foveal.evaluation.classifier import evaluate
from foveal.io.files import read_json, write_json
from foveal.io.models import CONFIG_FILE
from foveal.runs.saved import load
from foveal.tasks import CanvasTask

RUNS, RESULTS = Path("runs/ablations"), Path("results/ablations.json")

# A name, what differs, and the flags that make the difference.
ABLATIONS = {
    "recipe": ("the recipe", ""),
    "seed-1": ("the same, another seed", "--seed 1"),
    "seed-2": ("the same, a third seed", "--seed 2"),
    "adam": ("Adam, rate 1.5e-3", "--optimizer adam --lr 1.5e-3"),
    "lr-low": ("rate 7.5e-4", "--lr 7.5e-4"),
    "lr-high": ("rate 3e-3", "--lr 3e-3"),
    "std-narrow": ("std 0.03", "--location-std 0.03"),
    "std-wide": ("std 0.3 to 0.03", "--location-std 0.3"),
    "no-glimpse-term": ("no term for single glimpses", "--glimpse-weight 0"),
    "no-gradient": ("no gradient to the gaze but REINFORCE's", "--location-gradient 0"),
    "detached": (
        "the same, and the gaze does not shape the core",
        "--location-gradient 0 --detach-policy --reinforce-weight 1",
    ),
    "reward": ("reward 0 or 1", "--reward correct"),
    "whole-credit": ("each look credited with all that follows", "--credit-decay 1"),
    "plain-baseline": ("linear baseline, as published", "--no-privileged-baseline"),
    "plain-scales": ("no gain on the coarse scales", "--scale-gain 1"),
    "rectifier": ("rectifier core", "--core rnn"),
    "over": ("the digit covers the clutter", "--composition over"),
    "paper": ("the paper's recipe, at this length", "--recipe paper"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda name: _train(name, options.epochs), ABLATIONS))
    protocols = _protocols(RUNS / "recipe")
    write_json(RESULTS, {"runs": results, "protocols": protocols})
    print("| what differs | validation error, % | minutes | flags |\n|---|---|---|---|")
    for line in results:
        cells = (line["what"], f"{line['validation_error']:.2f}", f"{line['seconds'] / 60:.0f}")
        print("| " + " | ".join((*cells, f"`{line['flags']}`")) + " |")
    print("\n| the recipe's run, evaluated | validation error, % |\n|---|---|")
    for what, error in protocols.items():
        print(f"| {what} | {error:.2f} |")


def _train(name: str, epochs: int) -> dict[str, Any]:
    what, flags = ABLATIONS[name]
    directory = RUNS / name
    words = ["train", "cluttered-60", *flags.split(), "--epochs", str(epochs), "--threads", "1"]
    if (directory / CONFIG_FILE).exists():
        words = ["train", "--resume", str(directory)]
    else:
        words += ["--out", str(directory)]
    done = subprocess.run(
        [sys.executable, "-m", "foveal", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    result = read_json(directory / "result.json")
    kept = ("validation_error", "seconds", "images_seen", "seed", "commit", "hardware")
    return {"name": name, "what": what, "flags": flags, **{key: result[key] for key in kept}}


def _protocols(run: Path) -> dict[str, float]:
    """The validation error of one model, as others report theirs."""
    saved = load(run)
    network, config = saved.model, saved.run.task
    task = CanvasTask(config)
    over = CanvasTask(dataclasses.replace(config, composition="over"))
    less = CanvasTask(dataclasses.replace(config, num_clutter=2))
    return {
        "one rollout": evaluate(network, task, "validation").error,
        "ten rollouts averaged": evaluate(network, task, "validation", rollouts=10).error,
        "one rollout, the digit covers the clutter": evaluate(network, over, "validation").error,
        "one rollout, half of the clutter": evaluate(network, less, "validation").error,
    }


if __name__ == "__main__":
    main()
