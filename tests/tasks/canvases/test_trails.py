"""Trails: read from drawn canvases, and what can be known without reading them."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter

import numpy as np
import pytest
import torch

from foveal.names import IGNORED
from foveal.tasks import TASKS, CanvasTask, TaskConfig
from foveal.tasks.canvases.several import trails

# (across, down) by the class of a digit.
COMPASS = {0: (0, -1), 1: (1, -1), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (-1, 1), 6: (-1, 0)}
COMPASS[7] = (-1, -1)


def uci(**values: object) -> CanvasTask:
    return CanvasTask(TaskConfig(**{**vars(TASKS["trail"]), "digits": "uci", **values}))  # type: ignore[arg-type]


def trimmed(square: np.ndarray) -> bytes:
    """A digit by its lit pixels, wherever they lie."""
    rows, columns = square.any(1).nonzero()[0], square.any(0).nonzero()[0]
    inner = square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return bytes(inner.shape) + inner.tobytes()


def is_marked(square: np.ndarray) -> bool:
    return bool((square == 255).all(1).sum() == 0 and (square == 255).sum(1).max() == 28)


def read(
    canvas: np.ndarray, known: dict[bytes, int], pitch: int = 40
) -> dict[tuple[int, int], int]:
    """The class on each site, (across, down); the marked one is at "start"."""
    found = {}
    for down in range(len(canvas) // pitch):
        for across in range(len(canvas) // pitch):
            site = canvas[down * pitch : (down + 1) * pitch, across * pitch : (across + 1) * pitch]
            if not site.any():
                continue
            if is_marked(site):
                rows, columns = site.any(1).nonzero()[0], site.any(0).nonzero()[0]
                assert (rows[-1] - rows[0], columns[-1] - columns[0]) == (27, 27)
                site = site[rows[0] + 2 : rows[-1] - 1, columns[0] + 2 : columns[-1] - 1]
                found["start"] = (across, down)
            found[across, down] = known[trimmed(site)]
    return found


@pytest.mark.parametrize("answer", ["sequence", "last"])
@pytest.mark.parametrize("hops", [1, 4])
def test_a_reader_that_follows_the_trail_finds_the_labels(answer: str, hops: int) -> None:
    task = uci(answer=answer, hops=hops, num_digits=(20 + hops, 20 + hops))
    split = task._splits["train"]
    known = {
        trimmed(image.numpy()): int(label)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    chosen = torch.arange(60)
    images, labels = task.batch("train", chosen, torch.Generator().manual_seed(2))
    assert labels.shape == ((60, hops + 1) if answer == "sequence" else (60,))
    for image, label, number in zip(images, labels, chosen, strict=True):
        found = read((image[0] * 255).round().byte().numpy(), known)
        across, down = found.pop("start")
        told = [found.pop((across, down))]
        for _ in range(hops):
            right, below = COMPASS[told[-1]]
            across, down = across + right, down + below
            told.append(found.pop((across, down)))  # a KeyError if it was there before
        assert label.tolist() == (told if answer == "sequence" else told[-1])
        assert told[-1] == split.labels[number], "an epoch is one of each digit as the last"
        beside = Counter([told[-1], *found.values()])
        assert set(beside.values()) == {2}, "as many of each class"
        assert len(beside) == 10


def test_training_canvases_may_have_fewer_digits() -> None:
    """As many from 2 to 4 as from 4 to 8, and so on; of a trail cut short the labels are left."""
    task = uci(fewest_digits=2)
    layout = task.layout("train", torch.arange(1190), torch.Generator().manual_seed(2))
    there = layout.extents[..., 0] > 0
    assert (layout.digits.flatten(2).any(2) == there).all()
    counts = there.sum(1)
    assert (there == (torch.arange(24) < counts[:, None])).all()
    for most in (2, 3, 7, 15, 24):
        wanted = min(1, math.log((most + 0.5) / 2) / math.log(12))
        assert (counts <= most).float().mean() == pytest.approx(wanted, abs=0.05)
    assert ((layout.labels >= 0) == there[:, :5]).all()
    assert (layout.labels[~there[:, :5]] == IGNORED).all()
    fixed = next(task.fixed_layouts("validation"))
    assert (fixed.extents > 0).all()
    assert (fixed.labels >= 0).all()


def drawn(count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)

    def draw(shape: tuple[int, ...], limit: int | torch.Tensor) -> torch.Tensor:
        assert isinstance(limit, int)
        return torch.randint(limit, shape, generator=generator)

    last = draw((count,), 10)
    return (*trails(draw, last, 4, 24, 5, 10), last)


def test_no_place_tells_the_label_by_itself() -> None:
    """Neither one place on the canvas, nor one that is so far from the first digit."""
    sites, classes, last = drawn()
    there = torch.full((len(last), 25), -1).scatter(1, sites, classes)
    right = (there == last[:, None]).float().mean(0)
    assert (right - 0.1).abs().max() < 0.012
    start = torch.stack([sites[:, 0] % 5, sites[:, 0] // 5], dim=1)
    for down in range(-4, 5):
        for across in range(-4, 5):
            place = start + torch.tensor([across, down])
            inside = ((place >= 0) & (place < 5)).all(1)
            if not inside.any():
                continue
            at = (place[:, 1] * 5 + place[:, 0])[inside, None]
            share = (there[inside].gather(1, at)[:, 0] == last[inside]).float().mean()
            assert share < 0.17, (across, down)
    for site in range(25):
        shares = last[sites[:, 0] == site].bincount(minlength=10) / (sites[:, 0] == site).sum()
        assert (shares - 0.1).abs().max() < 0.05
    ends = sites[:, 4].bincount(minlength=25) / len(sites)
    assert (ends - 0.04).abs().max() < 0.01, "all sites alike"


def test_a_trail_that_finds_no_way_goes_along_the_rows() -> None:
    def least(shape: tuple[int, ...], _: object) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.long)

    sites, classes = trails(least, torch.tensor([9]), 15, 16, 4, 10)
    assert sites[0].tolist() == [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11, 15, 14, 13, 12]
    assert classes[0].tolist() == [2, 2, 2, 4, 6, 6, 6, 4, 2, 2, 2, 4, 6, 6, 6, 9]


@pytest.mark.skipif("FOVEAL_DATA" not in os.environ, reason="needs MNIST; FOVEAL_DATA is not set")
def test_the_fixed_draws_are_these() -> None:
    task, found = CanvasTask(TASKS["trail"]), {}
    for split in ("validation", "test"):
        content = hashlib.sha256()
        for layout in task.fixed_layouts(split, 1000):
            for part in (layout.digits, layout.places, layout.labels):
                content.update(part.numpy().tobytes())
        found[split] = content.hexdigest()[:16]
    assert found == {"validation": "613b259d4ffc20c7", "test": "1a96cfe22e2655e7"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"answer": "class"}, "num_digits must be 1 1 for the answer"),
        (
            {"answer": "set"},
            "a trail of 4 hops has at least 5 digits.* answer 'set'",
        ),
        ({"answer": "last", "arrangement": "apart"}, "got arrangement 'apart', answer 'last'"),
        ({"num_digits": (4, 4)}, "got .* num_digits 4 4. Pass fewer --hops, or more"),
        ({"num_digits": (6, 9)}, "always as many.* got .* num_digits 6 9"),
        ({"num_digits": (26, 26)}, "a site for each digit; got 40, and 25 sites for 26. Pass"),
        ({"distance": 27}, "distance must be at least a digit's 28 pixels.* got 27"),
        ({"fewest_digits": 1}, "fewest_digits must be 0, or of a trail from 2 to 24; got 1. Leave"),
        ({"fewest_digits": 4, "answer": "last"}, "of a trail from 5 to 24; got 4. Leave it out"),
        ({"hops": 0}, "hops must be a whole number from 1 to 63; got 0"),
    ],
)
def test_impossible_trails_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        uci(**values)
