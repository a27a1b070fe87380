from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from foveal.evaluation.confusion import by_class, confusion_matrix, draw_confusion

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


@pytest.mark.parametrize("number", [2, 40, 80])
def test_the_picture_names_what_is_legible(number: int) -> None:
    labels = torch.arange(number).repeat(2)
    matrix = confusion_matrix(labels, labels, number)
    figure = draw_confusion(matrix, tuple(f"class {n}" for n in range(number)))
    axis = figure.axes[0]
    numbers = [text.get_text() for text in axis.texts if text.get_text()]
    assert numbers == (["2"] * number if number <= 25 else [])
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ([f"class {n}" for n in range(number)] if number <= 60 else [])


def test_the_picture_shows_shares_and_counts_of_each_row() -> None:
    axis = draw_confusion(confusion_matrix(LABELS, GIVEN, 4), ("a", "b", "c", "d")).axes[0]
    (image,) = axis.images
    wanted = [[1 / 3, 2 / 3, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0.5, 0.25, 0, 0.25]]
    assert np.allclose(image.get_array(), wanted)
    numbers = {text.get_position()[::-1]: text.get_text() for text in axis.texts}
    assert {place: said for place, said in numbers.items() if said} == {
        (0, 0): "1", (0, 1): "2", (1, 1): "2", (3, 0): "2", (3, 1): "1", (3, 3): "1"
    }  # fmt: skip
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("answer", "class")


def test_names_are_cut_and_are_not_mathematics() -> None:
    names = ("$20%$30", r"$\frac$", "the name of a class that is long")
    figure = draw_confusion(torch.eye(3, dtype=torch.int64), names)
    figure.savefig(io.BytesIO())  # drawn as mathematics, the second would be refused
    for labels in (figure.axes[0].get_xticklabels(), figure.axes[0].get_yticklabels()):
        assert [label.get_text() for label in labels] == [*names[:2], "the name of a c…"]
        assert not any(label.get_parse_math() for label in labels)
