"""A rollout as ordered fixations, and its picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal import checkpoint, geometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from foveal.model import RecurrentAttention

# Okabe and Ito's palette tells its colours apart in every common form of colour blindness.
SCALE_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00")


@dataclass(frozen=True)
class Scanpath:
    """What a model looked at in one image, in order.

    Attributes:
        image: ``(H, W)`` or ``(H, W, 3)`` float in [0, 1].
        centers: ``(T, 2)`` int, ``(x, y)`` pixels of the fixations, the first included.
        patch_sizes: pixels a side of each scale's square, finest first.
        glimpses: ``(T, S, G, G)`` or ``(T, S, G, G, 3)``, what the model saw.
        probabilities: ``(T, K)``, its belief after each look.
        classes: K names.
        label: the right class, or None if it is not known.
    """

    image: NDArray[np.float32]
    centers: NDArray[np.int64]
    patch_sizes: tuple[int, ...]
    glimpses: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    label: int | None = None

    @property
    def answer(self) -> int:
        """The class believed in after the last look."""
        return int(self.probabilities[-1].argmax())


def follow(
    model: RecurrentAttention,
    image: Tensor,
    *,
    classes: tuple[str, ...],
    label: int | None = None,
    num_glimpses: int | None = None,
    generator: torch.Generator | None = None,
) -> Scanpath:
    """Let a model look at one ``(C, H, W)`` image with its mean policy.

    Args:
        model: in any mode; it is used in eval mode.
        image: float in [0, 1], on the model's device.
        classes: names of the model's classes.
        label: the right class, if it is known.
        num_glimpses: the model's own if None.
        generator: of the first location, on the image's device.

    Raises:
        ValueError: if the image has another shape or number of channels than the model takes.
    """
    if image.ndim != 3:
        raise ValueError(f"image must be (C, H, W); got {tuple(image.shape)}.")
    training = model.training
    model.eval()
    with torch.inference_mode():
        rollout = model(image[None], num_glimpses=num_glimpses, generator=generator)
        places = rollout.locations[0]
        repeated = image[None].expand(len(places), -1, -1, -1)
        glimpses = model.sensor(repeated, places)
        beliefs = rollout.step_logits[0].float().softmax(-1)
    model.train(training)
    height, width = image.shape[1:]
    sensor = model.sensor
    return Scanpath(
        image=_channels_last(image),
        centers=geometry.to_pixels(places, height, width).cpu().numpy(),
        patch_sizes=tuple(sensor.glimpse_size * box for box in sensor.box_sizes),
        glimpses=_channels_last(glimpses),
        probabilities=beliefs.cpu().numpy(),
        classes=classes,
        label=label,
    )


def draw(path: Scanpath) -> Figure:
    """A sheet: the image with numbered fixations, each glimpse as seen, the belief after it."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    looks, scales = path.glimpses.shape[:2]
    figure = Figure(figsize=(3.6 + 1.25 * looks, 1.5 + 1.15 * (scales + 1)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3.2, 1.25 * looks], squeeze=False)[0]
    _draw_image(left.subplots(), path)
    axes = right.subplots(scales + 1, looks, squeeze=False)
    for look in range(looks):
        for scale in range(scales):
            _draw_glimpse(axes[scale, look], path, look, scale)
        _draw_belief(axes[scales, look], path, look)
    answer = path.classes[path.answer]
    truth = "" if path.label is None else f" (it is {path.classes[path.label]})"
    figure.suptitle(
        f"Answer after {looks} looks: {answer}{truth}, probability "
        f"{path.probabilities[-1].max():.2f}",
        fontsize=11,
    )
    return figure


def save_picture(figure: Figure, out: Path) -> None:
    """Write a figure as PNG, in one step.

    Raises:
        OSError: if the file cannot be written.
    """
    import io  # noqa: PLC0415

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    checkpoint.write_file(out, buffer.getvalue())


def _draw_image(axis: Any, path: Scanpath) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    height, width = path.image.shape[:2]
    # Extent in pixel boundaries, the unit of the centres.
    axis.imshow(path.image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    for look, (x, y) in enumerate(path.centers):
        last = look == len(path.centers) - 1
        for scale, size in enumerate(path.patch_sizes):
            corner = (geometry.patch_start(int(x), size), geometry.patch_start(int(y), size))
            color = SCALE_COLORS[scale % len(SCALE_COLORS)]
            # Every look's finest square; the coarser ones of the last alone, or none is legible.
            if scale == 0 or last:
                axis.add_patch(
                    Rectangle(corner, size, size, fill=False, edgecolor=color, linewidth=1.2)
                )
    axis.plot(path.centers[:, 0], path.centers[:, 1], color="#D55E00", linewidth=1.2)
    for look, (x, y) in enumerate(path.centers):
        axis.annotate(
            str(look + 1),
            (x, y),
            color="black",
            fontsize=7,
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "linewidth": 0.5},
        )
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(f"{width} x {height} pixels", fontsize=9)


def _draw_glimpse(axis: Any, path: Scanpath, look: int, scale: int) -> None:
    axis.imshow(path.glimpses[look, scale], cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_color(SCALE_COLORS[scale % len(SCALE_COLORS)])
        side.set_linewidth(1.5)
    if scale == 0:
        axis.set_title(f"look {look + 1}", fontsize=9)
    if look == 0:
        axis.set_ylabel(f"{path.patch_sizes[scale]} px", fontsize=8)


def _draw_belief(axis: Any, path: Scanpath, look: int) -> None:
    beliefs = path.probabilities[look]
    names = [name if len(name) <= 8 else f"{name[:7]}…" for name in path.classes]
    shown = np.sort(np.argsort(beliefs)[-10:])  # ten bars are what fits
    colors = ["#D55E00" if index == beliefs.argmax() else "#999999" for index in shown]
    axis.barh(range(len(shown)), beliefs[shown], color=colors)
    axis.set_yticks(range(len(shown)), [names[index] for index in shown], fontsize=6)
    axis.set_xlim(0, 1)
    axis.set_xticks([0, 1], ["0", "1"], fontsize=6)
    axis.invert_yaxis()
    if look == 0:
        axis.set_ylabel("belief", fontsize=8)


def _channels_last(images: Tensor) -> NDArray[np.float32]:
    """``(..., C, H, W)`` to what matplotlib shows: ``(..., H, W)`` or ``(..., H, W, 3)``."""
    moved = images.movedim(-3, -1)
    shown = moved[..., :3] if moved.shape[-1] >= 3 else moved[..., 0]
    return np.ascontiguousarray(shown.float().cpu().numpy())
