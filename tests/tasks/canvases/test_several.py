"""Several digits on a canvas, and what is answered of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from foveal.names import IGNORED
from foveal.tasks import TASKS, CanvasTask, TaskConfig
from foveal.tasks.canvases.several import apart


def uci(name: str = "", **values: object) -> CanvasTask:
    known = vars(TASKS[name]) if name else {}
    return CanvasTask(TaskConfig(**{**known, "digits": "uci", **values}))  # type: ignore[arg-type]


def drawn(task: CanvasTask, count: int = 1190) -> list[dict[str, np.ndarray]]:
    """Layouts by canvas: the classes of the digits that are there, told by their pixels."""
    split = task._splits["train"]
    known = {
        image.numpy().tobytes(): int(n) for image, n in zip(split.images, split.labels, strict=True)
    }
    layout = task.layout("train", torch.arange(count), torch.Generator().manual_seed(4))
    canvases, labels = task.render(layout)
    found = []
    for row in range(count):
        there = layout.extents[row, :, 0] > 0
        digits = [known[digit.numpy().tobytes()] for digit in layout.digits[row, there]]
        places = layout.places[row, there].numpy()
        found.append({"classes": np.array(digits), "places": places, "label": labels[row].numpy()})
        wanted = np.zeros((100, 100), int)
        for digit, (y, x) in zip(layout.digits[row, there].numpy(), places, strict=True):
            wanted[y : y + 28, x : x + 28] += digit
        if not task.config.num_clutter:
            seen = (canvases[row, 0] * 255).round().int().numpy()
            assert np.array_equal(seen, wanted.clip(max=255))
    return found


def test_pairs_and_sums_are_of_two_digits_at_uniform_places() -> None:
    pairs, sums = uci("pairs"), uci("addition")
    assert len(pairs.classes) == 55
    assert len(sums.classes) == 19
    overlaps = 0
    found = drawn(pairs)
    for case in found:
        low, high = sorted(case["classes"])
        assert pairs.classes[int(case["label"])] == f"{low}-{high}"
        overlaps += int((abs(case["places"][0] - case["places"][1]) < 28).all())
    places = np.concatenate([case["places"].ravel() for case in found])
    counts = np.bincount(places, minlength=73)
    expected = len(places) / 73
    assert ((counts - expected) ** 2 / expected).sum() < 115  # 72 degrees, p = 0.001
    chance = sum(max(0, 73 - abs(d)) for d in range(-27, 28)) / 73**2
    assert overlaps / len(found) == pytest.approx(chance**2, abs=0.05)
    for case in drawn(sums, 200):
        assert sums.classes[int(case["label"])] == str(case["classes"].sum())


def test_a_share_of_the_training_canvases_has_digits_on_one_another() -> None:
    """So many at most 14 pixels apart each way, beside those that are by chance."""
    plain, crowded = uci("pairs"), uci("pairs", overlapping=0.5)
    away = np.array([abs(case["places"][0] - case["places"][1]) for case in drawn(crowded)])
    by_chance = (sum(73 - abs(d) for d in range(-14, 15)) / 73**2) ** 2
    found = (away <= 14).all(1).mean()
    assert found == pytest.approx(0.5 + 0.5 * by_chance, abs=0.045)  # three deviations
    near = away[(away <= 14).all(1)]
    assert len(np.unique(near)) == 15
    for split in ("validation", "test"):
        ours, theirs = (next(task.fixed_layouts(split)).places for task in (crowded, plain))
        assert torch.equal(ours, theirs), "the canvases that judge stay as they are"


def test_a_row_stands_on_a_line_whose_slope_is_uniform() -> None:
    task = uci("row-3")
    steps = Counter()
    for case in drawn(task):
        places = case["places"]
        assert np.diff(places[:, 1]).tolist() == [28, 28]
        (step,) = set(np.diff(places[:, 0]).tolist())
        steps[step] += 1
        assert places.min() >= 0
        assert places.max() <= 72
        assert case["label"].tolist() == case["classes"].tolist()
    assert sorted(steps) == list(range(-14, 14))
    expected = 1190 / 28
    assert sum((n - expected) ** 2 / expected for n in steps.values()) < 55  # 27, p = 0.001


def test_one_to_five_digits_are_apart_and_read_from_left_to_right() -> None:
    task = uci("digits-5")
    assert task.classes[-1] == "end"
    assert (task.max_answers, task.with_end) == (5, True)
    counts = Counter()
    for case in drawn(task):
        places, number = case["places"], len(case["classes"])
        counts[number] += 1
        for n, one in enumerate(places):
            assert all((abs(one - other) >= 28).any() for other in places[:n])
        assert (np.diff(places[:, 1]) >= 0).all()
        told = [*case["classes"].tolist(), 10][:5]
        assert case["label"].tolist() == [*told, *[IGNORED] * (5 - len(told))]
    assert sorted(counts) == [1, 2, 3, 4, 5]
    assert all(abs(number - 240) < 60 for number in counts.values())


def test_digits_that_find_no_place_apart_stand_in_rows() -> None:
    def corner(shape: tuple[int, ...], _: object) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.long)

    places = apart(corner, torch.tensor([1, 4]), 4, 60, 28)
    assert places[0, 0].tolist() == [0, 0]
    assert places[1].tolist() == [[0, 0], [0, 28], [28, 0], [28, 28]]


def test_rows_of_a_canvas_are_those_of_the_whole() -> None:
    for composition in ("add", "over"):
        task = uci("digits-5", num_clutter=20, composition=composition)
        layout = task.layout("train", torch.arange(20), torch.Generator().manual_seed(1))
        images, _ = task.render(layout)
        for row in range(20):
            band = task.render_rows(layout.part(slice(row, row + 1)), 30, 41)
            assert torch.equal((images[row, 0, 30:71] * 255).round().byte(), band)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"overlapping": 0.5}, "overlapping is for several digits anywhere; got 0.5"),
        (
            {"answer": "pair"},
            "num_digits must be 2 2 for the answer 'pair'",
        ),
        ({"num_digits": (2, 2)}, "1 1 for the answer 'class'; got 2 2. --answer sequence is for"),
        ({"num_digits": (3, 2), "answer": "set"}, "got 3 2. Pass --num-digits 2 3"),
        ({"num_digits": (0, 2), "answer": "set"}, "num_digits must be a whole number from 1"),
        (
            {"num_digits": (2, 3), "answer": "set"},
            "several digits are of one size.* got canvas_size 0. Pass --canvas-size",
        ),
        (
            {"num_digits": (2, 2), "answer": "sum", "canvas_size": 90, "clutter_from": "others"},
            "got clutter_from others. Leave it out",
        ),
        (
            {"num_digits": (1, 5), "answer": "set", "canvas_size": 83, "arrangement": "apart"},
            "canvas_size must be at least 84 for 5 digits of 28 pixels, apart; got 83",
        ),
        (
            {"num_digits": (3, 3), "answer": "set", "canvas_size": 83, "arrangement": "row"},
            "canvas_size must be at least 84 for 3 digits of 28 pixels, row; got 83",
        ),
    ],
)
def test_impossible_canvases_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        uci(**values)
