from __future__ import annotations

import pytest
import torch

from foveal.reference_models import FullyConnected, ReferenceConfig


def test_fully_connected_is_three_matrix_products() -> None:
    config = ReferenceConfig(image_size=(5, 7), num_channels=2, num_classes=4, hidden=6)
    model, images = FullyConnected(config), torch.rand(3, 2, 5, 7)
    weights = list(model.parameters())
    hidden = images.reshape(3, -1)
    for weight, bias in (weights[0:2], weights[2:4]):
        hidden = (hidden @ weight.T + bias).clamp(min=0)
    torch.testing.assert_close(model(images), hidden @ weights[4].T + weights[5])


def test_an_empty_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="every size must be at least 1"):
        ReferenceConfig(hidden=0)
