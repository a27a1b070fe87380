"""Files that survive: atomic writes, and state kept as safetensors and JSON.

Nothing here unpickles: a file from a stranger can be wrong, but it cannot run code.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import tempfile
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

T = TypeVar("T")

PARTIAL = ".partial"  # how the hidden name of a file ends that is being written


def write_file(path: Path, content: bytes) -> None:
    """Write a file in one step: a crash or a full disk leaves the old one as it was.

    Raises `OSError` if the directory cannot be written or the disk is full; says which file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "Free some space, or choose" if full else "Choose"
        raise OSError(
            f"{path} could not be written ({problem.strerror or problem}); what was there before "
            f"is unchanged. {advice} another directory."
        ) from problem
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def remove_partial(path: Path) -> None:
    """Remove what killed processes left half written of a file that nobody else may write now."""
    for left in path.parent.glob(f".{path.name}.[0-9]*{PARTIAL}"):
        left.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse, by `OSError`, a file that has no place, before minutes are spent on what is in it."""
    above = next(place for place in path.absolute().parents if place.exists())
    taken = "it is a directory" if path.is_dir() else ""
    try:
        with tempfile.TemporaryFile(dir=above):  # rights alone do not tell: /proc has them
            pass
    except OSError:
        taken = f"{above} is no directory that can be written"
    if taken:
        raise OSError(f"{path} cannot be written: {taken}. Choose another --out.")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON in one step; see `write_file`."""
    write_file(path, (json.dumps(content, indent=2) + "\n").encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able description as one safetensors file, in one step."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_file(path, save(ready, metadata={"about": json.dumps(about)}))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; `ValueError` if it is none, `FileNotFoundError` if nothing is there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:  # a number of too many digits, depth
        raise ValueError(f"{path} must be JSON; it is damaged or not ours ({problem}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object; got a {type(content).__name__}.")
    return content


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote, onto the CPU.

    Raises `FileNotFoundError`, or `ValueError` if the file is truncated or of another format.
    """
    with _opened(path) as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
        if not isinstance(about, dict):
            raise ValueError(f"a description that is a {type(about).__name__}")
        return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a file, by its header alone; see `read_tensors`."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, ValueError, RecursionError, AttributeError, OSError) as problem:
        raise ValueError(
            f"{path} is truncated or not a safetensors file ({problem}). "
            "Restore it from a copy, or remove it to start again."
        ) from None


def fingerprint(config: Mapping[str, Any]) -> str:
    """A short hash that two configurations share only if they are equal."""
    return hashlib.sha256(
        json.dumps(config, sort_keys=True, default=dataclasses.asdict).encode()
    ).hexdigest()[:16]


def changed(config: Any) -> dict[str, Any]:
    """What of a configuration differs from its defaults, by name.

    A checkpoint is known by this, so that a new field with a default that changes nothing leaves
    the checkpoints of before as they are, of a part's settings too; so do settings that a default
    part has got since.
    """
    fields = dataclasses.fields(config)
    found = {f.name: getattr(config, f.name) for f in fields}
    found = {f.name: found[f.name] for f in fields if found[f.name] != f.default}
    for name, value in list(found.items()):
        part = name.removesuffix("_settings")
        if part != name and part not in found and value == type(value)():
            del found[name]
        elif dataclasses.is_dataclass(value):
            found[name] = changed(value)
    return found


# Fields of earlier versions, and the one value of each that still holds.
RETIRED = {"schedule": "linear"}


def config_from_dict(cls: type[T], values: Any, where: str) -> T:
    """Rebuild a (nested) configuration dataclass from what `dataclasses.asdict` gave.

    A field of `RETIRED` is left out where it has the value that still holds. Raises `ValueError` if
    a key is unknown or a value refused; ``where`` names the source.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {cls.__name__} must be an object; got {values!r}.")
    try:
        # What a field holds may depend on what another says.
        types = getattr(cls, "field_types", lambda _: typing.get_type_hints(cls))(values)
    except ValueError as problem:
        raise ValueError(f"{where}: {problem}") from None
    retired = {name: values[name] for name in RETIRED.keys() & values.keys() - types.keys()}
    for name, value in retired.items():
        if value != RETIRED[name]:
            raise ValueError(
                f"{where}: {name} is {value!r}, but only {RETIRED[name]!r} is left; "
                "use the earlier version of foveal that wrote it, or train anew."
            )
    values = {name: value for name, value in values.items() if name not in retired}
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
        if isinstance(value, list):
            value = tuple(tuple(part) if isinstance(part, list) else part for part in value)
        ready[name] = value
    try:
        return cls(**ready)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{where}: {problem}") from None
