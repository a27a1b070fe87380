"""Model directories: ``config.json`` and ``model.safetensors``, by path or by name."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from foveal.io import hub
from foveal.io.files import read_json, read_shapes, read_tensors, write_json, write_tensors
from foveal.names import Range, check_value, nearest, shell_line

T = TypeVar("T")
M = TypeVar("M", bound=torch.nn.Module)

FORMAT = "foveal"
VERSION = 2
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
GROUNDS, CLEARLY = ("dark", "bright"), 0.25  # of the images: the mean of their pixels
RESULT_FILE = "result.json"  # what was measured
CHECKPOINT_FILE = Path("checkpoint", "last.safetensors")  # of a run
METRICS_FILE = "metrics.jsonl"  # of a run, its curve
# Of files of version 1: what of a model's configuration is an objective's now, and the weights that
# only training used.
MOVED_TO_OBJECTIVE = ("detach_baseline", "privileged_baseline")
TRAINING_WEIGHTS = ("baseline_head.", "glimpse_head.")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # of weights
PRETRAINED = Path(__file__).parents[1] / "pretrained"  # the models that ship with the package


def save_model(directory: Path, model: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and ``config.json`` (see `read_config`) into a directory."""
    write_json(directory / CONFIG_FILE, {"format": FORMAT, "version": VERSION, **config})
    write_tensors(directory / WEIGHTS_FILE, model.state_dict(), {"format": FORMAT})


def pretrained_models() -> list[str]:
    """The names of the models that ship with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_FILE}"))


def locate_model(model: str | Path, revision: str | None = None) -> Path:
    """The directory of a model: itself, or of the pretrained one or the Hub's of this name.

    The revision is a branch, a tag or a commit of a model on the Hub ("someone/name"), and
    `ValueError` of another. Raises `FileNotFoundError` if there is none, which suggests the nearest
    name; see also `hub.fetch`.
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
    raise FileNotFoundError(
        "MODEL must be a run directory, a saved model, the name of a pretrained one "
        f"({', '.join(names)}) or 'someone/name' on the Hugging Face Hub; "
        f"there is no directory {str(model)!r}.{nearest(str(model), names)}"
    )


def read_config(directory: Path) -> dict[str, Any]:
    """The ``config.json`` of a run directory or a saved model.

    Raises `FileNotFoundError` if there is none, and `ValueError` if it is another program's, or of
    a newer version.
    """
    path = directory / CONFIG_FILE
    if not path.is_file():
        what = f"it holds no {CONFIG_FILE}" if directory.is_dir() else "there is no such directory"
        raise FileNotFoundError(f"{directory} must be a run directory or a saved model; {what}.")
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is not foveal's: another program wrote it. Choose another path.")
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise ValueError(
            f"{path} has version {version}; this foveal reads up to {VERSION}. Update foveal."
        )
    try:
        _check_about(content)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None
    return upgraded(content)


def unfinished(directory: Path) -> FileNotFoundError:
    """What to raise of a run directory that lacks what it will have."""
    return FileNotFoundError(
        f"{directory} is a run that has not finished. Go on with it: "
        f"{shell_line('train', '--resume', directory)}"
    )


def check_finished(directory: Path) -> None:
    """Raise `FileNotFoundError` if a run directory has no weights yet."""
    if (directory / METRICS_FILE).exists() and not (directory / WEIGHTS_FILE).exists():
        raise unfinished(directory)


def check_looks_at(content: Mapping[str, Any], name: str | Path) -> None:
    """Raise `ValueError` if a configuration is not of a recurrent attention model."""
    network = content.get("network", "ram")
    if network != "ram":
        raise ValueError(
            f"{name} holds a {network} network, which sees the whole image and looks nowhere. "
            "Choose a recurrent attention model."
        )


