"""Training a classifier on a task, over the engine that agents share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from foveal.evaluation.classifier import evaluate
from foveal.io.files import changed
from foveal.model.rollout import Rollout
from foveal.names import Range, check_fields
from foveal.randomness import rank, world_size
from foveal.scene import as_scene
from foveal.tasks.task import Task
from foveal.training.capture import CapturedStep, make_graph
from foveal.training.critic import Learner
from foveal.training.engine import Engine, Illustrator
from foveal.training.journal import GAZE, with_fit_and_spread
from foveal.training.objective import (
    LossTerms,
    ObjectiveConfig,
    hybrid_loss,
)
from foveal.training.optimizers import COUNT, MOST_AT_ONCE, OptimizationConfig
from foveal.training.progress import Progress


@dataclass(frozen=True)
class TrainConfig(OptimizationConfig):
    """How a classifier is trained.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    epochs: int = 100  # passes over the training split
    batch_size: int = 128  # images a step; the paper's is 20
    # epochs between evaluations on the validation split; a few come earlier
    validate_every: int = 1
    # of a model to --start from, train when it stops (--stop), and leave the rest as it is
    only_stop: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, epochs=COUNT, batch_size=Range(1, MOST_AT_ONCE), validate_every=COUNT)


class Trainer(Engine):
    """Trains a classifier on a task and keeps its run directory.

    Args:
        model: a `RecurrentAttention`, or a network from images to logits.
        task: on the device where the model is to train.
        config: how to train.
        objective: of a `RecurrentAttention`.
        directory: of the run; created when something is written.
        capture: whether a step may become a CUDA graph, where the device is a GPU, one process
            trains, and the task makes its batches on the device (``task.made_on_device``).
        device: as PyTorch names it; the task's.
        listener: called at every reading of the metrics.
        illustrate: see `Engine`.
    """

    MEASURES = (  # error: in %
        *("loss", "error", "reward", "baseline_loss", "gradient_norm"),
        *("reward_square", *GAZE),
    )
    SEEN = "images"
    COMPARED, LOWER_IS_BETTER = "validation_error", True

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        config: TrainConfig,
        objective: ObjectiveConfig,
        directory: Path,
        *,
        capture: bool = True,
        device: torch.device | str = "cpu",
        listener: Callable[[Progress], None] | None = None,
        illustrate: Illustrator | None = None,
    ) -> None:
        self.task, self.config, self.objective = task, config, objective
        self.class_weights = task.class_weights
        self.steps_per_epoch = task.size("train") // config.batch_size
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"batch_size must be at most the {task.size('train'):,} training images; "
                f"got {config.batch_size}."
            )
        if config.batch_size % world_size():
            raise ValueError(
                f"batch_size must be a multiple of the {world_size()} processes; "
                f"got {config.batch_size}."
            )
        self.total_steps = config.epochs * self.steps_per_epoch
        self.seen_per_step = config.batch_size
        self.batch = f"--batch-size {config.batch_size}"
        self.validation_period = config.validate_every * self.steps_per_epoch
        self.first_validation = self.steps_per_epoch
        architecture = getattr(model, "config", None)
        identity = {
            "objective": changed(objective),
            "model": [type(model).__name__, changed(architecture) if architecture else repr(model)],
        }
        learner = Learner(
            model,
            detach_baseline=objective.detach_baseline,
            privileged_baseline=objective.privileged_baseline,
            glimpse_head=objective.glimpse_head,
            look_critic=objective.look_weight > 0,
            ordered=task.ordered,
            only_stop=config.only_stop,
            starts=objective.rewards_at_chance(getattr(architecture, "num_classes", 1)),
        )
        super().__init__(
            learner,
            config,
            identity,
            directory,
            device=device,
            listener=listener,
            illustrate=illustrate,
        )
        self._shuffled: tuple[int, Tensor] | None = None  # the last epoch's order
        fit = task.made_on_device and world_size() == 1
        graph = make_graph(self.device, self.generator) if capture and fit else None
        self.captured = CapturedStep(self._compute, graph)

    def _train_step(self) -> Tensor:
        return self.captured(self._chosen(self.step), self._location_std(), self._rate())

    def _compute(self, chosen: Tensor, std: float | Tensor | None, rate: float | Tensor) -> Tensor:
        """A step on the chosen images; on a GPU it may be a recording, in which no Python runs."""
        images, labels = self.task.batch("train", chosen, self.generator)
        if not self.task.made_on_device and self.step + 1 < self.total_steps:
            self.task.ahead("train", self._chosen(self.step + 1))
        scene = as_scene(images)
        self.learner.location_std = std
        rollout = self.wrapped(scene, labels, generator=self.generator)
        labels = self.learner.targets(rollout, labels)
        weights = None if self.class_weights is None else self.class_weights[labels.clamp(min=0)]
        if scene.intact is not None and not all(scene.intact):
            # An image of which something could not be read does not count.
            sound = rollout.logits.new_tensor(scene.intact, dtype=torch.float32)
            weights = sound if weights is None else (weights.t() * sound).t()
        terms = self.loss(rollout, labels, weights)
        norm = self._descend(terms.total, rate)
        return self._measured(
            loss=terms.total.detach(),
            error=100 * terms.error,
            reward=terms.reward,
            baseline_loss=terms.baseline.detach(),
            gradient_norm=norm,
            reward_square=terms.reward_square,
            **dict(zip(GAZE, terms.gaze, strict=True)),
        )

    def loss(self, rollout: Rollout, labels: Tensor, weights: Tensor | None = None) -> LossTerms:
        """What a step minimizes: the hybrid objective. A subclass may compute another.

        Args:
            rollout: of B images, in training mode; of a network that sees the whole image, one
                that looked nowhere.
            labels: ``(B,)`` int64; ``(B, A)`` where there are several answers.
            weights: ``(B,)``, what each image counts; all 1 if None.
        """
        return hybrid_loss(rollout, labels, self.objective, weights)

    def _summarize(self, means: dict[str, float]) -> dict[str, float]:
        return with_fit_and_spread(means, "reward")

    def _validate(self) -> dict[str, float]:
        judged = evaluate(self.model, self.task, "validation")
        found = {self.COMPARED: judged.error}
        if self.task.max_answers > 1:
            found["validation_answer_error"] = judged.answer_error
        return found

    def _epoch(self) -> int:
        return (self.step - 1) // self.steps_per_epoch

    def _chosen(self, step: int) -> Tensor:
        """The images of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._shuffled is None or self._shuffled[0] != epoch:
            self._shuffled = (epoch, self._order(epoch))
        share = self.config.batch_size // world_size()
        first = place * self.config.batch_size + rank() * share
        return self._shuffled[1][first : first + share]

    def _all_used(self) -> bool:
        # With one glimpse nothing is decided, and the policy and the baseline have nothing to do.
        looks = self.learner.looks
        return looks is None or looks.config.num_glimpses > 1

    def _order(self, epoch: int) -> Tensor:
        """The order of the training images in an epoch: of the seed and the epoch alone."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch + 1)
        return torch.randperm(self.task.size("train"), generator=generator).to(self.device)
