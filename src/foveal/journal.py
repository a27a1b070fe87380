"""The curve of a run: ``metrics.jsonl`` and TensorBoard events, exact across kills."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foveal import checkpoint

METRICS_FILE = "metrics.jsonl"


class Journal:
    """``metrics.jsonl`` and TensorBoard events of a run."""

    def __init__(self, directory: Path, step: int) -> None:
        self.path, self.step = directory / METRICS_FILE, step

    def __enter__(self) -> Journal:
        from torch.utils.tensorboard.writer import SummaryWriter  # noqa: PLC0415 (slow to import)

        # What a killed process wrote after its last checkpoint is about to be written again.
        kept = [line for line in _complete_lines(self.path) if line["step"] <= self.step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        checkpoint.write_file(self.path, text.encode())
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(self.path.parent), purge_step=self.step + 1)
        return self

    def write(self, line: dict[str, Any]) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in line.items():
            if name not in ("step", "epoch"):
                self.board.add_scalar(name, value, line["step"])

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.board.close()


class NoJournal:
    """Keeps nothing: for the processes of a training that do not write."""

    def __enter__(self) -> NoJournal:
        return self

    def write(self, line: dict[str, Any]) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``, in order."""
    return list(_complete_lines(directory / METRICS_FILE))


def _complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of JSON objects, less a last one that a kill left unfinished."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            return
