"""Which classes are taken for which: the confusion matrix, a table by class, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foveal.evaluation.classifier import share_of
from foveal.names import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 25  # classes; with more, numbers in the cells are not legible
NAMED = 60  # classes; with more, names along the edges are not


def confusion_matrix(labels: Tensor, given: Tensor, num_classes: int) -> Tensor:
    """Count the images of the class of each row that got the answer of each column.

    Of ``(N,)`` int64 right classes and answers of K classes it makes ``(K, K)`` int64.
    """
    from sklearn import metrics  # noqa: PLC0415 (slow to import)

    return torch.from_numpy(metrics.confusion_matrix(labels, given, labels=range(num_classes)))


def by_class(matrix: Tensor, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Say of each class that has images how many, its error, and what it is taken for.

    Of a ``(K, K)`` `confusion_matrix`, for each class ``class``, ``count``, ``error`` (% of its
    images that got another answer), ``interval`` (95 %), ``precision`` (% of the answers that name
    it and are right; None where none does), ``taken_for`` (the commonest wrong answer; None if
    there is none).
    """
    rows = []
    named = matrix.sum(0).tolist()
    for label, name in enumerate(classes):
        counts = matrix[label].clone()
        count, right = int(counts.sum()), int(counts[label])
        if not count:
            continue
        error, interval = share_of(count - right, count)
        counts[label] = 0
        rows.append(
            {
                "class": name,
                "count": count,
                "error": error,
                "interval": interval,
                "precision": 100 * right / named[label] if named[label] else None,
                "taken_for": classes[int(counts.argmax())] if counts.any() else None,
            }
        )
    return rows


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
    names = [name if len(name) <= 16 else f"{name[:15]}…" for name in map(printable, named)]
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axis.set(xlabel="answer", ylabel="class")
    return figure
