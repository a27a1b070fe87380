"""``foveal train folder``: train on one's own images."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from foveal.commands import choose_device, complain, counting, parse, say, set_threads
from foveal.commands.train import check_empty, free_directory, train, value_of
from foveal.folder_recipe import suggest
from foveal.recipes import RECIPES, FolderRun, choose
from foveal.tasks import FolderConfig, FolderTask
from foveal.tasks.folder import Survey, survey


@dataclass(frozen=True)
class FolderOptions:
    """Train on your own images: `foveal train folder --data DIR`.

    DIR holds one subfolder a class, or train, validation (val) and test with such subfolders; or
    --data is a manifest, CSV or Parquet, with the columns path, label and, if wanted, split. PNG,
    JPEG, WebP, TIFF and BMP; grey or colour; of any sizes, also different ones. Without splits,
    15 % of each class is held out for validation and as much for the test; the run's split.csv says
    which. Every file is decoded once at the start: damaged ones are named and left out.

    Glimpse size, scales, glimpses, epochs and batch size are chosen from the images, and said with
    the reason; `foveal train folder --data DIR --help` shows the defaults for these images. Every
    flag overrides its value. Ctrl-C saves; `foveal train --resume RUN` goes on.
    """

    task: Annotated[str, tyro.conf.Positional]  # folder
    config: FolderRun
    recipe: str = "fast"  # fast, or paper: the published optimizer and reward
    out: Path | None = None  # run directory; runs/folder-GLIMPSES-RECIPE-SEED if not given
    device: str = "auto"  # cpu, cuda or auto
    threads: int = 0  # cores for arithmetic; 0 for all
    json: bool = False  # print the result as one JSON object


def run(arguments: list[str]) -> None:
    recipe = choose(value_of("--recipe", arguments) or FolderOptions.recipe, RECIPES, "recipe")
    quiet = "--json" in arguments
    data = value_of("--data", arguments)
    if data is None and {"-h", "--help"} & set(arguments):
        parse(FolderOptions, "train", arguments, FolderOptions("folder", FolderRun()))
    with counting("reading headers", quiet=quiet) as count:
        found = survey(data or "", count)
    # Absolute, so that the run can be gone on with from anywhere.
    config, reasons = suggest(FolderConfig(data=data or ""), found, recipe)
    default = FolderOptions("folder", config, recipe)
    options: FolderOptions = parse(FolderOptions, "train", arguments, default)
    if not options.json:
        given = {word.split("=")[0] for word in arguments}
        for reason in reasons:
            if not given & set(reason.flags):
                say(reason.words)
    start(options, found)


def start(options: FolderOptions, found: Survey) -> None:
    """Examine the images, and train."""
    set_threads(options.threads)
    config = options.config
    directory = options.out or free_directory("folder", options.recipe, config)
    check_empty(directory)
    place = Path(config.task.data).expanduser().resolve()
    config = dataclasses.replace(config, task=dataclasses.replace(config.task, data=str(place)))
    device = choose_device(options.device)
    with counting("decoding", quiet=options.json) as count:
        task = FolderTask.examine(config.task, found, device, count)
    for problem in task.problems:
        complain("train", f"left out: {problem}")
    config = fitted(config, task)
    if not options.json:
        sizes = ", ".join(
            f"{task.size(split):,} {split}" for split in ("train", "validation", "test")
        )
        say(f"{sizes} images; mean {_short(task.pixel_mean)}, std {_short(task.pixel_std)}")
    content = {
        "name": "folder",
        "recipe": options.recipe,
        "threads": options.threads,
        "command": shlex.join(["foveal", *sys.argv[1:]]),
        **dataclasses.asdict(config),
    }
    train(config, content, directory, options.device, options.json, task)


def fitted(config: FolderRun, task: FolderTask) -> FolderRun:
    """The configuration with a model for the channels, the classes and the pixels of the images."""
    model = dataclasses.replace(
        config.model,
        num_channels=task.num_channels,
        num_classes=len(task.classes),
        pixel_mean=config.model.pixel_mean or task.pixel_mean,
        pixel_std=config.model.pixel_std or task.pixel_std,
    )
    return dataclasses.replace(config, model=model)


def _short(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
