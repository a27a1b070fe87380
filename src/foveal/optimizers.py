"""Optimizers by name, and their state as plain tensors, for checkpoints without pickles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

OPTIMIZERS = ("muon", "adam", "sgd")
NARROW = 16  # a matrix with a side below this reads a location or gives an answer


def make_optimizers(
    model: nn.Module, name: str, *, lr: float, weight_decay: float, momentum: float
) -> list[torch.optim.Optimizer]:
    """The optimizers that together train a model; all share one learning rate.

    "muon" orthogonalizes the momentum of the wide matrices (Jordan et al. 2024; scaled to the
    size of Adam's steps as in Liu et al. 2025, arXiv 2502.16982), so that one rate serves both
    them and the rest, which AdamW trains.

    Args:
        model: on the device where it is to train.
        name: one of `OPTIMIZERS`; "sgd" is the paper's.
        lr: learning rate at the start.
        weight_decay: a step, times the rate; apart from the gradient, except with "sgd".
        momentum: of "sgd".
    """
    parameters = list(model.parameters())
    if name == "sgd":
        return [
            torch.optim.SGD(
                parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True
            )
        ]
    wide = [p for p in parameters if name == "muon" and p.ndim == 2 and min(p.shape) >= NARROW]
    chosen = {id(p) for p in wide}
    rest = [p for p in parameters if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = []
    if wide:
        optimizers.append(
            torch.optim.Muon(wide, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    if rest:
        optimizers.append(torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay, fused=True))
    return optimizers


def state_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of optimizers, one tensor a name."""
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
