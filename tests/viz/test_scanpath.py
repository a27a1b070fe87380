from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from foveal.geometry import to_pixels
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.drawn import viewable
from foveal.viz.scanpath import Scanpath, follow, leading_classes, reconstruct

CLASSES = tuple("abcdefghij")


def make_model(channels: int = 1, scales: int = 2) -> RecurrentAttention:
    torch.manual_seed(3)
    config = RAMConfig(glimpse_size=6, num_scales=scales, num_glimpses=4, num_channels=channels)
    return RecurrentAttention(config)


def make_path(channels: int = 1, scales: int = 2, **options: object) -> Scanpath:
    image = torch.rand(channels, 30, 50, generator=torch.Generator().manual_seed(5))
    options = {"generator": torch.Generator().manual_seed(9), **options}
    return follow(make_model(channels, scales), image, classes=CLASSES, **options)  # type: ignore[arg-type]


def test_a_scanpath_is_what_the_mean_policy_does() -> None:
    model, image = make_model(), torch.rand(1, 30, 50)
    path = follow(model, image, classes=CLASSES, generator=torch.Generator().manual_seed(9))
    rollout = model.eval()(image[None], generator=torch.Generator().manual_seed(9))
    wanted = to_pixels(rollout.locations[0], 30, 50)
    assert path.centers.tolist() == wanted.tolist()
    beliefs = rollout.step_logits[0].softmax(-1).detach().numpy()
    np.testing.assert_allclose(path.probabilities, beliefs, rtol=1e-6)
    assert path.answer == rollout.logits[0].argmax()
    assert path.patch_sizes == (6, 12)
    assert path.image_size == (30, 50)


def test_a_sample_of_the_policy_leaves_its_mean_as_far_as_it_explores() -> None:
    first = torch.tensor([0.2, -0.4])
    mean = make_path(first_location=first)
    near = make_path(first_location=first, sampled=True, location_std=1e-6)
    far = make_path(first_location=first, sampled=True, location_std=0.5)
    assert near.centers.tolist() == mean.centers.tolist()
    assert far.centers[0].tolist() == mean.centers[0].tolist() == [30, 9]
    assert far.centers[1:].tolist() != mean.centers[1:].tolist()
    again = make_path(first_location=first, sampled=True, location_std=0.5)
    assert again.centers.tolist() == far.centers.tolist()


def test_the_glimpses_are_those_of_the_fixations() -> None:
    model, image = make_model(), torch.rand(1, 30, 50)
    path = follow(model, image, classes=CLASSES)
    for (x, y), glimpse in zip(path.centers, path.glimpses, strict=True):
        if 3 <= x <= 47 and 3 <= y <= 27:  # wholly inside
            wanted = image[0, y - 3 : y + 3, x - 3 : x + 3].numpy()
            np.testing.assert_allclose(glimpse[0], wanted, rtol=1e-6)


@pytest.mark.parametrize("sampled", [False, True])
def test_following_leaves_the_mode_alone(sampled: bool) -> None:
    model = make_model()
    for training in (True, False):
        model.train(training)
        follow(model, torch.rand(1, 20, 20), classes=CLASSES, sampled=sampled)
        assert model.training == training


def pixel_as_seen(path: Scanpath, row: int, column: int, looks: int) -> float:
    """From the rule alone: the finest scale that covered the pixel, and of its looks the latest."""
    side = path.glimpses.shape[2]
    for scale, size in enumerate(path.patch_sizes):
        box = size // side
        for look in reversed(range(looks)):
            x, y = path.centers[look]
            left, top = x - size // 2, y - size // 2
            if left <= column < left + size and top <= row < top + size:
                return float(path.glimpses[look, scale, (row - top) // box, (column - left) // box])
    return math.nan


@pytest.mark.parametrize("looks", [1, 2, 4])
def test_the_reconstruction_shows_each_pixel_at_the_finest_resolution_seen(looks: int) -> None:
    path = make_path(scales=3)
    got = reconstruct(path, looks)
    wanted = [
        [pixel_as_seen(path, row, column, looks) for column in range(50)] for row in range(30)
    ]
    np.testing.assert_array_equal(got, np.array(wanted, dtype=np.float32))
    assert 0 < np.isnan(got).sum() < got.size, "some was seen, some was not"


def test_where_the_finest_scale_was_the_reconstruction_is_the_image() -> None:
    path = make_path(channels=3, scales=1, first_location=torch.zeros(2))
    seen = reconstruct(path)
    known = ~np.isnan(seen)
    assert known.sum() >= 3 * 36
    np.testing.assert_allclose(seen[known], path.image[known], atol=1e-6)


def test_a_smaller_copy_is_reconstructed_at_its_own_size() -> None:
    path = make_path(scales=3)
    small = dataclasses.replace(path, image=path.image[::2, ::2])
    got = reconstruct(small)
    assert got.shape == (15, 25)
    # The middle of a pixel of the copy lies on the corner of four, of which the floor is the last.
    np.testing.assert_array_equal(got, reconstruct(path)[1::2, 1::2])


def test_the_verdict_says_whether_the_answer_is_right() -> None:
    path = make_path()
    answer = path.classes[path.answer]
    assert path.verdict() == f"answer {answer}, probability {path.probabilities[-1].max():.2f}"
    assert dataclasses.replace(path, label=path.answer).verdict().endswith(", right")
    other = dataclasses.replace(path, label=(path.answer + 1) % 10)
    assert other.verdict().endswith(f"wrong: it is {CLASSES[(path.answer + 1) % 10]}")
    chances = path.probabilities[1]
    assert chances[leading_classes(path, 1, 3)].tolist() == sorted(chances.tolist())[:-4:-1]


def test_channels_that_are_no_colours_are_shown_by_the_brightest() -> None:
    images = torch.rand(2, 4, 5, 6)
    np.testing.assert_array_equal(viewable(images), images.amax(1).numpy())
    assert viewable(images[:, :3]).shape == (2, 5, 6, 3)
    assert viewable(images[:, :1]).shape == (2, 5, 6)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\); got \(20, 20\)"):
        follow(make_model(), torch.rand(20, 20), classes=CLASSES)
