"""What the commands that train share: the recipe, the images, the run directory and the run."""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from foveal.commands.console import (
    complain,
    counting,
    left_out,
    print_json,
    say,
    stops_explained,
    training_bar,
)
from foveal.commands.flags import HELP, parse
from foveal.envs.games import is_atari
from foveal.io.models import CHECKPOINT_FILE, CONFIG_FILE, RESULT_FILE, WEIGHTS_FILE, read_config
from foveal.model.config import PARTS, RAMConfig
from foveal.model.whole_image import REFERENCE_NETWORKS
from foveal.names import END, choose, shell_line
from foveal.runs.agent_recipes import AGENT_TASKS, agent_recipe
from foveal.runs.classifier import CanvasRun
from foveal.runs.folder import FolderRun
from foveal.runs.folder_recipe import Reason, suggest
from foveal.runs.recipes import RECIPES, answering, haystack, recipe, usual_recipe
from foveal.runs.run import Completed, Run, changes, train_run
from foveal.runs.screens import suggest_for_screens
from foveal.tasks import FOLDER_TASKS, HAYSTACKS, TASKS, FolderConfig, FolderTask
from foveal.tasks.folder.survey import Survey, survey
from foveal.tasks.task import SPLITS, Task
from foveal.training.journal import Gap
from foveal.training.machine import LOCK_FILES
from foveal.training.objective import ObjectiveConfig
from foveal.training.progress import Progress

# What --help shows of the flags of a configuration's parts; they are more than a hundred.
COMMON = {
    *("network", "start", "seed", "lr", "epochs", "batch_size", "decisions", "num_envs"),
    *(
        "digits",
        "canvas_size",
        "num_clutter",
        "question",
        "train_images",
        "data",
        "separator",
        "held_out",
        "env",
        "env_options",
    ),
    *("glimpse_size", "num_scales", "num_glimpses", "core", "policy", "context"),
    *("shift", "rescale", "rotation", "flips", "tint"),
}
FOLLOWING = ("num_classes", "num_channels", "max_answers", "with_end")
Options = TypeVar("Options")


