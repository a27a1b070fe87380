"""Put a finished row's weights into the package, as the pretrained model NAME.

    python tools/ship.py cluttered-60-ram-8 cluttered-60

Of several seeds it takes the one that validated best, its weights as float16 where they are more
than 3 MB. Reads results/ROW.json and the run directory of `foveal reproduce`; writes
src/foveal/pretrained/NAME.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from foveal.io.card import CARD_FILE, model_card
from foveal.io.files import (
    changed,
    read_json,
    read_tensors,
    write_file,
    write_json,
    write_tensors,
)
from foveal.io.models import CONFIG_FILE, PRETRAINED, WEIGHTS_FILE
from foveal.runs.paper.rows import ROWS, Row
from foveal.tasks import DESCRIPTIONS, HAYSTACKS

RESULTS, RUNS = Path("results"), Path("runs/reproduce")
LARGEST = 3_000_000  # bytes of weights


def ship(row_name: str, name: str) -> None:
    row, result = ROWS[row_name], read_json(RESULTS / f"{row_name}.json")
    better = max if row.config.plays else min
    best = better(result["runs"], key=lambda run: run[f"validation_{row.measure}"])
    source = RUNS / row_name / f"seed-{best['seed']}"
    target = PRETRAINED / name
    target.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(source / file, target / file)
    if (target / WEIGHTS_FILE).stat().st_size > LARGEST:
        weights, about = read_tensors(source / WEIGHTS_FILE)
        halves = {key: part.half() if part.is_floating_point() else part
                  for key, part in weights.items()}  # fmt: skip
        write_tensors(target / WEIGHTS_FILE, halves, about)
    size = (target / WEIGHTS_FILE).stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{target}: {size:,} bytes of weights; at most {LARGEST:,} are shipped.")
    slim = {key: value for key, value in best.items() if key != "validation_curve"}
    write_json(target / "result.json", slim)
    said = _said_of_agent(row, best) if row.config.plays else _said(row, best)
    said |= {
        "the same network without a learned gaze": "; ".join(_controls(row)) or "not measured",
        "seed": str(best["seed"]),
        "made by": f"{best['command']}, commit {best['commit']}, {best['hardware']}, "
        f"{best['seconds'] / 60:.0f} minutes",
    }
    repeat, only = (
        (f"play {name} --episodes {best['episodes']} --seed 2014", "one size of one game")
        if row.config.plays
        else (f"evaluate {name}", "handwritten digits: it says nothing sensible of other images")
    )
    note = f"\n`foveal {repeat}` repeats the figure. Trained on {only}. Apache License 2.0.\n"
    content = read_json(source / CONFIG_FILE) | {"name": name}
    card = model_card(content, best, best["parameters"], more=said, name=name, note=note)
    write_file(target / CARD_FILE, card.encode())
    print(f"{target}: {row.measure} {best[row.measure]:.2f} %, {size:,} bytes")


def _controls(shipped: Row) -> list[str]:
    lines = []
    for row in ROWS.values():
        path = RESULTS / f"{row.name}.json"
        kin = (row.task, row.apart) == (shipped.task, shipped.apart)
        if kin and row.config.model.policy in ("random", "center") and path.exists():
            lines.append(f"{row.title}: {read_json(path)[row.measure]:.2f} %")
    return lines


def _said_of_agent(row: Row, run: dict[str, Any]) -> dict[str, str]:
    training = row.config.training
    low, high = run["interval"]
    return {
        "success": f"{run['success_rate']:.2f} % of {run['episodes']:,} fresh games "
        f"(95 % interval {low:.2f} to {high:.2f}); the paper about {row.paper:.0f} %",
        "task": f"{row.task}, from nothing but the reward at the end",
        "decisions seen": f"{run['decisions_seen']:,}",
        "mean distance of the last 8 looks from the ball": f"{run['ball_distance']:.2f} pixels",
        "recipe": f"{training.optimizer}, rate {training.lr:g} falling to 0, "
        f"{training.num_envs:,} games",
    }


def _said(row: Row, run: dict[str, Any]) -> dict[str, str]:
    training, moved = row.config.training, changed(row.config.task.augmentation)
    low, high = run["interval"]
    single = ""
    if "answer_error" in run:
        single = f" of whole sequences, {run['answer_error']:.2f} % of single answers"
    split = "50,000 training, 10,000 validation, 10,000 test images"
    if row.task in HAYSTACKS:
        split = f"{row.config.task.train_images:,} training, 1,000 validation, 1,000 test images"
    amounts = ", ".join(f"{kind} {amount:g}" for kind, amount in moved.items())
    transformed = f"; digits transformed anew each time: {amounts}" if moved else ""
    others = "nothing known to compare with"
    if row.paper:
        others = f"the paper {row.paper:.2f} %"
    elif row.best_known:
        others = f"best known {row.best_known[0]} % ({row.best_known[1]})"
    # The title of a row of haystacks says its question and its size, which may be another's.
    what = row.title if row.task in HAYSTACKS else f"{row.title}, {DESCRIPTIONS[row.task]}"
    return {
        "task": f"{row.task}: {what}, of MNIST",
        "split": split,
        "test error": f"{run['error']:.2f} % (95 % interval {low:.2f} to {high:.2f}){single}; "
        f"{others}",
        "validation error": f"{run['validation_error']:.2f} %",
        "images seen": f"{run['images_seen']:,}",
        "recipe": f"{training.optimizer}, rate {training.lr:g} falling to 0, "
        f"batches of {training.batch_size}{transformed}",
    }


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ROWS:
        raise SystemExit(f"usage: python tools/ship.py ROW NAME, with ROW one of {', '.join(ROWS)}")
    ship(*sys.argv[1:])
