"""Sheets of scanpaths, drawn with matplotlib at the width of a page's text."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveal.io.files import write_file
from foveal.model.drawn import scale_color
from foveal.names import printable
from foveal.viz.scanpath import Scanpath, leading_classes
from foveal.viz.theme import LIGHT, Theme, answer_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")
DPI = 200
# Inches. Type is no smaller than 6 points at the width that the picture has by itself.
CELL, GAP, MARGIN, TITLE, ROW_NAMES, BELIEF_LINE = 0.52, 0.06, 0.12, 0.34, 0.46, 0.16
BELIEFS = 3  # classes after each look
GREY: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "none"}


def draw(path: Scanpath, theme: Theme = LIGHT) -> Figure:
    """A sheet of one scanpath; see `draw_sheet`."""
    return draw_sheet([path], theme)


def draw_sheet(paths: Sequence[Scanpath], theme: Theme = LIGHT) -> Figure:
    """A sheet of scanpaths (`ValueError` if there is none), one below the other.

    Each shows the image with numbered fixations and the squares of every scale; beside it, where
    the policy reads a map, how likely each of its cells was to be looked at first; each glimpse as
    the model saw it, a row a scale; and the likeliest classes after each look.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    if not paths:
        raise ValueError("a sheet needs at least one scanpath; got none.")
    sides = [min(max(1.6, _cells_height(path)), 2.4) for path in paths]
    heights = [max(_cells_height(path), side) for path, side in zip(paths, sides, strict=True)]
    looks = max(path.num_looks for path in paths)
    maps = max(0 if path.cells is None else side for path, side in zip(paths, sides, strict=True))
    widest = max(sides) + (maps and maps + MARGIN)
    width = 2 * MARGIN + widest + ROW_NAMES + looks * (CELL + GAP)
    total = sum(heights) + len(paths) * TITLE + MARGIN
    figure = Figure(figsize=(width, total), facecolor=theme.background)
    top = 0.0
    for path, side, height in zip(paths, sides, heights, strict=True):
        what = f"{path.image_size[1]} x {path.image_size[0]} pixels"
        title = f"{path.name + ', ' if path.name else ''}{what}: {path.verdict()}"
        at = (MARGIN / width, 1 - (top + 0.15) / total)
        figure.text(*at, printable(title), size=8, color=theme.text, parse_math=False)
        top += TITLE
        left = MARGIN + widest + ROW_NAMES
        place = (MARGIN / width, 1 - (top + side) / total, side / width, side / total)
        _draw_image(figure.add_axes(place), path, theme)
        if path.cells is not None:
            beside = (2 * MARGIN + max(sides)) / width
            _draw_cells(figure.add_axes((beside, *place[1:])), path, theme)
        cells = _cells_height(path)
        box = (left / width, 1 - (top + cells) / total, 1 - (left + MARGIN) / width, cells / total)
        _draw_looks(figure.add_axes(box), path, theme, (width - left - MARGIN, cells))
        top += height
    return figure


def save_picture(figure: Figure, out: Path) -> None:
    """Write a figure as PNG, SVG or PDF, by the file's suffix, in one step.

    Equal figures give equal files.
    """
    import matplotlib  # noqa: PLC0415 (slow to import)

    kind = out.suffix.lower().removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    buffer = io.BytesIO()
    # Text stays text: it can be searched, and read aloud.
    with (
        matplotlib.rc_context(
            {"svg.fonttype": "none", "svg.hashsalt": "foveal", "pdf.fonttype": 42}
        ),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # it draws a box
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=undated)
    write_file(out, buffer.getvalue())


def as_pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as ``(H, W, 3)`` bytes, for TensorBoard or a web page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (slow to import)

    figure.set_dpi(100)
    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def shorten(name: str, length: int) -> str:
    """A name on one line, of at most ``length`` characters."""
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _cells_height(path: Scanpath) -> float:
    scales = len(path.patch_sizes)
    return scales * (CELL + GAP) + min(BELIEFS, len(path.classes)) * BELIEF_LINE


