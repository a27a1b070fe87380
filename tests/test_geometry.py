from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foveal import geometry

PLACES = st.floats(-3, 3, allow_subnormal=False)  # which a flushing processor does not have


@given(PLACES, PLACES, st.integers(1, 300), st.integers(1, 300))
def test_to_pixels_is_the_stated_formula(x: float, y: float, height: int, width: int) -> None:
    location = torch.tensor([[x, y]])
    x32, y32 = location[0].tolist()
    (got,) = geometry.to_pixels(location, height, width).tolist()
    wanted = [(x32 + 1) / 2 * width + 0.5, (y32 + 1) / 2 * height + 0.5]
    for pixel, exact in zip(got, wanted, strict=True):
        near_a_tie = abs(exact - round(exact)) < 1e-3  # float32 may fall on either side
        assert pixel == math.floor(exact) or near_a_tie


def test_edges_and_centre() -> None:
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [1.0, -1.0]])
    assert geometry.to_pixels(corners, height=20, width=30).tolist() == [
        [0, 0],
        [30, 20],
        [15, 10],
        [30, 0],
    ]


@given(st.integers(-50, 400), st.integers(-50, 400), st.integers(1, 300), st.integers(1, 300))
def test_to_pixels_inverts_the_convention(x: int, y: int, height: int, width: int) -> None:
    location = torch.tensor([[2 * x / width - 1, 2 * y / height - 1]])
    assert geometry.to_pixels(location, height, width).tolist() == [[x, y]]


def test_locations_are_those_of_grid_sample() -> None:
    """The middle between two boundaries that `to_pixels` names is a pixel that it samples."""
    image = torch.arange(35.0).reshape(1, 1, 5, 7)
    location = torch.tensor([[2 * 3.5 / 7 - 1, 2 * 1.5 / 5 - 1]])
    half = torch.tensor([1 / 7, 1 / 5]) * 0.99
    assert geometry.to_pixels(location - half, 5, 7).tolist() == [[3, 1]]
    assert geometry.to_pixels(location + half, 5, 7).tolist() == [[4, 2]]
    sampled = torch.nn.functional.grid_sample(
        image, location[None, None], mode="bilinear", align_corners=False
    )
    assert sampled.item() == pytest.approx(image[0, 0, 1, 3].item())


def test_bfloat16_locations_keep_the_pixels_they_name() -> None:
    location = torch.tensor([[0.5, -0.5]], dtype=torch.bfloat16)
    assert geometry.to_pixels(location, 1000, 1000).tolist() == [[750, 250]]


def test_wrong_shapes_say_what_was_wanted() -> None:
    with pytest.raises(ValueError, match=r"locations must be \(\.\.\., 2\).*got \(4, 4\)"):
        geometry.to_pixels(torch.zeros(4, 4), 10, 10)


def test_each_location_may_have_an_image_of_its_own(generator: torch.Generator) -> None:
    locations = torch.rand(50, 2, generator=generator) * 2 - 1
    sizes = torch.randint(1, 3000, (50, 2), generator=generator)
    got = geometry.to_pixels(locations, sizes[:, 0], sizes[:, 1])
    for i, (height, width) in enumerate(sizes.tolist()):
        assert torch.equal(got[i], geometry.to_pixels(locations[i], height, width))


def test_padding_is_zeros_to_the_right_and_below() -> None:
    images = [torch.ones(2, 3, 1, dtype=torch.uint8), torch.ones(2, 1, 4, dtype=torch.uint8)]
    padded, sizes = geometry.pad_images(images)
    assert padded.dtype == torch.uint8
    assert sizes.tolist() == [[3, 1], [1, 4]]
    assert padded[:, 1].tolist() == [
        [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]],
        [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
