"""``foveal predict``: what a model answers on image files, and where it looked."""

import glob
import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from foveal.commands.console import FAILED, Stop, complain, console, counting, print_json, say
from foveal.commands.flags import choose_device, set_threads
from foveal.commands.shown import load_model
from foveal.evaluation.prediction import Prediction, predictions
from foveal.evaluation.stopping import StopRule
from foveal.model.config import check_looks
from foveal.names import DECODERS, SEEDS, check_value, printable
from foveal.scene.preparation import Door
from foveal.tasks.folder.decoding import Decoder, with_sources
from foveal.tasks.folder.pictures import MODES, find_pictures


def predict(
    model: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[str, ...]],
    top_k: int = 3,
    num_glimpses: int | None = None,
    stop: StopRule = "none",
    threshold: float | None = None,
    fit: bool = False,
    invert: bool = False,
    seed: int = 0,
    strict: bool = False,
    workers: int = -1,
    device: str = "auto",
    threads: int = 0,
    json: bool = False,
) -> None:
    """Say what a model answers on your image files, one line a file.

    PNG, JPEG, WebP, TIFF and BMP, of any sizes; upright as EXIF says. Colour becomes grey for a
    model of one channel, and grey becomes colour for a model of three; transparent pixels become
    black. Of a TIFF of more than 2,048 x 2,048 pixels, an array of numpy.save or a whole slide only
    what is looked at is read. The model looks with its mean policy. A first location that is random
    is one draw from --seed for all files, so that the answer on a file does not depend on the
    others, and foveal look shows the same.

    A file that cannot be read is named on standard error and left out; the exit code is then 1.

    Args:
        model: a run directory, a saved model, or the name of a pretrained one (foveal models).
        images: files, directories (with what is below them), patterns in quotes such as
            "photos/**/*.jpg", or - for names on standard input, one a line, all read first.
        top_k: how many classes to name, the likeliest first; 0 for all.
        num_glimpses: looks at each image; as in training if not given.
        stop: when to stop looking at an image: confident, when the belief in one class is as high
            as --threshold; learned, when the model's own stop says so.
        threshold: above 0 and below 1, such as 0.99, which alone is a confident stop; of a learned
            stop 0.5 if not given.
        fit: scale larger images down to the size of those that the model was trained on.
        invert: make dark light, for ink on paper.
        seed: of the first location.
        strict: stop at the first file that cannot be read.
        workers: processes that decode; -1 for one a core, at most 8, where there are many files.
        device: cpu, cuda or auto.
        threads: cores for arithmetic; 0 for all.
        json: print one JSON object a file: file, height, width, answer, probabilities, locations
            (x, y in pixels), sizes (of each look's widest square, in pixels a side), pixels_read;
            and, of a sequence, answers, each with answer, probabilities and locations.
    """
    if top_k < 0:
        raise ValueError(f"top_k must be at least 0 (all classes); got {top_k}.")
    check_value("workers", workers, int, DECODERS)
    check_looks(num_glimpses)
    check_value("seed", seed, int, SEEDS)
    if not images:
        raise ValueError(
            "which images? Name files, directories or patterns, or - to read names from standard "
            "input, as in: foveal predict mnist-28 photos"
        )
    set_threads(threads)
    torch_device = choose_device(device)
    saved = load_model(model, torch_device, "predict", plays=False)
    network = saved.looking
    if network.config.num_channels not in MODES:
        raise ValueError(
            f"image files have 1 or 3 channels; {model} takes {network.config.num_channels}. "
            "Choose another model."
        )
    door = Door(network.about, fit, invert, partial(complain, "predict"), model=model)
    paths = [path for image in images for path in _files(image)]
    decoder = Decoder(network.config.num_channels, workers)
    unreadable = 0
    with counting("predicting", quiet=not paths) as count:
        opened = with_sources(decoder.stream(paths), decoder.num_channels)
        named = zip(map(str, paths), opened, strict=True)
        looks: dict[str, Any] = {"num_glimpses": num_glimpses, "stop": stop, "threshold": threshold}
        answers = predictions(network, named, door, seed=seed, top_k=top_k, **looks)
        for done, answer in enumerate(answers, start=1):
            if isinstance(answer, Prediction):
                _print(answer, json, several=network.config.max_answers > 1)
            elif strict:
                raise ValueError(f"{answer.problem} (--strict)")
            else:
                complain("predict", str(answer.problem))
                unreadable += 1
            count(done, len(paths))
    decoder.close()
    if unreadable:
        raise Stop(
            f"{unreadable:,} of {len(paths):,} files could not be read and were left out.", FAILED
        )


def _files(name: str) -> Iterator[Path]:
    """The files that an argument means; itself where it means none, which is then reported."""
    if name == "-":
        yield from (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
        return
    if not name:  # which Path takes for the directory one is in
        raise ValueError("a file's name is empty. Name files or directories, or leave it out.")
    matches = [name]
    if glob.has_magic(name) and not os.path.lexists(name):
        found = glob.glob(name, recursive=True)  # noqa: PTH207 (absolute patterns too)
        matches = sorted(found) or [name]
    files = (
        (list(find_pictures(match)) or [match]) if match.is_dir() else [match]
        for match in map(Path, matches)
    )
    yield from dict.fromkeys(itertools.chain(*files))  # "**" matches a directory and what is in it


def _print(answer: Prediction, json: bool, several: bool) -> None:
    if json:
        content = asdict(answer)
        if not several:
            del content["answers"]
        print_json(**content)
        return
    beliefs = ", ".join(
        f"{name or 'nothing'} {value:.2f}" for name, value in answer.probabilities.items()
    )
    path = " ".join(f"({x}, {y})" for x, y in answer.locations)
    line = (
        f"{answer.file}: {beliefs}; looked at {path}; {answer.pixels_read:,} numbers read of "
        f"{answer.height} x {answer.width} pixels"
    )
    if console.is_terminal:
        say(line)  # above the bar
    else:
        print(printable(line))
