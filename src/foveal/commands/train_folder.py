"""``foveal train folder``: train on one's own images."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import torch
import tyro

from foveal.commands.console import counting, left_out, say
from foveal.commands.flags import choose_device, parse, set_threads
from foveal.commands.train import check_empty, free_directory, train, value_of
from foveal.names import choose
from foveal.runs.folder_recipe import suggest
from foveal.runs.recipes import RECIPES, FolderRun
from foveal.tasks import FolderConfig, FolderTask
from foveal.tasks.folder.task import Survey, survey

Options = TypeVar("Options")


@dataclass(frozen=True)
class FolderOptions:
    """Train on your own images: `foveal train folder --data DIR`.

    DIR holds one subfolder a class, or train, validation (val) and test with such subfolders; or
    --data is a manifest, CSV or Parquet, with the columns path, label and, if wanted, split. PNG,
    JPEG, WebP, TIFF and BMP; grey or colour; of any sizes, also different ones. Without splits,
    15 % of each class is held out for validation and as much for the test; the run's split.csv says
    which. Every file is decoded once at the start: damaged ones are named and left out. TIFFs of
    more than 2,048 x 2,048 pixels, arrays of numpy.save and whole slides are never read whole: each
    look reads its own windows.

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
    def default(config: FolderRun, recipe: str) -> FolderOptions:
        return FolderOptions("folder", config, recipe)

    start(*read_options(default, "train", arguments))


def read_options(
    default: Callable[[FolderRun, str], Options], command: str, arguments: list[str]
) -> tuple[Options, Survey]:
    """The flags of a command on one's own images, whose defaults follow from the images.

    Args:
        default: gives the command's options, a dataclass, for a configuration and its recipe.
        command: its name.
        arguments: after its name.

    Returns:
        The flags, and what the headers of the images say.

    Raises:
        OSError, ValueError: if there are no such images or flags.
    """
    name = choose(value_of("--recipe", arguments) or FolderOptions.recipe, RECIPES, "recipe")
    quiet = "--json" in arguments
    data = value_of("--data", arguments)
    if data is None and {"-h", "--help"} & set(arguments):
        nothing = default(FolderRun(), name)
        parse(type(nothing), command, arguments, nothing)
    with counting("reading headers", quiet=quiet) as count:
        found = survey(data or "", count)
    config, reasons = suggest(FolderConfig(data=data or ""), found, name)
    suggested = default(config, name)
    options: Options = parse(type(suggested), command, arguments, suggested)
    if not quiet:
        given = {word.split("=")[0] for word in arguments}
        for reason in reasons:
            if not given & set(reason.flags):
                say(reason.words)
    return options, found


def start(options: FolderOptions, found: Survey) -> None:
    """Examine the images, and train."""
    set_threads(options.threads)
    directory = options.out or free_directory("folder", options.recipe, options.config)
    check_empty(directory)
    device = choose_device(options.device)
    config, task = examine(options.config, found, device, "train", quiet=options.json)
    content = {
        "name": "folder",
        "recipe": options.recipe,
        "threads": options.threads,
        "command": shlex.join(["foveal", *sys.argv[1:]]),
        **dataclasses.asdict(config),
    }
    train(config, content, directory, options.device, options.json, task)


def examine(
    config: FolderRun, found: Survey, device: torch.device, command: str, *, quiet: bool
) -> tuple[FolderRun, FolderTask]:
    """Read the images once, say what was found, and fit the configuration to them.

    Raises:
        OSError, ValueError: see `FolderTask.examine`.
    """
    # Absolute, so that the run can be gone on with from anywhere.
    place = Path(config.task.data).expanduser().resolve()
    config = dataclasses.replace(config, task=dataclasses.replace(config.task, data=str(place)))
    report = partial(left_out, command)
    for problem in found.listing.problems:
        report(problem)
    with counting("reading images", quiet=quiet) as count:
        task = FolderTask.examine(config.task, found, device, count)
    for problem in task.problems[len(found.listing.problems) :]:
        report(problem)
    task.on_problem = report
    if not quiet:
        sizes = ", ".join(
            f"{task.size(split):,} {split}" for split in ("train", "validation", "test")
        )
        say(f"{sizes} images; mean {_short(task.pixel_mean)}, std {_short(task.pixel_std)}")
    return fitted(config, task), task


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
