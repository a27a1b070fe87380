from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.tasks import HaystackConfig, HaystackTask
from foveal.tasks.augmentation import AugmentationConfig, MovedScene
from foveal.tasks.files import write_dataset
from foveal.tasks.haystacks.drawing import PATTERNS, patterns

QUESTIONS = ("majority", "max", "top", "multi")


@functools.cache
def uci(**values: Any) -> HaystackTask:
    return HaystackTask(HaystackConfig(**{"digits": "uci", "train_images": 300, **values}))


def needles(**values: Any) -> HaystackTask:
    return uci(question="needle", canvas_size=64, composition="add", **values)


def class_of(task: HaystackTask, split: str, piece: int) -> int:
    """The class of a piece; -1 of noise."""
    labels = task.digits.split(split).labels
    return int(labels[piece]) if piece < len(labels) else -1


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_three_digits_of_a_class_and_two_of_others_among_noise(split: str) -> None:
    tasks = {question: uci(question=question) for question in QUESTIONS}
    drawn = {question: task.drawn(split) for question, task in tasks.items()}
    task, five = tasks["majority"], drawn["majority"]
    for row in range(200):
        sought = five.sought[row]
        classes = np.array([class_of(task, split, piece) for piece in five.pieces[row]])
        assert (classes[~sought] == -1).all()
        assert len(classes[~sought]) == 50
        assert sorted(np.flatnonzero(sought)) == list(range(50, 55)), "digits are painted last"
        shown, places = classes[sought], five.places[row][sought].astype(int)
        counts = np.bincount(shown, minlength=10)
        label = int(five.labels[row])
        assert counts[label] == 3
        assert counts.sum() == 5
        apart = np.abs(places[:, None] - places).max(-1) + 1000 * np.eye(5, dtype=int)
        assert apart.min() >= 28
        assert ((places >= 0) & (places <= 1500 - 28)).all()
        assert drawn["max"].labels[row] == shown.max()
        highest = np.lexsort((places[:, 1], places[:, 0]))[0]  # the left one of two
        assert drawn["top"].labels[row] == shown[highest]
        told = [*sorted(set(shown.tolist())), 10][:3]  # the end behind two
        assert drawn["multi"].labels[row].tolist() == told
    for other in drawn.values():  # of the same images another question
        np.testing.assert_array_equal(other.pieces, five.pieces)
        np.testing.assert_array_equal(other.places, five.places)


def test_a_needle_is_a_3_and_without_it_is_one_digit_more_of_another_class() -> None:
    task = needles()
    drawn = task.drawn("train")
    assert task.classes == ("absent", "present")
    assert drawn.pieces.shape == (300, 3)
    assert 110 < drawn.labels.sum() < 190
    for pieces, sought, label in zip(drawn.pieces, drawn.sought, drawn.labels, strict=True):
        classes = [class_of(task, "train", piece) for piece in pieces]
        assert classes.count(3) == label == sought.sum()
        assert sought[0] == label
        assert min(classes) >= 0


@pytest.mark.parametrize(
    ("side", "count"), [(64, 2), (128, 6), (256, 25), (512, 100), (1024, 400), (2048, 1600)]
)
def test_there_are_as_many_other_digits_as_published(side: int, count: int) -> None:
    assert HaystackConfig("needle", canvas_size=side).pieces == count


def test_noise_is_two_lines_a_pattern_and_as_much_as_published() -> None:
    assert HaystackConfig().pieces == 50
    assert HaystackConfig(canvas_size=3000).pieces == 800
    assert HaystackConfig(num_clutter=7).pieces == 7
    bank = patterns(28, 28)
    assert bank.shape == (PATTERNS, 28, 28)
    lit = bank[bank > 0]
    assert lit.min() >= 0.8 * 255 - 1
    # A line of a pixel's width from one side to the next or the one opposite, in steps of half one.
    assert 28 <= (bank > 0).sum((1, 2)).min() <= (bank > 0).sum((1, 2)).max() <= 2 * 56
    assert 0.06 < bank.mean() / 255 < 0.09  # half of a digit's light
    for pattern in bank > 0:
        corner = pattern[0, 0], pattern[0, -1]
        assert corner[0]  # where the first line begins, and the second unless it is mirrored
        ends = np.argwhere(pattern)
        assert ends[:, 0].max() == 27 or {0, 27} <= set(ends[:, 1].tolist())
    assert 10 <= np.mean(bank[:, 0, -1] > 0) * PATTERNS <= 34  # 4 of 9, mirrored
    assert len(np.unique(bank, axis=0)) == PATTERNS


@pytest.mark.parametrize("composition", ["over", "under"])
def test_digits_lie_over_the_noise_or_under_it(composition: str) -> None:
    task = uci(canvas_size=144, num_clutter=40, composition=composition, train_images=20)
    drawn, digits = task.drawn("train"), task.digits.train.images
    clear = []
    for row, image in enumerate(task.images("train")):
        whole = image.read(slice(0, 144), slice(0, 144))[0]
        for piece, (y, x) in zip(
            drawn.pieces[row][drawn.sought[row]],
            drawn.places[row][drawn.sought[row]],
            strict=True,
        ):
            clear.append((whole[y : y + 28, x : x + 28] == digits[piece]).all())
    assert np.mean(clear) == 1 if composition == "over" else np.mean(clear) < 0.5


