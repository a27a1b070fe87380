"""Where looks fall over a whole split, and what each of them is worth, in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from foveal.evaluation.classifier import Gaze
from foveal.names import printable
from foveal.viz.theme import DENSITY_MAP, LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 24  # along the image's longer side
COLUMNS = 4  # maps in a row
MARKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # of errors, in %
WIDTH, CURVE, MARGIN = 7.2, 2.6, 0.5  # inches


def density(
    locations: Tensor, image_size: tuple[int, int], bins: int = BINS
) -> NDArray[np.float64]:
    """How often each part of an image was looked at, by ``(N, 2)`` locations.

    They may have a zoom. Gives ``(rows, columns)`` of square parts, ``bins`` along the longer side,
    top left first, as multiples of looking everywhere equally often: the mean is 1.
    """
    longer = max(image_size)
    rows, columns = (max(1, round(bins * side / longer)) for side in image_size)
    x, y = locations[:, :2].double().cpu().numpy().T
    counts, _, _ = np.histogram2d(y, x, bins=(rows, columns), range=((-1, 1), (-1, 1)))
    shares: NDArray[np.float64] = counts * counts.size / max(len(locations), 1)
    return shares


def draw_maps(
    gaze: Gaze,
    image_size: tuple[int, int],
    *,
    title: str,
    num_maps: int | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Maps of the first looks (of training, or all), and the error against their number."""
    from matplotlib.colors import PowerNorm  # noqa: PLC0415 (slow to import)
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    looks = gaze.locations.shape[1]
    shown = looks if num_maps is None else min(num_maps, looks)
    maps = [density(gaze.locations[:, look], image_size) for look in range(shown)]
    rows = -(-shown // COLUMNS)
    side = (WIDTH - 2 * MARGIN) / COLUMNS - 0.15
    panel = min(side * image_size[0] / image_size[1], 2 * side) + 0.25
    figure = Figure(figsize=(WIDTH, 0.9 + rows * panel + CURVE), facecolor=theme.background)
    figure.set_layout_engine("constrained")
    heights = [0.9 + rows * panel, CURVE]
    upper, lower = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    for part in (upper, lower):
        part.set_facecolor(theme.background)
    upper.suptitle(printable(title), size=9, color=theme.text, parse_math=False)
    axes = upper.subplots(rows, COLUMNS, squeeze=False)
    # A look that falls on one place alone would leave nothing to be seen of the others.
    # And by the square root, what is looked at now and then is seen beside what always is.
    brightest = max(2.0, *(float(np.quantile(one, 0.995)) for one in maps))
    for look, place in enumerate(axes.flat):
        place.set_axis_off()
        if look < shown:
            drawn = place.imshow(maps[look], cmap=DENSITY_MAP, norm=PowerNorm(0.5, 0, brightest))
            place.set_title(f"look {look + 1}", size=8, color=theme.text)
    bar = upper.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02, extend="max")
    bar.set_label("times as often as anywhere", size=7, color=theme.text)
    _style(bar.ax, theme)
    _draw_curve(lower.subplots(), gaze, min(shown, len(gaze.wrong)), theme)
    return figure


def _draw_curve(axes: Any, gaze: Gaze, usual: int, theme: Theme) -> None:
    looks = range(1, len(gaze.wrong) + 1)
    results = gaze.evaluations
    errors = [result.error for result in results]
    low, high = zip(*(result.interval for result in results), strict=True)
    axes.fill_between(looks, low, high, color=theme.right, alpha=0.35, linewidth=0)
    axes.plot(looks, errors, color=theme.right, marker="o", markersize=3.5)
    for look in sorted({1, usual, len(errors)}):
        error, style = errors[look - 1], {"ha": "center", "size": 7, "color": theme.text}
        above: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points"}
        axes.annotate(f"{error:.1f} %", (look, error), **above, **style)
    more = usual < len(errors)
    if more:
        axes.axvline(usual, color=theme.faint, linewidth=0.8, linestyle="--")
    name = "looks (dashed: as many as in training)" if more else "looks"
    axes.set_xlabel(name, size=8, color=theme.text)
    axes.set_ylabel("error, %", size=8, color=theme.text)
    axes.set_xticks(list(looks))
    if min(low) > 0:
        axes.set_yscale("log")
        axes.set_yticks([mark for mark in MARKS if min(low) / 1.5 <= mark <= 1.5 * max(high)])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.margins(y=0.15)
    axes.grid(color=theme.faint, alpha=0.3, linewidth=0.5)
    axes.set_facecolor(theme.background)
    _style(axes, theme)


def _style(axes: Any, theme: Theme) -> None:
    axes.tick_params(labelsize=7, colors=theme.text)
    for spine in axes.spines.values():
        spine.set(color=theme.faint, linewidth=0.5)
