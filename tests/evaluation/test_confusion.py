from __future__ import annotations

import pytest
import torch

from foveal.evaluation.confusion import by_class, confusion_matrix

LABELS = torch.tensor([0, 0, 0, 1, 1, 3, 3, 3, 3])
GIVEN = torch.tensor([0, 1, 1, 1, 1, 0, 3, 1, 0])


def test_rows_are_classes_and_columns_answers() -> None:
    matrix = confusion_matrix(LABELS, GIVEN, 4)
    assert matrix.tolist() == [[1, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [2, 1, 0, 1]]


def test_each_class_has_its_error_precision_and_commonest_mistake() -> None:
    rows = by_class(confusion_matrix(LABELS, GIVEN, 4), ("a", "b", "c", "d"))
    assert [row["class"] for row in rows] == ["a", "b", "d"], "c has no images"
    assert [row["count"] for row in rows] == [3, 2, 4]
    assert [row["error"] for row in rows] == pytest.approx([200 / 3, 0, 75])
    assert [row["precision"] for row in rows] == pytest.approx([100 / 3, 40, 100])
    assert [row["taken_for"] for row in rows] == ["b", None, "a"]
    for row in rows:
        low, high = row["interval"]
        assert low <= row["error"] <= high
