"""What a training tells: how far it is, what it gives, and why it ended early."""

from __future__ import annotations

from dataclasses import dataclass


class TrainingStopped(Exception):
    """A signal asked the run to stop; its state is saved."""


class TrainingDiverged(Exception):
    """The loss is no longer a number; the last checkpoint is from before."""


@dataclass(frozen=True)
class Progress:
    """What the engine tells its listener, at every reading of the metrics.

    Attributes:
        step, total_steps: where the run is.
        epoch: of a classifier's run, from 0; None in an agent's.
        measures: means since the last reading, by name (`Engine.MEASURES`); empty after validation.
        validation: what the last validation measured, by name; empty before the first.
        rate: images, or decisions in an environment, a second since this process started; in
            words.
        seconds_left: to the end, at this rate.
        validated: whether this report follows a validation.
    """

    step: int
    total_steps: int
    epoch: int | None
    measures: dict[str, float]
    validation: dict[str, float]
    rate: str
    seconds_left: float
    validated: bool


@dataclass(frozen=True)
class Outcome:
    """What a finished run gives.

    Attributes:
        steps: of the optimizer's schedule.
        seen: images, or decisions in an environment.
        seconds: of all the processes that it took one after another.
        processor_seconds: that they computed, on all cores; of several at once the first one's.
        validation: what the last validation measured, or that of the weights kept, by name.
        kept: the step whose weights were kept as the best; None if the last are.
    """

    steps: int
    seen: int
    seconds: float
    processor_seconds: float
    validation: dict[str, float]
    kept: int | None = None
