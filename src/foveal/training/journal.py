"""The curve of a run: ``metrics.jsonl`` and TensorBoard events, exact across kills."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.io.files import write_file
from foveal.io.models import METRICS_FILE

SMALLEST_VARIANCE = 1e-5
LARGE_GAP = 10.0  # % of error, from training to validation, that is worth a line
GAZE = ("gaze_x", "gaze_y", "gaze_square")  # means over the chosen locations


class Journal:
    """``metrics.jsonl`` and TensorBoard events of a run."""

    def __init__(self, directory: Path, step: int) -> None:
        self.path, self.step = directory / METRICS_FILE, step

    def __enter__(self) -> Journal:
        from torch.utils.tensorboard.writer import SummaryWriter  # noqa: PLC0415 (slow to import)

        # What a killed process wrote after its last checkpoint is about to be written again.
        kept = [line for line in _complete_lines(self.path) if line["step"] <= self.step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_file(self.path, text.encode())
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(self.path.parent), purge_step=self.step + 1)
        return self

    def write(self, line: dict[str, Any]) -> None:
        """Add a line: ``step``, ``epoch`` where there are epochs, and the measures by name."""
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in line.items():
            if name not in ("step", "epoch"):
                self.board.add_scalar(name, value, line["step"])

    def show(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Show a ``(H, W, 3)`` picture in TensorBoard."""
        self.board.add_image(name, pixels, step, dataformats="HWC")

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.board.close()


class Gap:
    """Notices, once, that what a classifier learns does not generalize."""

    def __init__(self) -> None:
        self.trained, self.said = math.inf, False

    def __call__(self, measures: dict[str, float], validation: dict[str, float]) -> str:
        """What is to be said, if anything.

        Args:
            measures: means since the last reading, by name; their ``error`` is remembered.
            validation: what was measured just now, or nothing; ``validation_error``, in %.
        """
        self.trained = measures.get("error", self.trained)
        error = validation.get("validation_error", 0.0)
        if self.said or error < max(2 * self.trained, self.trained + LARGE_GAP):
            return ""
        self.said = True
        return (
            f"it learns by heart: error {self.trained:.1f} % in training, {error:.1f} % in "
            "validation. Try more images, augmentation (--rotation 15 --shift 0.1 --rescale 0.2), "
            "--start with a trained model, or fewer --epochs."
        )


def with_fit_and_spread(means: dict[str, float], target: str) -> dict[str, float]:
    """Replace moments, which can be summed over steps, by what they say.

    Args:
        means: by name; those of the target and of the gaze may be missing.
        target: the name of what the baseline is regressed to; ``{target}_square`` is its square.

    Returns:
        The other means; ``baseline_fit``, the share of the target's variance that the baseline
        explains: 1 at best, 0 if it were as good as the target's mean; and ``location_spread``,
        the standard deviation of the chosen locations, of x and y together, per axis: 0.58 if they
        were uniform. Neither where there is nothing to be explained, or nothing was chosen.
    """
    shown = {
        name: value
        for name, value in means.items()
        if name not in (f"{target}_square", *GAZE) and name != "target"
    }
    square = means.get(f"{target}_square", 0.0)
    variance = square - means.get(target, 0.0) ** 2
    # Below this it is the rounding of sums. A loss of just 0 is that of no baseline.
    if means.get("baseline_loss") and variance > SMALLEST_VARIANCE * max(1.0, square):
        shown["baseline_fit"] = 1 - means["baseline_loss"] / variance
    if means.get("gaze_square"):
        around = means["gaze_square"] - means["gaze_x"] ** 2 - means["gaze_y"] ** 2
        shown["location_spread"] = math.sqrt(max(around, 0.0) / 2)
    return shown


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``, in order."""
    return list(_complete_lines(directory / METRICS_FILE))


def _complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of JSON objects, up to one that a kill left unfinished."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            return
        if not all(isinstance(value, (int, float)) for value in line.values()):
            return
        yield line
