"""The training engine: schedule, metrics, checkpoints, exact resume.

A step never waits for the device: what it measures is summed there, and read every
``log_every`` steps. All randomness of a step comes from one generator, whose state is in the
checkpoint, so that a resumed run repeats the uninterrupted one bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from foveal import checkpoint
from foveal.evaluation import Task, evaluate
from foveal.journal import Journal
from foveal.machine import precision_on, stop_on_signal
from foveal.model import RecurrentAttention
from foveal.objective import LossTerms, ObjectiveConfig, hybrid_loss, reward_of, supervised_loss
from foveal.optimizers import OPTIMIZERS, load_state_tensors, make_optimizers, state_tensors

SCHEDULES = ("linear", "cosine")
PRECISIONS = ("auto", "32-true", "bf16-mixed")
CHECKPOINT_FILE = Path("checkpoint", "last.safetensors")
MEASURES = ("loss", "error", "reward", "baseline_loss", "gradient_norm")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    epochs: int = 100  # passes over the training split
    batch_size: int = 128  # images a step; the paper's is 20
    optimizer: Literal["muon", "adam", "sgd"] = "adam"  # SGD is the paper's, with momentum
    lr: float = 1e-3  # learning rate at the start
    schedule: Literal["linear", "cosine"] = "linear"  # how the rate falls to 0 over the run
    momentum: float = 0.9  # of SGD
    weight_decay: float = 0.0  # a step, times the rate; except with SGD apart from the gradient
    final_location_std: float = 0.0  # what location_std falls to over the run; 0 keeps it
    gradient_clip: float = 0.0  # largest norm of the gradient; 0 for none
    seed: int = 0  # of weights, order of images, canvases and exploration
    precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true"  # auto: bf16 where it is fast
    validate_every: int = 1  # epochs between evaluations on the validation split
    log_every: int = 100  # steps between readings of the metrics
    checkpoint_minutes: float = 2.0  # between checkpoints

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every", "log_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr must be above 0; got {self.lr!r}.")
        for name in ("weight_decay", "final_location_std", "gradient_clip", "checkpoint_minutes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0; got {getattr(self, name)!r}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1); got {self.momentum!r}.")
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}."
                )

    def remaining(self, progress: float) -> float:
        """The share of the learning rate that is left after ``progress`` (0 to 1) of the run."""
        if self.schedule == "linear":
            return 1 - progress
        return 0.5 * (1 + math.cos(math.pi * progress))


class TrainingStopped(Exception):
    """A signal asked the run to stop; its state is saved."""


class TrainingDiverged(Exception):
    """The loss is no longer a number; the last checkpoint is from before."""


@dataclass(frozen=True)
class Progress:
    """What the engine tells its listener, at every reading of the metrics.

    Attributes:
        step, total_steps, epoch: where the run is; epochs count from 0.
        measures: means since the last reading, by name (see `MEASURES`); empty after validation.
        validation_error: in %, the last known; None before the first.
        images_per_second: since this process started.
        validated: whether this report follows an evaluation.
    """

    step: int
    total_steps: int
    epoch: int
    measures: dict[str, float]
    validation_error: float | None
    images_per_second: float
    validated: bool


@dataclass(frozen=True)
class Outcome:
    """What a finished run gives: `seconds` of all its processes, `images` seen, last error."""

    steps: int
    images: int
    seconds: float
    validation_error: float


def loss_of(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    objective: ObjectiveConfig,
    location_std: float | None,
    generator: torch.Generator,
) -> LossTerms:
    """The hybrid objective of a `RecurrentAttention`; cross-entropy of any other network."""
    inner = getattr(model, "module", model)
    if isinstance(inner, RecurrentAttention):
        rollout = model(images, labels=labels, location_std=location_std, generator=generator)
        return hybrid_loss(rollout, labels, objective)
    logits = model(images)
    supervised = supervised_loss(logits, labels)
    right = reward_of(logits, labels).mean()
    none = torch.zeros_like(right)
    return LossTerms(supervised, supervised, none, none, right, 1 - right)


class Trainer:
    """Trains a classifier on a task and keeps its run directory.

    Args:
        model: a `RecurrentAttention`, or a network from images to logits.
        task: on the device where the model is to train.
        config: how to train.
        objective: of a `RecurrentAttention`.
        directory: of the run; created when something is written.
        device: as PyTorch names it; the task's.
        listener: called at every reading of the metrics.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        config: TrainConfig,
        objective: ObjectiveConfig,
        directory: Path,
        *,
        device: torch.device | str = "cpu",
        listener: Callable[[Progress], None] | None = None,
    ) -> None:
        self.model, self.task, self.config, self.objective = model, task, config, objective
        self.directory = directory
        self.device = torch.device(device)
        self.listener = listener
        self.steps_per_epoch = task.size("train") // config.batch_size
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"batch_size must be at most the {task.size('train'):,} training images; "
                f"got {config.batch_size}."
            )
        self.total_steps = config.epochs * self.steps_per_epoch
        self.step = 0
        self.seconds = 0.0  # of the processes before this one
        self.validation_error: float | None = None
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.totals = torch.zeros(len(MEASURES), device=self.device)
        self.counted = 0  # steps in the totals
        self.optimizers = make_optimizers(
            model.to(self.device),
            config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
        self._identity = checkpoint.fingerprint(
            {
                "train": vars(config),
                "objective": vars(objective),
                "model": repr(getattr(model, "config", model)),
            }
        )

    def run(self) -> Outcome:
        """Train from where the run stands to its end.

        Raises:
            TrainingStopped: on SIGINT or SIGTERM, after saving.
            TrainingDiverged: if the loss is not finite; the last checkpoint is kept.
            OSError: if the run directory cannot be written.
        """
        config = self.config
        fabric = Fabric(
            accelerator="cuda" if self.device.type == "cuda" else "cpu",
            devices=[self.device.index or 0] if self.device.type == "cuda" else 1,
            precision=precision_on(self.device, config.precision),
        )
        model, *optimizers = fabric.setup(self.model, *self.optimizers)
        model.train()
        began = saved = time.monotonic()
        first_step, order = self.step, self._order(self.step // self.steps_per_epoch)
        with Journal(self.directory, self.step) as journal, stop_on_signal() as stopping:
            while self.step < self.total_steps:
                epoch, place = divmod(self.step, self.steps_per_epoch)
                if place == 0:
                    order = self._order(epoch)
                chosen = order[place * config.batch_size : (place + 1) * config.batch_size]
                self._train_step(fabric, model, optimizers, chosen)
                self.step += 1
                ended = self.step == self.total_steps
                elapsed = time.monotonic() - began
                rate = (self.step - first_step) * config.batch_size / elapsed
                if self.step % config.log_every == 0 or ended:
                    self._report(journal, rate, self._read_totals())
                if place + 1 == self.steps_per_epoch and (
                    (epoch + 1) % config.validate_every == 0 or ended
                ):
                    self.validation_error = evaluate(self.model, self.task, "validation").error
                    self._report(journal, rate, {})
                due = time.monotonic() - saved > 60 * config.checkpoint_minutes
                if due or ended or stopping.is_set():
                    self.save(self.seconds + time.monotonic() - began)
                    saved = time.monotonic()
                if stopping.is_set() and not ended:
                    raise TrainingStopped(f"stopped at step {self.step:,} of {self.total_steps:,}")
        self.seconds += time.monotonic() - began
        assert self.validation_error is not None
        images = self.step * config.batch_size
        return Outcome(self.step, images, self.seconds, self.validation_error)

    def save(self, seconds: float) -> None:
        """Write the checkpoint, unless the state is no longer finite.

        Raises:
            TrainingDiverged: if it is not; the older checkpoint stays.
            OSError: if it cannot be written; the older checkpoint stays.
        """
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        finite = [torch.isfinite(value).all() for value in (*tensors.values(), self.totals)]
        if not bool(torch.stack(finite).all()):
            raise self._diverged()
        tensors |= state_tensors(self.optimizers)
        tensors["generator"] = self.generator.get_state()
        tensors["totals"] = self.totals
        about = {
            "identity": self._identity,
            "step": self.step,
            "seconds": seconds,
            "counted": self.counted,
            "validation_error": self.validation_error,
        }
        checkpoint.write_tensors(self.directory / CHECKPOINT_FILE, tensors, about)

    def restore(self) -> bool:
        """Go back to the run directory's checkpoint; False if it has none yet.

        Raises:
            ValueError: if the checkpoint is damaged, or of another configuration.
        """
        path = self.directory / CHECKPOINT_FILE
        if not path.exists():
            return False
        tensors, about = checkpoint.read_tensors(path)
        if about.get("identity") != self._identity:
            raise ValueError(
                f"{path} belongs to another configuration than the run's config.json. "
                "Restore the file that belongs to it, or start a new run."
            )
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k[:6] == "model."}
        checkpoint.load_state(self.model, weights, path)
        load_state_tensors(self.optimizers, tensors)
        self.generator.set_state(tensors["generator"])
        self.totals = tensors["totals"].to(self.device)
        self.step, self.counted = about["step"], about["counted"]
        self.seconds, self.validation_error = about["seconds"], about["validation_error"]
        return True

    def _train_step(
        self, fabric: Fabric, model: nn.Module, optimizers: list[Any], chosen: Tensor
    ) -> None:
        config, progress = self.config, self.step / self.total_steps
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.lr * config.remaining(progress)
        images, labels = self.task.batch("train", chosen, self.generator)
        std = self._location_std(progress)
        terms = loss_of(model, images, labels, self.objective, std, self.generator)
        model.zero_grad()
        fabric.backward(terms.total)
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), config.gradient_clip or math.inf, foreach=True
        )
        for optimizer in optimizers:
            optimizer.step()
        self.totals += torch.stack(
            [terms.total.detach(), terms.error, terms.reward, terms.baseline.detach(), norm]
        )
        self.counted += 1

    def _location_std(self, progress: float) -> float | None:
        first = getattr(getattr(self.model, "config", None), "location_std", None)
        if first is None or not self.config.final_location_std:
            return first
        return float(first + (self.config.final_location_std - first) * progress)

    def _order(self, epoch: int) -> Tensor:
        """The order of the training images in an epoch: of the seed and the epoch alone."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch + 1)
        return torch.randperm(self.task.size("train"), generator=generator).to(self.device)

    def _read_totals(self) -> dict[str, float]:
        """Means since the last reading: the one place where the host waits for the device."""
        values = (self.totals / max(self.counted, 1)).tolist()
        if not all(math.isfinite(value) for value in values):
            raise self._diverged()
        self.totals.zero_()
        self.counted = 0
        return dict(zip(MEASURES, values, strict=True))

    def _report(self, journal: Journal, rate: float, measures: dict[str, float]) -> None:
        epoch = (self.step - 1) // self.steps_per_epoch
        line: dict[str, Any] = {"step": self.step, "epoch": epoch, **measures}
        if measures:
            line["lr"] = self.config.lr * self.config.remaining(self.step / self.total_steps)
            line["error"] = 100 * measures["error"]
            line["images_per_second"] = rate
        else:
            line["validation_error"] = self.validation_error
        journal.write(line)
        if self.listener:
            report = Progress(
                step=self.step,
                total_steps=self.total_steps,
                epoch=epoch,
                measures=measures,
                validation_error=self.validation_error,
                images_per_second=rate,
                validated=not measures,
            )
            self.listener(report)

    def _diverged(self) -> TrainingDiverged:
        kept = (
            "the last good checkpoint is kept"
            if (self.directory / CHECKPOINT_FILE).exists()
            else "it had no checkpoint yet"
        )
        return TrainingDiverged(
            f"the loss is no longer a number by step {self.step:,}; {kept}. "
            "Train again with a lower --lr, or with --gradient-clip 5."
        )
