"""Which classes are taken for which: the confusion matrix, and a table by class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from foveal.evaluation.classifier import share_of


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
