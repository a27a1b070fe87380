"""Augmentation of training images: shifted, turned, warped, mirrored, tinted, on the device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from foveal.geometry import PaddedImages
from foveal.names import Range, check_fields
from foveal.randomness import random_rows
from foveal.scene import Images, Scene, as_scene

Kept = TypeVar("Kept", bound=Images)
Margins = tuple[int, ...]  # pixels left, right, above and below; () for none
WARP_GRID = 6  # a warp is drawn at so many places across and down, and smooth between them


@dataclass(frozen=True)
class AugmentationConfig:
    """How far a training image may be changed, each time anew; nothing by default."""

    shift: float = 0.0  # most that an image is shifted, as a share of its height and width
    rescale: float = 0.0  # most that it is magnified or reduced: 0.2 is 1/1.2 to 1.2 times
    rotation: float = 0.0  # most that it is turned either way, in degrees
    warp: float = 0.0  # elastic deformation: std of the places' shifts, a share of height and width
    flips: Literal["none", "horizontal", "vertical", "both"] = "none"  # mirrored half of the time
    tint: float = 0.0  # most that a channel is made darker or brighter: 0.5 is 1/1.5 to 1.5 times

    def __post_init__(self) -> None:
        check_fields(
            self,
            shift=Range(0, 1),
            rescale=Range(0, 10),
            rotation=Range(0, 180),
            warp=Range(0, 0.2),
            tint=Range(0, 10),
        )

    @property
    def cuts_alone(self) -> bool:
        """Whether images are at most shifted, mirrored and tinted, which copies no pixels."""
        return not (self.rescale or self.rotation or self.warp)

    @property
    def mirrored(self) -> tuple[bool, bool]:
        """Whether images may be mirrored, down and across."""
        return self.flips in ("vertical", "both"), self.flips in ("horizontal", "both")

    def tints(
        self, shape: tuple[int, int], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        """``(B, C)``, how many times as bright each channel of each image becomes."""
        return (1 + self.tint) ** (2 * random_rows(torch.rand, shape, generator, device) - 1)

    def mirrors(self, chance: Sequence[float]) -> tuple[bool, bool]:
        """Whether an image is mirrored, down and across, by two numbers in [0, 1)."""
        down, across = self.mirrored
        return down and chance[0] < 0.5, across and chance[1] < 0.5

    def cut(
        self, picture: NDArray[np.uint8], chance: Sequence[float]
    ) -> tuple[NDArray[np.uint8], tuple[bool, bool], Margins]:
        """A view of a picture, shifted and mirrored; how it is mirrored, down and across.

        What a shift would bring in from outside is left out: the view is so much smaller, and its
        margins, the last that is returned, are what is missing to the picture's own size.

        Args:
            picture: ``(C, H, W)``.
            chance: four numbers in [0, 1): of the shifts down and across, and of the mirrors.
        """
        down, across = self.mirrors(chance[2:])
        margins: Margins = ()
        for axis, (share, mirrored) in enumerate(
            zip(chance, (down, across), strict=False), start=1
        ):
            length = picture.shape[axis]
            cut = min(round(abs(2 * share - 1) * self.shift * length), length - 1)
            kept = slice(cut, None) if share < 0.5 else slice(length - cut)
            picture = picture[(slice(None),) * axis + (kept,)]
            margins = (cut, 0, *margins) if (share < 0.5) == mirrored else (0, cut, *margins)
        return picture[:, :: -1 if down else 1, :: -1 if across else 1], (down, across), margins


AS_THEY_ARE = AugmentationConfig()


def augment(
    images: PaddedImages, config: AugmentationConfig, generator: torch.Generator | None
) -> PaddedImages:
    """Move each image about its own centre, within its own size, and tint it.

    What comes from outside is 0. Pixels between pixels are interpolated. Turned and rescaled in
    pixels, so that squares of an image that is wider than high stay squares. ``images`` are float,
    their sizes on the same device.
    """
    if config == AS_THEY_ARE:
        return images
    pixels, sizes = images
    count, _, height, width = pixels.shape
    chance = random_rows(torch.rand, (count, 6), generator, pixels.device) * 2 - 1  # in [-1, 1)
    angle = chance[:, 0] * math.radians(config.rotation)
    scale = (1 + config.rescale) ** chance[:, 1]
    mirrored = 1 - 2 * (chance[:, 2:4] < 0).float()  # x, y
    for axis, may in enumerate(reversed(config.mirrored)):
        if not may:
            mirrored[:, axis] = 1
    own = sizes.flip(1).float()  # (B, 2): x, y, as all below
    moved = chance[:, 4:6] * config.shift * own
    whole = torch.stack([own.new_full((), side) for side in (width, height)])  # made on the device
    # From a pixel of the result to the place in the image that it shows: A (out - c - m) + c.
    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([cos, sin, -sin, cos], dim=1).view(count, 2, 2) * mirrored[:, :, None]
    rows = torch.arange(height, device=pixels.device) + 0.5
    columns = torch.arange(width, device=pixels.device) + 0.5
    out = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # (H, W, 2)
    centred = out.view(1, -1, 2) - (own / 2 + moved)[:, None]
    with torch.autocast(pixels.device.type, enabled=False):  # places, not features
        shown = torch.bmm(centred, turn.transpose(1, 2)) + (own / 2)[:, None]
    grid = (shown / whole * 2 - 1).view(count, height, width, 2)
    if config.warp:
        shape = (count, 2, WARP_GRID, WARP_GRID)
        shifts = 2 * config.warp * random_rows(torch.randn, shape, generator, pixels.device)
        smooth = functional.interpolate(shifts, (height, width), mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1) * (own / whole)[:, None, None]
    sampled = functional.grid_sample(pixels, grid, align_corners=False)
    inside = (out < own[:, None, None]).all(-1)
    seen = sampled * inside[:, None]
    if config.tint:
        tints = config.tints((count, pixels.shape[1]), generator, pixels.device)
        white = pixels.amax().clamp(min=1)  # canvases are of 0 to 255
        seen = torch.minimum(seen * tints[:, :, None, None], white)
    return PaddedImages(seen, sizes)


class ChangedScene(Scene):
    """A scene whose patches are seen otherwise in training; unless overridden the rest is not."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.batch_size, self.num_channels = scene.batch_size, scene.num_channels
        self.height, self.width = scene.height, scene.width

    def thumbnail(self, side: int) -> Tensor:
        """See `Scene.thumbnail`."""
        return self.scene.thumbnail(side)

    def box(self, side: int) -> int | Tensor:
        """See `Scene.box`."""
        return self.scene.box(side)

    def image(self, index: int) -> Tensor:
        """See `Scene.image`."""
        return self.scene.image(index)

    @property
    def intact(self) -> list[bool] | None:
        """See `Scene.intact`."""
        return self.scene.intact


