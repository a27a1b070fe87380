"""What the commands that train share: the recipe, the images, the run directory and the run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from foveal.commands.console import (
    counting,
    left_out,
    print_json,
    say,
    stops_explained,
    training_bar,
)
from foveal.commands.flags import parse
from foveal.io.models import CONFIG_FILE, read_config
from foveal.model.config import PARTS, RAMConfig
from foveal.model.whole_image import REFERENCE_NETWORKS
from foveal.names import choose
from foveal.runs.folder_recipe import suggest
from foveal.runs.recipes import (
    AGENT_TASKS,
    RECIPES,
    AgentConfig,
    FolderRun,
    RunConfig,
    agent_recipe,
    recipe,
)
from foveal.runs.run import RESULT_FILE, fitted, open_folder, train_run
from foveal.tasks import FOLDER_TASKS, TASKS, FolderConfig, FolderTask
from foveal.tasks.folder.task import Survey, survey
from foveal.training.machine import LOCK_FILES
from foveal.training.objective import ObjectiveConfig

RECIPE = "fast"  # where none is named
Options = TypeVar("Options")
T = TypeVar("T")


def choose_recipe(
    arguments: list[str], command: str
) -> tuple[str, list[str], RunConfig | AgentConfig]:
    """The task that the arguments begin with, the arguments with it, and its recipe's values.

    Raises:
        ValueError: if there is no task, or no such one, or no such recipe.
    """
    positional = bool(arguments) and not arguments[0].startswith("-")
    known = (*TASKS, *AGENT_TASKS, *FOLDER_TASKS)
    if not positional and not {"-h", "--help"} & set(arguments):
        raise ValueError(
            f"which task? It must be one of {', '.join(known)}, as in: foveal {command} mnist-28"
        )
    task = choose(arguments[0], known, "task") if positional else "mnist-28"
    chosen = value_of("--recipe", arguments) or RECIPE
    find = agent_recipe if task in AGENT_TASKS else recipe
    config = with_parts(find(task, chosen), arguments)
    return task, arguments if positional else [task, *arguments], config


def with_parts(config: T, arguments: list[str]) -> T:
    """A configuration with the parts that flags choose, whose settings become flags by that.

    Raises:
        ValueError: if there is no such part.
    """
    check_heard(arguments)
    words = {name: value_of(f"--{name.replace('_', '-')}", arguments) for name in PARTS}
    chosen: Any = {name: word for name, word in words.items() if word is not None}
    model = config.model.with_parts(**chosen)  # type: ignore[attr-defined]
    return dataclasses.replace(config, model=model)  # type: ignore[type-var]


def check_heard(arguments: list[str]) -> None:
    """Refuse flags of a model that looks where the network sees the whole image.

    Raises:
        ValueError: naming the first.
    """
    network = value_of("--network", arguments)
    if network not in REFERENCE_NETWORKS:
        return
    fields = (*dataclasses.fields(RAMConfig), *dataclasses.fields(ObjectiveConfig))
    unheard = {"final_location_std", *(field.name for field in fields)}
    for word in arguments:
        flag = word.partition("=")[0]
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        if flag.startswith("--") and name in unheard:
            raise ValueError(
                f"{flag} is of a network that looks; {network} sees the whole image. Leave it out, "
                "or pass --network ram."
            )


def value_of(flag: str, arguments: list[str]) -> str | None:
    """What follows a flag on the command line, before the flags are read."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
    return None


def read_options(
    default: Callable[[FolderRun], Options], command: str, arguments: list[str]
) -> tuple[Options, Survey]:
    """The flags of a command on one's own images, whose defaults follow from the images.

    Args:
        default: gives the command's options, a dataclass, for a configuration.
        command: its name.
        arguments: after its name.

    Returns:
        The flags, and what the headers of the images say.

    Raises:
        OSError, ValueError: if there are no such images or flags.
    """
    name = choose(value_of("--recipe", arguments) or RECIPE, RECIPES, "recipe")
    quiet = "--json" in arguments
    data = value_of("--data", arguments)
    if data is None and {"-h", "--help"} & set(arguments):
        nothing = default(FolderRun())
        parse(type(nothing), command, arguments, nothing)
    with counting("reading headers", quiet=quiet) as count:
        found = survey(data or "", count)
    share = value_of("--held-out", arguments)
    images = FolderConfig(data=data or "")
    with contextlib.suppress(ValueError):  # said when all flags are read
        images = images if share is None else dataclasses.replace(images, held_out=float(share))
    config, reasons = suggest(images, found, name)
    suggested = default(with_parts(config, arguments))
    options: Options = parse(type(suggested), command, arguments, suggested)
    if not quiet:
        given = {word.split("=")[0] for word in arguments}
        for reason in reasons:
            if not given & set(reason.flags):
                say(reason.words)
    return options, found


