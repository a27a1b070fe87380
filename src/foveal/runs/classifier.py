"""Runs that learn to answer what they see: digits on canvases here, one's own images in `folder`.

What learns is the recurrent attention model, or a network that sees the whole image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch

from foveal.evaluation.classifier import evaluate, judged
from foveal.evaluation.stopping import stopped
from foveal.io.files import read_json
from foveal.io.models import CONFIG_FILE
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.senses import described
from foveal.model.whole_image import REFERENCE_NETWORKS, make_reference_network
from foveal.names import shell_line
from foveal.runs.run import KEPT, AnyNetwork, Completed, Run
from foveal.tasks import CanvasTask, FolderConfig, HaystackConfig, TaskConfig
from foveal.tasks.canvases.digits import BUILT_IN
from foveal.tasks.task import Task
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.objective import ObjectiveConfig
from foveal.viz.illustrations import draw_looks

PROTOCOL = "test split, one rollout, mean policy, {} weights of the run"


@dataclass(frozen=True)
class ClassifierRun(Run):
    """What runs on images have in common."""

    plays = False
    measure, compared, lower_is_better = "error", Trainer.COMPARED, Trainer.LOWER_IS_BETTER
    curve = ("validation_error",)

    # what learns: the recurrent attention model, or a reference network that sees the whole image
    network: Literal["ram", "fc-64", "fc-256", "conv", "conv-86", "bag"] = "ram"
    start: str | None = None  # MODEL whose weights training begins with; random ones if not given
    task: TaskConfig | FolderConfig | HaystackConfig = field(default_factory=TaskConfig)
    model: RAMConfig = field(default_factory=RAMConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    @property
    def shape(self) -> str:
        """See `Run`."""
        return str(self.model.num_glimpses) if self.network == "ram" else self.network

    def trainer(self, task: Task, /, *, drawn: bool, capture: bool, **engine: Any) -> Trainer:
        """See `Run`."""
        torch.manual_seed(self.training.seed)
        draw, network = None, self._network(task)
        if drawn and isinstance(network, RecurrentAttention):
            draw = partial(draw_looks, network, task)
        engine["illustrate"] = draw
        return Trainer(network, task, self.training, self.objective, capture=capture, **engine)

    def judge(self, model: AnyNetwork, task: Task, _: torch.device) -> dict[str, Any]:
        """See `Run`: the test error. The test split is used here, once a run."""
        test = evaluate(model, task, "test")
        if isinstance(model, RecurrentAttention):
            looks = self.model.num_glimpses
            more = {"num_glimpses": looks}
            costs = (model.count_multiply_adds(looks), model.count_pixels_read())
        else:
            height, width = task.image_size
            more = {}
            costs = (model.count_multiply_adds(), task.num_channels * height * width)
        several: dict[str, Any] = {}
        if task.max_answers > 1:
            several = {"answer_error": test.answer_error, "answers": task.max_answers}
        if self.model.stop and isinstance(model, RecurrentAttention):
            *answers, taken = stopped(model, task, "test", stop="learned")
            several = {"stop_error": judged(*answers).error}
            several["stop_looks"] = float(taken.float().mean())
        return {
            "network": self.network,
            "error": test.error,
            "interval": list(test.interval),
            **several,
            "protocol": PROTOCOL.format(KEPT[self.training.keep]),
            "parameters": model.count_parameters(),
            **more,
            "multiply_adds": costs[0],
            "pixels_read": costs[1],
            "test_images": test.count,
        }

    def done(self, lines: Sequence[Mapping[str, Any]]) -> float:
        """See `Run`; epochs count from 0, and a line of validation ends its epoch."""
        return float((lines[-1]["epoch"] + (self.compared in lines[-1])) / self.training.epochs)

    def shortened(self, seed: int, part: int) -> Self:
        """See `Run`."""
        epochs = max(1, self.training.epochs // part)
        return self.altered(training={"seed": seed, "epochs": epochs})

    def told(self, result: Mapping[str, Any]) -> list[str]:
        """See `Run`."""
        low, high = result["interval"]
        best, least = "", result.get("best_validation_error", math.inf)  # older ones have none
        if least < result["validation_error"]:
            best = f" (best {least:.2f} % at step {result['best_step']:,})"
        several = ""
        if "answer_error" in result:
            several = f"of whole sequences, {result['answer_error']:.2f} % of single answers "
        figures = (
            f"test error {result['error']:.2f} % {several}(95 % interval {low:.2f} to {high:.2f}; "
            f"one rollout, mean policy), validation error {result['validation_error']:.2f} %{best}"
            f", {result['images_seen']:,} images in {result['seconds']:,.0f} s"
        )
        if "stop_error" in result:
            looks = f"{result['stop_looks']:.2f} looks on average"
            figures += f"; where it stops, after {looks}, {result['stop_error']:.2f} %"
        look = f"See it look: {shell_line('look', result['run'], '--out', 'look.png')}"
        return [figures, look] if self.network == "ram" else [figures]

    def _network(self, task: Task) -> AnyNetwork:
        """The untrained network for a task's images; `ValueError` if they do not fit together."""
        if self.network != "ram":
            if task.max_answers > 1:
                raise ValueError(
                    f"a {self.network} network gives one answer; the images have up to "
                    f"{task.max_answers}. Leave out --network."
                )
            kind = REFERENCE_NETWORKS[self.network][0]
            if not (task.one_size or kind.any_size):
                raise ValueError(
                    f"a {self.network} network sees the whole image, and the images must have one "
                    "size; they differ. Scale them to one size, or pass --network ram or bag."
                )
            sizes = task.image_size, len(task.classes), task.num_channels
            return make_reference_network(self.network, *sizes)
        self._check_fit(task)
        network = RecurrentAttention(self.model)
        side = 0 if network.context is None else network.context.side
        if side > max(task.image_size):
            raise ValueError(
                f"the context's thumbnail must be at most the image's {max(task.image_size)} "
                f"pixels; got {side}. Pass a smaller --thumbnail-size, or --context none "
                "--policy learned."
            )
        network.count_multiply_adds()  # parts that do not fit together say so before anything is
        return network

    def _check_fit(self, task: Task) -> None:
        """Raise `ValueError` if a model that looks does not fit a task's images."""
        classes = len(task.classes)
        if self.model.senses:
            got = described(dict(self.model.senses))
            raise ValueError(
                f"nothing is sensed beside a task's images; got {got}. Leave out "
                "--senses: they are for agents, and for models called from Python."
            )
        if task.num_channels != self.model.num_channels:
            raise ValueError(
                f"num_channels must be {task.num_channels}, as the images have; got "
                f"{self.model.num_channels}. Pass --num-channels {task.num_channels}."
            )
        if classes != self.model.num_classes:
            raise ValueError(
                f"num_classes must be {classes}, as the images have; got "
                f"{self.model.num_classes}. Pass --num-classes {classes}."
            )
        given = (self.model.max_answers, self.model.with_end)
        if given != (wanted := (task.max_answers, task.with_end)):
            raise ValueError(
                f"max_answers and with_end must be {wanted[0]} and {wanted[1]}, as the images have "
                f"them; got {given[0]} and {given[1]}. Pass --max-answers {wanted[0]} "
                f"--{'' if wanted[1] else 'no-'}with-end."
            )
        if self.model.distinct and task.repeats:
            raise ValueError(
                "distinct answers never repeat a class, and the images have classes that come "
                "twice, which could not be answered. Leave out --distinct."
            )
        if self.model.glimpse_size > max(task.image_size):
            raise ValueError(
                f"glimpse_size must be at most the image's {max(task.image_size)} pixels; got "
                f"{self.model.glimpse_size}. Pass a smaller --glimpse-size."
            )
        if not self.model.stop and self.objective.stop_cost != ObjectiveConfig.stop_cost:
            raise ValueError("stop_cost is for a model that learns to stop. Pass --stop with it.")
        if self.training.only_stop and self.start is None:
            raise ValueError(
                "only_stop trains the stop of a model that there is. Pass --start MODEL with it."
            )


