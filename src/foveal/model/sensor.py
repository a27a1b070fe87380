"""The retina: square patches of several resolutions round a location (Mnih et al. 2014, §3.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foveal import geometry
from foveal.names import Range, check_value
from foveal.scene import Images, Scene, as_scene

WIDEST_PATCH = 65_536  # pixels a side; wider than any image this is meant for
SLOPE_REACH = 2  # pixels each way at least: a stroke's width; its flank is felt before its edge


class GlimpseSensor(nn.Module):
    """Cut multi-resolution glimpses out of images: rho(x, l) of Mnih et al. 2014, §3.1.

    Scale ``i`` covers ``glimpse_size * scale_factor**i`` pixels a side and is averaged down to
    ``glimpse_size`` by an exact box filter. Pixels outside the image are 0.

    Args:
        glimpse_size: G, pixels a side of every patch.
        num_scales: S, number of patches, each ``scale_factor`` times as wide as the one before.
        scale_factor: ratio between neighbouring scales, 2 or more.

    Raises:
        ValueError: if an argument is not a whole number of that range, or the widest patch exceeds
            65,536 pixels a side.
    """

    def __init__(self, glimpse_size: int, num_scales: int, scale_factor: int = 2) -> None:
        super().__init__()
        check_sensor(glimpse_size, num_scales, scale_factor)
        self.glimpse_size = glimpse_size
        self.num_scales = num_scales
        self.scale_factor = scale_factor
        self.box_sizes: list[int] = [scale_factor**i for i in range(num_scales)]

    @property
    def patch_sizes(self) -> tuple[int, ...]:
        """Pixels a side of what each scale covers, finest first."""
        return tuple(self.glimpse_size * box for box in self.box_sizes)

    def prepare(self, images: Images) -> Scene:
        """Images made ready for several looks by this sensor (see `foveal.scene.dense`).

        Raises:
            ValueError: see `foveal.scene.as_scene`.
        """
        return as_scene(images).prepared(self.box_sizes)

    def forward(self, images: Images, locations: Tensor) -> Tensor:
        """Cut one glimpse out of every image.

        Args:
            images: whatever can be looked at; see `foveal.scene.as_scene`.
            locations: ``(B, 2)`` float, ``(x, y)`` as in `foveal.geometry`; any value, locations
                far outside give glimpses of zeros. ``(B, 3)`` with a zoom, which chooses the scale.

        Returns:
            ``(B, S, C, G, G)`` float32, finest scale first; ``(B, 1, C, G, G)`` of the chosen one.
            Where ``locations`` requires a gradient (x, y) get one: `slopes` stands for the
            derivative, which a sensor that moves by whole pixels does not have.

        Raises:
            ValueError: if a shape or type is not as above, or an image is damaged.
            OSError: if an image cannot be read.
        """
        scene = as_scene(images)
        centers, chosen = self._centers(scene, locations), self.chosen(locations)
        if not (torch.is_grad_enabled() and locations.requires_grad):
            return scene.patches(centers, self.glimpse_size, self.box_sizes, chosen)
        window = self._wide_look(scene, centers, chosen)
        size = (scene.height, scene.width)
        glimpses: Tensor = _SlopedGlimpse.apply(locations, self, window, size)  # type: ignore[no-untyped-call]
        return glimpses

    def slopes(self, images: Images, locations: Tensor) -> Tensor:
        """How glimpses change with the location: differences over some pixels each way.

        That is 2 pixels, and a box where boxes are larger: by whole boxes a look at the coarse
        scales moves through sums that it has looked up already.

        Args:
            images: as for `forward`.
            locations: ``(B, 2)`` or ``(B, 3)``, as for `forward`.

        Returns:
            ``(B, 2, S, C, G, G)`` float32, for x and y, per unit of normalized location; of the
            chosen scale alone where there is a zoom.

        Raises:
            ValueError: if a shape or type is not as above.
        """
        scene = as_scene(images)
        chosen = self.chosen(locations)
        window = self._wide_look(scene, self._centers(scene, locations), chosen)
        return self._slopes(window, scene.height, scene.width, chosen)

    def chosen(self, locations: Tensor) -> Tensor | None:
        """The scale that the zoom of each ``(..., 3)`` location chooses, ``(...)`` int64.

        None of ``(..., 2)`` locations, which have no zoom: all scales are read there.
        """
        if locations.shape[-1] == 2:
            return None
        return geometry.to_scales(locations[..., 2], self.num_scales)

    def squares(self, location: Tensor, height: int, width: int) -> dict[int, tuple[int, int, int]]:
        """Left and top edge and side, in pixels, of what each scale covers, the finest first.

        Of the scales that a look at one ``(2,)`` or ``(3,)`` location reads.
        """
        x, y = geometry.to_pixels(location, height, width).tolist()
        chosen = self.chosen(location)
        read = range(self.num_scales) if chosen is None else [int(chosen)]
        sides = {scale: self.patch_sizes[scale] for scale in read}
        start = geometry.patch_start
        return {scale: (start(x, side), start(y, side), side) for scale, side in sides.items()}

    def _centers(self, scene: Scene, locations: Tensor) -> Tensor:
        batch, numbers = scene.batch_size, locations.shape[-1]
        if locations.shape != (batch, numbers) or numbers not in (2, 3):
            raise ValueError(
                f"locations must be ({batch}, 2), an (x, y) for each image, or ({batch}, 3) with "
                f"a zoom; got {tuple(locations.shape)}."
            )
        height, width = (
            side.to(locations.device) if isinstance(side, Tensor) else side
            for side in (scene.height, scene.width)
        )
        return geometry.to_pixels(locations, height, width)

    def _wide_look(self, scene: Scene, centers: Tensor, chosen: Tensor | None) -> Tensor:
        """Glimpses with a margin of ``SLOPE_REACH`` boxes on every side."""
        return scene.patches(centers, self.glimpse_size + 2 * SLOPE_REACH, self.box_sizes, chosen)

    def _slopes(
        self, window: Tensor, height: int | Tensor, width: int | Tensor, chosen: Tensor | None
    ) -> Tensor:
        """`slopes`, from glimpses with a margin of ``SLOPE_REACH`` boxes on every side."""
        size, inner = self.glimpse_size, slice(SLOPE_REACH, -SLOPE_REACH)
        if chosen is not None:  # as if it were of each scale, of which one is right
            window = window.expand(-1, self.num_scales, -1, -1, -1)
        units = [
            unit.to(window.device).view(-1, 1, 1, 1) if isinstance(unit, Tensor) else unit
            for unit in geometry.pixels_per_unit(height, width)
        ]
        slopes = window.new_empty(window.shape[0], 2, *window.shape[1:3], size, size)
        for scale, box in enumerate(self.box_sizes):
            part, reach = window[:, scale], -(-SLOPE_REACH // box)  # in boxes
            after = slice(SLOPE_REACH + reach, SLOPE_REACH + reach + size)
            before = slice(SLOPE_REACH - reach, SLOPE_REACH - reach + size)
            across = (part[..., inner, after], part[..., inner, before])
            down = (part[..., after, inner], part[..., before, inner])
            for axis, (ahead, behind) in enumerate((across, down)):
                place = slopes[:, axis, scale]
                torch.sub(ahead, behind, out=place).mul_(units[axis] / (2 * reach * box))
        return slopes if chosen is None else slopes.take_along_dim(chosen.view(-1, *(1,) * 5), 2)

    def extra_repr(self) -> str:
        """What ``repr`` shows of the sensor."""
        return (
            f"glimpse_size={self.glimpse_size}, num_scales={self.num_scales}, "
            f"scale_factor={self.scale_factor}"
        )


class _SlopedGlimpse(torch.autograd.Function):
    """Glimpses whose gradient reaches the locations through `GlimpseSensor.slopes`."""

    @staticmethod
    def forward(
        ctx: Any, locations: Tensor, sensor: GlimpseSensor, window: Tensor, size: Any
    ) -> Tensor:
        ctx.sensor, ctx.window, ctx.size = sensor, window, size
        ctx.chosen, ctx.zooms = sensor.chosen(locations), locations[:, 2:]
        inner = slice(SLOPE_REACH, -SLOPE_REACH)
        return window[..., inner, inner].contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        slopes = ctx.sensor._slopes(ctx.window, *ctx.size, ctx.chosen)
        pull = torch.bmm(slopes.flatten(2), gradient.flatten(1)[:, :, None]).squeeze(2)
        return torch.cat([pull, torch.zeros_like(ctx.zooms)], dim=1), None, None, None


def check_sensor(glimpse_size: int, num_scales: int, scale_factor: int) -> None:
    """Raise `ValueError` unless the three make a retina; see `GlimpseSensor`."""
    for name, value, most in (
        ("glimpse_size", glimpse_size, Range(1, WIDEST_PATCH)),
        ("num_scales", num_scales, Range(1, WIDEST_PATCH.bit_length())),
        ("scale_factor", scale_factor, Range(2, WIDEST_PATCH)),
    ):
        check_value(name, value, int, most)
    widest = glimpse_size * scale_factor ** (num_scales - 1)
    if widest > WIDEST_PATCH:
        raise ValueError(
            f"the widest patch must be at most {WIDEST_PATCH} pixels a side; got {widest} from "
            f"glimpse_size {glimpse_size} and num_scales {num_scales}. Use a smaller glimpse or "
            "fewer scales."
        )
