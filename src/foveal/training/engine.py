"""What training a classifier and training an agent share: schedule, metrics, checkpoints, resume.

A step never waits for the device: what it measures is summed there, and read every
``log_every`` steps. All randomness of a step comes from one generator, whose state is in the
checkpoint, so that a resumed run repeats the uninterrupted one bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.io.files import changed, fingerprint, read_tensors, write_tensors
from foveal.io.models import CHECKPOINT_FILE, load_state
from foveal.names import IMPORTED
from foveal.randomness import make_generator, rank, world_size
from foveal.training.best import keep_if_best, load_best, make_way
from foveal.training.critic import Learner
from foveal.training.journal import Journal
from foveal.training.machine import device_failures_explained, fast_products, hold, stop_on_signal
from foveal.training.measures import Measures
from foveal.training.older import earlier_identities, of_version_2
from foveal.training.optimizers import (
    OptimizationConfig,
    load_state_tensors,
    make_optimizers,
    state_tensors,
)
from foveal.training.parallel import leave, lost_processes_explained, make_fabric, mean_of_all
from foveal.training.progress import Outcome, Progress, TrainingDiverged, TrainingStopped

ILLUSTRATIONS = 10  # about so many in a run
DRAWN_EVERY = 30.0  # seconds from one to the next at least: to draw one takes up to a second
ASK_EVERY = 10  # steps between the processes' questions whether to stop
Illustrator = Callable[[], NDArray[np.uint8] | None]


class Engine(ABC):
    """Runs the steps of a training and keeps its run directory.

    Args:
        learner: what is trained: the model, and what only its training needs.
        config: how.
        identity: what else a checkpoint has to agree with.
        directory: of the run; created when something is written.
        device: as PyTorch names it.
        listener: called at every reading of the metrics.
        illustrate: draws what the model does by now, ``(H, W, 3)``, for TensorBoard, or None: after
            about ten of the validations of a run, fewer where it is short, and after the last. It
            must not draw from any generator of the run.
    """

    MEASURES: ClassVar[tuple[str, ...]]  # what `_train_step` returns
    SEEN: ClassVar[str]  # what `seen_per_step` counts: images or decisions
    COMPARED: ClassVar[str]  # what of a validation says which weights are better
    LOWER_IS_BETTER: ClassVar[bool]  # whether those with less of it are

    total_steps: int
    seen_per_step: int
    batch: str  # the flag that says how much a step takes in at once, and its value
    validation_period: int  # steps from one validation to the next
    first_validation: int | None = None  # step of one before; others follow at 4, 16, ... times it

    def __init__(
        self,
        learner: Learner,
        config: OptimizationConfig,
        identity: dict[str, Any],
        directory: Path,
        *,
        device: torch.device | str = "cpu",
        listener: Callable[[Progress], None] | None = None,
        illustrate: Illustrator | None = None,
    ) -> None:
        self.learner, self.model = learner, learner.model
        self.directory, self.listener = directory, listener
        self.illustrate, self._drawn = illustrate, 0.0  # the seconds at the last picture
        self.optimization = config
        self.device = torch.device(device)
        self.step = 0
        self.seconds = self.processor_seconds = 0.0  # see `Outcome`
        self.validation: dict[str, float] = {}
        self._owns = False  # whether the directory's checkpoint is this run's
        self.fabric = make_fabric(self.device, config.precision, all_used=self._all_used())
        self.writes = rank() == 0  # one process of several keeps the run directory
        self.generator = make_generator(self.device, config.seed)
        self.measures = Measures(self.MEASURES, self.device)
        self.optimizers = make_optimizers(
            learner.to(self.device),
            config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
        self._identity = {"training": changed(config), **identity}

    @abstractmethod
    def _train_step(self) -> Tensor:
        """Train once; ``(len(MEASURES),)`` on the device. Changes weights through `_descend`."""

    @abstractmethod
    def _validate(self) -> dict[str, float]:
        """How good the model is, on what it is not trained with."""

    def _epoch(self) -> int | None:
        return None

    def _measured(self, **values: Tensor) -> Tensor:
        """What a step measured, ``()`` each, in the order of `MEASURES`."""
        return torch.stack([values[name] for name in self.MEASURES])

    def _summarize(self, means: dict[str, float]) -> dict[str, float]:
        """What is reported, from the means since the last reading; some of them may be missing."""
        return means

    def run(self) -> Outcome:
        """Train from where the run stands to its end. Of several processes, they part after it.

        The model then has the weights that are to be kept.

        Raises:
            TrainingStopped: on SIGINT or SIGTERM, after saving.
            TrainingDiverged: if the loss is not finite; the last checkpoint is kept.
            ProcessLost: if another of several processes ended; the last checkpoint is kept.
            DeviceFailed: if the device ran out of memory or was lost; the last checkpoint is kept.
            ValueError: if the directory has the checkpoint of a run that was not restored.
            OSError: if the run directory cannot be written, or another process trains in it.
        """
        # Fabric's wrapper casts what goes into `forward`; the optimizers stay our own.
        self.wrapped, *self.stepped = self.fabric.setup(self.learner, *self.optimizers)
        try:
            precise = fast_products(self.device, self.optimization.precision)
            alone = hold(self.directory) if self.writes else nullcontext()
            # The device's own failures first: to several processes all others are a lost one.
            with alone, lost_processes_explained(), device_failures_explained(self.batch), precise:
                if self.writes:
                    make_way(self.directory, owned=self._owns, begins=not self.step)
                outcome = self._run()
                if self.writes and self.optimization.keep == "best":
                    step, validation = load_best(self.directory, self.model)
                    return replace(outcome, validation=validation, kept=step)
                return outcome
        finally:
            del self.wrapped, self.stepped
            leave()

    def _run(self) -> Outcome:
        config = self.optimization
        self.learner.train()
        first_step, before, saved = self.step, self.seconds, self.seconds
        self._clock = time.monotonic(), time.process_time()
        keeping = Journal(self.directory, self.step) if self.writes else nullcontext()
        with keeping as journal, stop_on_signal() as signalled:
            while self.step < self.total_steps:
                self.measures.add(self._kept_if_it_fails())
                self.step += 1
                ended = self.step == self.total_steps
                self._count_time()
                rate = (self.step - first_step) * self.seen_per_step / (self.seconds - before)
                if self.step % config.log_every == 0 or ended:
                    self._report(journal, rate, self._read_totals())
                if ended or self._validation_due():
                    self._check_finite()
                    self.validation = self._validate_once()
                    self._report(journal, rate, {})
                    if journal and self.illustrate and self._illustration_due():
                        picture, self._drawn = self.illustrate(), self.seconds
                        if picture is not None:
                            journal.show("scanpaths", picture, self.step)
                stopping = self._any(signalled.is_set())
                self._count_time()
                due = self.seconds - saved > 60 * config.checkpoint_minutes
                if due or ended or stopping:
                    self.save()
                    saved = self.seconds
                if stopping and not ended:
                    raise TrainingStopped(f"stopped at step {self.step:,} of {self.total_steps:,}")
        self._count_time()
        spent = self.seconds, self.processor_seconds
        return Outcome(self.step, self.step * self.seen_per_step, *spent, self.validation)

    def _kept_if_it_fails(self) -> Tensor:
        """A step; whatever is wrong with it, what was learned before is saved, if it can be."""
        try:
            return self._train_step()
        except Exception as problem:
            diverged = False
            with suppress(Exception):  # as on a full disk; the last checkpoint stays
                diverged = not self._finite()
                if self.step and not diverged:
                    self.save()
                    problem.add_note(f"What was learned by step {self.step:,} is saved.")
            if diverged:  # which is why it fails
                raise self._diverged() from problem
            raise

    def _count_time(self) -> None:
        now = time.monotonic(), time.process_time()
        self.seconds += now[0] - self._clock[0]
        self.processor_seconds += now[1] - self._clock[1]
        self._clock = now

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        return self.step / self.total_steps

    def save(self) -> None:
        """Write the checkpoint, unless the state is no longer finite.

        Raises:
            TrainingDiverged: if it is not; the older checkpoint stays.
            OSError: if it cannot be written; the older checkpoint stays.
        """
        self._check_finite()
        if not self.writes:
            return
        tensors = dict(self.learner.state_dict())
        tensors |= state_tensors(self.optimizers)
        tensors["generator"] = self.generator.get_state()
        tensors["totals"] = self.measures.saved()
        about = {
            "identity": fingerprint(self._identity),
            "step": self.step,
            "total_steps": self.total_steps,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "counted": self.measures.counted,
            "validation": self.validation,
        }
        write_tensors(self.directory / CHECKPOINT_FILE, tensors, about)
        self._owns = True

    def _finite(self) -> bool:
        """Whether all weights, and the loss, are numbers."""
        numbers = (*self.learner.state_dict().values(), self.measures.totals)
        return bool(torch.stack([torch.isfinite(value).all() for value in numbers]).all())

    def _check_finite(self) -> None:
        """Raise `TrainingDiverged` if they are not."""
        if not self._finite():
            raise self._diverged()

    def restore(self) -> bool:
        """Go back to the run directory's checkpoint; False if it has none yet.

        Raises:
            OSError: if another process trains in the directory.
            ValueError: if the checkpoint is damaged, or of another configuration.
        """
        path = self.directory / CHECKPOINT_FILE
        if not path.exists():
            return False
        with hold(self.directory) if self.writes else nullcontext():
            tensors, about = read_tensors(path)
        known = (self._identity, *earlier_identities(self._identity, self.model))
        if about.get("identity") not in [fingerprint(identity) for identity in known]:
            raise ValueError(
                f"{path} belongs to another configuration than the run's config.json. "
                "Restore the file that belongs to it, or start a new run."
            )
        try:
            self._resume(tensors, about, path)
        except (KeyError, TypeError, RuntimeError, AttributeError) as problem:
            raise ValueError(
                f"{path} is damaged ({problem!r}). Restore it from a copy, or start a new run."
            ) from None
        self._owns = True
        return True

    def _resume(self, tensors: dict[str, Tensor], about: dict[str, Any], path: Path) -> None:
        tensors = {of_version_2(name): value for name, value in tensors.items()}
        wanted = tuple(f"{part}." for part, _ in self.learner.named_children())
        weights = {name: value for name, value in tensors.items() if name.startswith(wanted)}
        load_state(self.learner, weights, path)
        load_state_tensors(self.optimizers, tensors)
        if tensors["generator"].shape != self.generator.get_state().shape:
            other = "cuda" if self.device.type == "cpu" else "cpu"
            raise ValueError(
                f"{path} has the random numbers of another kind of device than {self.device}. "
                f"Go on where the run was: pass --device {other}."
            )
        self.generator.set_state(tensors["generator"])
        self.measures.resume(tensors["totals"], about["counted"])
        self.step = about["step"]
        self.seconds, self.validation = about["seconds"], about["validation"]
        self.processor_seconds = about.get("processor_seconds", self.seconds)  # older have none

    def _rate(self) -> float:
        """The learning rate at this step of the run."""
        return self.optimization.lr * (1 - self.progress)

    def _descend(self, loss: Tensor, rate: float | Tensor) -> Tensor:
        """One step of the optimizers down a loss, at a rate; the norm of its gradient."""
        self.learner.zero_grad()
        self.fabric.backward(loss)
        norm = nn.utils.clip_grad_norm_(
            self.learner.parameters(), self.optimization.gradient_clip or math.inf, foreach=True
        )
        for optimizer in self.stepped:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        return norm

    def _location_std(self) -> float | None:
        """That of the location policy at this step of the run; None for other networks."""
        looks, last = self.learner.looks, self.optimization.final_location_std
        first = None if looks is None else looks.config.location_std
        if first is None or not last:
            return first
        return float(first + (last - first) * self.progress)

    def _validation_due(self) -> bool:
        """Whether to validate at this step: once a period, and a few times in the first."""
        early = self.first_validation
        while early and early < self.step < self.validation_period:
            early *= 4
        return self.step == early or self.step % self.validation_period == 0

    def _illustration_due(self) -> bool:
        """Whether this validation is the last, or the first in its share of a long run."""
        if self.step == self.total_steps:
            return True
        if self.step < self.validation_period or self.seconds - self._drawn < DRAWN_EVERY:
            return False
        before = self.step - self.validation_period
        shares = (step * ILLUSTRATIONS // self.total_steps for step in (self.step, before))
        return len(set(shares)) == 2

    def _all_used(self) -> bool:
        """Whether every weight gets a gradient at every step."""
        return True

    def _any(self, here: bool) -> bool:
        """Whether something is so in any of the processes; they ask one another now and then."""
        if world_size() == 1:
            return here
        if self.step % ASK_EVERY and self.step < self.total_steps:
            return False
        return bool(mean_of_all(torch.tensor(float(here), device=self.device)) > 0)

    def _validate_once(self) -> dict[str, float]:
        """What the process that writes measures; the others wait for it."""
        found = self._validate() if self.writes else {}
        if found and self.optimization.keep == "best":
            kept = self.directory, self.model, self.step
            keep_if_best(*kept, found, self.COMPARED, lower_is_better=self.LOWER_IS_BETTER)
        result: dict[str, float] = self.fabric.broadcast(found)
        return result

    def _read_totals(self) -> dict[str, float]:
        """Means since the last reading."""
        means = self.measures.read()
        if means is None:
            raise self._diverged()
        return self._summarize(means)

    def _report(self, journal: Journal | None, rate: float, measures: dict[str, float]) -> None:
        if journal is None:
            return
        epoch = self._epoch()
        line: dict[str, Any] = {"step": self.step}
        line |= {} if epoch is None else {"epoch": epoch}
        if measures:
            line |= measures
            line["lr"] = self._rate()
            line[f"{self.SEEN}_per_second"] = rate
        else:
            line |= self.validation
        line["seconds"] = round(self.seconds, 1)
        journal.write(line)
        if self.listener:
            report = Progress(
                step=self.step,
                total_steps=self.total_steps,
                epoch=epoch,
                measures=measures,
                validation=self.validation,
                rate=f"{rate:,.0f} {self.SEEN}/s",
                seconds_left=(self.total_steps - self.step) * self.seen_per_step / rate,
                validated=not measures,
            )
            self.listener(report)

    def _diverged(self) -> TrainingDiverged:
        kept = (
            "the last good checkpoint is kept"
            if (self.directory / CHECKPOINT_FILE).exists()
            else "it had no checkpoint yet"
        )
        own = f", or mend what {', '.join(IMPORTED)} makes no number of" if IMPORTED else ""
        return TrainingDiverged(
            f"the loss is no longer a number by step {self.step:,}; {kept}. "
            f"Train again with a lower --lr, or with --gradient-clip 5{own}."
        )
