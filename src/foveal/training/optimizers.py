"""How weights are trained: the configuration, optimizers by name, and their state as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveal.names import SEEDS, Range, check_fields, positive
from foveal.training.machine import has_bfloat16

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
    # the weights that are kept: the last, or the best of all validations
    keep: Literal["last", "best"] = "last"

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
        optimizers.append(Muon(wide, lr, weight_decay))
    if rest:
        on_gpu = rest[0].is_cuda  # where a step may be captured, which AdamW wants to be told
        optimizers.append(
            torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay, fused=True, capturable=on_gpu)
        )
    return optimizers


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum, for matrices and for kernels, each a row an output channel.

    As `torch.optim.Muon` with "match_rms_adamw", which orthogonalizes in bfloat16 alone: a
    processor that has none takes many times as long for it as in float32. And that reads the rate
    on the host; here it may be a ``()`` tensor, so that a step can be captured.
    """

    MOMENTUM = 0.95
    STEPS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration

    def __init__(self, weights: Sequence[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})
        fast = has_bfloat16(weights[0].device)
        self.dtype = torch.bfloat16 if fast else torch.float32

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate = group["lr"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                gradient, state = weight.grad.flatten(1), self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                mean = state["momentum_buffer"].lerp_(gradient, 1 - self.MOMENTUM)
                update = self._orthogonal(gradient.lerp(mean, self.MOMENTUM)).view_as(weight)
                weight.mul_(1 - rate * group["weight_decay"])
                weight.sub_(update.to(weight) * (rate * 0.2 * max(gradient.shape) ** 0.5))
        return loss

    def _orthogonal(self, matrix: Tensor) -> Tensor:
        """The orthogonal matrix nearest to one, as near as a few iterations come."""
        flat = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
        found = flat.to(self.dtype)
        found = found / found.norm().clamp(min=1e-7)
        a, b, c = self.COEFFICIENTS
        for _ in range(self.STEPS):
            gram = found @ found.T
            found = torch.addmm(
                found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a
            )
        return found if flat is matrix else found.T


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
