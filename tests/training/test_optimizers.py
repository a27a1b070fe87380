from __future__ import annotations

import pytest
import torch
from torch import nn

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.training.optimizers import make_optimizers


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
    assert isinstance(muon, torch.optim.Muon)
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


def test_muons_rate_may_be_a_tensor() -> None:
    torch.manual_seed(0)
    start = torch.randn(32, 48)
    layers, optimizers = [], []
    for pytorchs in (False, True):
        layer = nn.Linear(48, 32, bias=False)
        layer.weight.data.copy_(start)
        (optimizer,) = make_optimizers(layer, "muon", lr=0.01, weight_decay=0.3, momentum=0.9)
        if pytorchs:
            optimizer = torch.optim.Muon(
                layer.parameters(), weight_decay=0.3, adjust_lr_fn="match_rms_adamw"
            )
        layers.append(layer)
        optimizers.append(optimizer)
    for rate in (0.01, 0.004, 0.0007, 0.0):
        gradient = torch.randn(32, 48)
        for layer, optimizer, given in zip(
            layers, optimizers, (torch.tensor(rate), rate), strict=True
        ):
            layer.weight.grad = gradient.clone()
            optimizer.param_groups[0]["lr"] = given
            optimizer.step()
            assert optimizer.param_groups[0]["lr"] is given
        torch.testing.assert_close(layers[0].weight, layers[1].weight, rtol=1e-5, atol=1e-6)


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
    for name, kind in (("muon", torch.optim.AdamW), ("muon-conv", torch.optim.Muon)):
        (optimizer,) = make_optimizers(layer, name, lr=0.01, weight_decay=0.0, momentum=0.9)
        assert isinstance(optimizer, kind)