def _draw_image(axes: Any, path: Scanpath, theme: Theme) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 (slow to import)

    height, width = path.image_size
    # Extent in pixel boundaries, the unit of the centres.
    axes.imshow(path.image, extent=(0, width, height, 0), **GREY)
    last = path.num_looks - 1
    for look in range(path.num_looks):
        scales = path.scales(look)
        for scale in scales:
            left, top, size = path.square(look, scale)
            # The coarser squares of the last look alone stand out, or none could be followed.
            bold = scale == scales[0] or look == last
            square = Rectangle((left, top), size, size, fill=False, edgecolor=scale_color(scale))
            square.set(linewidth=1.0 if bold else 0.4, alpha=1.0 if bold else 0.6)
            axes.add_patch(square)
    each = path.looks_an_answer or path.num_looks
    for first in range(0, path.num_looks, each):
        steps = path.centers[max(0, first - 1) : first + each]
        axes.plot(*steps.T, color=answer_color(path.answer_at(first)), linewidth=1)
    for look, (x, y) in enumerate(path.centers):
        color = answer_color(path.answer_at(look))
        disc = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "linewidth": 0.4}
        if path.looks_an_answer:
            disc |= {"edgecolor": color, "linewidth": 1.2}
        axes.text(x, y, str(look + 1), color="black", size=6, ha="center", va="center", bbox=disc)
    _frame(axes, path, theme)


def _frame(axes: Any, path: Scanpath, theme: Theme) -> None:
    height, width = path.image_size
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], anchor="N")
    for spine in axes.spines.values():
        spine.set(color=theme.faint, linewidth=0.5)


def _draw_cells(axes: Any, path: Scanpath, theme: Theme) -> None:
    """How likely each cell of the policy's map was to be looked at first, over the image."""
    down, across = path.cells_size
    axes.imshow(path.cells, cmap="magma", vmin=0, extent=(0, across, down, 0), interpolation="none")
    axes.set_title("chance of the first look", size=6.5, color=theme.text, pad=2)
    _frame(axes, path, theme)


def _draw_looks(axes: Any, path: Scanpath, theme: Theme, size: tuple[float, float]) -> None:
    """Glimpses and beliefs, a column a look, on axes whose unit is an inch."""
    width, height = size
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    beliefs_top = len(path.patch_sizes) * (CELL + GAP)
    for scale, patch in enumerate(path.patch_sizes):
        middle = scale * (CELL + GAP) + CELL / 2
        axes.text(-0.06, middle, f"{patch} px", size=6.5, color=theme.text, ha="right", va="center")
    for look in range(path.num_looks):
        left = look * (CELL + GAP)
        heading = f"look {look + 1}" if look == 0 else str(look + 1)
        axes.text(left + CELL / 2, -0.04, heading, size=6.5, color=theme.text, ha="center")
        for scale in path.scales(look):
            _draw_glimpse(axes, path, look, scale, left)
        _draw_belief(axes, path, look, (left, beliefs_top), theme)
    middle = beliefs_top + BELIEF_LINE / 2
    axes.text(-0.06, middle, "belief", size=6.5, color=theme.text, ha="right", va="center")


def _draw_glimpse(axes: Any, path: Scanpath, look: int, scale: int, left: float) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 (slow to import)

    top = scale * (CELL + GAP)
    extent = (left, left + CELL, top + CELL, top)
    axes.imshow(path.glimpses[look, scale], extent=extent, aspect="auto", **GREY)
    frame = Rectangle((left, top), CELL, CELL, fill=False, edgecolor=scale_color(scale))
    frame.set(linewidth=1.2, clip_on=False)
    axes.add_patch(frame)


def _draw_belief(
    axes: Any, path: Scanpath, look: int, corner: tuple[float, float], theme: Theme
) -> None:
    """The likeliest classes, each on a bar as long as its probability."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415 (slow to import)

    left, top = corner
    known = path.known(look)
    for line, index in enumerate(leading_classes(path, look, BELIEFS)):
        chance, middle = path.probabilities[look, index], top + (line + 0.5) * BELIEF_LINE
        bar = (left, top + line * BELIEF_LINE), CELL * chance, BELIEF_LINE - 0.02
        color = theme.right if index == known else theme.wrong
        axes.add_patch(Rectangle(*bar, color=color, linewidth=0))
        weight = "bold" if index == known else "normal"
        style = {"size": 6, "color": theme.text, "weight": weight, "va": "center_baseline"}
        name = shorten(path.classes[index], 10)
        axes.text(left + 0.03, middle, name, parse_math=False, **style)
        if len(name) <= 3:
            share = f"{100 * chance:.0f} %"
            axes.text(left + CELL - 0.02, middle, share, ha="right", **style)
