"""``foveal train``: start a run, or go on with one."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from foveal.commands.console import console, left_out, print_json, say, stops_explained
from foveal.commands.flags import choose_device, parse, set_threads
from foveal.io.models import CONFIG_FILE, read_config
from foveal.names import choose
from foveal.runs.recipes import AGENT_TASKS, AgentConfig, FolderRun, RunConfig, agent_recipe, recipe
from foveal.runs.run import RESULT_FILE, fitted, open_folder, run_config, train_run
from foveal.tasks import FOLDER_TASKS, TASKS, FolderTask
from foveal.training.engine import Progress as Report

WATCHED = {
    "error": "error {:.1f} %",
    "reward": "reward {:.2f}",
    "validation_error": "validation error {:.2f} %",
    "return": "return {:.2f}",
    "validation_return": "validation return {:.2f}",
    "validation_success_rate": "success {:.1f} %",
}


@dataclass(frozen=True)
class TrainOptions:
    """Train a model on a task.

    A recipe sets every flag below, and each can be changed: the defaults shown are those of the
    recipe (`foveal train TASK --recipe paper --help` shows the other's). The run directory gets
    config.json, metrics.jsonl, TensorBoard events, checkpoint/ and, at the end, model.safetensors
    and result.json with the test error. Ctrl-C saves; `foveal train --resume RUN` goes on.
    """

    task: Annotated[str, tyro.conf.Positional]  # what to learn: see foveal tasks
    config: RunConfig
    recipe: str = "fast"  # fast, or paper: the published optimizer and reward
    out: Path | None = None  # run directory; runs/TASK-GLIMPSES-RECIPE-SEED if not given
    resume: Path | None = None  # go on with this run, exactly where it stopped
    device: str = "auto"  # cpu, cuda or auto
    capture: bool = True  # on a GPU, record a step as a CUDA graph and repeat that
    threads: int = 0  # cores for arithmetic; 0 for all
    json: bool = False  # print the result as one JSON object


@dataclass(frozen=True)
class AgentOptions:
    """Train an agent that looks in order to act, from nothing but the reward of its games.

    `foveal train catch` is the paper's game; `foveal train control --env ENV_ID` takes any
    Gymnasium environment of images and discrete actions. A recipe sets every flag below, and each
    can be changed: the defaults shown are those of the recipe. Controls that say whether looking
    matters: --policy random, --policy center, and the whole screen with --policy center
    --num-scales 1 --glimpse-size 24 (the screen's size). The run directory gets config.json,
    metrics.jsonl, TensorBoard events, checkpoint/ and, at the end, model.safetensors and
    result.json. Ctrl-C saves; `foveal train --resume RUN` goes on.
    """

    task: Annotated[str, tyro.conf.Positional]  # catch or control
    config: AgentConfig
    recipe: str = "fast"  # fast: proximal policy optimization; paper: REINFORCE with a baseline
    out: Path | None = None  # run directory; runs/TASK-RECIPE-SEED if not given
    resume: Path | None = None  # go on with this run, exactly where it stopped
    device: str = "auto"  # cpu, cuda or auto
    threads: int = 0  # cores for arithmetic; 0 for all
    json: bool = False  # print the result as one JSON object


def run(arguments: list[str]) -> None:
    if any(word.split("=")[0] == "--resume" for word in arguments):
        parse(_resume, "train", arguments)
        return
    if arguments[:1] == ["folder"]:
        from foveal.commands import train_folder  # noqa: PLC0415 (it imports this module)

        train_folder.run(arguments)
        return
    task, rest, config = choose_recipe(arguments, "train")
    chosen = value_of("--recipe", arguments) or TrainOptions.recipe
    default: TrainOptions | AgentOptions
    if isinstance(config, AgentConfig):
        default = AgentOptions(task=task, config=config, recipe=chosen)
    else:
        default = TrainOptions(task=task, config=config, recipe=chosen)
    _start(parse(type(default), "train", rest, default))


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
    chosen = value_of("--recipe", arguments) or TrainOptions.recipe
    find = agent_recipe if task in AGENT_TASKS else recipe
    return task, arguments if positional else [task, *arguments], find(task, chosen)


def configuration_of(config: RunConfig | AgentConfig) -> RunConfig | AgentConfig:
    """What the flags say, made whole: an agent takes the shape of its games.

    Raises:
        ValueError: if there are no such games.
    """
    if isinstance(config, RunConfig):
        return config
    if not config.env.env:
        raise ValueError(
            "which environment? Pass --env with the id of one of images and discrete actions, "
            "as in: foveal train control --env foveal/Catch-v0"
        )
    return fitted(config)


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
    content = read_config(resume)
    config = run_config(content, resume)
    set_threads(content["threads"] if threads is None else threads)
    train(config, content, resume, device, json, capture=capture)


def _start(options: TrainOptions | AgentOptions) -> None:
    set_threads(options.threads)
    config = configuration_of(options.config)
    directory = options.out or free_directory(options.task, options.recipe, config)
    check_empty(directory)
    content = {
        "name": options.task,
        "recipe": options.recipe,
        "threads": options.threads,
        "command": shlex.join(["foveal", *sys.argv[1:]]),
        **dataclasses.asdict(config),
    }
    capture = isinstance(options, TrainOptions) and options.capture
    train(config, content, directory, options.device, options.json, capture=capture)


def train(
    config: RunConfig | AgentConfig,
    content: dict[str, Any],
    directory: Path,
    device_name: str,
    json: bool,
    task: FolderTask | None = None,
    *,
    capture: bool = True,
) -> None:
    """Train from where the run directory stands, with a bar, and show the result."""
    finished = (directory / RESULT_FILE).exists()
    if finished and not json:
        say(f"{directory} has finished; this is its result.")
    with ProgressBar(quiet=json) as bar, stops_explained(f"foveal train --resume {directory}"):
        device = choose_device(device_name)
        if isinstance(config, FolderRun) and task is None and not finished:
            task = open_folder(config, directory, device)
            task.on_problem = partial(left_out, "train")
        result = train_run(
            config, content, directory, device, bar.update, task=task, capture=capture
        )
    if not result:  # another of several processes speaks
        return
    _show(result | {"run": str(directory)}, json)


class ProgressBar:
    """Error, reward, images a second and time left; lines instead where nobody watches.

    Args:
        quiet: show nothing at all.
        title: what is trained.
    """

    def __init__(self, *, quiet: bool = False, title: str = "training") -> None:
        self.quiet = quiet
        self.progress = Progress(
            TextColumn(title),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[measures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self.bar = self.progress.add_task(title, total=None, measures="")
        self.title = title

    def __enter__(self) -> ProgressBar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, report: Report) -> None:
        """Show one of the engine's reports."""
        validation = _in_words(report.validation)
        if report.validated and not self.quiet and not console.is_terminal:
            epoch = "" if report.epoch is None else f"epoch {report.epoch + 1}, "
            done = f"step {report.step:,} of {report.total_steps:,}"
            say(f"{self.title}: {epoch}{done}, {validation}{report.rate}")
        if report.measures:
            self.progress.update(
                self.bar,
                total=report.total_steps,
                completed=report.step,
                measures=_in_words(report.measures) + validation + report.rate,
            )


def _in_words(measures: dict[str, float]) -> str:
    """Those measures that people watch."""
    return "".join(
        f"{words.format(measures[name])}  " for name, words in WATCHED.items() if name in measures
    )


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


def value_of(flag: str, arguments: list[str]) -> str | None:
    """What follows a flag on the command line, before the flags are read."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
    return None


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
    if any(directory.iterdir()):
        raise FileExistsError(
            f"--out must be a new or empty directory; {directory} holds other files."
        )
