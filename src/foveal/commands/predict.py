"""``foveal predict``: what a model answers on image files, and where it looked."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import tyro

from foveal.commands.console import FAILED, Stop, complain, console, counting, print_json, say
from foveal.commands.flags import choose_device, set_threads
from foveal.commands.shown import load_model
from foveal.fields import SEEDS, check_value
from foveal.geometry import to_pixels
from foveal.model.attention import RecurrentAttention
from foveal.model.config import check_looks
from foveal.model.policy import uniform_locations
from foveal.names import printable
from foveal.scene import as_scene
from foveal.scene.files import Source
from foveal.scene.pictures import as_batch, close_sources, grouped, height_and_width
from foveal.tasks.folder.decoding import Decoder, with_sources
from foveal.tasks.folder.pictures import MODES, Bytes, find_pictures

DIGITS = 6  # of a probability


def predict(
    model: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[str, ...]],
    top_k: int = 3,
    num_glimpses: int | None = None,
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
    what is looked at is read. The model looks with its mean policy, from one first location that
    --seed draws and that is the same for all files, so that the answer on a file does not depend on
    the others.

    A file that cannot be read is named on standard error and left out; the exit code is then 1.

    Args:
        model: a run directory, a saved model, or the name of a pretrained one (foveal models).
        images: files, directories (with what is below them), patterns in quotes such as
            "photos/**/*.jpg", or - for names on standard input, one a line, all read first.
        top_k: how many classes to name, the likeliest first; 0 for all.
        num_glimpses: looks at each image; as in training if not given.
        seed: of the first location.
        strict: stop at the first file that cannot be read.
        workers: processes that decode; -1 for one a core, at most 8, where there are many files.
        device: cpu, cuda or auto.
        threads: cores for arithmetic; 0 for all.
        json: print one JSON object a file: file, height, width, answer, probabilities, locations
            (x, y in pixels), pixels_read.
    """
    if top_k < 0:
        raise ValueError(f"top_k must be at least 0 (all classes); got {top_k}.")
    if workers < -1:
        raise ValueError(f"workers must be at least 0, or -1 for all; got {workers}.")
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
    network, classes = saved.looking, saved.classes
    if network.config.num_channels not in MODES:
        raise ValueError(
            f"image files have 1 or 3 channels; {model} takes {network.config.num_channels}. "
            "Choose another model."
        )
    paths = [path for image in images for path in _files(image)]
    first = uniform_locations(torch.empty(1), torch.Generator().manual_seed(seed)).to(torch_device)
    decoder = Decoder(network.config.num_channels, None if workers < 0 else workers)
    unreadable: list[Path] = []
    with counting("predicting", quiet=not paths) as count:
        done = 0
        readable = _readable(decoder, paths, unreadable, strict=strict)
        for group in grouped(readable, lambda item: item[1]):
            found: list[dict[str, Any]] = []
            try:
                found += _answers(network, group, classes, first, top_k, num_glimpses)
            except (OSError, ValueError) as problem:  # a large file, damaged where it was looked at
                _leave_out(group[0][0], problem, unreadable, strict=strict)
            finally:
                close_sources(picture for _, picture in group)
            for answer in found:  # what fails here is the output's, and no file's
                _print(answer, json)
            done += len(found)
            count(done + len(unreadable), len(paths))
    decoder.close()
    if unreadable:
        raise Stop(
            f"{len(unreadable):,} of {len(paths):,} files could not be read and were left out.",
            FAILED,
        )


def _files(name: str) -> Iterator[Path]:
    """The files that an argument means; itself where it means none, which is then reported."""
    if name == "-":
        yield from (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
        return
    matches = [name]
    if glob.has_magic(name) and not os.path.lexists(name):
        found = glob.glob(name, recursive=True)  # noqa: PTH207 (absolute patterns too)
        matches = sorted(found) or [name]
    for match in map(Path, matches):
        yield from (list(find_pictures(match)) or [match]) if match.is_dir() else [match]


def _readable(
    decoder: Decoder, paths: list[Path], unreadable: list[Path], *, strict: bool
) -> Iterator[tuple[Path, Bytes | Source]]:
    """The files that can be read: pixels or, of large ones, a source; others to ``unreadable``."""
    pictures = with_sources(decoder.stream(paths), decoder.num_channels)
    for path, picture in zip(paths, pictures, strict=True):
        if not isinstance(picture, Exception):
            yield path, picture
        else:
            _leave_out(path, picture, unreadable, strict=strict)


def _leave_out(path: Path, problem: Exception, unreadable: list[Path], *, strict: bool) -> None:
    if strict:
        raise ValueError(f"{problem} (--strict)")
    complain("predict", str(problem))
    unreadable.append(path)


def _answers(
    network: RecurrentAttention,
    group: list[tuple[Path, Bytes | Source]],
    classes: Sequence[str],
    first: torch.Tensor,
    top_k: int,
    num_glimpses: int | None,
) -> Iterator[dict[str, Any]]:
    scene = as_scene(as_batch([picture for _, picture in group], first.device))
    sizes = [height_and_width(picture) for _, picture in group]
    with torch.inference_mode():
        rollout = network(
            scene,
            num_glimpses=num_glimpses,
            first_location=first.expand(len(group), -1),
        )
        beliefs = rollout.logits.float().softmax(-1)
        likeliest = beliefs.topk(min(top_k or len(classes), len(classes)))
        heights, widths = torch.tensor(sizes, device=first.device)[..., None].unbind(1)
        centers = to_pixels(rollout.locations, heights, widths)
    pixels_read = network.count_pixels_read(num_glimpses)
    values = likeliest.values.double().round(decimals=DIGITS)
    rows = (part.cpu().numpy() for part in (values, likeliest.indices, centers))
    for (path, _), (height, width), *row in zip(group, sizes, *rows, strict=True):
        # Lists one image at a time: thousands at once would keep the garbage collector busy.
        shares, labels, locations = (part.tolist() for part in row)
        yield {
            "file": str(path),
            "height": height,
            "width": width,
            "answer": classes[labels[0]],
            "probabilities": {classes[n]: v for n, v in zip(labels, shares, strict=True)},
            "locations": locations,
            "pixels_read": pixels_read,
        }


def _print(answer: dict[str, Any], json: bool) -> None:
    if json:
        print_json(answer)
        return
    beliefs = ", ".join(f"{name} {value:.2f}" for name, value in answer["probabilities"].items())
    path = " ".join(f"({x}, {y})" for x, y in answer["locations"])
    line = (
        f"{answer['file']}: {beliefs}; looked at {path}; {answer['pixels_read']:,} pixels read of "
        f"{answer['height']} x {answer['width']}"
    )
    if console.is_terminal:
        say(line)  # above the bar
    else:
        print(printable(line))
