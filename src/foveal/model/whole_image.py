"""The networks that the paper compares with: they see the whole image at once (§4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.model.config import MOST_CHANNELS, MOST_CLASSES, MOST_UNITS, check_weights
from foveal.names import Range, check_fields

LARGEST_IMAGE = 16_384  # pixels a side
FILTERS, FILTER_SIZE, STRIDE = 8, 10, 5  # of the paper's convolutional layer


@dataclass(frozen=True)
class ReferenceConfig:
    """The size of a reference network.

    Raises:
        ValueError: when made, if a size is below 1, or the sizes make too many weights.
    """

    image_size: tuple[int, int] = (28, 28)  # height, width
    num_channels: int = 1  # of the images
    num_classes: int = 10  # of the answer
    hidden: int = 256  # units of each hidden layer

    def __post_init__(self) -> None:
        check_fields(
            self,
            image_size=Range(1, LARGEST_IMAGE),
            num_channels=Range(1, MOST_CHANNELS),
            num_classes=Range(1, MOST_CLASSES),
            hidden=Range(1, MOST_UNITS),
        )
        height, width = self.image_size
        units = self.num_channels * height * width + self.hidden + self.num_classes
        check_weights(self.hidden * units)


class ReferenceNetwork(nn.Module):
    """A network from whole images to an answer."""

    def __init__(self, config: ReferenceConfig, layers: nn.Sequential) -> None:
        super().__init__()
        self.config = config
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """Turn ``(B, C, H, W)`` float images into ``(B, K)`` logits."""
        logits: Tensor = self.layers(images)
        return logits

    def count_parameters(self) -> int:
        """Count the trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def count_multiply_adds(self) -> int:
        """Count the multiply-adds for one image: half of the operations that PyTorch counts."""
        from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 (slow to import)

        shape = (1, self.config.num_channels, *self.config.image_size)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self(next(self.parameters()).new_zeros(shape))
        return int(counter.get_total_flops()) // 2


class FullyConnected(ReferenceNetwork):
    """Two hidden layers of rectifiers over all pixels, then a linear answer."""

    def __init__(self, config: ReferenceConfig) -> None:
        height, width = config.image_size
        layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(config.num_channels * height * width, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.num_classes),
        )
        super().__init__(config, layers)


class Convolutional(ReferenceNetwork):
    """8 filters of 10 x 10 at a stride of 5, a hidden layer, all rectifiers; a linear answer.

    Raises:
        ValueError: when made, if the image is smaller than a filter.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        height, width = config.image_size
        if min(height, width) < FILTER_SIZE:
            raise ValueError(
                f"a convolutional network needs images of at least {FILTER_SIZE} x {FILTER_SIZE} "
                f"pixels, the size of its filters; got {height} x {width}."
            )
        layers = nn.Sequential(
            nn.Conv2d(config.num_channels, FILTERS, FILTER_SIZE, STRIDE),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(FILTERS * _places(height) * _places(width), config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.num_classes),
        )
        super().__init__(config, layers)


def _places(side: int) -> int:
    """Count where a filter fits along a side."""
    return (side - FILTER_SIZE) // STRIDE + 1


# By the names of the command line. "conv-86" is the paper's on 100 x 100 images: as many weights
# as "conv" has on 60 x 60.
REFERENCE_NETWORKS: dict[str, tuple[Callable[[ReferenceConfig], ReferenceNetwork], int]] = {
    "fc-64": (FullyConnected, 64),
    "fc-256": (FullyConnected, 256),
    "conv": (Convolutional, 256),
    "conv-86": (Convolutional, 86),
}


def make_reference_network(
    name: str, image_size: tuple[int, int], num_classes: int, num_channels: int = 1
) -> ReferenceNetwork:
    """Make one of `REFERENCE_NETWORKS`, for images of ``(height, width)`` pixels."""
    kind, hidden = REFERENCE_NETWORKS[name]
    return kind(ReferenceConfig(image_size, num_channels, num_classes, hidden))
