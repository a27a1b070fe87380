"""Networks that see the whole image: those that the paper compares with (§4.1), and a bag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from foveal.model.config import MOST_CHANNELS, MOST_CLASSES, MOST_UNITS, check_weights
from foveal.model.cost import Network, counted
from foveal.model.glimpse import ConvGlimpseNetwork, ConvGlimpseSettings
from foveal.names import Range, check_fields

LARGEST_IMAGE = 16_384  # pixels a side
FILTERS, FILTER_SIZE, STRIDE = 8, 10, 5  # of the paper's convolutional layer
WINDOW = 24  # pixels a side of the windows of a bag


@dataclass(frozen=True)
class ReferenceConfig:
    """The size of a reference network.

    Raises:
        ValueError: when made, if a size is below 1, or the sizes make too many weights.
    """

    max_answers: ClassVar[int] = 1
    with_end: ClassVar[bool] = False
    end: ClassVar[int | None] = None

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


class ReferenceNetwork(Network):
    """A network from whole images to an answer.

    Attributes:
        any_size: whether it takes images of other sizes than its configuration says.
    """

    config: ReferenceConfig
    any_size: ClassVar[bool] = False

    def __init__(self, config: ReferenceConfig, layers: nn.Sequential) -> None:
        super().__init__(config)
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """Turn ``(B, C, H, W)`` float images into ``(B, K)`` logits."""
        logits: Tensor = self.layers(images)
        return logits

    def count_multiply_adds(self) -> int:
        """Count the multiply-adds for one image."""
        shape = (1, self.config.num_channels, *self.config.image_size)
        with counted() as count:
            self(next(self.parameters()).new_ones(shape))
        return count()


class FullyConnected(ReferenceNetwork):
    """Two hidden layers of rectifiers over all pixels, then a linear answer."""

    def __init__(self, config: ReferenceConfig) -> None:
        height, width = config.image_size
        pixels = config.num_channels * height * width
        check_weights(config.hidden * (pixels + config.hidden + config.num_classes))
        layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, config.hidden),
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
        cells = FILTERS * _places(height) * _places(width)
        check_weights(config.hidden * (cells + config.num_classes))
        layers = nn.Sequential(
            nn.Conv2d(config.num_channels, FILTERS, FILTER_SIZE, STRIDE),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(cells, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.num_classes),
        )
        super().__init__(config, layers)


class Bag(ReferenceNetwork):
    """All windows of the image, side by side, weighed by what is in each, then a linear answer.

    Attention-based multiple-instance learning (Ilse, Tomczak and Welling 2018, arXiv 1802.04712,
    eq. 9), its windows read by the convolutional glimpse network without a place: what looking at
    a few windows costs in error, beside reading all. Windows that are black all over, as what pads
    an image is, have no weight.
    """

    any_size = True

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__(config, nn.Sequential(nn.Linear(config.hidden, config.num_classes)))
        shape = (1, config.num_channels, WINDOW, WINDOW)
        settings = ConvGlimpseSettings()
        self.encoder = ConvGlimpseNetwork(shape, config.hidden, 0, 1, settings=settings)
        self.told = nn.Linear(config.hidden, config.hidden // 2)  # V of the paper
        self.gate = nn.Linear(config.hidden, config.hidden // 2)  # U
        self.weight = nn.Linear(config.hidden // 2, 1)  # w

    def forward(self, images: Tensor) -> Tensor:
        """See `ReferenceNetwork.forward`; of any height and width."""
        height, width = images.shape[-2:]
        whole = functional.pad(images, (0, -width % WINDOW, 0, -height % WINDOW))
        windows = whole.unfold(2, WINDOW, WINDOW).unfold(3, WINDOW, WINDOW)  # (B, C, h, w, G, G)
        windows = windows.movedim(1, 3).flatten(1, 2)  # (B, N, C, G, G)
        lit = (windows != 0).flatten(2).any(-1)
        if images.device.type == "cpu":
            seen = self._read(windows[lit])
            features = seen.new_zeros(*lit.shape, seen.shape[-1])
            features[lit] = seen
        else:  # which they are would have to be waited for
            features = self._read(windows.flatten(0, 1)).view(*lit.shape, -1)
        scores = self.weight(self.told(features).tanh() * self.gate(features).sigmoid())
        dark = ~lit[..., None]
        weights = scores.float().masked_fill(dark, -1e9).softmax(1).masked_fill(dark, 0)
        logits: Tensor = self.layers((weights * features).sum(1))
        return logits

    def _read(self, windows: Tensor) -> Tensor:
        features: Tensor = self.encoder(windows[:, None], windows.new_zeros(len(windows), 2))
        return features


def _places(side: int) -> int:
    """Count where a filter fits along a side."""
    return (side - FILTER_SIZE) // STRIDE + 1


# By the names of the command line, with the units of their hidden layers. "conv-86" is the paper's
# on 100 x 100 images: as many weights as "conv" has on 60 x 60.
REFERENCE_NETWORKS: dict[str, tuple[type[FullyConnected | Convolutional | Bag], int]] = {
    "fc-64": (FullyConnected, 64),
    "fc-256": (FullyConnected, 256),
    "conv": (Convolutional, 256),
    "conv-86": (Convolutional, 86),
    "bag": (Bag, 128),
}


def make_reference_network(
    name: str, image_size: tuple[int, int], num_classes: int, num_channels: int = 1
) -> ReferenceNetwork:
    """Make one of `REFERENCE_NETWORKS`, for images of ``(height, width)`` pixels."""
    kind, hidden = REFERENCE_NETWORKS[name]
    return kind(ReferenceConfig(image_size, num_channels, num_classes, hidden))
