"""The weights of the best validation so far, where those are what a run is to end with."""

from pathlib import Path

from torch import nn

from foveal.io.files import read_tensors, write_tensors
from foveal.io.models import load_state

BEST_FILE = "best.safetensors"  # of a run's directory


def keep_if_best(
    directory: Path,
    model: nn.Module,
    step: int,
    found: dict[str, float],
    measure: str,
    *,
    lower_is_better: bool,
) -> None:
    """Write the weights if no validation was better by its ``measure`` yet.

    Of equally good ones the later, so that a step that is trained again is kept again.
    """
    path = directory / BEST_FILE
    if path.exists():
        gained = found[measure] - read_tensors(path)[1]["validation"][measure]
        if not (gained <= 0 if lower_is_better else gained >= 0):
            return
    write_tensors(path, model.state_dict(), {"step": step, "validation": found})


def load_best(directory: Path, model: nn.Module) -> tuple[int, dict[str, float]]:
    """Give the model the weights that were kept; their step, and their validation."""
    tensors, about = read_tensors(directory / BEST_FILE)
    load_state(model, tensors, directory / BEST_FILE)
    return about["step"], about["validation"]
