from __future__ import annotations

import pytest
import torch
from torch import nn

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.training.optimizers import Muon, make_optimizers


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix with orthonormal rows or columns, by singular values."""
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ v


@pytest.mark.parametrize("name", ["muon", "adam", "sgd"])
def test_every_parameter_has_one_optimizer(name: str) -> None:
    model = RecurrentAttention(RAMConfig(core="lstm"))
    optimizers = make_optimizers(model, name, lr=1e-3, weight_decay=0.1, momentum=0.9)
    held = [p for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]]
    assert len(held) == len(list(model.parameters()))
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}


def test_muon_is_for_wide_matrices_alone() -> None:
    model = RecurrentAttention(RAMConfig(core="lstm"))
    muon = make_optimizers(model, "muon", lr=1e-3, weight_decay=0.1, momentum=0.9)[0]
    names = {id(p): name for name, p in model.named_parameters()}
    assert isinstance(muon, Muon)
    assert {names[id(p)] for p in muon.param_groups[0]["params"]} == {
        "core.cell.weight_ih",
        "core.cell.weight_hh",
        "glimpse_network.from_pixels.weight",
        "glimpse_network.pixels_to_features.weight",
        "glimpse_network.location_to_features.weight",
    }


def test_muons_step_is_the_orthogonalized_gradient_at_the_size_of_adams() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 32, bias=False)
    before, gradient = layer.weight.detach().clone(), torch.randn(32, 48)
    (optimizer,) = make_optimizers(layer, "muon", lr=0.01, weight_decay=0.0, momentum=0.9)
    layer.weight.grad = gradient.clone()
    optimizer.step()
    step = (before - layer.weight.detach()) / 0.01
    # Five Newton-Schulz iterations bring singular values near 1, not to 1.
    wanted = 0.2 * 48**0.5 * orthogonal(gradient)
    assert torch.nn.functional.cosine_similarity(step.view(-1), wanted.view(-1), 0) > 0.95
    assert 0.1 < step.square().mean().sqrt() < 0.3  # Adam's steps are about 0.2


@pytest.mark.parametrize(
    ("dtype", "near"),
    [(torch.bfloat16, {"rtol": 1e-5, "atol": 1e-6}), (torch.float32, {"rtol": 0, "atol": 1e-3})],
)
@pytest.mark.parametrize("shape", [(32, 48), (48, 32)])
def test_muon_is_pytorchs_whose_rate_may_be_a_tensor(
    shape: tuple[int, int], dtype: torch.dtype, near: dict[str, float]
) -> None:
    """PyTorch's own orthogonalizes in bfloat16: within its rounding, where ours does not."""
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in "ab")
    (optimizer,) = make_optimizers(
        nn.ParameterList([ours]), "muon", lr=0.01, weight_decay=0.3, momentum=0.9
    )
    assert isinstance(optimizer, Muon)
    optimizer.dtype = dtype
    wanted = torch.optim.Muon([theirs], weight_decay=0.3, adjust_lr_fn="match_rms_adamw")
    for rate in (0.01, 0.004, 0.0007, 0.0):
        gradient, given = torch.randn(shape), torch.tensor(rate)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.param_groups[0]["lr"], wanted.param_groups[0]["lr"] = given, rate
        optimizer.step()
        wanted.step()
        assert optimizer.param_groups[0]["lr"] is given
        torch.testing.assert_close(ours, theirs, **near)


def test_a_kernel_is_trained_as_the_matrix_that_it_is() -> None:
    torch.manual_seed(0)
    kernel, matrix = nn.Conv2d(4, 24, 3, bias=False), nn.Linear(36, 24, bias=False)
    matrix.load_state_dict({"weight": kernel.weight.detach().flatten(1).clone()})
    patches = torch.randn(8, 36)
    for _ in range(3):
        for layer, seen in ((kernel, patches.view(8, 4, 3, 3)), (matrix, patches)):
            (optimizer,) = make_optimizers(
                layer, "muon-conv", lr=0.01, weight_decay=0.3, momentum=0.9
            )
            layer.zero_grad()
            layer(seen).flatten(1).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(kernel.weight.flatten(1), matrix.weight)
    assert not torch.equal(kernel.weight.flatten(1), torch.zeros(24, 36))


def test_muon_alone_leaves_kernels_to_adam() -> None:
    layer = nn.Conv2d(4, 24, 3, bias=False)
    for name, kind in (("muon", torch.optim.AdamW), ("muon-conv", Muon)):
        (optimizer,) = make_optimizers(layer, name, lr=0.01, weight_decay=0.0, momentum=0.9)
        assert isinstance(optimizer, kind)