class MovedScene(ChangedScene):
    """A scene whose patches are moved, each time anew; its thumbnail and its places stay."""

    def __init__(
        self, scene: Scene, config: AugmentationConfig, generator: torch.Generator | None
    ) -> None:
        super().__init__(scene)
        self.config, self.generator = replace(config, tint=0.0), generator
        # How much wider a square is read, so that nothing comes from outside.
        turn = math.radians(min(config.rotation, 45))
        self.reach = (math.sin(turn) + math.cos(turn)) * (1 + config.rescale)

    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """See `Scene.patches`: of all scales alike."""
        edge = math.ceil(count * (self.reach - 1) / 2)
        wide = self.scene.patches(centers, count + 2 * edge, boxes, chosen)
        pixels = wide.flatten(1, 2)
        sizes = torch.tensor(pixels.shape[2:], device=pixels.device).expand(len(pixels), 2)
        moved = augment(PaddedImages(pixels, sizes), self.config, self.generator).pixels
        inner = slice(edge, edge + count)
        return moved[..., inner, inner].reshape(*wide.shape[:3], count, count)


class TintedScene(ChangedScene):
    """A scene of which each channel is so many times as bright, ``(B, C)``, at most 1."""

    def __init__(self, scene: Scene, tints: Tensor) -> None:
        super().__init__(scene)
        self.tints = tints[:, :, None, None]

    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """See `Scene.patches`."""
        return self._tinted(self.scene.patches(centers, count, boxes, chosen), self.tints[:, None])

    def thumbnail(self, side: int) -> Tensor:
        """See `Scene.thumbnail`."""
        return self._tinted(self.scene.thumbnail(side), self.tints)

    def image(self, index: int) -> Tensor:
        """See `Scene.image`."""
        return self._tinted(self.scene.image(index), self.tints[index])

    def whole(self) -> Tensor:
        """See `Scene.whole`."""
        return self._tinted(self.scene.whole(), self.tints)

    @staticmethod
    def _tinted(pixels: Tensor, tints: Tensor) -> Tensor:
        return (pixels * tints.to(pixels.device)).clamp(max=1)


def tinted(
    images: Kept, config: AugmentationConfig, generator: torch.Generator | None
) -> Kept | Scene:
    """Images that stay as they are kept, tinted where they are looked at, if at all."""
    if not config.tint:
        return images
    scene = as_scene(images)
    shape = (scene.batch_size, scene.num_channels)
    device = torch.device("cpu") if generator is None else generator.device
    return TintedScene(scene, config.tints(shape, generator, device))
