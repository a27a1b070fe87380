"""The retina: square patches of several resolutions round a location (Mnih et al. 2014, §3.1).

Four ways lead to the same glimpses, to rounding:

- **from images**: the widest window is read and averaged down. The cost depends on the glimpse
  alone, whatever the size of the image: for one look at an image, as in a video.
- **from prepared images**: `GlimpseSensor.prepare` stores, for every scale, the mean of the box
  of pixels that starts at each position. A glimpse is then G x G look-ups a scale: for several
  looks at one image.
- **from sources**: big images on disk, of which each patch is read by itself (see `files`).
- **from sparse images**: nearly black ones, as the canvases of the tasks (`foveal.scene.sparse`).

Means of boxes rather than one summed-area table, because their rounding error depends on the box
and not on the whole image: float32 is exact enough at any image size, and a pixel of a glimpse
takes one look-up instead of four.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal import geometry
from foveal.scene.memory import empty
from foveal.scene.sources import PatchSource, sizes_of
from foveal.scene.sparse import SparseImages

WIDEST_PATCH = 65_536  # pixels a side; wider than any image this is meant for
SLOPE_REACH = 2  # pixels each way at least: a stroke's width; its flank is felt before its edge


@dataclass(frozen=True)
class PreparedImages:
    """Box means of a batch of images at every scale, made by `GlimpseSensor.prepare`.

    Attributes:
        means: ``(B, S, C, (H + border + 1) * (W + border + 1))`` float32; for scale i, the mean of
            the box of pixels that starts at each position from ``-border`` to H (or W).
        height: H of the images, in pixels.
        width: W of the images, in pixels.
        border: width of the zeros before the first pixel: the side of the coarsest box.
        sizes: ``(B, 2)``, each image's own height and width where they are padded; else None.
    """

    means: Tensor
    height: int
    width: int
    border: int
    sizes: Tensor | None = None


# What the sensor looks at.
Images = Tensor | PreparedImages | SparseImages | Sequence[PatchSource]


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

    offsets: Tensor

    def __init__(self, glimpse_size: int, num_scales: int, scale_factor: int = 2) -> None:
        super().__init__()
        check_sensor(glimpse_size, num_scales, scale_factor)
        self.glimpse_size = glimpse_size
        self.num_scales = num_scales
        self.scale_factor = scale_factor
        self.box_sizes: list[int] = [scale_factor**i for i in range(num_scales)]
        boxes = torch.tensor(self.box_sizes)[:, None]
        starts = [geometry.patch_start(0, glimpse_size * box) for box in self.box_sizes]
        # Where the boxes of each scale begin, in pixels from the glimpse's centre: its own G boxes
        # a side, and a margin of SLOPE_REACH more on either side; (S, G + margins).
        boxes_from = torch.arange(-SLOPE_REACH, glimpse_size + SLOPE_REACH)
        offsets = torch.tensor(starts)[:, None] + boxes * boxes_from
        self.register_buffer("offsets", offsets, persistent=False)

    @property
    def widest_patch(self) -> int:
        """Pixels a side of the coarsest scale's patch."""
        return self.glimpse_size * self.box_sizes[-1]

    def forward(self, images: Images, locations: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Cut one glimpse out of every image.

        Args:
            images: ``(B, C, H, W)`` float in [0, 1], or what `prepare` made of them; or sparse
                ones; or a sequence of B sources, of any sizes, which are read in parallel.
            locations: ``(B, 2)`` float, ``(x, y)`` as in `foveal.geometry`; any value, locations
                far outside give glimpses of zeros.
            sizes: ``(B, 2)`` int, each image's own height and width, where they are padded with
                zeros (see `foveal.geometry.PaddedImages`); prepared images and sources know theirs.

        Returns:
            ``(B, S, C, G, G)`` float32, finest scale first. Where ``locations`` requires a
            gradient it gets one: `slopes` stands for the derivative, which a sensor that moves by
            whole pixels does not have. Images that are not prepared are, for that.

        Raises:
            ValueError: if a shape or type is not as above, or a source is damaged.
            OSError: if a source cannot be read.
        """
        height, width = self._check(images, locations, sizes)
        centers = geometry.to_pixels(locations, height, width)
        if torch.is_grad_enabled() and locations.requires_grad:
            window = self._wide_look(images, centers, sizes)
            glimpses: Tensor = _SlopedGlimpse.apply(locations, self, window, (height, width))  # type: ignore[no-untyped-call]
            return glimpses
        if isinstance(images, PreparedImages):
            return self._look_up(images, centers, margin=0)
        if isinstance(images, Tensor):
            return self._read_window(images, centers)
        return self._read_boxes(images, centers, margin=0)

    def slopes(self, images: Images, locations: Tensor, sizes: Tensor | None = None) -> Tensor:
        """How glimpses change with the location: differences over some pixels each way.

        That is 2 pixels, and a box where boxes are larger: by whole boxes a look at the coarse
        scales moves through sums that it has looked up already.

        Args:
            images: as for `forward`.
            locations: ``(B, 2)``, as for `forward`.
            sizes: as for `forward`.

        Returns:
            ``(B, 2, S, C, G, G)`` float32, for x and y, per unit of normalized location.

        Raises:
            ValueError: if a shape or type is not as above.
        """
        height, width = self._check(images, locations, sizes)
        centers = geometry.to_pixels(locations, height, width)
        window = self._wide_look(images, centers, sizes)
        return self._slopes(window, height, width)

    def _slopes(self, window: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
        """`slopes`, from glimpses with a margin of ``SLOPE_REACH`` boxes on every side."""
        size, inner = self.glimpse_size, slice(SLOPE_REACH, -SLOPE_REACH)
        units = [
            unit.view(-1, 1, 1, 1) if isinstance(unit, Tensor) else unit
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
        return slopes

    def _check(
        self, images: Images, locations: Tensor, sizes: Tensor | None
    ) -> tuple[int, int] | tuple[Tensor, Tensor]:
        """Height and width of the images, or of each; raises `ValueError` if something is unfit."""
        if sizes is not None and not isinstance(images, Tensor):
            raise ValueError("prepared images and sources know their sizes: do not pass any.")
        if isinstance(images, PreparedImages):
            batch, height, width = images.means.shape[0], images.height, images.width
            sizes = images.sizes
        elif isinstance(images, Tensor):
            check_images(images, sizes)
            batch, height, width = images.shape[0], images.shape[2], images.shape[3]
        elif isinstance(images, SparseImages):
            batch, height, width = len(images), 0, 0
            sizes = images.sizes
        else:
            batch, height, width = len(images), 0, 0
            sizes = torch.tensor(sizes_of(images))
        if locations.shape != (batch, 2):
            raise ValueError(
                f"locations must be ({batch}, 2), an (x, y) for each image; "
                f"got {tuple(locations.shape)}."
            )
        if sizes is None:
            return height, width
        sizes = sizes.to(locations.device)
        return sizes[:, 0], sizes[:, 1]

    def _wide_look(self, images: Images, centers: Tensor, sizes: Tensor | None) -> Tensor:
        """Glimpses with a margin of ``SLOPE_REACH`` boxes on every side, from whatever is given."""
        if isinstance(images, Tensor):
            images = self.prepare(images, sizes)
        look = self._look_up if isinstance(images, PreparedImages) else self._read_boxes
        return look(images, centers, margin=SLOPE_REACH)  # type: ignore[arg-type]

    def prepare(self, images: Tensor, sizes: Tensor | None = None) -> PreparedImages:
        """Average the boxes of every scale once, so that a look costs G x G look-ups a scale.

        Takes time and memory in proportion to ``B * C * H * W * S``.

        Args:
            images: ``(B, C, H, W)`` float in [0, 1].
            sizes: as for `forward`.

        Raises:
            ValueError: if a shape or type is not as above.
        """
        check_images(images, sizes)
        batch, channels, height, width = images.shape
        border = self.box_sizes[-1]
        rows, row = height + border + 1, width + border + 1
        length = batch * channels * rows * row
        # All planes lie flat in memory, so that shifting the whole batch by some pixels or rows
        # is a contiguous pass at the speed of memory. What a shift brings over the end of a row,
        # or of an image, is the border of zeros of the next; the last has a tail of zeros. A pass
        # leaves the end of its plane unwritten, where nothing follows to average with. That adds up
        # to less than the tail, which no look reaches.
        tail = border * (row + 1)
        planes = empty(self.num_scales, length + tail, images.device)
        finest = planes[0, :length].view(batch, channels, rows, row)
        finest[:, :, :border] = 0
        finest[:, :, border:-1, :border] = 0
        finest[:, :, border:-1, border:-1] = images
        finest[:, :, border:-1, -1] = 0
        finest[:, :, -1] = 0
        planes[0, length:] = 0
        wide = empty(min(1, self.num_scales - 1), length + tail, images.device)
        for i, box in enumerate(self.box_sizes[:-1]):
            self._average_shifted(planes[i], box, out=wide[0])
            self._average_shifted(wide[0], box * row, out=planes[i + 1])
        means = planes[:, :length].view(self.num_scales, batch, channels, rows * row)
        return PreparedImages(means.transpose(0, 1), height, width, border, sizes)

    def _average_shifted(self, plane: Tensor, shift: int, out: Tensor) -> None:
        """The mean of each element and the ``scale_factor - 1`` that follow at steps of shift.

        The last elements, which so many do not follow, are left as they are.
        """
        kept = out[: -(self.scale_factor - 1) * shift]
        shifted = [plane[j * shift : j * shift + len(kept)] for j in range(self.scale_factor)]
        torch.lerp(shifted[0], shifted[1], 0.5, out=kept)
        for count, more in enumerate(shifted[2:], start=3):
            kept.lerp_(more, 1 / count)  # the mean of so many

    def _look_up(self, images: PreparedImages, centers: Tensor, *, margin: int) -> Tensor:
        """Glimpses ``(B, S, C, N, N)`` with N = G + 2 * margin: more boxes on every side."""
        batch, scales, channels, _ = images.means.shape
        border, size = images.border, self.glimpse_size + 2 * margin
        first = SLOPE_REACH - margin
        offsets = self.offsets[:, first : first + size]
        # Boxes that do not touch the image are sent to the border of zeros: (B, S, N) each.
        x, y = (centers[:, axis, None, None] + offsets for axis in (0, 1))
        columns = (x + border).clamp_(0, images.width + border)
        rows = (y + border).clamp_(0, images.height + border)
        row = images.width + border + 1
        where = torch.add(columns[..., None, :], rows[..., :, None], alpha=row)
        where = where.view(batch, scales, 1, -1).expand(-1, -1, channels, -1)
        return images.means.gather(3, where).view(batch, scales, channels, size, size)

    def _read_boxes(
        self, images: SparseImages | Sequence[PatchSource], centers: Tensor, *, margin: int
    ) -> Tensor:
        """As `_look_up`, from what gives averages of boxes that are asked for."""
        count = self.glimpse_size + 2 * margin
        scales = [
            (geometry.patch_start(0, self.glimpse_size * box) - margin * box, box)
            for box in self.box_sizes
        ]
        if isinstance(images, SparseImages):
            boxes = [images.boxes(centers + start, count, box) for start, box in scales]
            return torch.stack(boxes, dim=1)

        def glimpse(source: PatchSource, center: list[int]) -> NDArray[np.float32]:
            return np.stack(
                [source.read(center[0] + at, center[1] + at, count, box) for at, box in scales]
            )

        places = centers.tolist()
        if len(images) == 1:
            glimpses = [glimpse(images[0], places[0])]
        else:
            # Threads are enough: decompression and file access do not hold Python's lock.
            with ThreadPoolExecutor(min(len(images), 2 * (os.cpu_count() or 1))) as pool:
                glimpses = list(pool.map(glimpse, images, places))
        return torch.from_numpy(np.stack(glimpses)).to(centers.device)

    def _read_window(self, images: Tensor, centers: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        size = self.widest_patch
        window = torch.arange(size, device=images.device) + geometry.patch_start(0, size)
        columns, rows = centers[:, 0, None] + window, centers[:, 1, None] + window  # (B, size)
        inside_x, inside_y = (columns >= 0) & (columns < width), (rows >= 0) & (rows < height)
        columns, rows = columns.clamp(0, width - 1), rows.clamp(0, height - 1)
        where = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, -1)
        pixels = images.flatten(2).gather(2, where.expand(-1, channels, -1))
        pixels = pixels.view(batch, channels, size, size).float()
        pixels = pixels * (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
        patches = []
        for box in self.box_sizes:
            edge = geometry.patch_start(0, self.glimpse_size * box) - geometry.patch_start(0, size)
            inner = slice(edge, edge + self.glimpse_size * box)
            patches.append(nn.functional.avg_pool2d(pixels[..., inner, inner], box))
        return torch.stack(patches, dim=1)

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
        ctx: Any, _locations: Tensor, sensor: GlimpseSensor, window: Tensor, size: Any
    ) -> Tensor:
        ctx.sensor, ctx.window, ctx.size = sensor, window, size
        inner = slice(SLOPE_REACH, -SLOPE_REACH)
        return window[..., inner, inner].contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        slopes = ctx.sensor._slopes(ctx.window, *ctx.size)
        pull = torch.bmm(slopes.flatten(2), gradient.flatten(1)[:, :, None])
        return pull.squeeze(2), None, None, None


def check_sensor(glimpse_size: int, num_scales: int, scale_factor: int) -> None:
    """Raise `ValueError` unless the three make a retina; see `GlimpseSensor`."""
    sizes = {
        "glimpse_size": glimpse_size,
        "num_scales": num_scales,
        "scale_factor": scale_factor,
    }
    for name, value in sizes.items():
        least = 2 if name == "scale_factor" else 1
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    widest = glimpse_size * scale_factor ** (num_scales - 1)
    if widest > WIDEST_PATCH:
        raise ValueError(
            f"the widest patch must be at most {WIDEST_PATCH} pixels a side; got {widest} from "
            f"glimpse_size {glimpse_size} and num_scales {num_scales}. Use a smaller glimpse or "
            "fewer scales."
        )


def check_images(images: Tensor, sizes: Tensor | None = None) -> None:
    """Raise `ValueError` unless ``images`` is float ``(B, C, H, W)`` with pixels.

    And unless ``sizes``, if given, is ``(B, 2)`` int, and within the images where it lies on a CPU:
    on another device a look at its values would stop the device's work.
    """
    if images.ndim != 4:
        raise ValueError(
            f"images must be (B, C, H, W); got {tuple(images.shape)}. "
            "For one grey image pass image[None, None]."
        )
    if not images.is_floating_point():
        raise ValueError(
            f"images must be float in [0, 1]; got {images.dtype}. For bytes pass images / 255."
        )
    if min(images.shape[1:]) < 1:
        raise ValueError(f"images must have at least one pixel; got {tuple(images.shape)}.")
    if sizes is None:
        return
    if sizes.shape != (len(images), 2) or sizes.is_floating_point():
        raise ValueError(
            f"sizes must be ({len(images)}, 2) int, a (height, width) for each image; got "
            f"{tuple(sizes.shape)} of {sizes.dtype}."
        )
    whole = torch.tensor(images.shape[2:])
    if sizes.device.type == "cpu" and not ((sizes >= 1) & (sizes <= whole)).all():
        raise ValueError(
            f"sizes must be 1 to {tuple(whole.tolist())} (height, width), the padded images'; got "
            f"{sizes.amin(0).tolist()} to {sizes.amax(0).tolist()}."
        )
