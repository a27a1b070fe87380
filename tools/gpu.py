"""All that has to be measured on a GPU, the most important first, in under ten minutes.

    python tools/gpu.py [--out results/gpu.json] [--minutes 9.5]
    python tools/gpu.py --device cpu --quick --out gpu.json      # that it runs, not what it gives

The tests that need a GPU; `foveal bench`; images a second of training, eager and captured, with the
memory that it takes; the recipe of mnist-28 to its end; what precisions do to rate and error. What
was measured is written after each part, so that a cut leaves all before it; a part that fails says
why, and the next begins.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from foveal.commands.flags import choose_device
from foveal.io.files import write_json
from foveal.runs.recipes import recipe
from foveal.runs.run import train_run
from foveal.training.machine import commit, hardware
from foveal.training.progress import Progress

TESTS = ("tests/training/test_capture.py", "tests/model/test_sensor.py")
NEVER = 10**6  # epochs between validations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device, quick = choose_device(options.device), options.quick
    ends = time.monotonic() + 60 * options.minutes
    found: dict[str, Any] = {"hardware": hardware(device), "commit": commit(), "quick": quick}
    for name, part in parts(device, quick).items():
        left = ends - time.monotonic()
        if left <= 0:
            found[name] = "not measured: the time was over"
            continue
        began = time.monotonic()
        try:
            found[name] = part(left)
        except Exception as problem:  # of anything: what was measured before is kept
            found[name] = {"failed": f"{type(problem).__name__}: {problem}"}
        words = json.dumps(found[name])[:300]
        print(f"{name} ({time.monotonic() - began:.0f} s): {words}", flush=True)
        write_json(options.out, found)


def parts(device: torch.device, quick: bool) -> dict[str, Callable[[float], Any]]:
    """What is measured, by name; each is told how many seconds are left."""
    train = partial(trained, device=device, quick=quick)
    rates = {  # of as many steps each
        f"{task}, {'captured' if capture else 'eager'}, batch {batch}": partial(
            train,
            task,
            capture=capture,
            epochs=batch // 256,
            batch_size=batch,
            precision="bf16-mixed",
        )
        for task in ("mnist-28", "cluttered-100")
        for batch in (2048, 16384)
        for capture in (True, False)
    }
    precisions = {
        f"cluttered-60, 20 epochs, {precision}": partial(
            train, "cluttered-60", epochs=20, precision=precision, validated=True
        )
        for precision in ("32-true", "tf32", "bf16-mixed")
    }
    whole = {"mnist-28 to its end": partial(train, "mnist-28", judged=True, validated=True)}
    return {"tests": tests, "bench": partial(bench, device, quick), **rates, **whole, **precisions}


def tests(left: float) -> str:
    """The last line of the tests that need a GPU."""
    options = ("-q", "-p", "no:cacheprovider", "-k", "on_a_gpu or cuda")
    return _output("-m", "pytest", *options, *TESTS, left=left)[-1]


def bench(device: torch.device, quick: bool, left: float) -> Any:
    """What `foveal bench` measures of everything but the sensor and the games."""
    names = ["synthesis"] if quick else ["step", "evaluation", "latency", "synthesis"]
    sizes = ["--rounds", "3", "--batch-sizes", *(["64"] if quick else ["512", "4096"])]
    words = ["bench", "--json", "--device", device.type, "--parts", *names, *sizes]
    return json.loads(_output("-m", "foveal", *words, left=left)[-1])


def trained(
    task: str,
    _left: float,
    *,
    device: torch.device,
    quick: bool,
    capture: bool = True,
    validated: bool = False,
    judged: bool = False,
    **training: Any,
) -> dict[str, Any]:
    """Rate, memory and errors of a training by the recipe fast."""
    config = recipe(task, "fast").altered(
        training=training if validated else training | {"validate_every": NEVER}
    )
    if quick:
        config = config.altered(task={"digits": "uci"}, training={"epochs": 1, "batch_size": 256})
    config = config.altered(training={"log_every": 1 if quick else 20})
    if device.type == "cuda":
        gc.collect()  # a captured step before this one, and its memory
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    pace = Pace()
    with tempfile.TemporaryDirectory() as directory:
        about = {"name": task, "recipe": "fast", "command": "python tools/gpu.py"}
        place = Path(directory)
        result = train_run(config, about, place, device, pace, judged=judged, capture=capture)
    kept = ("error", "validation_error", "seconds", "images_seen", "parameters")
    return {
        "images_per_second": round(pace.steps * config.training.batch_size / pace.seconds),
        "peak_mb": torch.cuda.max_memory_allocated(device) // 2**20 if device.type == "cuda" else 0,
        **{key: result[key] for key in kept if key in result},
    }


class Pace:
    """Listens to a training: the time of its steps, without validations.

    Each reading of the metrics has waited for the device. From the first one on, by when a step may
    have been recorded.
    """

    def __init__(self) -> None:
        self.steps, self.seconds = 0, 0.0
        self.last: tuple[int, float] | None = None

    def __call__(self, progress: Progress) -> None:
        now = progress.step, time.perf_counter()
        if self.last is not None and not progress.validated:
            self.steps += now[0] - self.last[0]
            self.seconds += now[1] - self.last[1]
        if self.last is not None or not progress.validated:
            self.last = now


def _output(*words: str, left: float) -> list[str]:
    command = [sys.executable, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    if done.returncode:
        raise RuntimeError(" ".join(lines[-3:]))
    return lines


if __name__ == "__main__":
    main()