def made_ready(
    config: RunConfig | AgentConfig,
    found: Survey | None,
    device: torch.device,
    command: str,
    *,
    quiet: bool,
) -> tuple[RunConfig | AgentConfig, FolderTask | None]:
    """What the flags say, made whole: a model takes the shape of its games, or of one's own images.

    Gives those images too: ``found`` is what their headers say.

    Raises:
        OSError, ValueError: if there are no such games; see also `FolderTask.examine`.
    """
    if found is not None:
        assert isinstance(config, FolderRun)
        return _examine(config, found, device, command, quiet=quiet)
    if isinstance(config, RunConfig):
        return config, None
    if not config.env.env:
        raise ValueError(
            "which environment? Pass --env with the id of one of images and discrete actions, "
            "as in: foveal train control --env foveal/Catch-v0"
        )
    return fitted(config), None


def _examine(
    config: FolderRun, found: Survey, device: torch.device, command: str, *, quiet: bool
) -> tuple[FolderRun, FolderTask]:
    """Read the images once, say what was found, and fit the configuration to them."""
    # Absolute, so that the run can be gone on with from anywhere.
    data = str(Path(config.task.data).expanduser().resolve())
    config = dataclasses.replace(config, task=dataclasses.replace(config.task, data=data))
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
    model = dataclasses.replace(
        config.model,
        num_channels=task.num_channels,
        num_classes=len(task.classes),
        pixel_mean=config.model.pixel_mean or task.pixel_mean,
        pixel_std=config.model.pixel_std or task.pixel_std,
    )
    return dataclasses.replace(config, model=model), task


def _short(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def free_directory(task: str, recipe_name: str, config: RunConfig | AgentConfig) -> Path:
    """A directory below ``runs`` that does not exist yet, named after a run."""
    stem = f"{task}-{recipe_name}-{config.training.seed}"
    if isinstance(config, RunConfig):
        what = config.model.num_glimpses if config.network == "ram" else config.network
        stem = f"{task}-{what}-{recipe_name}-{config.training.seed}"
    names = (f"{stem}{'' if n == 1 else f'-{n}'}" for n in range(1, 10_000))
    return next(path for name in names if not (path := Path("runs", name)).exists())


def check_empty(directory: Path) -> None:
    """Refuse a directory for a new run that holds anything.

    Raises:
        OSError: if it does, or is a file.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise NotADirectoryError(f"--out must be a directory; {directory} is a file.")
    if (directory / CONFIG_FILE).exists():
        read_config(directory)
        raise FileExistsError(
            f"{directory} holds a run already. Go on with it: foveal train --resume {directory}, "
            "or choose another --out."
        )
    if any(path.name not in LOCK_FILES for path in directory.iterdir()):
        raise FileExistsError(
            f"--out must be a new or empty directory; {directory} holds other files."
        )


def train(
    config: RunConfig | AgentConfig,
    content: dict[str, Any],
    directory: Path,
    device: torch.device,
    json: bool,
    task: FolderTask | None = None,
    *,
    capture: bool = True,
) -> None:
    """Train from where the run directory stands, with a bar, and show the result."""
    finished = (directory / RESULT_FILE).exists()
    if finished and not json:
        say(f"{directory} has finished; this is its result.")
    with training_bar(quiet=json) as show, stops_explained(f"foveal train --resume {directory}"):
        if isinstance(config, FolderRun) and task is None and not finished:
            task = open_folder(config, directory, device)
            task.on_problem = partial(left_out, "train")
        result = train_run(config, content, directory, device, show, task=task, capture=capture)
    if not result:  # another of several processes speaks
        return
    _show(result | {"run": str(directory)}, json)


def _show(result: dict[str, Any], json: bool) -> None:
    if json:
        print_json(result)
        return
    low, high = result["interval"]
    if "env" in result:
        say(
            f"{result['episodes']:,} fresh games: mean return {result['mean_return']:.2f}, success "
            f"{result['success_rate']:.2f} % (95 % interval {low:.2f} to {high:.2f}); "
            f"{result['decisions_seen']:,} decisions in {result['seconds']:,.0f} s"
        )
        say(f"See it play: foveal play {result['run']} --gif play.gif")
        return
    say(
        f"test error {result['error']:.2f} % (95 % interval {low:.2f} to {high:.2f}; one rollout, "
        f"mean policy), validation error {result['validation_error']:.2f} %, "
        f"{result['images_seen']:,} images in {result['seconds']:,.0f} s"
    )
    if "num_glimpses" in result:
        say(f"See it look: foveal look {result['run']} --out look.png")
