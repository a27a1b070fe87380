"""How weights are trained: the configuration, optimizers by name, and their state as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveal.names import SEEDS, Range, check_fields, positive

MOST_AT_ONCE = 10**6  # images, or games
COUNT = Range(1, 10**9)
NARROW = 16  # a matrix with a side below this reads a location or gives an answer


@dataclass(frozen=True)
class OptimizationConfig:
    """How weights are trained, whatever for.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    # muon: for matrices; muon-conv: for kernels of convolutions too; SGD is the paper's
    optimizer: Literal["muon", "muon-conv", "adam", "sgd"] = "adam"
    lr: float = 1e-3  # learning rate at the start; it falls linearly to 0 over the run
    momentum: float = 0.9  # of SGD
    weight_decay: float = 0.0  # a step, times the rate; except with SGD apart from the gradient
    final_location_std: float = 0.0  # what location_std falls to over the run; 0 keeps it
    gradient_clip: float = 0.0  # largest norm of the gradient; 0 for none
    seed: int = 0  # of weights, data and exploration
    # auto: bf16 where it is fast; tf32: a GPU's products of float32 with 10 bits of fraction
    precision: Literal["auto", "32-true", "tf32", "bf16-mixed"] = "32-true"
    log_every: int = 100  # steps between readings of the metrics
    checkpoint_minutes: float = 2.0  # between checkpoints

    def __post_init__(self) -> None:
        check_fields(
            self,
            lr=positive(1e9),
            momentum=Range(0, 1, below=True),
            weight_decay=Range(0, 1e3),
            final_location_std=Range(0, 1e3),
            gradient_clip=Range(0, 1e9),
            seed=SEEDS,
            log_every=COUNT,
            checkpoint_minutes=Range(0, 1e6),
        )


def make_optimizers(
    model: nn.Module, name: str, *, lr: float, weight_decay: float, momentum: float
) -> list[torch.optim.Optimizer]:
    """Make the optimizers that together train a model; all share one learning rate.

    "muon" orthogonalizes the momentum of the wide matrices (Jordan et al. 2024; scaled to the
    size of Adam's steps as in Liu et al. 2025, arXiv 2502.16982), so that one rate serves both
    them and the rest, which AdamW trains. "muon-conv" does so with the kernels of convolutions
    too, each a matrix of a row an output channel.

    Args:
        model: on the device where it is to train.
        name: "muon", "muon-conv", "adam" or "sgd"; "sgd" is the paper's.
        lr: learning rate at the start.
        weight_decay: a step, times the rate; apart from the gradient, except with "sgd".
        momentum: of "sgd".
    """
    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    if name == "sgd":
        return [
            torch.optim.SGD(
                parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True
            )
        ]
    kinds = {"muon": (2,), "muon-conv": (2, 4)}.get(name, ())
    wide = [p for p in parameters if p.ndim in kinds and min(p.flatten(1).shape) >= NARROW]
    chosen = {id(p) for p in wide}
    rest = [p for p in parameters if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = []
    if wide:
        optimizers.append(
            Muon(wide, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    if rest:
        on_gpu = rest[0].is_cuda  # where a step may be captured, which AdamW wants to be told
        optimizers.append(
            torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay, fused=True, capturable=on_gpu)
        )
    return optimizers


class Muon(torch.optim.Muon):
    """PyTorch's Muon, also for kernels, and whose rate may also be a ``()`` tensor on the device.

    A kernel of a convolution is trained through a view of it as a matrix. PyTorch's own would read
    the rate on the host, for which a CUDA graph cannot be interrupted. But a step is linear in the
    rate: where it leads at the rate given at the beginning is computed without reading anything,
    and then gone a share of the way.
    """

    def __init__(self, weights: Sequence[nn.Parameter], **options: Any) -> None:
        self.weights = list(weights)
        self.matrices = [
            weight if weight.ndim == 2 else nn.Parameter(weight.detach().view(len(weight), -1))
            for weight in weights
        ]
        super().__init__(self.matrices, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; see `torch.optim.Optimizer.step`."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.view_as(matrix)
        rates = [group["lr"] for group in self.param_groups]
        if not any(isinstance(rate, Tensor) for rate in rates):
            return super().step(closure)  # type: ignore[no-untyped-call]
        before = [[weight.clone() for weight in group["params"]] for group in self.param_groups]
        whole = self.defaults["lr"]
        for group in self.param_groups:
            group["lr"] = whole
        result = super().step(closure)  # type: ignore[no-untyped-call]
        for group, rate, starts in zip(self.param_groups, rates, before, strict=True):
            group["lr"] = rate
            for weight, start in zip(group["params"], starts, strict=True):
                torch.lerp(start, weight, rate / whole, out=weight)
        return result


def state_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Give the state of optimizers, one tensor a name."""
    return {
        f"optimizer.{place}.{index}.{name}": value
        for place, optimizer in enumerate(optimizers)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_state_tensors(
    optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `state_tensors` gave; other names in ``tensors`` are ignored."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, place, index, name = key.split(".")
            states[int(place)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