def test_the_draw_is_fixed_and_fewer_images_are_the_first_of_more() -> None:
    more, fewer = uci(train_images=1200), uci(train_images=150)
    for name, part in fewer.drawn("train")._asdict().items():
        np.testing.assert_array_equal(part, getattr(more.drawn("train"), name)[:150])
    splits = [uci().drawn(split).checksum() for split in ("train", "validation", "test")]
    assert len(set(splits)) == 3
    assert [checksum[:16] for checksum in splits] == CHECKSUMS["five"]
    seeking = needles()
    splits = [seeking.drawn(split).checksum() for split in ("train", "validation", "test")]
    assert [checksum[:16] for checksum in splits] == CHECKSUMS["needle"]


# Of the digits of scikit-learn, the first 16 of 64: a change of these is another data set.
CHECKSUMS = {
    "five": ["86c89313879435e8", "5a1228e61688a1b4", "30f1fda976dc1194"],
    "needle": ["e22077d798d5260d", "9463f58c867c5538", "6c9e15a49c772ba2"],
}


def test_training_and_evaluation_see_the_same_images() -> None:
    task = needles()
    images, labels = task.batch("validation", torch.tensor([3, 0, 999]))
    batches = list(task.fixed_batches("validation"))
    whole = torch.cat([part.whole() for part, _ in batches])
    assert len(whole) == task.size("validation") == 1000
    assert torch.equal(images.whole(), whole[[3, 0, 999]])
    assert torch.equal(labels, torch.cat([part for _, part in batches])[[3, 0, 999]])


@pytest.mark.parametrize(("side", "count"), [(64, 100), (1024, 32), (2048, 8)])
def test_the_larger_images_are_the_fewer_are_looked_at_together(side: int, count: int) -> None:
    task = uci(question="needle", canvas_size=side, composition="add", train_images=1)
    scene, labels = next(iter(task.fixed_batches("validation")))
    assert (len(scene), len(labels)) == (count, count)


def test_what_is_looked_at_in_training_is_turned_about_its_middle() -> None:
    still = needles()
    task = needles(augmentation=AugmentationConfig(rotation=30.0, rescale=0.1))
    indices, centers = torch.arange(64), torch.full((64, 2), 32)
    plain, _ = still.batch("train", indices)
    generator = torch.Generator().manual_seed(0)
    moved, _ = task.batch("train", indices, generator)
    assert isinstance(moved, MovedScene)
    assert torch.equal(moved.thumbnail(16), plain.thumbnail(16))
    one, other = (moved.patches(centers, 20, [1]) for _ in range(2))
    assert one.shape == (64, 1, 1, 20, 20)
    assert not torch.equal(one, other)
    # The middle stays where it is, the edges move; on average nothing gets darker.
    still_seen = plain.patches(centers, 20, [1])
    off = (one - still_seen).abs().mean((0, 1, 2))
    assert off[9:11, 9:11].mean() < 0.6 * off[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert one.mean().item() == pytest.approx(still_seen.mean().item(), rel=0.1)
    evaluated, _ = task.batch("validation", indices)
    assert not isinstance(evaluated, MovedScene)
    tinted = needles(augmentation=AugmentationConfig(tint=0.5))
    seen, _ = tinted.batch("train", indices, generator)
    one, other = (seen.patches(centers, 20, [1]) for _ in range(2))
    assert torch.equal(one, other), "of one brightness at all looks"
    assert 1 / 1.5 <= one.mean() / still_seen.mean() <= 1.5
    assert not torch.equal(one, still_seen)


def test_files_are_the_images_and_their_digits(tmp_path: Path) -> None:
    task = needles(train_images=6)
    write_dataset(task, {"train": 6, "test": 4}, tmp_path / "out")
    with (tmp_path / "out" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "out" / "places.csv").open() as file:
        places = {row["path"]: (int(row["y"]), int(row["x"])) for row in csv.DictReader(file)}
    assert [row["split"] for row in rows] == ["train"] * 6 + ["test"] * 4
    for number, row in enumerate(rows):
        split, index = row["split"], number % 6
        drawn = task.drawn(split)
        pixels = np.asarray(Image.open(tmp_path / "out" / row["path"]))
        wanted = task.images(split)[index].read(slice(0, 64), slice(0, 64))[0]
        np.testing.assert_array_equal(pixels, wanted)
        assert row["label"] == task.classes[drawn.labels[index]]
        there = places.get(row["path"])
        assert there == (tuple(drawn.places[index, 0]) if drawn.labels[index] else None)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="canvas_size must be a whole number from 144 to 16,384"):
        HaystackConfig(canvas_size=100)
    with pytest.raises(ValueError, match="num_clutter must be .*; got -2. -1 is as published"):
        HaystackConfig(num_clutter=-2)
    with pytest.raises(ValueError, match="question must be one of majority, max, top, multi"):
        HaystackConfig("least")  # type: ignore[arg-type]
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.new("L", (28, 28), number).save(tmp_path / name / f"{number}.png")
    with pytest.raises(ValueError, match="of a class '3' and another; .* has cat, dog"):
        HaystackTask(HaystackConfig("needle", str(tmp_path)))
