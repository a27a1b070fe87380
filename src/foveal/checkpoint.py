"""Files that survive: atomic writes, and state kept as safetensors and JSON.

Nothing here unpickles: a file from a stranger can be wrong, but it cannot run code.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foveal import hub

T = TypeVar("T")

FORMAT = "foveal"
VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PRETRAINED = Path(__file__).parent / "pretrained"  # the models that ship with the package


# --- Files ----------------------------------------------------------------------------------


def write_file(path: Path, content: bytes) -> None:
    """Write a file in one step: a crash or a full disk leaves the old one as it was.

    Raises:
        OSError: if the directory cannot be written or the disk is full; says which file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as problem:
        raise OSError(
            f"{path} could not be written ({problem.strerror or problem}); what was there before "
            "is unchanged. Free some space, or choose another directory."
        ) from problem
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON in one step; see `write_file`.

    Raises:
        OSError: if the file cannot be written.
    """
    write_file(path, (json.dumps(content, indent=2) + "\n").encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able description as one safetensors file, in one step.

    Raises:
        OSError: if the file cannot be written.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_file(path, save(ready, metadata={"about": json.dumps(about)}))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} must be JSON; it is damaged or not ours ({problem}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object; got a {type(content).__name__}.")
    return content


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote, onto the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated or of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as problem:
        raise ValueError(
            f"{path} is truncated or not a safetensors file ({problem}). "
            "Restore it from a copy, or remove it to start again."
        ) from None


# --- Configurations -------------------------------------------------------------------------


def fingerprint(config: Mapping[str, Any]) -> str:
    """A short hash that two configurations share only if they are equal."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def changed(config: Any) -> dict[str, Any]:
    """What of a configuration differs from its defaults, by name.

    A checkpoint is known by this, so that a new field with a default that changes nothing leaves
    the checkpoints of before as they are.
    """
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }


def config_from_dict(cls: type[T], values: Any, where: str) -> T:
    """Rebuild a (nested) configuration dataclass from what `dataclasses.asdict` gave.

    Raises:
        ValueError: if a key is unknown or a value refused; ``where`` names the source.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {cls.__name__} must be an object; got {values!r}.")
    types = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise ValueError(
            f"{where}: {cls.__name__} has no {', '.join(unknown)}; "
            "it was written by another version of foveal."
        )
    ready = {}
    for name, value in values.items():
        kind = types[name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            value = config_from_dict(kind, value, where)
        ready[name] = tuple(value) if isinstance(value, list) else value
    try:
        return cls(**ready)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{where}: {problem}") from None


# --- Models ---------------------------------------------------------------------------------


def save_model(directory: Path, model: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and ``config.json`` (see `read_config`) into a directory.

    Raises:
        OSError: if they cannot be written.
    """
    write_json(directory / CONFIG_FILE, {"format": FORMAT, "version": VERSION, **config})
    write_tensors(directory / WEIGHTS_FILE, model.state_dict(), {"format": FORMAT})


def pretrained_models() -> list[str]:
    """The names of the models that ship with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_FILE}"))


def locate_model(model: str | Path, revision: str | None = None) -> Path:
    """The directory of a model: itself, or of the pretrained one or the Hub's of this name.

    Args:
        model: a directory, the name of a pretrained model, or a name on the Hub ("someone/name").
        revision: a branch, a tag or a commit, of a model on the Hub.

    Raises:
        FileNotFoundError: if there is none; suggests the nearest name.
        OSError: see `hub.fetch`.
        ValueError: if there is a ``revision`` of what is not on the Hub.
    """
    directory = Path(model)
    names = pretrained_models()
    if not directory.is_dir() and hub.is_model_id(str(model)):
        return hub.fetch(str(model), revision)
    if revision is not None:
        raise ValueError(f"revision is for models on the Hub ('someone/name'); got {str(model)!r}.")
    if directory.is_dir():
        return directory
    if str(model) in names:
        return PRETRAINED / model
    near = difflib.get_close_matches(str(model), names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise FileNotFoundError(
        "MODEL must be a run directory, a saved model, the name of a pretrained one "
        f"({', '.join(names)}) or 'someone/name' on the Hugging Face Hub; "
        f"there is no directory {str(model)!r}.{hint}"
    )


def read_config(directory: Path) -> dict[str, Any]:
    """The ``config.json`` of a run directory or a saved model.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is another program's, or of a newer version.
    """
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} must be a run directory or a saved model; it holds no {CONFIG_FILE}."
        )
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is not foveal's: another program wrote it. Choose another path.")
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise ValueError(
            f"{path} has version {content.get('version')}; this foveal reads up to {VERSION}. "
            "Update foveal."
        )
    return content


def load_weights(directory: Path, model: torch.nn.Module) -> None:
    """Load ``model.safetensors`` into a model of the same configuration.

    Raises:
        FileNotFoundError: if there is none (a run that is not finished has none).
        ValueError: if the file is damaged or belongs to another configuration.
    """
    path = directory / WEIGHTS_FILE
    tensors, _ = read_tensors(path)
    load_state(model, tensors, path)


def load_state(model: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict, with one clear line if it is another model's.

    Raises:
        ValueError: if it is another model's: names or shapes differ.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = sorted(name for name in wanted.keys() | got if wanted.get(name) != got.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{path} belongs to another configuration: {name} must be "
            f"{wanted.get(name, 'absent')}; got {got.get(name, 'none')}."
        )
    model.load_state_dict(dict(tensors))