def _check_about(content: Mapping[str, Any]) -> None:
    """Refuse what a configuration says beside its values, of the classes first, unless it fits."""
    for key in ("name", "recipe", "command"):
        check_value(key, content.get(key, ""), str)
    check_value("changed", content.get("changed", {}), dict)
    model, names, size = (content.get(key) for key in ("model", "classes", "image_size"))
    if not isinstance(model, dict | None):
        raise ValueError(f"model must be an object; got a {type(model).__name__}.")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
            raise ValueError("classes must be a list of names.")
        if len(set(map(str, names))) < len(names):
            raise ValueError("classes must be different names.")
        wanted = (model or {}).get("num_classes", len(names))
        if content.get("network", "ram") == "ram" and len(names) != wanted:
            raise ValueError(f"there are {len(names)} classes, but num_classes is {wanted}.")
    if (ground := content.get("ground")) not in (None, *GROUNDS):
        raise ValueError(f"ground must be one of {', '.join(GROUNDS)}; got {ground!r}.")
    if size is not None:
        whole = tuple(size) if isinstance(size, list) else size
        check_value("image_size", whole, tuple[int, int], Range(1, 10**6))


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """What an earlier foveal wrote, as this one would.

    Version 1 had in the model what only training needs, and the first files of version 2 do not say
    which kind of run they are of.
    """
    task = content.get("task")
    kind = "folder" if isinstance(task, dict) and "data" in task else "canvases"
    if "env" in content or task is not None:
        content = {"kind": "agent" if "env" in content else kind} | content
    if "ground" not in content:
        content = content | {"ground": ground_of(content)}
    if content.get("version", 1) > 1:
        return content
    model, objective = dict(content.get("model") or {}), content.get("objective")
    moved = {name: model.pop(name) for name in MOVED_TO_OBJECTIVE if name in model}
    model.pop("glimpse_head", None)
    if "env" in content:
        moved.pop("privileged_baseline", None)  # no agent has one
    newer = {"version": VERSION, "model": model}
    if isinstance(objective, dict):
        newer["objective"] = objective | moved
    return content | newer


def ground_of(content: Mapping[str, Any]) -> str | None:
    """What most of an image was in training, "dark" or "bright"; None where it was neither.

    Canvases are black. Of one's own images the mean tells, where it is near an end.
    """
    if content.get("kind") in ("canvases", "haystacks"):
        return "dark"
    means = (content.get("model") or {}).get("pixel_mean")
    if not isinstance(means, list | tuple) or not all(isinstance(m, float | int) for m in means):
        return None
    mean = sum(means) / len(means) if means else 0.5
    return "dark" if mean < CLEARLY else "bright" if mean > 1 - CLEARLY else None


def loaded(make: Callable[[], M], path: Path, prefix: str = "") -> M:
    """A model in eval mode, with the weights of a file.

    Its sizes are compared with the file's header first, so that wrong ones take no memory.

    Args:
        make: gives the untrained model.
        path: of the weights.
        prefix: of the names of the model's weights in a checkpoint.

    Raises `FileNotFoundError` (a run that is not finished has none), and `ValueError` if the file
    is damaged or belongs to another configuration.
    """
    shapes = of_the_model(read_shapes(path), prefix)
    with _no_larger_than(shapes, path):
        model = make()
    _check_shapes(model, shapes, path)  # before anything is read
    tensors, _ = read_tensors(path)
    load_state(model, of_the_model(tensors, prefix), path)
    return model.eval()


@contextlib.contextmanager
def _no_larger_than(shapes: Mapping[str, tuple[int, ...]], path: Path) -> Iterator[None]:
    """Refuse a parameter of more numbers than a file holds, before its memory is written to."""
    most, here = sum(map(math.prod, shapes.values())), threading.get_ident()

    def check(_: object, name: str, parameter: torch.nn.Parameter | None) -> None:
        if parameter is None or parameter.numel() <= most or threading.get_ident() != here:
            return
        raise ValueError(
            f"{path} belongs to another configuration: it holds {most:,} numbers, and a {name} "
            f"alone would be {tuple(parameter.shape)}. Restore the weights that were saved beside "
            f"{CONFIG_FILE}."
        )

    handle = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()


def of_the_model(tensors: Mapping[str, T], prefix: str = "") -> dict[str, T]:
    """Weights of a saved model, or their shapes, less those that only training used."""
    named = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return {k: v for k, v in named.items() if not k.startswith(TRAINING_WEIGHTS)}


def load_state(model: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict; `ValueError` if names or shapes differ, or what it holds is no number."""
    _check_shapes(model, {name: tuple(value.shape) for name, value in tensors.items()}, path)
    for name, own in model.state_dict().items():
        value, kinds = tensors[name], FLOATS if own.is_floating_point() else (own.dtype,)
        if value.dtype not in kinds or not bool(value.isfinite().all()):
            raise ValueError(
                f"{path} is damaged: {name} must be finite numbers; it holds others "
                f"({str(value.dtype).removeprefix('torch.')}). Restore it from a copy."
            )
    model.load_state_dict(dict(tensors))


def _check_shapes(model: torch.nn.Module, got: Mapping[str, tuple[int, ...]], path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    wrong = sorted(name for name in wanted.keys() | got if wanted.get(name) != got.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{path} belongs to another configuration: {name} must be "
            f"{wanted.get(name, 'absent')}; got {got.get(name, 'none')}. Restore the weights that "
            f"were saved beside {CONFIG_FILE}."
        )
