"""What the choices of a recipe are worth: short runs that differ from it in one thing each.

    python tools/ablations.py [--jobs 2] [--epochs 6]
    python tools/ablations.py --of best --minutes 3 --seeds 0 1 2 [--only recipe alone] [--jobs 2]

Trains cluttered-60 with `foveal train`, one thread a run, in runs/ablations; goes on where it was
stopped. The first has all runs see as many images, and evaluates the recipe's run by other
protocols. The second gives all as much processor time: each makes one pass, and then from the
beginning as many as the minutes hold. They write results/ablations.json and
results/ablations-best.json and print the tables for docs/reproducing.md and docs/beyond.md. They
compare validation errors: nothing is chosen on the test split.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
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

RUNS, RESULTS = Path("runs/ablations"), Path("results")

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


# The same of `--recipe best`, each at as much time.
OF_BEST = {
    "recipe": ("`--recipe best`", ""),
    "fast": ("`--recipe fast`", "--recipe fast"),
    "no-map": (
        "the context tells the core, no map the policy, and the first look is random",
        "--policy learned",
    ),
    "anywhere": ("the context, and looks anywhere", "--policy random"),
    "end-credit": ("credit for the end alone", "--look-weight 0"),
    "alone": ("a look earns what it tells alone", "--look-reward alone"),
    "last-answer": ("only the last answer is trained", "--step-weight 0"),
    "no-glimpse-term": ("no term for single glimpses", "--glimpse-weight 0"),
    "gradient": ("the answer's gradient moves the gaze too", "--location-gradient 1"),
    "mlp": ("the paper's glimpse network", "--glimpse-network mlp"),
    "retina": (
        "the same, and the paper's retina",
        "--glimpse-network mlp --glimpse-size 12 --num-scales 3 --scale-gain 3",
    ),
    "four-looks": (
        "four looks of 32 filters",
        "--num-glimpses 4 --glimpse-filters 32",
    ),
    "one-look": ("one look of 64 filters", "--num-glimpses 1 --glimpse-filters 64"),
    "small": ("looks of 20 x 20", "--glimpse-size 20"),
    "adamw-kernels": ("kernels by AdamW", "--optimizer muon"),
    "rectifier": ("rectifier core", "--core rnn"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", choices=("fast", "best"), default="fast")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=OF_BEST, help="some of them, with --of best")
    options = parser.parse_args()
    (_of_fast if options.of == "fast" else _of_best)(options)


def _of_fast(options: argparse.Namespace) -> None:
    def train(name: str) -> dict[str, Any]:
        what, flags = ABLATIONS[name]
        return {"name": name, "what": what} | _train(RUNS / name, flags, options.epochs)

    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(train, ABLATIONS))
    protocols = _protocols(RUNS / "recipe")
    write_json(RESULTS / "ablations.json", {"runs": results, "protocols": protocols})
    print("| what differs | validation error, % | minutes | flags |\n|---|---|---|---|")
    for line in results:
        cells = (line["what"], f"{line['validation_error']:.2f}", f"{line['seconds'] / 60:.0f}")
        print("| " + " | ".join((*cells, f"`{line['flags']}`")) + " |")
    print("\n| the recipe's run, evaluated | validation error, % |\n|---|---|")
    for what, error in protocols.items():
        print(f"| {what} | {error:.2f} |")


def _of_best(options: argparse.Namespace) -> None:
    place = RUNS / f"best-{options.minutes:g}-minutes"

    def train(which: tuple[int, str]) -> None:
        seed, name = which
        flags = OF_BEST[name][1]
        flags = flags if name == "fast" else f"--recipe best {flags}".rstrip()
        pace = _train(place / f"{name}-pace", flags, 1)["processor_seconds"]
        passes = max(1, round(60 * options.minutes / pace))
        run = _train(place / f"{name}-{seed}", f"{flags} --seed {seed}", passes)
        run = {"name": name, "what": OF_BEST[name][0]} | run
        write_json(place / f"{name}-{seed}.json", run)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(train, itertools.product(options.seeds, options.only or OF_BEST)))
    results = [
        read_json(path) for name in OF_BEST for path in sorted(place.glob(f"{name}-[0-9]*.json"))
    ]
    write_json(RESULTS / "ablations-best.json", {"runs": results})
    print("| what differs | validation error, % | passes | seconds | flags |\n" + 5 * "|---" + "|")
    for name, (what, flags) in OF_BEST.items():
        if not (runs := [run for run in results if run["name"] == name]):
            continue
        errors = [run["validation_error"] for run in runs]
        seconds = statistics.fmean(run["processor_seconds"] for run in runs)
        said = f"{statistics.fmean(errors):.2f}"
        said += f" ({', '.join(f'{e:.2f}' for e in errors)})" if errors[1:] else ""
        print(f"| {what} | {said} | {runs[0]['passes']} | {seconds:.0f} | `{flags}` |")


def _train(directory: Path, flags: str, epochs: int) -> dict[str, Any]:
    """A run's result; one that was stopped goes on, and one that has ended is only read."""
    if not (directory / "result.json").exists():
        words = ["train", "cluttered-60", *flags.split(), "--epochs", str(epochs), "--threads", "1"]
        if (directory / CONFIG_FILE).exists():
            words = ["train", "--resume", str(directory)]
        else:
            words += ["--out", str(directory)]
        command = [sys.executable, "-m", "foveal", *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{directory}: {done.stderr}")
    result = read_json(directory / "result.json")
    kept = ("validation_error", "seconds", "images_seen", "seed", "commit", "hardware")
    passes = read_json(directory / CONFIG_FILE)["training"]["epochs"]
    times = {"passes": passes, "processor_seconds": result["processor_seconds"]}
    return {"flags": flags, **{key: result[key] for key in kept}, **times}


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
