"""Training steps on a GPU that is not there: `python fake_gpu.py KIND,CORE,OPTIMIZER,FLAW ...`.

PyTorch's fake tensors know their shape, type and device, and have no values. The whole step runs on
them as it would on a GPU, canvases, backward pass and optimizers included, and fails where it would
wait for one: where the host asks for a value (`DataDependentOutputException`), where a shape
depends on values, as of a mask used as an index (`DynamicOutputShapeException`), and where anything
is copied between host and device, which `NoCopies` looks for. FLAW plants one of these mistakes.
Prints, as one JSON object, how each of the steps failed; null for one that did not.

A process of its own, because a made-up device cannot be taken away again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.context import ConvContextSettings
from foveal.model.cost import Network
from foveal.model.map_policy import MapSettings
from foveal.model.whole_image import make_reference_network
from foveal.tasks import CanvasTask, TaskConfig
from foveal.tasks.augmentation import AugmentationConfig
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.objective import ObjectiveConfig
from foveal.training.optimizers import make_optimizers


class FakeGpu(_DummyBackendModule):
    """What PyTorch asks of a device beyond memory and kernels."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """For autocast, which the location policy switches off."""
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("fakegpu", FakeGpu())
DEVICE = torch.device("fakegpu:0")
FLAWS: dict[str, Callable[[Tensor], object]] = {
    "none": lambda images: images,
    "value": lambda images: images.sum().item(),
    "branch": lambda images: bool((images > 0).any()),
    "mask": lambda images: images[images > 0.5],
    "from-host": lambda images: images * torch.zeros(4).to(images.device)[0],
    "to-host": lambda images: images.cpu(),
}
# Of the task, the model and the objective, what else than usual.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}, {}),
    "bag": ({}, {}, {}),
    "map": (
        {},
        {
            "context": "conv",
            "context_settings": ConvContextSettings(
                map_light=1.0, map_strength=1.0, map_pasted=1.0
            ),
            "policy": "map",
            "policy_settings": MapSettings(apart=0.5, steps=True),
            "pixel_mean": (0.1,),
            "pixel_std": (0.3,),
            "stop": True,
        },
        {"look_weight": 0.5, "look_reward": "gain", "step_weight": 0.1, "context_weight": 0.1},
    ),
    "zoom": (
        {
            "digit_scales": (0.7, 1.2),
            "composition": "over",
            "vary_clutter": True,
            "clutter_from": "others",
        },
        {"zoom": True, "glimpse_network": "conv", "context": "conv"},
        {"look_weight": 0.5},
    ),
    "trail": (
        {
            "arrangement": "trail",
            "answer": "sequence",
            "num_digits": (6, 6),
            "hops": 2,
            "fewest_digits": 2,
            "canvas_size": 90,
            "distance": 28,
        },
        {"max_answers": 3},
        {"look_weight": 0.5, "step_weight": 0.1},
    ),
    "set": (
        {"arrangement": "apart", "answer": "set", "num_digits": (1, 3), "canvas_size": 90},
        {"max_answers": 3, "with_end": True},
        {},
    ),
    "sum": (
        {"num_digits": (2, 2), "answer": "sum", "overlapping": 0.3, "canvas_size": 90},
        {},
        {},
    ),
    "pair": (
        {"arrangement": "row", "answer": "pair", "num_digits": (2, 2), "canvas_size": 90},
        {},
        {},
    ),
}


class NoCopies(TorchDispatchMode):
    """Refuses every operation that takes from the host what it gives on the device, or back."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # The optimizers' kernels have no fake form; they work in place, and give nothing back.
        fused = func._schema.name.startswith("aten::_fused_")
        result = None if fused else func(*args, **(kwargs or {}))
        tensors = [x for x in pytree.tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if devices - {DEVICE.type}:
            raise RuntimeError(f"{func} works on {sorted(devices)}")
        return result


def failure(case: str) -> str | None:
    """The kind of the error that a step ends with, and its words."""
    try:
        step(*case.split(","))
    except RuntimeError as problem:
        return f"{type(problem).__name__}: {problem}"
    return None


def step(kind: str, core: str, optimizer: str, flaw: str) -> None:
    """One step; raises what stops it."""
    of_task, of_model, of_objective = KINDS[kind]
    moved = AugmentationConfig(shift=0.1, rotation=10, rescale=0.1, warp=0.01)
    usual: dict[str, Any] = {"digits": "uci", "canvas_size": 60, "num_clutter": 4}
    task = CanvasTask(TaskConfig(**usual | {"augmentation": moved} | of_task))
    usual = {
        "glimpse_size": 8,
        "num_scales": 2,
        "num_glimpses": 3,
        "num_classes": len(task.classes),
        "core": core,
        "scale_gain": 3.0,
        "detach_policy": False,
        "location_gradient": 1.0,
    }
    model = RAMConfig(**usual | of_model)
    usual = {
        "privileged_baseline": True,
        "reward": "log_likelihood",
        "glimpse_weight": 0.5,
        "credit_decay": 0.9,
        "standardize_advantages": True,
    }
    objective = ObjectiveConfig(**usual | of_objective)
    config = TrainConfig(
        batch_size=16,
        optimizer=optimizer,  # type: ignore[arg-type]
        weight_decay=0.1,
        gradient_clip=5.0,
        final_location_std=0.05,
    )
    network: Network = RecurrentAttention(model)
    if kind == "bag":
        network = make_reference_network("bag", task.image_size, len(task.classes))
    trainer = Trainer(network, task, config, objective, Path("nowhere"))
    with FakeTensorMode() as mode:
        move_to_device(trainer, task, config, mode)
        batch = task.batch

        def flawed(*arguments: Any) -> tuple[Tensor, Tensor]:
            images, labels = batch(*arguments)
            FLAWS[flaw](images)
            return images, labels

        task.batch = flawed  # type: ignore[method-assign]
        chosen = torch.zeros(16, dtype=torch.long, device=DEVICE)
        std, rate = (torch.zeros((), device=DEVICE) for _ in range(2))
        with NoCopies():
            measured = trainer._compute(chosen, std, rate)
    assert measured.device == DEVICE, measured.device
    assert all(weight.grad.device == DEVICE for weight in network.parameters())


def move_to_device(
    trainer: Trainer, task: CanvasTask, config: TrainConfig, mode: FakeTensorMode
) -> None:
    """What an engine and a task on a GPU do, which the made-up device cannot."""

    def there(tensor: Tensor) -> Tensor:
        return mode.from_tensor(tensor).detach().to(DEVICE)

    for module in trainer.learner.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(there(weight)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, there(buffer))
    for split in task._splits.values():
        for part in (split, split.by_class):
            for name, value in vars(part).items():
                if isinstance(value, Tensor):
                    object.__setattr__(part, name, there(value))
    trainer.device = task.device = DEVICE
    trainer.generator = None  # type: ignore[assignment]  # the device's own, which is always there
    trainer.optimizers = make_optimizers(
        trainer.learner,
        config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )
    trainer.wrapped, trainer.stepped = trainer.learner, trainer.optimizers


if __name__ == "__main__":
    print(json.dumps({case: failure(case) for case in sys.argv[1:]}))