def read_flags(
    command: str, arguments: list[str], default: Callable[[str, Run], Options]
) -> tuple[Options, Survey | None, list[str], dict[str, Any]]:
    """The flags of a command that trains, whose defaults are a recipe's.

    The task is the first argument after the command's name; ``default`` gives the command's
    options, a dataclass, for a task and a configuration. Gives the flags; of one's own images, what
    their headers say, and in words what was chosen by that and why; and what the flags change of
    the recipe, by name.

    Raises `OSError` or `ValueError` if there is no such task or recipe, or there are no such images
    or flags.
    """
    # tyro takes --num_glimpses too.
    arguments = [re.sub("^--[^=]*", lambda flag: flag[0].replace("_", "-"), w) for w in arguments]
    positional = bool(arguments) and not arguments[0].startswith("-")
    helping = bool(HELP & set(arguments))
    known = (*TASKS, *HAYSTACKS, *AGENT_TASKS, *FOLDER_TASKS)
    if not positional and not helping:
        raise ValueError(
            f"which task? It must be one of {', '.join(known)}, as in: foveal {command} mnist-28"
        )
    task = arguments[0] if positional else "mnist-28"
    own = f"; images of your own: {shell_line(command, 'folder', '--data', task)}"
    choose(task, known, "task", own if Path(task).is_dir() else "")
    usual_name = usual_recipe(task)
    named = value_of("--recipe", arguments)
    name = usual_name if named is None else named
    found: Survey | None = None
    config: Run = FolderRun()
    reasons: list[Reason] = []
    data = value_of("--data", arguments)
    if task not in FOLDER_TASKS:
        config = (agent_recipe if task in AGENT_TASKS else recipe)(task, name)
        side = value_of("--canvas-size", arguments)
        if task in HAYSTACKS and side is not None:
            with contextlib.suppress(ValueError):  # said when all flags are read
                config = haystack(dataclasses.replace(HAYSTACKS[task], canvas_size=int(side)))
        elif task in TASKS and value_of("--answer", arguments) == "last":
            config = config.altered(task={"fewest_digits": 0})  # the last is always there
    elif data is not None or not helping:
        choose(name, RECIPES, "recipe")
        with counting("reading headers", quiet="--json" in arguments) as count:
            separator = value_of("--separator", arguments) or ""
            found = survey(data or "", count, separator)
        share = value_of("--held-out", arguments)
        images = FolderConfig(data=data or "", separator=separator)
        with contextlib.suppress(ValueError):  # said when all flags are read
            images = images if share is None else dataclasses.replace(images, held_out=float(share))
        config, reasons = suggest(images, found, name)
    check_heard(arguments)
    # They follow from the images, or from the games.
    fixed = () if task in (*TASKS, *HAYSTACKS) else FOLLOWING
    fixed = (*fixed, "stop") if task in AGENT_TASKS else fixed
    # The settings of the parts that flags choose become flags by that.
    words = {part: value_of(f"--{part.replace('_', '-')}", arguments) for part in PARTS}
    chosen: Any = {part: word for part, word in words.items() if word is not None}

    def read(model: RAMConfig) -> Options:
        fitted = dataclasses.replace(config, model=model)
        usual: Any = dataclasses.replace(default(task, fitted), recipe=usual_name)  # type: ignore[type-var]
        words = arguments if positional else [task, *arguments]
        return cast(Options, parse(type(usual), command, words, usual, common=COMMON, fixed=fixed))

    model = config.model.with_parts(**chosen)
    if "num_channels" in fixed:  # as many as numbers are given for, until the images are known
        given_for = [len(values_of(flag, arguments)) for flag in ("--pixel-mean", "--pixel-std")]
        model = dataclasses.replace(model, num_channels=max(model.num_channels, *given_for))
    options = read(model)
    asked = options.config  # type: ignore[attr-defined]
    if task == "control" and asked.env.env:
        fitted, reasons = suggest_for_screens(asked.env, model.context)
        same = model.context == config.model.context
        follow = {key: value for key, value in fitted.items() if same or key != "context_settings"}
        config = config.altered(model=follow)
        if is_atari(asked.env.env):
            config = config.altered(objective={"clip_rewards": True})
            why = "--clip-rewards: points of one of Atari's games are worth 1, of another 1,000"
            reasons.append(Reason(("--clip-rewards", "--no-clip-rewards"), why))
        options = read(dataclasses.replace(model, **fitted))
    if isinstance(config, CanvasRun) and config != (other := answering(config, asked.task)):
        config = other
        options = read(config.model.with_parts(**chosen))
    given = {word.split("=")[0] for word in arguments}
    said = [reason.words for reason in reasons if not {"--json", *reason.flags} & given]
    changed = changes(options.config, config)  # type: ignore[attr-defined]
    return options, found, said, {k: v for k, v in changed.items() if k != "data"}


def check_heard(arguments: list[str]) -> None:
    """Refuse flags of a model that looks where the network sees the whole image."""
    network = value_of("--network", arguments)
    if network not in REFERENCE_NETWORKS:
        return
    fields = (*dataclasses.fields(RAMConfig), *dataclasses.fields(ObjectiveConfig))
    unheard = {"final_location_std", "only_stop", *(field.name for field in fields)}
    for word in arguments:
        flag = word.partition("=")[0]
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        if flag.startswith("--") and name in unheard:
            raise ValueError(
                f"{flag} is of a network that looks; {network} sees the whole image. Leave it out, "
                "or pass --network ram."
            )


def value_of(flag: str, arguments: list[str]) -> str | None:
    """What follows a flag where it is given last, before the flags are read."""
    values = values_of(flag, arguments)
    return values[0] if values else None


def values_of(flag: str, arguments: list[str]) -> list[str]:
    """All words that follow it, up to the next flag."""
    values: list[str] = []
    for place, word in enumerate(arguments):
        if word == flag:
            values = [*itertools.takewhile(lambda one: one[:2] != "--", arguments[place + 1 :])]
        elif word.startswith(f"{flag}="):
            values = [word.split("=", 1)[1]]
    return values


