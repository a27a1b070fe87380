"""The parts of a model, each against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from foveal.model import policy as policies
from foveal.model.config import RAMConfig
from foveal.model.context import Context, ConvContextSettings
from foveal.model.core import LSTMCore, RNNCore
from foveal.model.glimpse import ConvGlimpseNetwork, ConvGlimpseSettings, GlimpseScaling
from foveal.model.map_policy import MapPolicy, MapSettings
from foveal.model.policy import followed
from foveal.model.sensor import check_sensor


def test_a_memory_stays_float32_where_products_are_bfloat16() -> None:
    torch.manual_seed(0)
    core = LSTMCore(3, 4)
    features, state = torch.randn(5, 3), (torch.randn(5, 4), torch.randn(5, 4))
    for made, wanted in zip(core.remembering(features, state), core(features, state), strict=True):
        torch.testing.assert_close(made, wanted)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = core.remembering(features.bfloat16(), state)
    for made, wanted in zip(rounded, core(features, state), strict=True):
        assert made.dtype == torch.float32
        torch.testing.assert_close(made, wanted, atol=0.03, rtol=0)
    # The products alone are rounded: what stays of a memory is not.
    with torch.no_grad():
        core.cell.weight_ih.zero_(), core.cell.weight_hh.zero_()
        core.cell.bias_ih.copy_(torch.tensor([-50.0, 50, 0, 0]).repeat_interleave(4))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(core.remembering(features, state)[1], state[1])


def test_the_rectifier_core_starts_as_a_perfect_memory() -> None:
    core = RNNCore(3, 4)
    hidden = torch.tensor([[0.3, 0.0, 2.0, 1.0]])
    nn.init.zeros_(core.from_features.weight)
    nn.init.zeros_(core.from_features.bias)
    torch.testing.assert_close(core(torch.ones(1, 3), (hidden,))[0], hidden)


def test_only_the_forget_gate_starts_open() -> None:
    bias = LSTMCore(3, 4).cell.bias_ih + LSTMCore(3, 4).cell.bias_hh
    assert bias.view(4, 4).tolist() == [[0] * 4, [1] * 4, [0] * 4, [0] * 4]  # i, f, g, o


@pytest.mark.parametrize(("mean", "std"), [((), ()), ((1.0,), ()), ((0.25, 0.5), (2.0, 0.1))])
def test_glimpses_are_scaled_pixel_by_pixel(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    glimpses = torch.rand(2, 3, 2, 4, 4)
    got = GlimpseScaling(3, mean, std, 1.5, 3.0)(glimpses)
    means, stds = [(*mean, *mean)[:2] or (0, 0), (*std, *std)[:2] or (1, 1)]
    for scale in range(3):
        for channel in range(2):
            pixels = (glimpses[:, scale, channel] - means[channel]) / stds[channel]
            torch.testing.assert_close(got[:, scale, channel], pixels * 1.5 * 3**scale)
    plain = GlimpseScaling(3, (), (), 1.0, 1.0)
    assert torch.equal(plain(glimpses), glimpses)


def test_the_convolutional_glimpse_network_has_its_kernels() -> None:
    network = ConvGlimpseNetwork((3, 1, 12, 12), 20, 0, 8, settings=ConvGlimpseSettings(1))
    shapes = [layer.weight.shape for layer in network.convolutions if isinstance(layer, nn.Conv2d)]
    assert shapes == [(1, 3, 5, 5), (2, 1, 3, 3), (4, 2, 3, 3)]


def test_a_context_makes_no_map_unless_it_says_so() -> None:
    assert Context.map_channels == 0
    with pytest.raises(ValueError, match="thumbnail_gain must be a number above 0 .* 1,000,000"):
        ConvContextSettings(thumbnail_gain=1.5e6)


def test_the_widest_patch_may_be_as_wide_as_is_said() -> None:
    check_sensor(32_768, 2, 2)
    with pytest.raises(ValueError, match="must be at most 65536 pixels a side; got 65538"):
        check_sensor(32_769, 2, 2)


@pytest.mark.parametrize("bound", [0.1, 100.0])
def test_a_followed_location_is_the_choice_and_pulls_the_mean_inwards(bound: float) -> None:
    """By hand: within the bound, and nothing of what pulls a gaze out of the image, edges too."""
    choices = torch.tensor([[0.5, -0.5], [1.0, -1.0], [1.0, -1.0], [1.5, -1.5], [1.5, -1.5]])
    pulls = torch.tensor([[3.0, 4.0], [-3.0, 4.0], [3.0, -4.0], [-3.0, 4.0], [3.0, -4.0]])
    mean = torch.zeros(5, 2, requires_grad=True)
    location = followed(choices, mean, bound)
    assert location.tolist() == choices.clamp(-1, 1).tolist()
    location.backward(pulls)
    moved = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3.0, -4.0], [0.0, 0.0], [3.0, -4.0]])
    wanted = moved * min(1.0, bound / 5 / 5)  # of 5 images, and gradients of length 5
    torch.testing.assert_close(mean.grad, wanted)


def test_a_map_is_sampled_to_its_last_cell_and_without_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sum of weights may stay below a number just below 1."""

    def ones(_kind: object, shape: tuple[int, ...], *_: object) -> torch.Tensor:
        return torch.full(tuple(shape), 1.0 + 1e-3) if shape[1] == 1 else torch.zeros(tuple(shape))

    monkeypatch.setattr(policies, "random_rows", ones)
    policy = MapPolicy(4, 3, MapSettings()).train()
    axis = torch.tensor([-0.5, 0.5])
    places = torch.stack([axis.expand(2, 2), axis[:, None].expand(2, 2)])
    feature_map = torch.cat([places[None], torch.randn(1, 3, 2, 2)], dim=1)
    mean, choice = policy(torch.randn(1, 4), 0.1, None, feature_map)
    assert mean.requires_grad
    assert not choice.requires_grad
    assert (choice > -0.5).all(), "at most a cell from the middle of the last"


def test_a_model_of_the_paper_reads_no_map() -> None:
    assert not policies.POLICIES[RAMConfig().policy].reads_map
    value = policies.gaussian_log_prob(torch.zeros(1, 2), torch.ones(1, 2), 0.5)
    assert value.item() == pytest.approx(math.log(1 / (2 * math.pi * 0.25)) - 4)
