"""Charts of what was measured, by what they show."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from foveal.evaluation.confusion import confusion_matrix
from foveal.evaluation.stopping import Point
from foveal.viz.charts import draw_confusion, draw_stops, draw_training
from tests.evaluation.test_confusion import GIVEN, LABELS


def test_a_course_has_a_curve_a_run_by_its_very_name() -> None:
    curves = {r"_$\frac$": [[(1.0, 20.0), (2.0, 10.0)]], "b": [[(3.0, 5.0)]]}
    figure = draw_training(curves, "validation_error", "minutes")
    axes = figure.axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[1, 20], [2, 10]],
        [[3, 5]],
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("minutes", "validation error, %")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [r"_$\frac$", "b"]
    figure.savefig(io.BytesIO())  # drawn as mathematics, the first would be refused


def test_runs_under_one_name_are_their_mean_and_a_band_as_far_as_all_have_come() -> None:
    runs = [[(1.0, 20.0), (2.0, 10.0), (3.0, 5.0)], [(1.0, 30.0), (2.0, 14.0)], [(1, 40), (2, 18)]]
    axes = draw_training({"three": runs}, "validation_error", "steps").axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 30], [2, 14]]]
    (band,) = axes.collections
    corners = set(map(tuple, band.get_paths()[0].vertices.tolist()))
    assert corners == {(1, 20), (1, 40), (2, 10), (2, 18)}


def test_stops_are_drawn_with_their_intervals_and_what_was_chosen() -> None:
    points = [
        Point(0.9, looks, error, (error - 1, error + 1)) for looks, error in [(1, 9.0), (4, 3)]
    ]
    axes = draw_stops({"confident": points}, points[0], points[1]).axes[0]
    found = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert found == {
        "confident stop": [[1, 9], [4, 3]], "all looks": [[4, 3]], "threshold 0.9": [[1, 9]]
    }  # fmt: skip
    assert axes.get_ylim() == (0, 15)


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
