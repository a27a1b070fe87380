"""Measure what a big image costs: the tables of docs/big-images.md.

    python tools/big_images.py DIRECTORY [ROUNDS]

Writes into the directory, unless it is there, a tiled TIFF of 1,024, of 8,192 and of 65,536 pixels
a side, with clutter as dense as in cluttered-60, and 1,000 test canvases as TIFFs. Then the
pretrained cluttered-60 looks at each, in turns: `foveal predict` as a command of its own, and the
model alone over a source that is opened for it. Times are medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import tifffile
import torch

from foveal.model.attention import RecurrentAttention
from foveal.scene.files import is_large, open_source
from foveal.tasks import TASKS, CanvasTask
from foveal.training.machine import commit, hardware

MODEL = "cluttered-60"
SIDES = (1024, 8192, 65_536)  # pixels
DENSITY = 4 / 60**2  # pieces of clutter a pixel
CANVASES = 1000
LOOKS_A_ROUND = 20


def main(directory: Path, rounds: int) -> None:
    files = {side: _big(directory, side) for side in SIDES}
    small = _small(directory)
    model = RecurrentAttention.from_pretrained(MODEL)
    torch.set_num_threads(1)
    commands: dict[int, list[tuple[float, float]]] = {side: [] for side in SIDES}
    models: dict[int, list[float]] = {side: [] for side in SIDES}
    read: dict[int, list[int]] = {side: [] for side in SIDES}
    for turn in range(rounds):
        for side, path in files.items():
            commands[side].append(_command(path))
        for seed in range(turn * LOOKS_A_ROUND, (turn + 1) * LOOKS_A_ROUND):
            for side, path in files.items():
                milliseconds, size = _look(model, path, seed)
                models[side].append(milliseconds)
                read[side].append(size)
    rows = [
        {
            "side": side,
            "file_megabytes": round(files[side].stat().st_size / 1e6, 1),
            "command_seconds": round(statistics.median(time for time, _ in commands[side]), 2),
            "peak_megabytes": round(statistics.median(size for _, size in commands[side])),
            "model_milliseconds": round(statistics.median(models[side]), 2),
            "kilobytes_by_model": round(statistics.mean(read[side]) / 1000, 1),
            "kilobytes_by_command": round(_by_command(files[side], read[side]) / 1000, 1),
        }
        for side in SIDES
    ]
    answer = {"model": MODEL, "hardware": hardware(torch.device("cpu")), "commit": commit()}
    print(json.dumps(answer | {"rounds": rounds, "sizes": rows} | _compare(model, small), indent=2))


def _look(model: RecurrentAttention, path: Path, seed: int) -> tuple[float, int]:
    """Milliseconds to open a file and look at it, and the bytes read of it."""
    generator = torch.Generator().manual_seed(seed)
    began = time.perf_counter()
    with torch.inference_mode(), open_source(path, 1) as source:
        model([source], generator=generator)
        return 1000 * (time.perf_counter() - began), source.bytes_read  # type: ignore[attr-defined]


def _by_command(path: Path, by_model: list[int]) -> float:
    """Bytes of the file that ``foveal predict`` reads: to see how large it is, and to look."""
    with open_source(path) as source:
        opening = source.bytes_read  # type: ignore[attr-defined]
    if is_large(path):
        return float(opening + statistics.mean(by_model))
    with tifffile.TiffFile(path) as file:  # read whole
        return float(opening + sum(file.pages.first.databytecounts))


def _command(path: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of ``foveal predict``."""
    command = [sys.executable, "-m", "foveal", "predict", MODEL, path, "--threads", "1", "--json"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{path}: predict failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def _compare(model: RecurrentAttention, files: list[Path]) -> dict[str, object]:
    """How often the class over files is that over the same canvases in memory."""
    images, _ = next(iter(CanvasTask(TASKS[MODEL]).fixed_batches("test")))
    first = torch.rand(len(images), 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sources = [open_source(path, 1) for path in files]
    with torch.inference_mode():
        over_files = model(sources, first_location=first).logits
        in_memory = model(images, first_location=first).logits
    same = (over_files.argmax(-1) == in_memory.argmax(-1)).float().mean()
    difference = (over_files - in_memory).abs().max()
    return {"canvases": len(files), "same_class": same.item(), "logits_differ": difference.item()}


def _big(directory: Path, side: int) -> Path:
    out = directory / str(side)
    clutter = round(DENSITY * side**2)
    _make(out, ["--canvas-size", side, "--num-clutter", clutter, "--test", 1])
    return next(out.rglob("*.tif"))


def _small(directory: Path) -> list[Path]:
    out = directory / "60"
    _make(out, ["--test", CANVASES])
    return sorted(out.rglob("*.tif"), key=lambda path: path.name)


def _make(out: Path, flags: list[object]) -> None:
    if not out.exists():
        fixed = ["--train", "0", "--validation", "0", "--format", "tiff", "--out", str(out)]
        task = [sys.executable, "-m", "foveal", "make-dataset", MODEL, *fixed]
        subprocess.run([*task, *map(str, flags)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