def made_ready(
    config: Run, found: Survey | None, device: torch.device, command: str, *, quiet: bool
) -> Completed:
    """What the flags say, made whole by the data, which are said if they were read."""
    report = partial(left_out, command)
    known = found.listing.problems if found else []
    for problem in known:
        report(problem)
    with counting("reading images", quiet=quiet or found is None) as count:
        config, task = config.completed(found, count, device)
    if task is not None:
        for problem in task.problems[len(known) :]:
            report(problem)
        for name in found.classes if found else ():
            if name not in (*task.classes, END):
                report(f"the class {name!r}, of which no image can be read.")
        task.on_problem = report
        if isinstance(task, FolderTask) and task.short_of_memory:
            words = "memory ended before --cache-gb: fewer images stay decoded, the others are"
            complain(command, f"{words} decoded again each time. A smaller --cache-gb leaves more.")
        if not quiet:
            sizes = ", ".join(f"{task.size(split):,} {split}" for split in SPLITS)
            moments = (config.model.pixel_mean, config.model.pixel_std)
            mean, std = (" ".join(f"{value:.2f}" for value in values) for values in moments)
            say(f"{sizes} images; mean {mean}, std {std}")
            if isinstance(task, FolderTask) and task.wanted_gb > task.cache_gb:
                there, wanted, asked = task.cache_gb, task.wanted_gb, task.config.cache_gb
                room = "" if there == asked else f", and memory has room for {there:.2g}"
                kept = f"keeps {100 * there / wanted:.0f} % of the training images decoded"
                words = f"--cache-gb {asked:g}{room}: {kept}, others anew each time; "
                say(f"{words}{wanted:.2g} keeps all")
    return config, task


def free_directory(task: str, recipe_name: str, config: Run) -> tuple[Path, str]:
    """A directory below ``runs`` that does not exist yet, named after a run; and a remark on it."""
    words = (task, config.shape, recipe_name, str(config.training.seed))
    stem = "-".join(word for word in words if word)
    names = (f"{stem}{'' if n == 1 else f'-{n}'}" for n in range(1, 10_000))
    path = next(path for name in names if not (path := Path("runs", name)).exists())
    return path, "" if path.name == stem else f" (runs/{stem} is taken)"


def check_empty(directory: Path) -> None:
    """Refuse a directory for a new run that is a file or holds anything; `OSError` says what."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise NotADirectoryError(f"--out must be a directory; {directory} is a file.")
    if (directory / CONFIG_FILE).exists():
        read_config(directory)
        learned = any((directory / file).exists() for file in (CHECKPOINT_FILE, WEIGHTS_FILE))
        instead = (
            f"Go on with it: {resuming(directory)}" if learned else "It learned nothing: delete it"
        )
        raise FileExistsError(
            f"{directory} holds a run already. {instead}, or choose another --out."
        )
    if any(path.name not in LOCK_FILES for path in directory.iterdir()):
        raise FileExistsError(
            f"--out must be a new or empty directory; {directory} holds other files."
        )


def resuming(directory: Path) -> str:
    """The command that goes on with a run."""
    return shell_line("train", "--resume", directory)


def train(
    config: Run,
    about: Mapping[str, Any],
    directory: Path,
    device: torch.device,
    json: bool,
    task: Task | None = None,
    *,
    capture: bool = True,
    remark: str = "",
) -> None:
    """Train from where the run directory stands, with a bar, and show the result.

    Where it writes is said when nothing is wrong with what was asked for, with the remark.
    """
    if (directory / RESULT_FILE).exists() and not json:
        say(f"{directory} has finished; this is its result.")
    gap, head = Gap(), f"The run is written to {directory}{remark}, on {device}: "

    def tell(words: str) -> None:
        nonlocal head
        if not json:
            say(head + words)
            head = ""

    def watch(report: Progress) -> None:
        show(report)
        words = gap(report.measures, report.validation if report.validated else {})
        if words:
            complain("train", words)

    with training_bar(quiet=json) as show, stops_explained(resuming(directory)):
        told: dict[str, Any] = {"report": partial(left_out, "train"), "tell": tell}
        result = train_run(
            config, about, directory, device, watch, task=task, capture=capture, **told
        )
    if not result:  # another of several processes speaks
        return
    result |= {"run": str(directory)}
    if json:
        print_json(**result)
        return
    for line in config.told(result):
        say(line)
