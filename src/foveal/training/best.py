"""The best weights of a run so far, and what its directory still has of other runs."""

from pathlib import Path

from torch import nn

from foveal.io.files import read_tensors, remove_partial, write_tensors
from foveal.io.models import CHECKPOINT_FILE, WEIGHTS_FILE, load_state

BEST_FILE = "best.safetensors"  # of a run's directory


def make_way(directory: Path, *, owned: bool, begins: bool) -> None:
    """Clear a directory for the run that holds it, of what killed ones left.

    Args:
        directory: of the run.
        owned: whether a checkpoint there is the run's; another's is not to be lost: `ValueError`.
        begins: whether the run is at its first step, so that the best weights are another's.
    """
    if not owned and (directory / CHECKPOINT_FILE).exists():
        raise ValueError(
            f"{directory} has a checkpoint, which would be lost. Call `restore` first to go on "
            "with that run, or choose another directory."
        )
    for name in (CHECKPOINT_FILE, BEST_FILE, WEIGHTS_FILE):
        remove_partial(directory / name)
    if begins:
        (directory / BEST_FILE).unlink(missing_ok=True)


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
