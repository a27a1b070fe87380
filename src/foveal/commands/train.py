"""``foveal train``: start a run, or go on with one."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foveal.commands.console import say
from foveal.commands.flags import choose_device, parse, set_threads
from foveal.commands.training import check_empty, free_directory, made_ready, read_flags, train
from foveal.names import shell_line
from foveal.runs.run import Run
from foveal.runs.saved import load
from foveal.tasks.folder.survey import Survey


@dataclass(frozen=True)
class TrainOptions:
    """Train a model on a task.

    A recipe sets every flag below, and each can be changed: the defaults shown are those of the
    recipe (`foveal train TASK --recipe paper --help` shows the other's). The run directory gets
    config.json, metrics.jsonl, TensorBoard events, checkpoint/ and, at the end, model.safetensors
    and result.json with the test error. Ctrl-C saves; `foveal train --resume RUN` goes on.
    """

    task: Annotated[str, tyro.conf.Positional]  # what to learn: see foveal tasks
    config: Run
    # fast; best: a coarse look at the whole first, usual for several digits; paper: as published
    recipe: str = "fast"
    out: Path | None = None  # run directory; runs/TASK-GLIMPSES-RECIPE-SEED if not given
    resume: Path | None = None  # go on with this run, exactly where it stopped
    device: str = "auto"  # cpu, cuda or auto
    capture: bool = True  # on a GPU, record a step as a CUDA graph and repeat that
    threads: int = 0  # cores for arithmetic; 0 for all
    json: bool = False  # print the result as one JSON object


@dataclass(frozen=True)
class AgentOptions(TrainOptions):
    """Train an agent that looks in order to act, from nothing but the reward of its games.

    `foveal train catch` is the paper's game; `foveal train control --env ENV_ID` takes any
    Gymnasium environment of images and discrete actions. A recipe sets every flag below, and each
    can be changed: the defaults shown are those of the recipe. Controls that say whether looking
    matters: --policy random, --policy center, and the whole screen with --policy center
    --num-scales 1 --glimpse-size 24 (the screen's size). The run directory gets config.json,
    metrics.jsonl, TensorBoard events, checkpoint/ and, at the end, model.safetensors and
    result.json. Ctrl-C saves; `foveal train --resume RUN` goes on.
    """

    # fast: proximal policy optimization; paper: REINFORCE with a baseline; best: as fast, with a
    # thumbnail of each screen and a map of where to look
    recipe: str = "fast"
    out: Path | None = None  # run directory; runs/TASK-RECIPE-SEED if not given
    capture: tyro.conf.Suppress[bool] = True


@dataclass(frozen=True)
class FolderOptions(TrainOptions):
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


def run(arguments: list[str]) -> None:
    if any(word.split("=")[0] == "--resume" for word in arguments):
        try:
            parse(_resume, "train", arguments)
        except ValueError as problem:
            if not (unknown := re.match(r"unknown (?:flag|argument) \S+(?=\.)", str(problem))):
                raise
            raise ValueError(
                f"{unknown[0]} beside --resume: all else is the run's own. Leave it out."
            ) from None
        return
    _start(*read_flags("train", arguments, _options))


def _options(task: str, config: Run) -> TrainOptions:
    kinds = {"agent": AgentOptions, "folder": FolderOptions}
    return kinds.get(config.kind, TrainOptions)(task, config)


def _resume(
    resume: Path,
    device: str = "auto",
    capture: bool = True,
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Go on with a run, exactly where it stopped; every other flag is the run's own.

    Args:
        resume: the run's directory.
        device: cpu, cuda or auto.
        capture: on a GPU, record a step as a CUDA graph and repeat that.
        threads: cores for arithmetic, 0 for all; as the run began if not given.
        json: print the result as one JSON object.
    """
    if not resume.is_dir():
        raise FileNotFoundError(f"--resume must be a run directory; there is no {str(resume)!r}.")
    saved = load(resume)
    if saved.run is None:
        raise ValueError(f"{resume} holds a model, and no run to go on with.")
    set_threads(saved.content.get("threads", 0) if threads is None else threads)
    train(saved.run, saved.content, resume, choose_device(device), json, capture=capture)


def _start(
    options: TrainOptions, found: Survey | None, reasons: list[str], changed: dict[str, Any]
) -> None:
    """Begin a run; see `read_flags`."""
    set_threads(options.threads)
    device = choose_device(options.device)
    directory, taken = free_directory(options.task, options.recipe, options.config)
    if options.out:
        directory, taken = options.out, ""
    check_empty(directory)
    for line in reasons:
        say(line)
    config, task = made_ready(options.config, found, device, "train", quiet=options.json)
    about = {
        "name": options.task,
        "recipe": options.recipe,
        "changed": changed,
        "threads": options.threads,
        "command": shell_line(*sys.argv[1:]),
    }
    train(
        config, about, directory, device, options.json, task, capture=options.capture, remark=taken
    )
