"""A run from its configuration to its result, and finished runs read back.

A run directory holds ``config.json``, ``metrics.jsonl``, TensorBoard events, ``checkpoint/`` and,
when finished, ``model.safetensors`` and ``result.json``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from foveal import __version__
from foveal.envs import Games
from foveal.evaluation.agent import check_fit, play
from foveal.evaluation.classifier import evaluate
from foveal.io.files import config_from_dict, read_json, write_json
from foveal.io.models import (
    CONFIG_FILE,
    FORMAT,
    VERSION,
    WEIGHTS_FILE,
    load_weights,
    locate_model,
    read_config,
    save_model,
)
from foveal.model.attention import RecurrentAttention
from foveal.model.whole_image import ReferenceNetwork, make_reference_network
from foveal.runs.recipes import AgentConfig, FolderRun, RunConfig
from foveal.tasks import CanvasTask, FolderTask
from foveal.training.agent import ControlTrainer
from foveal.training.classifier import Trainer
from foveal.training.engine import Engine, Progress
from foveal.training.journal import read_metrics
from foveal.training.machine import commit, hardware
from foveal.training.start import begin_with
from foveal.viz.illustrations import draw_game, draw_looks

RESULT_FILE = "result.json"
PROTOCOL = "test split, one rollout, mean policy, last weights of the run"
AGENT_PROTOCOL = "fresh games, likeliest action, mean policy, last weights of the run"
TEST_SEED = 2014  # of the games that an agent is judged in
Network = RecurrentAttention | ReferenceNetwork


@dataclass(frozen=True)
class _Job:
    """A run made ready: what trains, what ``config.json`` also says, and how the end is judged."""

    trainer: Engine
    about: dict[str, Any]
    judge: Callable[[], dict[str, Any]]
    curve: tuple[str, ...]  # what of each validation the result keeps
    keep: Callable[[], None] = lambda: None  # writes what else of the task the run directory keeps


def train_run(
    config: RunConfig | AgentConfig,
    about: dict[str, Any],
    directory: Path,
    device: torch.device,
    listener: Callable[[Progress], None] | None = None,
    *,
    judged: bool = True,
    task: FolderTask | None = None,
    capture: bool = True,
) -> dict[str, Any]:
    """Train from where the run directory stands to the end, and judge what it became, once.

    A classifier is judged on the test split, an agent in fresh games. A run that has finished is
    only reported.

    Args:
        config: what is trained, on what, how.
        about: what else ``config.json`` and the result should say: ``name`` (the task's),
            ``recipe``, ``command``.
        directory: of the run; created when something is written.
        device: where it trains.
        listener: see `Engine`.
        judged: whether to judge it, and draw where it looks; not where runs are only compared.
        task: of a `FolderRun`: its images, examined or opened; None opens those of a begun run.
        capture: see `Trainer`.

    Returns:
        The content of ``result.json``; nothing in those of several processes that do not write.

    Raises:
        ValueError: if the parts of the configuration do not fit together, files are damaged,
            the weights to start from are another network's, or the directory holds a run of
            another configuration.
        FileNotFoundError: if there is no model to start from.
        TrainingStopped, TrainingDiverged, OSError: see `Engine.run`.
    """
    if (directory / CONFIG_FILE).exists():
        begun = run_config(read_config(directory), directory)
        if begun != config:
            raise ValueError(
                f"{directory} holds a run of another configuration: {_difference(begun, config)}. "
                "Move it away, or choose another directory."
            )
    if (directory / RESULT_FILE).exists():
        return read_json(directory / RESULT_FILE)
    if isinstance(config, RunConfig):
        job = _image_job(config, directory, device, listener, task, drawn=judged, capture=capture)
    else:
        job = _agent_job(config, directory, device, listener, drawn=judged)
    trainer = job.trainer
    content = {
        "format": FORMAT,
        "version": VERSION,
        **about,
        **job.about,
    }
    if not trainer.restore():
        if config.start is not None:
            begin_with(locate_model(config.start), trainer.model)
        if trainer.writes:
            job.keep()
            write_json(directory / CONFIG_FILE, content)
            if config.start is not None:
                trainer.save(0.0)  # it may be gone when the run goes on
    outcome = trainer.run()
    if not trainer.writes:
        return {}
    save_model(directory, trainer.model, content)
    result = {
        "task": about["name"],
        "recipe": about["recipe"],
        **(job.judge() if judged else {}),
        **outcome.validation,
        f"{trainer.SEEN}_seen": outcome.seen,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "seed": config.training.seed,
        "command": about["command"],
        "commit": commit(),
        "hardware": hardware(device),
        "versions": {"foveal": __version__, "torch": torch.__version__},
        "validation_curve": [
            [line["step"] * trainer.seen_per_step, *(line[name] for name in job.curve)]
            for line in read_metrics(directory)
            if job.curve[-1] in line
        ],
    }
    write_json(directory / RESULT_FILE, result)
    return result


def _image_job(
    config: RunConfig,
    directory: Path,
    device: torch.device,
    listener: Callable[[Progress], None] | None,
    examined: FolderTask | None,
    *,
    drawn: bool,
    capture: bool,
) -> _Job:
    task = examined or open_task(config, directory, device)
    _check_fit(config, task)
    torch.manual_seed(config.training.seed)
    network = make_network(config, task.image_size, len(task.classes), task.num_channels)
    trainer = Trainer(
        network,
        task,
        config.training,
        config.objective,
        directory,
        class_weights=task.class_weights,
        capture=capture,
        device=device,
        listener=listener,
        illustrate=(
            partial(draw_looks, network, task)
            if drawn and isinstance(network, RecurrentAttention)
            else None
        ),
    )
    about = {"classes": list(task.classes), "image_size": list(task.image_size)}
    job = _Job(trainer, about, lambda: _test(network, task, config), ("validation_error",))
    if isinstance(task, FolderTask):
        return replace(job, keep=partial(task.save, directory))
    return job


def open_task(config: RunConfig, directory: Path, device: torch.device) -> CanvasTask | FolderTask:
    """The task of a run: canvases are made anew, one's own images read as the run split them.

    Raises:
        OSError, ValueError: if digits or images are missing or unfit.
    """
    if isinstance(config, FolderRun):
        return open_folder(config, directory, device)
    return CanvasTask(config.task, device)


def open_folder(config: FolderRun, directory: Path, device: torch.device) -> FolderTask:
    """The task of a run on one's own images; see `open_task`."""
    return FolderTask.restore(config.task, directory, config.model.num_channels, device)


def _agent_job(
    config: AgentConfig,
    directory: Path,
    device: torch.device,
    listener: Callable[[Progress], None] | None,
    *,
    drawn: bool,
) -> _Job:
    torch.manual_seed(config.training.seed)
    agent = RecurrentAttention(config.model)
    trainer = ControlTrainer(
        agent,
        config.env,
        config.training,
        config.objective,
        directory,
        device=device,
        listener=listener,
        illustrate=partial(draw_game, agent, config.env, device) if drawn else None,
    )
    check_fit(agent, trainer.games, config.env)
    return _Job(
        trainer,
        {},
        lambda: _test_agent(agent, config, device),
        ("seconds", "validation_return", "validation_success_rate"),
    )


def fitted(config: AgentConfig) -> AgentConfig:
    """The configuration with a model for the environment's actions and channels.

    Raises:
        ValueError: if there is no such environment, or it is not one of images and discrete
            actions.
    """
    games = Games(config.env, 1)
    model = dataclasses.replace(
        config.model, num_classes=games.num_actions, num_channels=games.image_shape[0]
    )
    games.close()
    return dataclasses.replace(config, model=model)


def make_network(
    config: RunConfig, image_size: tuple[int, int], num_classes: int, num_channels: int = 1
) -> Network:
    """The untrained network of a configuration, for images of ``(height, width)`` pixels."""
    if config.network == "ram":
        return RecurrentAttention(config.model)
    return make_reference_network(config.network, image_size, num_classes, num_channels)


def load_network(model: str | Path, device: torch.device) -> tuple[Network, dict[str, Any]]:
    """A trained network, in eval mode, and the content of its ``config.json``.

    Args:
        model: a run directory, a saved model, or the name of a pretrained one.
        device: where it is to run.

    Raises:
        OSError: if the directory or a file of it is missing.
        ValueError: if a file is damaged or another program's.
    """
    directory = locate_model(model)
    content = read_config(directory)
    if "training" in content and not (directory / WEIGHTS_FILE).exists():
        raise FileNotFoundError(
            f"{directory} is a run that has not finished. Go on with it: "
            f"foveal train --resume {directory}"
        )
    if content.get("network", "ram") == "ram":
        return RecurrentAttention.from_pretrained(directory).to(device), content
    config = run_config(content, directory)
    assert isinstance(config, RunConfig)
    try:
        height, width = content["image_size"]
        channels = config.model.num_channels
        network = make_network(config, (height, width), len(content["classes"]), channels)
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(
            f"{directory / CONFIG_FILE} must say the size and the classes of a "
            f"{config.network} network's images; it does not ({problem!r}). Restore it from a copy."
        ) from None
    load_weights(directory, network)
    return network.eval().to(device), content


def run_config(content: dict[str, Any], where: Path) -> RunConfig | AgentConfig:
    """The configuration of a run, from the content of its ``config.json``.

    Args:
        content: as `foveal.read_config` gives it.
        where: the run, for messages.

    Raises:
        ValueError: if a value is missing or makes no sense.
    """
    kind: type[RunConfig | AgentConfig] = AgentConfig if "env" in content else RunConfig
    task = content.get("task")
    if isinstance(task, dict) and "data" in task:
        kind = FolderRun
    added = ("network", "start")  # since the first release of the format
    names = (field.name for field in dataclasses.fields(kind))
    parts = {name: content.get(name) for name in names if name not in added or name in content}
    return config_from_dict(kind, parts, str(where / CONFIG_FILE))


def share_done(content: dict[str, Any], directory: Path) -> float:
    """How much of a run is done, 0 to 1, from its ``config.json`` and its metrics.

    Raises:
        ValueError: if the configuration is damaged.
    """
    lines = read_metrics(directory)
    if not lines or "training" not in content:
        return 0.0
    config = run_config(content, directory)
    if isinstance(config, AgentConfig):
        training = config.training
        update = training.num_envs * training.rollout_length
        return float(lines[-1]["step"] / (training.decisions // update))
    # Epochs count from 0, and a line of validation ends its epoch.
    epoch = lines[-1]["epoch"] + (1 if "validation_error" in lines[-1] else 0)
    return float(epoch / config.training.epochs)


def _difference(begun: RunConfig | AgentConfig, wanted: RunConfig | AgentConfig) -> str:
    """The first value in which two configurations differ, in words."""
    if type(begun) is not type(wanted):
        return "one is an agent's"
    there, here = _flat(dataclasses.asdict(begun)), _flat(dataclasses.asdict(wanted))
    name = next(name for name in here if here[name] != there[name])
    return f"{name} is {there[name]!r} there, and {here[name]!r} was wanted"


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries as one, by the innermost names (no two parts share one)."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat


def _check_fit(config: RunConfig, task: CanvasTask | FolderTask) -> None:
    if config.network != "ram":
        if isinstance(task, FolderTask) and not task.one_size:
            raise ValueError(
                f"a {config.network} network sees the whole image, and the images must have one "
                "size; they differ. Scale them to one size, or pass --network ram."
            )
        return
    if len(task.classes) != config.model.num_classes:
        raise ValueError(
            f"num_classes must be {len(task.classes)}, as the images have; got "
            f"{config.model.num_classes}. Pass --num-classes {len(task.classes)}."
        )
    if config.model.glimpse_size > max(task.image_size):
        raise ValueError(
            f"glimpse_size must be at most the image's {max(task.image_size)} pixels; got "
            f"{config.model.glimpse_size}. Pass a smaller --glimpse-size."
        )


def _test(network: Network, task: CanvasTask | FolderTask, config: RunConfig) -> dict[str, Any]:
    """The test error, and what it takes. The test split is used here, once a run."""
    test = evaluate(network, task, "test")
    result: dict[str, Any] = {
        "network": config.network,
        "error": test.error,
        "interval": list(test.interval),
        "protocol": PROTOCOL,
        "parameters": network.count_parameters(),
    }
    if isinstance(network, RecurrentAttention):
        looks = config.model.num_glimpses
        return result | {
            "num_glimpses": looks,
            "multiply_adds": looks * network.count_multiply_adds(),
            "pixels_read": network.count_pixels_read(),
        }
    height, width = task.image_size
    return result | {
        "multiply_adds": network.count_multiply_adds(),
        "pixels_read": task.num_channels * height * width,
    }


def _test_agent(
    agent: RecurrentAttention, config: AgentConfig, device: torch.device
) -> dict[str, Any]:
    """What the agent earns in games that nothing was chosen by."""
    result = play(agent, config.env, config.training.test_episodes, TEST_SEED, device)
    return {
        "env": config.env.env,
        **result.summary(),
        "protocol": AGENT_PROTOCOL,
        "parameters": agent.count_parameters(),
        "multiply_adds": agent.count_multiply_adds(),
        "pixels_read": agent.count_pixels_read(1),
    }
