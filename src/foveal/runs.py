"""A run from its configuration to its result, and finished runs read back.

A run directory holds ``config.json``, ``metrics.jsonl``, TensorBoard events, ``checkpoint/`` and,
when finished, ``model.safetensors`` and ``result.json``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from foveal import __version__, checkpoint
from foveal.evaluation import evaluate
from foveal.journal import read_metrics
from foveal.machine import commit, hardware
from foveal.model import RecurrentAttention
from foveal.recipes import RunConfig
from foveal.reference_models import ReferenceNetwork, make_reference_network
from foveal.tasks import CanvasTask
from foveal.training import Outcome, Progress, Trainer

RESULT_FILE = "result.json"
PROTOCOL = "test split, one rollout, mean policy, last weights of the run"
Network = RecurrentAttention | ReferenceNetwork


def train_run(
    config: RunConfig,
    about: dict[str, Any],
    directory: Path,
    device: torch.device,
    listener: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train from where the run directory stands to the end; evaluate on the test split, once.

    A run that has finished is only reported.

    Args:
        config: what is trained, on what, how.
        about: what else ``config.json`` and the result should say: ``name`` (the task's),
            ``recipe``, ``command``.
        directory: of the run; created when something is written.
        device: where it trains.
        listener: see `Trainer`.

    Returns:
        The content of ``result.json``.

    Raises:
        ValueError: if the parts of the configuration do not fit together, files are damaged,
            the weights to start from are another network's, or the directory holds a run of
            another configuration.
        FileNotFoundError: if there is no model to start from.
        TrainingStopped, TrainingDiverged, OSError: see `Trainer.run`.
    """
    if (directory / checkpoint.CONFIG_FILE).exists():
        begun = run_config(checkpoint.read_config(directory), directory)
        if begun != config:
            raise ValueError(
                f"{directory} holds a run of another configuration: {_difference(begun, config)}. "
                "Move it away, or choose another directory."
            )
    if (directory / RESULT_FILE).exists():
        return checkpoint.read_json(directory / RESULT_FILE)
    task = CanvasTask(config.task, device)
    _check_fit(config, task)
    content = {
        "format": checkpoint.FORMAT,
        "version": checkpoint.VERSION,
        **about,
        "classes": list(task.classes),
        "image_size": list(task.image_size),
    }
    torch.manual_seed(config.training.seed)
    network = make_network(config, task.image_size, len(task.classes))
    trainer = Trainer(
        network,
        task,
        config.training,
        config.objective,
        directory,
        device=device,
        listener=listener,
    )
    if not trainer.restore():
        if config.start is not None:
            checkpoint.load_weights(checkpoint.locate_model(config.start), network)
        checkpoint.write_json(directory / checkpoint.CONFIG_FILE, content)
    outcome = trainer.run()
    checkpoint.save_model(directory, network, content)
    result = _result(network, task, config, about, outcome)
    result["validation_curve"] = [
        [line["step"] * config.training.batch_size, line["validation_error"]]
        for line in read_metrics(directory)
        if "validation_error" in line
    ]
    checkpoint.write_json(directory / RESULT_FILE, result)
    return result


def make_network(config: RunConfig, image_size: tuple[int, int], num_classes: int) -> Network:
    """The untrained network of a configuration, for images of ``(height, width)`` pixels."""
    if config.network == "ram":
        return RecurrentAttention(config.model)
    return make_reference_network(config.network, image_size, num_classes)


def load_network(model: str | Path, device: torch.device) -> tuple[Network, dict[str, Any]]:
    """A trained network, in eval mode, and the content of its ``config.json``.

    Args:
        model: a run directory, a saved model, or the name of a pretrained one.
        device: where it is to run.

    Raises:
        OSError: if the directory or a file of it is missing.
        ValueError: if a file is damaged or another program's.
    """
    directory = checkpoint.locate_model(model)
    content = checkpoint.read_config(directory)
    if "training" in content and not (directory / checkpoint.WEIGHTS_FILE).exists():
        raise FileNotFoundError(
            f"{directory} is a run that has not finished. Go on with it: "
            f"foveal train --resume {directory}"
        )
    if content.get("network", "ram") == "ram":
        return RecurrentAttention.from_pretrained(directory).to(device), content
    config = run_config(content, directory)
    try:
        height, width = content["image_size"]
        network = make_network(config, (height, width), len(content["classes"]))
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(
            f"{directory / checkpoint.CONFIG_FILE} must say the size and the classes of a "
            f"{config.network} network's images; it does not ({problem!r}). Restore it from a copy."
        ) from None
    checkpoint.load_weights(directory, network)
    return network.eval().to(device), content


def run_config(content: dict[str, Any], where: Path) -> RunConfig:
    """The configuration of a run, from the content of its ``config.json``."""
    added = ("network", "start")  # since the first release of the format
    names = (field.name for field in dataclasses.fields(RunConfig))
    parts = {name: content.get(name) for name in names if name not in added or name in content}
    return checkpoint.config_from_dict(RunConfig, parts, str(where / checkpoint.CONFIG_FILE))


def _difference(begun: RunConfig, wanted: RunConfig) -> str:
    """The first value in which two configurations differ, in words."""
    there, here = _flat(dataclasses.asdict(begun)), _flat(dataclasses.asdict(wanted))
    name = next(name for name in here if here[name] != there[name])
    return f"{name} is {there[name]!r} there, and {here[name]!r} was wanted"


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries as one, by the innermost names (no two parts share one)."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat


def _check_fit(config: RunConfig, task: CanvasTask) -> None:
    if config.network != "ram":
        return
    if len(task.classes) != config.model.num_classes:
        raise ValueError(
            f"num_classes must be {len(task.classes)}, as the digits have; got "
            f"{config.model.num_classes}. Pass --num-classes {len(task.classes)}."
        )
    if config.objective.glimpse_weight and not config.model.glimpse_head:
        raise ValueError(
            f"glimpse_weight must be 0 for a model without a glimpse_head; got "
            f"{config.objective.glimpse_weight}. Pass --glimpse-head, or --glimpse-weight 0."
        )
    if config.model.glimpse_size > max(task.image_size):
        raise ValueError(
            f"glimpse_size must be at most the image's {max(task.image_size)} pixels; got "
            f"{config.model.glimpse_size}. Pass a smaller --glimpse-size."
        )


def _result(
    network: Network,
    task: CanvasTask,
    config: RunConfig,
    about: dict[str, Any],
    outcome: Outcome,
) -> dict[str, Any]:
    """The test error, and all that made it. The test split is used here, once a run."""
    test = evaluate(network, task, "test")
    result: dict[str, Any] = {
        "task": about["name"],
        "recipe": about["recipe"],
        "network": config.network,
        "error": test.error,
        "interval": list(test.interval),
        "protocol": PROTOCOL,
        "validation_error": outcome.validation_error,
        "parameters": network.count_parameters(),
    }
    if isinstance(network, RecurrentAttention):
        looks = config.model.num_glimpses
        result |= {
            "num_glimpses": looks,
            "multiply_adds": looks * network.count_multiply_adds(),
            "pixels_read": network.count_pixels_read(),
        }
    else:
        height, width = task.image_size
        result |= {
            "multiply_adds": network.count_multiply_adds(),
            "pixels_read": task.num_channels * height * width,
        }
    return result | {
        "images_seen": outcome.images,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "seed": config.training.seed,
        "command": about["command"],
        "commit": commit(),
        "hardware": hardware(task.device),
        "versions": {"foveal": __version__, "torch": torch.__version__},
    }
