from __future__ import annotations

import pytest
import torch

from foveal.model.whole_image import (
    FullyConnected,
    ReferenceConfig,
    make_reference_network,
)


def test_fully_connected_is_three_matrix_products() -> None:
    config = ReferenceConfig(image_size=(5, 7), num_channels=2, num_classes=4, hidden=6)
    model, images = FullyConnected(config), torch.rand(3, 2, 5, 7)
    weights = list(model.parameters())
    hidden = images.reshape(3, -1)
    for weight, bias in (weights[0:2], weights[2:4]):
        hidden = (hidden @ weight.T + bias).clamp(min=0)
    torch.testing.assert_close(model(images), hidden @ weights[4].T + weights[5])


def test_convolutional_is_filters_at_every_fifth_pixel() -> None:
    model, images = make_reference_network("conv", (20, 28), 10), torch.rand(2, 1, 20, 28)
    filters, bias, first, first_bias, second, second_bias = model.parameters()
    seen = []
    for top in (0, 5, 10):
        for left in (0, 5, 10, 15):
            patch = images[:, 0, top : top + 10, left : left + 10]
            seen.append(torch.einsum("bij,fij->bf", patch, filters[:, 0]) + bias)
    hidden = torch.stack(seen, dim=2).clamp(min=0).flatten(1)
    hidden = (hidden @ first.T + first_bias).clamp(min=0)
    torch.testing.assert_close(model(images), hidden @ second.T + second_bias)


@pytest.mark.parametrize(
    ("name", "size", "wanted"),
    [
        ("fc-64", (28, 28), 784 * 64 + 64 * 64 + 64 * 10),
        ("fc-256", (28, 28), 784 * 256 + 256 * 256 + 256 * 10),
        ("fc-64", (60, 60), 3600 * 64 + 64 * 64 + 64 * 10),
        # A filter of 100 weights fits at (side - 10) // 5 + 1 places along a side.
        ("conv", (28, 28), 8 * 100 * 4 * 4 + 8 * 4 * 4 * 256 + 256 * 10),
        ("conv", (60, 60), 8 * 100 * 11 * 11 + 8 * 11 * 11 * 256 + 256 * 10),
        ("conv-86", (100, 90), 8 * 100 * 19 * 17 + 8 * 19 * 17 * 86 + 86 * 10),
    ],
)
def test_multiply_adds_are_each_weight_at_each_of_its_places(
    name: str, size: tuple[int, int], wanted: int
) -> None:
    assert make_reference_network(name, size, 10).count_multiply_adds() == wanted


def test_multiply_adds_count_every_channel() -> None:
    model = make_reference_network("conv", (20, 28), 4, num_channels=3)
    assert model.count_multiply_adds() == 8 * 300 * 12 + 8 * 12 * 256 + 256 * 4
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_bag_is_the_gated_mean_of_its_windows() -> None:
    torch.manual_seed(0)
    model, image = make_reference_network("bag", (30, 50), 3), torch.rand(1, 1, 30, 50)
    image[..., 24:48] = 0  # two windows that tell nothing
    whole = torch.zeros(48, 72)
    whole[:30, :50] = image[0, 0]
    scores, features = [], []
    for top, left in ((0, 0), (0, 48), (24, 0), (24, 48)):
        window = whole[top : top + 24, left : left + 24]
        seen = model.encoder(window.view(1, 1, 1, 24, 24), torch.zeros(1, 2))[0]
        told = torch.tanh(model.told.weight @ seen + model.told.bias)
        gate = torch.sigmoid(model.gate.weight @ seen + model.gate.bias)
        scores.append(model.weight.weight[0] @ (told * gate))
        features.append(seen)
    shares = torch.stack(scores).exp()
    mean = (shares[:, None] * torch.stack(features)).sum(0) / shares.sum()
    wanted = model.layers[0].weight @ mean + model.layers[0].bias
    torch.testing.assert_close(model(image)[0], wanted)


def test_what_pads_an_image_tells_a_bag_nothing() -> None:
    model, image = make_reference_network("bag", (30, 50), 3), torch.rand(2, 1, 30, 50)
    padded = torch.zeros(2, 1, 100, 80)
    padded[..., :30, :50] = image
    torch.testing.assert_close(model(padded), model(image))
    black = torch.zeros(1, 1, 30, 50)
    model(black).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_sizes_are_the_papers() -> None:
    # §4.1: 8 filters; as many weights in the hidden layer on 100 x 100 as on 60 x 60.
    small, large = (
        make_reference_network(name, (side, side), 10)
        for name, side in (("conv", 60), ("conv-86", 100))
    )
    weights = [next(p for p in m.parameters() if p.ndim == 2).numel() for m in (small, large)]
    assert weights[0] == 8 * 11 * 11 * 256
    assert weights[1] == pytest.approx(weights[0], rel=0.01)


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden must be a whole number from 1 to 65,536; got 0"):
        ReferenceConfig(hidden=0)
    with pytest.raises(ValueError, match="at least 10 x 10 pixels.*got 9 x 28"):
        make_reference_network("conv", (9, 28), 10)
