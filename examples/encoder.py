"""Look through an encoder of one's own: any network from pixels to numbers, pretrained or not.

One sees what its knowledge is worth: `python encoder.py` teaches it single digits and writes
encoder.pt. Then, in this directory, every command looks through it, here without changing it:

    foveal --import encoder train cluttered-60 --recipe best --glimpse-network encoder \
        --glimpse-size 28 --frozen

Like its code, encoder.pt has to be there wherever the model is used.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import foveal

FEATURES = 128  # that it makes of a window of 28 x 28


def encoder() -> nn.Module:
    """This could be a network of torchvision or timm, without its last layer."""
    first = (nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(32 * 7 * 7, FEATURES), nn.ReLU())


@dataclass(frozen=True)
class EncoderSettings(foveal.PartSettings):
    weights: str = "encoder.pt"  # of the encoder
    frozen: bool = False  # it stays as it is


@foveal.GLIMPSE_NETWORKS.add("encoder", settings=EncoderSettings)
class EncodedGlimpse(nn.Module):
    """What the encoder makes of a window, and where that is, to the model's features."""

    def __init__(self, shape, features, _glimpse_hidden, _location_hidden, settings) -> None:
        super().__init__()
        if shape != (1, 1, 28, 28):
            raise ValueError(f"the encoder sees 28 x 28 pixels, one scale, grey; got {shape}.")
        if not Path(settings.weights).exists():
            raise ValueError(f"{settings.weights} is missing; python encoder.py makes encoder.pt.")
        self.encoder = encoder()
        try:
            self.encoder.load_state_dict(torch.load(settings.weights, weights_only=True))
        except RuntimeError as error:
            unlike = str(error).split("\n")[-1].strip()
            raise ValueError(f"{settings.weights} is of another encoder: {unlike}") from error
        self.encoder.requires_grad_(not settings.frozen)
        self.to_features = nn.Linear(FEATURES + 2, features)

    def forward(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        seen = self.encoder(glimpses.flatten(1, 2))
        return torch.relu(self.to_features(torch.cat([seen, locations], dim=1)))


def main(digits: str, steps: int) -> None:
    task = foveal.CanvasTask(foveal.TaskConfig(digits=digits, canvas_size=0))
    torch.manual_seed(0)
    network = nn.Sequential(encoder(), nn.Linear(FEATURES, 10))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        images, labels = task.batch("train", torch.randint(task.size("train"), (128,)))
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = [network(images).argmax(1) == labels for images, labels in task.fixed_batches("test")]
    torch.save(network[0].state_dict(), "encoder.pt")
    print(f"encoder.pt knows {100 * torch.cat(right).float().mean():.1f} % of single digits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--digits", default="mnist")
    parser.add_argument("--steps", type=int, default=2000)
    main(**vars(parser.parse_args()))
