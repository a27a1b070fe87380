"""How fast `foveal predict` is on many small files, beside the evaluation of tensors.

    python tools/predict_speed.py [--files 10000] [--threads 1]

Writes scikit-learn's digits as PNG files of 28 x 28 pixels, as often as it takes, and lets the
pretrained model mnist-28 answer: on the files, with the decoding timed apart, and on the same
images as one tensor; the least of seven rounds. Seconds are those that the processor worked for
this process, which other load on the machine changes little. The most memory in use is told for a
tenth of the files and for all.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveal import RecurrentAttention
from foveal.commands import predict
from foveal.tasks.canvases.digits import load_digits
from foveal.tasks.folder.decoding import Decoder
from foveal.tasks.folder.pictures import find_pictures

MODEL, BATCH = "mnist-28", 1000
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        _predict(arguments.memory_of)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    digits = load_digits("uci").train.images
    images = np.resize(digits, (arguments.files, *digits.shape[1:]))
    with tempfile.TemporaryDirectory() as name:
        some, whole = Path(name, "some"), Path(name, "whole")
        for folder, count in ((some, len(images) // 10), (whole, len(images))):
            folder.mkdir()
            for number, image in enumerate(images[:count]):
                Image.fromarray(image).save(folder / f"{number:06}.png")
        model = RecurrentAttention.from_pretrained(MODEL)
        tensor = torch.tensor(images)[:, None].float() / 255
        _evaluate(model, tensor[: 2 * BATCH])  # warm
        evaluated, decoded, predicted = _in_turns(
            lambda: _evaluate(model, tensor), lambda: _read(whole), lambda: _predict(whole)
        )
        megabytes = [_memory_of(folder) for folder in (some, whole)]
    rate = len(images) / (predicted - decoded)
    print(f"tensors: {len(images) / evaluated:,.0f} images/s")
    all_in_all = len(images) / predicted
    print(f"files: {all_in_all:,.0f} images/s; finding and decoding alone {decoded:.2f} s")
    print(f"files once decoded: {rate:,.0f} images/s, {100 * rate * evaluated / len(images):.0f} %")
    print(
        f"most memory: {megabytes[0]:.0f} MB for a tenth of the files, {megabytes[1]:.0f} for all"
    )


def _in_turns(*works: Callable[[], object]) -> list[float]:
    """The least seconds of each, in rounds: a slow minute of the machine is everyone's."""
    least = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for place, work in enumerate(works):
            began = time.process_time()
            work()
            least[place] = min(least[place], time.process_time() - began)
    return least


def _evaluate(model: RecurrentAttention, images: torch.Tensor) -> None:
    with torch.inference_mode():
        for batch in images.split(BATCH):
            model(batch).logits.argmax(-1)


def _read(folder: Path) -> None:
    paths = list(find_pictures(folder))
    for _ in Decoder(1, 0).stream(paths):
        pass


def _predict(folder: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        threads = torch.get_num_threads()
        predict.predict(MODEL, (str(folder),), json=True, workers=0, threads=threads)


def _memory_of(folder: Path) -> float:
    line = [sys.executable, __file__, "--memory-of", str(folder)]
    return float(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
