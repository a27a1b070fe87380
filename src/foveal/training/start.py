"""Training that begins with the weights of another model, of fewer scales perhaps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from foveal.io.files import config_from_dict, read_tensors
from foveal.io.models import CONFIG_FILE, WEIGHTS_FILE, load_state, of_the_model, read_config
from foveal.model.attention import RecurrentAttention

FIRST_LAYER = "glimpse_network.from_pixels.weight"


def begin_with(directory: Path, model: nn.Module) -> None:
    """Load the weights of a saved model into one that is to be trained.

    A `RecurrentAttention` may have more scales than the saved one: what its first layer makes of
    those begins at nothing, so that it answers at first as the saved one.

    Args:
        directory: with ``config.json`` and ``model.safetensors``.
        model: the model.

    Raises:
        OSError, ValueError: if the files are missing or damaged, or otherwise of another network.
    """
    path = directory / WEIGHTS_FILE
    tensors, _ = read_tensors(path)
    if isinstance(model, RecurrentAttention) and FIRST_LAYER in tensors:
        where = str(directory / CONFIG_FILE)
        content = read_config(directory).get("model")
        saved, ours = config_from_dict(model.config_class, content, where), model.config
        if (saved.num_channels, saved.glimpse_size, saved.scale_factor) == (
            ours.num_channels,
            ours.glimpse_size,
            ours.scale_factor,
        ):
            weight, wanted = tensors[FIRST_LAYER], model.state_dict()[FIRST_LAYER].shape[1]
            more = max(0, wanted - weight.shape[1])
            tensors[FIRST_LAYER] = torch.cat([weight, weight.new_zeros(len(weight), more)], dim=1)
    load_state(model, of_the_model(tensors), path)
