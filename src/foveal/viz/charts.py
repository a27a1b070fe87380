"""What was measured, drawn with matplotlib: courses of training, stops, confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from foveal.evaluation.stopping import Kind, Point
from foveal.names import printable
from foveal.viz.drawing import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 25  # classes; with more, numbers in the cells are not legible
NAMED = 60  # classes; with more, names along the edges are not
# The line of each stop, and the band of its intervals.
STOP_COLORS: dict[Kind, tuple[str, str]] = {
    "confident": ("#0072B2", "#56B4E9"),
    "learned": ("#009E73", "#009E73"),
}


def draw_training(
    curves: dict[str, list[list[tuple[float, float]]]], measure: str, axis: str
) -> Figure:
    """Draw the (place, value) of a measure in the course of runs, by their names.

    The axis says what places count: steps, decisions or minutes.

    Of several under one name it is the mean of each validation that all had, and a band from the
    lowest to the highest.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for runs in curves.values():
        # (validations, runs, 2), as far as all runs have come.
        points = np.array(list(zip(*runs, strict=False)))
        places, values = points[..., 0].mean(1), points[..., 1]
        marker = "." if len(points) < 2 else None
        (line,) = axes.plot(places, values.mean(1), marker=marker, label="run")
        if len(runs) > 1:
            color = line.get_color()
            axes.fill_between(
                places, values.min(1), values.max(1), color=color, alpha=0.2, linewidth=0
            )
    unit = ", %" if measure == "validation_error" else ""
    axes.set(xlabel=axis, ylabel=measure.replace("_", " ") + unit)
    lowest = min(value for runs in curves.values() for run in runs for _, value in run)
    if measure == "validation_error" and lowest > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3)
    legend = axes.legend(frameon=False, fontsize=8)
    for text, name in zip(legend.get_texts(), curves, strict=True):
        # As it is: no mathematics, nor hidden where it begins with "_".
        text.set(text=printable(name), parse_math=False)
    return figure


def draw_stops(curves: dict[Kind, list[Point]], chosen: Point, full: Point) -> Figure:
    """Error against mean looks: of all thresholds, of the one that is chosen, of all looks."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axis = figure.subplots()
    for stop, curve in curves.items():
        line, band = STOP_COLORS[stop]
        looks, errors = [p.looks for p in curve], [p.error for p in curve]
        low, high = ([p.interval[side] for p in curve] for side in (0, 1))
        axis.fill_between(looks, low, high, color=band, alpha=0.3, linewidth=0)
        axis.plot(looks, errors, color=line, label=f"{stop} stop")
    axis.plot(full.looks, full.error, "o", color="#1a1a1a", label="all looks")
    name = f"threshold {chosen.threshold:.4g}"
    axis.plot(chosen.looks, chosen.error, "D", color="#D55E00", label=name)
    # The error after one look would leave nothing to be seen of the others.
    axis.set(xlabel="looks, mean", ylabel="error, %", ylim=(0, 5 * full.error or None))
    axis.legend(frameon=False)
    return figure


def draw_confusion(matrix: Tensor, classes: tuple[str, ...]) -> Figure:
    """Draw the matrix: shade for the share of a row, and numbers and names where legible."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)
    from sklearn.metrics import ConfusionMatrixDisplay  # noqa: PLC0415 (slow to import)

    number = len(classes)
    side = min(12.0, 2.5 + 0.35 * number)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    drawn = ConfusionMatrixDisplay(shares.numpy())
    drawn.plot(
        include_values=number <= NUMBERED,
        cmap="Blues",
        ax=axis,
        colorbar=False,
        im_kw={"vmin": 0, "vmax": 1},
        text_kw={"fontsize": 8},
    )
    figure.colorbar(drawn.im_, ax=axis, label="share of the class", fraction=0.046)
    if drawn.text_ is not None:
        for text, count in zip(drawn.text_.flat, matrix.flatten().tolist(), strict=True):
            text.set_text(str(count) if count else "")
    named = classes if number <= NAMED else ()
    names = [shorten(name, 16) for name in named]
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axis.set(xlabel="answer", ylabel="class")
    return figure
