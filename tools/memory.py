"""How much memory a training keeps, over many steps: docs/performance.md's figures.

    python tools/memory.py [--batch-size 32] [--steps 10000] [--out results/memory.json]

Runs `foveal train cluttered-100` in a directory that is removed afterwards, one thread, for as many
whole epochs as make so many steps, and reads the process's resident set from /proc every 100 steps
(Linux alone has it). Prints and writes the readings, the most that was ever in use, and how the
readings rise: the slope of a line through those of the second half.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from foveal import checkpoint
from foveal.journal import METRICS_FILE, read_metrics
from foveal.machine import commit

TRAINING_IMAGES, LOG_EVERY = 50_000, 100
COMMAND = "train cluttered-100 --batch-size {batch} --epochs {epochs} --threads 1 --json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    steps_per_epoch = TRAINING_IMAGES // options.batch_size
    epochs = -(-options.steps // steps_per_epoch)
    command = COMMAND.format(batch=options.batch_size, epochs=epochs)
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory, "run")
        words = [sys.executable, "-m", "foveal", *command.split(), "--out", str(run)]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as training:
            readings, most = watch(training, run)
        if training.returncode:
            sys.exit(training.returncode)
    found = {
        "command": f"foveal {command}",
        "commit": commit(),
        "steps": epochs * steps_per_epoch,
        "peak_mb": most,
        "rise_mb_per_1000_steps": rise(readings[len(readings) // 2 :]),
        "readings": readings,
    }
    print({name: value for name, value in found.items() if name != "readings"})
    print("resident set by step, MB:", readings[:: max(1, len(readings) // 20)])
    if options.out:
        checkpoint.write_json(options.out, found)


def watch(training: subprocess.Popen[bytes], run: Path) -> tuple[list[tuple[int, int]], int]:
    """The resident set in MB by step, and the most that the process ever had."""
    readings: list[tuple[int, int]] = []
    most = 0
    while training.poll() is None:
        time.sleep(0.2)
        memory = memory_of(training.pid)
        most = max(most, memory.get("VmHWM", 0))
        if not (run / METRICS_FILE).exists() or "VmRSS" not in memory:
            continue
        steps = [line["step"] for line in read_metrics(run)]
        if steps and (not readings or steps[-1] >= readings[-1][0] + LOG_EVERY):
            readings.append((steps[-1], memory["VmRSS"]))
    return readings, most


def memory_of(process: int) -> dict[str, int]:
    """What /proc says of a process's memory, in MB; nothing once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = [line.split(":") for line in lines if line.endswith(" kB")]
    return {name: round(int(value.split()[0]) * 1024 / 1e6) for name, value in pairs}


def rise(readings: list[tuple[int, int]]) -> float | None:
    """The slope of a line through readings, in MB for 1,000 steps."""
    if len(readings) < 3:
        return None
    steps, memory = zip(*readings, strict=True)
    return round(1000 * statistics.linear_regression(steps, memory).slope, 2)


if __name__ == "__main__":
    main()
