"""Images in memory, and what is made of them for several looks.

- **As they are** the widest window is read and averaged down. The cost of a look depends on the
  look alone, whatever the size of the image: for one look at an image, as in a video.
- **Prepared**, for every size of box, the mean of the box of pixels that starts at each position
  is stored. A patch is then N x N look-ups: for several looks at one image.

Means of boxes rather than one summed-area table, because their rounding error depends on the box
and not on the whole image: float32 is exact enough at any image size, and a pixel of a patch
takes one look-up instead of four.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from foveal import geometry
from foveal.scene.memory import empty
from foveal.scene.scene import Scene, at_scale


class DenseScene(Scene):
    """``(B, C, H, W)`` images in memory, float in [0, 1], as they are; `ValueError` of others.

    Where images of different sizes are padded with zeros, ``(B, 2)`` int are each one's own height
    and width (see `foveal.geometry.PaddedImages`).
    """

    def __init__(self, pixels: Tensor, sizes: Tensor | None = None) -> None:
        check_images(pixels, sizes)
        self.pixels = pixels
        self.batch_size, self.num_channels = pixels.shape[:2]
        self.height, self.width = (
            pixels.shape[2:] if sizes is None else sizes.to(pixels.device).unbind(1)
        )

    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """See `Scene.patches`: the widest window is read, and averaged down."""
        batch, channels, height, width = self.pixels.shape
        size = count * boxes[-1]
        start = geometry.patch_start(0, size)
        window = torch.arange(start, start + size, device=self.pixels.device)
        columns, rows = centers[:, 0, None] + window, centers[:, 1, None] + window  # (B, size)
        inside_x, inside_y = (columns >= 0) & (columns < width), (rows >= 0) & (rows < height)
        columns, rows = columns.clamp(0, width - 1), rows.clamp(0, height - 1)
        where = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, -1)
        pixels = self.pixels.flatten(2).gather(2, where.expand(-1, channels, -1))
        pixels = pixels.view(batch, channels, size, size).float()
        pixels = pixels * (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
        return averaged(pixels, count, boxes, chosen)

    def thumbnail(self, side: int) -> Tensor:
        """See `Scene.thumbnail`."""
        if isinstance(self.height, int) or torch.compiler.is_exporting():
            return _averaged(self.pixels, side)
        padded = geometry.PaddedImages(self.pixels, self.sizes.cpu())
        images = map(padded.image, range(len(self)))
        return torch.cat([_averaged(image[None], side) for image in images])

    def image(self, index: int) -> Tensor:
        """See `Scene.image`: without what it is padded with."""
        if isinstance(self.height, int):
            return self.pixels[index]
        return geometry.PaddedImages(self.pixels, self.sizes).image(index)

    def only(self, index: int, times: int = 1) -> DenseScene:
        """See `Scene.only`; without a copy for each time."""
        return DenseScene(self.image(index).expand(times, -1, -1, -1))

    def rows(self, kept: Sequence[int]) -> DenseScene:
        """See `Scene.rows`."""
        same = isinstance(self.height, int)
        return DenseScene(self.pixels[list(kept)], None if same else self.sizes[list(kept)])

    def whole(self) -> Tensor:
        """See `Scene.whole`."""
        return self.pixels

    def prepared(self, boxes: Sequence[int]) -> DenseScene:
        """See `Scene.prepared`; takes time and memory as ``B * C * H * W * S``.

        Images of which a gradient is wanted stay as they are.
        """
        return self if self.pixels.requires_grad else PreparedScene(self, boxes)


class PreparedScene(DenseScene):
    """Images in memory, and the means of their boxes: of S scales, each a multiple of the last.

    Attributes:
        means: ``(B, S, C, (H + border + 1) * (W + border + 1))`` float32; for each scale, the mean
            of the box of pixels that starts at each position from ``-border`` to H (or W).
        border: width of the zeros before the first pixel: the side of the coarsest box.
    """

    def __init__(self, images: DenseScene, boxes: Sequence[int]) -> None:
        self._whole, self.boxes, self.border = images.pixels, tuple(boxes), boxes[-1]
        self.batch_size, self.num_channels = images.batch_size, images.num_channels
        self.height, self.width = images.height, images.width
        self.means = _means_of_boxes(images.pixels, self.boxes)
        image, scale, channel, _ = self.means.stride()
        of_images, of_scales, of_channels = (
            torch.arange(0, step * count, step, device=self.means.device)
            for step, count in zip((image, scale, channel), self.means.shape[:3], strict=True)
        )
        # All means one after another, and where those of each image, scale and channel begin.
        self._flat = self.means.as_strided((int(scale * len(self.boxes)),), (1,))
        self._begin = of_images.view(-1, 1, 1) + of_scales.view(-1, 1) + of_channels
        self._offsets: dict[int, Tensor] = {}
        self._kept: Tensor | None = None  # (B,), where the images lie in the means; None: in order

    @property
    def pixels(self) -> Tensor:  # type: ignore[override]  # seldom asked for: not copied before
        """See `DenseScene`."""
        return self._whole if self._kept is None else self._whole[self._kept]

    def rows(self, kept: Sequence[int]) -> PreparedScene:
        """See `Scene.rows`; without a copy of the means."""
        chosen = torch.tensor(kept, device=self.means.device)
        some = copy.copy(self)
        some.batch_size = len(kept)
        some.height, some.width = (
            side[chosen] if isinstance(side, Tensor) else side for side in (self.height, self.width)
        )
        some._begin = self._begin[chosen]
        some._kept = chosen if self._kept is None else self._kept[chosen]
        return some

    def patches(
        self, centers: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None = None
    ) -> Tensor:
        """See `Scene.patches`; `ValueError` for other boxes than the images were prepared for."""
        if tuple(boxes) != self.boxes:
            raise ValueError(
                f"the images were prepared for boxes of {self.boxes} pixels a side; got "
                f"{tuple(boxes)}. Prepare them with the sensor that is to look at them."
            )
        height, width = self._whole.shape[2:]
        offsets, border = self._offsets_of(count), self.border
        if chosen is not None:
            offsets = offsets[chosen, None]
        begin = at_scale(self._begin, chosen)
        # Boxes that do not touch the image are sent to the border of zeros: (B, S, N) each.
        x, y = (centers[:, axis, None, None] + offsets for axis in (0, 1))
        columns = (x + border).clamp_(0, width + border)
        rows = (y + border).clamp_(0, height + border)
        starts = torch.add(begin[..., None], rows[:, :, None], alpha=width + border + 1)
        where = starts[..., None] + columns[:, :, None, None]  # (B, S, C, N, N)
        return self._flat.index_select(0, where.view(-1)).view(where.shape)

    def _offsets_of(self, count: int) -> Tensor:
        """Where the boxes of each scale begin, in pixels from the centre; ``(S, count)``."""
        if count not in self._offsets:
            starts = [geometry.patch_start(0, count * box) for box in self.boxes]
            self._offsets[count] = torch.stack(
                [
                    torch.arange(start, start + count * box, box, device=self.means.device)
                    for start, box in zip(starts, self.boxes, strict=True)
                ]
            )
        return self._offsets[count]

    def prepared(self, _: Sequence[int]) -> PreparedScene:
        """See `Scene.prepared`: it is."""
        return self


def _means_of_boxes(images: Tensor, boxes: tuple[int, ...]) -> Tensor:
    batch, channels, height, width = images.shape
    border = boxes[-1]
    rows, row = height + border + 1, width + border + 1
    length = batch * channels * rows * row
    # All planes lie flat in memory, so that shifting the whole batch by some pixels or rows
    # is a contiguous pass at the speed of memory. What a shift brings over the end of a row,
    # or of an image, is the border of zeros of the next; the last has a tail of zeros. A pass
    # leaves the end of its plane unwritten, where nothing follows to average with. That adds up
    # to less than the tail, which no look reaches.
    tail = border * (row + 1)
    planes = empty(len(boxes), length + tail, images.device)
    finest = planes[0, :length].view(batch, channels, rows, row)
    finest[:, :, :border] = 0
    finest[:, :, border:-1, :border] = 0
    finest[:, :, border:-1, border:-1] = images
    finest[:, :, border:-1, -1] = 0
    finest[:, :, -1] = 0
    planes[0, length:] = 0
    wide = empty(min(1, len(boxes) - 1), length + tail, images.device)
    for i, box in enumerate(boxes[:-1]):
        factor = boxes[i + 1] // box
        _average_shifted(planes[i], box, factor, out=wide[0])
        _average_shifted(wide[0], box * row, factor, out=planes[i + 1])
    means = planes[:, :length].view(len(boxes), batch, channels, rows * row)
    return means.transpose(0, 1)


def _average_shifted(plane: Tensor, shift: int, factor: int, out: Tensor) -> None:
    """The mean of each element and the ``factor - 1`` that follow at steps of shift.

    The last elements, which so many do not follow, are left as they are.
    """
    kept = out[: -(factor - 1) * shift]
    shifted = [plane[j * shift : j * shift + len(kept)] for j in range(factor)]
    torch.lerp(shifted[0], shifted[1], 0.5, out=kept)
    for count, more in enumerate(shifted[2:], start=3):
        kept.lerp_(more, 1 / count)  # the mean of so many


def averaged(windows: Tensor, count: int, boxes: Sequence[int], chosen: Tensor | None) -> Tensor:
    """`Scene.patches`, from the pixels of the widest, ``(B, C, size, size)`` float."""
    patches, start = [], geometry.patch_start(0, count * boxes[-1])
    for box in boxes:
        edge = geometry.patch_start(0, count * box) - start
        inner = slice(edge, edge + count * box)
        part = windows[..., inner, inner]
        patches.append(functional.avg_pool2d(part, box) if box > 1 else part)
    return at_scale(torch.stack(patches, dim=1), chosen)


def _averaged(pixels: Tensor, side: int) -> Tensor:
    """The thumbnails of ``(B, C, H, W)`` images; ``(B, C, side, side)``."""
    height, width = pixels.shape[2:]
    box = geometry.thumbnail_box(height, width, side)
    if torch.compiler.is_exporting():
        return averaged_by_products(pixels.float(), box, (side, side))
    made = functional.avg_pool2d(
        pixels.float(), box, ceil_mode=True, divisor_override=box**2
    )  # what lies beyond an edge is black
    return functional.pad(made, (0, side - made.shape[3], 0, side - made.shape[2]))


def averaged_by_products(pixels: Tensor, box: Any, cells: tuple[int, int]) -> Tensor:
    """Means of boxes in a graph for images of any size, of which matrices say the pixels."""
    count = partial(torch.arange, device=pixels.device)
    down, across = (
        (count(length) // box == count(rows)[:, None]) / box
        for length, rows in zip(pixels.shape[2:], cells, strict=True)
    )
    averages: Tensor = down @ pixels @ across.t()
    return averages


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
