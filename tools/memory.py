"""Watch how much memory a training keeps: docs/performance.md's figures.

    foveal reproduce cluttered-100-ram-8 --jobs 1 &
    python tools/memory.py runs/reproduce/cluttered-100-ram-8/seed-0 $! [--steps 10000]

Reads the process's resident set from /proc (Linux alone has it) whenever the run has reported
another 100 steps, until it has made so many or ends; changes nothing of it. Prints and writes the
readings, the most that the process ever had, and the slope of a line through the readings.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from foveal.io.files import write_json
from foveal.io.models import read_config
from foveal.training.journal import read_metrics

EVERY = 100  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("process", type=int)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    readings, most = watch(options.run, options.process, options.steps)
    if len(readings) < 2:
        raise SystemExit(f"process {options.process} ended, or {options.run} reported too little.")
    steps, memory = zip(*readings, strict=True)
    found = {
        "steps": steps[-1] - steps[0],
        "least_mb": min(memory),
        "most_mb": max(memory),
        "peak_mb": most,
        "rise_mb_per_1000_steps": 1000 * statistics.linear_regression(steps, memory).slope,
    }
    print(found)
    if options.out:
        config = read_config(options.run)
        about = {"command": config["command"], "batch_size": config["training"]["batch_size"]}
        write_json(options.out, {**about, **found, "readings": readings})


def watch(run: Path, process: int, steps: int) -> tuple[list[tuple[int, int]], int]:
    """The resident set in MB by step, and the most that the process ever had."""
    readings: list[tuple[int, int]] = []
    most = 0
    while memory := memory_of(process):
        most = memory["VmHWM"]
        lines = read_metrics(run)
        step = lines[-1]["step"] if lines else 0
        if step and (not readings or step >= readings[-1][0] + EVERY):
            readings.append((step, memory["VmRSS"]))
        if readings and readings[-1][0] - readings[0][0] >= steps:
            break
        time.sleep(5)
    return readings, most


def memory_of(process: int) -> dict[str, int]:
    """What /proc says of a process's memory, in MB; nothing once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = [line.split(":") for line in lines if line.endswith(" kB")]
    return {name: round(int(value.split()[0]) * 1024 / 1e6) for name, value in pairs}


if __name__ == "__main__":
    main()