@dataclass(frozen=True)
class DigitsRun(ClassifierRun):
    """What runs on images made of digits have in common: nothing of the digits is kept with one."""

    makes: ClassVar[Callable[..., Task]]  # the task, of its configuration and a device

    task: TaskConfig | HaystackConfig = field(default_factory=TaskConfig)

    def completed(self, *_: Any) -> Completed:
        """See `Run`: a directory of digits by its whole path; the run goes on from anywhere."""
        named = Path(self.task.digits).expanduser()
        if self.task.digits in BUILT_IN or not named.is_dir():
            return self, None
        return self.altered(task={"digits": str(named.resolve())}), None

    def open(self, directory: Path, device: torch.device, /, **changes: Any) -> Task:
        """See `Run`; images are made anew. `ValueError` if the run's digits are others by now."""
        changes.pop("strict", None)
        config = replace(self.task, **changes)
        task = type(self).makes(config, device)
        saved = directory / CONFIG_FILE
        content = read_json(saved) if saved.exists() else {}
        same = config.digits == content.get("task", {}).get("digits")
        if same and content.get("checksum", task.checksum) != task.checksum:
            raise ValueError(
                f"the digits of {config.digits} are others than {directory} was trained on: files "
                "were added, removed or changed, and what trained may be tested on. Restore them, "
                "or train anew."
            )
        return task


@dataclass(frozen=True)
class CanvasRun(DigitsRun):
    """Everything that decides what a run on digits on canvases computes."""

    kind, makes = "canvases", CanvasTask
    searched = (*Run.searched, "task")

    task: TaskConfig = field(default_factory=TaskConfig)

    def open(self, directory: Path, device: torch.device, /, **changes: Any) -> Task:
        """See `DigitsRun.open`."""
        if "canvas_size" in changes:  # the smallest is of training canvases alone
            changes["smallest_canvas"] = 0
        return super().open(directory, device, **changes)
