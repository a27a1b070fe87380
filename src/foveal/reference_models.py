"""The networks that the paper compares with: they see the whole image at once (§4.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class FullyConnectedConfig:
    """A `FullyConnected` network: two hidden layers of rectifiers.

    Raises:
        ValueError: when made, if a size is below 1.
    """

    image_size: tuple[int, int] = (28, 28)  # height, width
    num_channels: int = 1  # of the images
    num_classes: int = 10  # of the answer
    hidden: int = 256  # units of each hidden layer; the paper has 64 and 256

    def __post_init__(self) -> None:
        sizes = (*self.image_size, self.num_channels, self.num_classes, self.hidden)
        if min(sizes) < 1:
            raise ValueError(f"every size must be at least 1; got {self}.")


class FullyConnected(nn.Module):
    """Two hidden layers of rectifiers over all pixels, then a linear answer."""

    def __init__(self, config: FullyConnectedConfig) -> None:
        super().__init__()
        self.config = config
        height, width = config.image_size
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(config.num_channels * height * width, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` float images to ``(B, K)`` logits."""
        logits: Tensor = self.layers(images)
        return logits
