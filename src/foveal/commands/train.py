"""``foveal train``: start a run, or go on with one."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from foveal import __version__, checkpoint
from foveal.commands import (
    FAILED,
    INTERRUPTED,
    Stop,
    choose_device,
    console,
    parse,
    print_json,
    run_config,
    say,
    set_threads,
)
from foveal.evaluation import evaluate
from foveal.model import RecurrentAttention
from foveal.recipes import RunConfig, recipe
from foveal.tasks import TASKS, CanvasTask
from foveal.training import Outcome, Trainer, TrainingDiverged, TrainingStopped
from foveal.training import Progress as Report

RESULT_FILE = "result.json"


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
    threads: int = 0  # cores for arithmetic; 0 for all
    json: bool = False  # print the result as one JSON object


def run(arguments: list[str]) -> None:
    if any(word.split("=")[0] == "--resume" for word in arguments):
        parse(_resume, "train", arguments)
        return
    positional = bool(arguments) and not arguments[0].startswith("-")
    if not positional and not {"-h", "--help"} & set(arguments):
        raise ValueError(
            f"which task? It must be one of {', '.join(TASKS)}, as in: foveal train mnist-28"
        )
    task = arguments[0] if positional else "mnist-28"
    chosen = _value_of("--recipe", arguments) or TrainOptions.recipe
    default = TrainOptions(task=task, config=recipe(task, chosen), recipe=chosen)
    rest = arguments if positional else [task, *arguments]
    options: TrainOptions = parse(TrainOptions, "train", rest, default)
    _start(options)


def _resume(
    resume: Path, device: str = "auto", threads: int | None = None, json: bool = False
) -> None:
    """Go on with a run, exactly where it stopped; every other flag is the run's own.

    Args:
        resume: the run's directory.
        device: cpu, cuda or auto.
        threads: cores for arithmetic, 0 for all; as the run began if not given.
        json: print the result as one JSON object.
    """
    if not resume.is_dir():
        raise FileNotFoundError(f"--resume must be a run directory; there is no {str(resume)!r}.")
    content = checkpoint.read_config(resume)
    config = run_config(content, resume)
    set_threads(content["threads"] if threads is None else threads)
    _train(config, content, resume, device, json)


def _start(options: TrainOptions) -> None:
    config = options.config
    set_threads(options.threads)
    directory = options.out or _free_directory(options)
    _check_empty(directory)
    content = {
        "name": options.task,
        "recipe": options.recipe,
        "threads": options.threads,
        "command": shlex.join(["foveal", *sys.argv[1:]]),
        **dataclasses.asdict(config),
    }
    _train(config, content, directory, options.device, options.json)


def _train(
    config: RunConfig, content: dict[str, Any], directory: Path, device_name: str, json: bool
) -> None:
    if (directory / RESULT_FILE).exists():
        if not json:
            say(f"{directory} has finished; this is its result.")
        _show(checkpoint.read_json(directory / RESULT_FILE), json)
        return
    device = choose_device(device_name)
    task = CanvasTask(config.task, device)
    if len(task.classes) != config.model.num_classes:
        raise ValueError(
            f"num_classes must be {len(task.classes)}, as the digits have; got "
            f"{config.model.num_classes}. Pass --num-classes {len(task.classes)}."
        )
    if config.model.glimpse_size > max(task.image_size):
        raise ValueError(
            f"glimpse_size must be at most the image's {max(task.image_size)} pixels; got "
            f"{config.model.glimpse_size}. Pass a smaller --glimpse-size."
        )
    content = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, **content}
    content["classes"] = list(task.classes)
    torch.manual_seed(config.training.seed)
    model = RecurrentAttention(config.model)
    with ProgressBar(quiet=json) as bar:
        trainer = Trainer(
            model,
            task,
            config.training,
            config.objective,
            directory,
            device=device,
            listener=bar.update,
        )
        if not trainer.restore():
            checkpoint.write_json(directory / checkpoint.CONFIG_FILE, content)
        outcome = run_trainer(trainer, f"Go on with: foveal train --resume {directory}")
    checkpoint.save_model(directory, model, content)
    result = _result(model, task, config, content, outcome)
    checkpoint.write_json(directory / RESULT_FILE, result)
    _show(result | {"run": str(directory)}, json)


def run_trainer(trainer: Trainer, next_step: str) -> Outcome:
    """Train to the end; what stops it before becomes a message that ends with ``next_step``."""
    try:
        return trainer.run()
    except TrainingStopped as stop:
        raise Stop(f"{stop}. {next_step}", INTERRUPTED) from None
    except TrainingDiverged as diverged:
        raise Stop(str(diverged), FAILED) from None


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
        known = report.validation_error
        validation = "" if known is None else f"validation error {known:.2f} %  "
        rate = f"{report.images_per_second:,.0f} images/s"
        if report.validated and not self.quiet and not console.is_terminal:
            done = f"step {report.step:,} of {report.total_steps:,}"
            say(f"{self.title}: epoch {report.epoch + 1}, {done}, {validation}{rate}")
        if report.measures:
            training = (
                f"error {100 * report.measures['error']:.1f} %  "
                f"reward {report.measures['reward']:.2f}  "
            )
            self.progress.update(
                self.bar,
                total=report.total_steps,
                completed=report.step,
                measures=training + validation + rate,
            )


def _result(
    model: RecurrentAttention,
    task: CanvasTask,
    config: RunConfig,
    content: dict[str, Any],
    outcome: Outcome,
) -> dict[str, Any]:
    """The test error, and all that made it. The test split is used here, once a run."""
    test = evaluate(model, task, "test")
    return {
        "task": content["name"],
        "recipe": content["recipe"],
        "error": test.error,
        "interval": list(test.interval),
        "protocol": "test split, one rollout, mean policy, last weights of the run",
        "validation_error": outcome.validation_error,
        "num_glimpses": config.model.num_glimpses,
        "parameters": model.count_parameters(),
        "multiply_adds_per_glimpse": model.count_multiply_adds(),
        "pixels_read": model.count_pixels_read(),
        "images_seen": outcome.images,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "seed": config.training.seed,
        "command": content["command"],
        "commit": commit(),
        "hardware": hardware(task.device),
        "versions": {"foveal": __version__, "torch": torch.__version__},
    }


def _show(result: dict[str, Any], json: bool) -> None:
    if json:
        print_json(result)
        return
    low, high = result["interval"]
    say(
        f"test error {result['error']:.2f} % (95 % interval {low:.2f} to {high:.2f}; one rollout, "
        f"mean policy), validation error {result['validation_error']:.2f} %, "
        f"{result['images_seen']:,} images in {result['seconds']:,.0f} s"
    )
    if "run" in result:
        say(f"See it look: foveal look {result['run']} --out look.png")


def commit() -> str | None:
    """The commit of the code that runs, with "-dirty" if it was changed; None outside git."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def hardware(device: torch.device) -> str:
    """The device in words: a GPU's name, or the processor and the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux: the platform's word must do
    return f"{name}, {torch.get_num_threads()} thread(s)"


def _value_of(flag: str, arguments: list[str]) -> str | None:
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
    return None


def _free_directory(options: TrainOptions) -> Path:
    config = options.config
    stem = f"{options.task}-{config.model.num_glimpses}-{options.recipe}-{config.training.seed}"
    names = (f"{stem}{'' if n == 1 else f'-{n}'}" for n in range(1, 10_000))
    return next(path for name in names if not (path := Path("runs", name)).exists())


def _check_empty(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise NotADirectoryError(f"--out must be a directory; {directory} is a file.")
    if (directory / checkpoint.CONFIG_FILE).exists():
        checkpoint.read_config(directory)
        raise FileExistsError(
            f"{directory} holds a run already. Go on with it: foveal train --resume {directory}, "
            "or choose another --out."
        )
    if any(directory.iterdir()):
        raise FileExistsError(
            f"--out must be a new or empty directory; {directory} holds other files."
        )
