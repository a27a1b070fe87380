"""The retina as it is usually written first: image by image, scale by scale.

`foveal bench` measures the model with this sensor in place of its own, to show what the difference
is worth. Both see the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveal import geometry
from foveal.scene import Images, as_scene


class ObviousSensor(nn.Module):
    """A `foveal.model.sensor.GlimpseSensor` that loops over the images of a batch."""

    def __init__(self, glimpse_size: int, num_scales: int, scale_factor: int = 2) -> None:
        super().__init__()
        self.glimpse_size = glimpse_size
        self.boxes = [scale_factor**scale for scale in range(num_scales)]

    def prepare(self, images: Images) -> Tensor:
        """Nothing is prepared."""
        return as_scene(images).whole()

    def chosen(self, _locations: Tensor) -> None:
        """No zoom: all scales are read."""

    def forward(self, images: Tensor, locations: Tensor) -> Tensor:
        """``(B, C, H, W)`` images and ``(B, 2)`` locations to ``(B, S, C, G, G)`` glimpses."""
        glimpses = []
        for image, location in zip(images, locations, strict=True):
            x, y = geometry.to_pixels(location, image.shape[1], image.shape[2]).tolist()
            patches = []
            for box in self.boxes:
                size = self.glimpse_size * box
                padded = functional.pad(image, (size, size, size, size))
                top = geometry.patch_start(y, size) + size
                left = geometry.patch_start(x, size) + size
                patch = padded[:, top : top + size, left : left + size]
                patches.append(functional.avg_pool2d(patch[None], box)[0])
            glimpses.append(torch.stack(patches))
        return torch.stack(glimpses)
