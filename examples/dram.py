"""A deep recurrent attention model (Ba, Mnih and Kavukcuoglu 2015, arXiv 1412.7755) as four parts.

Two LSTM layers, of which the lower answers and the upper decides where to look; a context network
that starts the upper from a thumbnail of the whole image; a convolutional glimpse network. In this
directory, every command works with it:

    foveal --import dram train cluttered-60 --core dram --context dram --glimpse-network dram
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import foveal

SIDE = 16  # pixels a side of the thumbnail


class LSTM(nn.LSTMCell):
    """One whose forget gate starts open."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        nn.init.zeros_(self.bias_hh)
        nn.init.zeros_(self.bias_ih)
        nn.init.ones_(self.bias_ih[hidden_size : 2 * hidden_size])


@foveal.CORES.add("dram")
class TwoLayers(foveal.Core):
    state_names = ("hidden", "cell", "upper_hidden", "upper_cell")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lower, self.upper = LSTM(input_size, hidden_size), LSTM(hidden_size, hidden_size)

    def initial(self, batch_size: int) -> tuple[Tensor, ...]:
        return (self.lower.bias_hh.new_zeros(batch_size, self.lower.hidden_size),) * 4

    def forward(self, features: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, cell = self.lower(features, state[:2])
        return hidden, cell, *self.upper(hidden, state[2:])

    def for_policy(self, state: tuple[Tensor, ...]) -> Tensor:
        return state[2]


@foveal.CONTEXTS.add("dram")
class ContextNetwork(foveal.Context):
    side = SIDE

    def __init__(self, num_channels: int, state_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.state_sizes = state_sizes
        self.layers = nn.Sequential(
            *(nn.Conv2d(num_channels, 16, 5, 2, 2), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(16 * (SIDE // 2) ** 2, state_sizes[2]), nn.Tanh()),
        )

    def forward(self, thumbnail: Tensor) -> tuple[tuple[Tensor, ...], None]:
        state = [thumbnail.new_zeros(thumbnail.shape[0], size) for size in self.state_sizes]
        state[2] = self.layers(thumbnail)  # the first location is the policy's: uniform
        return tuple(state), None


@dataclass(frozen=True)
class ConvolutionSettings(foveal.PartSettings):
    filters: int = 32  # of the glimpse network's second convolution; the first has half


@foveal.GLIMPSE_NETWORKS.add("dram", settings=ConvolutionSettings)
class ConvolutionalGlimpse(nn.Module):
    def __init__(
        self,
        shape: tuple[int, int, int, int],
        features: int,
        _hidden: int,
        _location_hidden: int,
        settings: ConvolutionSettings,
    ) -> None:
        super().__init__()
        scales, channels, side, _ = shape
        half = (side + 1) // 2
        self.what = nn.Sequential(
            *(nn.Conv2d(scales * channels, settings.filters // 2, 3, 1, 1), nn.ReLU()),
            *(nn.Conv2d(settings.filters // 2, settings.filters, 3, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(settings.filters * half**2, features)),
        )
        self.where = nn.Linear(2, features)

    def forward(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        return torch.relu(self.what(glimpses.flatten(1, 2))) * torch.relu(self.where(locations))
