from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foveal.geometry import PaddedImages, pad_images, to_pixels
from foveal.model.sensor import GlimpseSensor


def slow_glimpse(image: Tensor, x: float, y: float, size: int, scales: int, factor: int) -> Tensor:
    """One glimpse ``(S, C, G, G)`` at one image ``(C, H, W)``, pixel by pixel, in float64."""
    channels, height, width = image.shape
    center_x = math.floor((x + 1) / 2 * width + 0.5)
    center_y = math.floor((y + 1) / 2 * height + 0.5)
    glimpse = torch.zeros(scales, channels, size, size, dtype=torch.float64)
    for scale, row, column in itertools.product(range(scales), range(size), range(size)):
        box = factor**scale
        top = center_y - size * box // 2 + row * box
        left = center_x - size * box // 2 + column * box
        for i, j in itertools.product(range(top, top + box), range(left, left + box)):
            if 0 <= i < height and 0 <= j < width:
                glimpse[scale, :, row, column] += image[:, i, j].double() / box**2
    return glimpse


def slow_glimpses(images: Tensor, locations: Tensor, *retina: int) -> Tensor:
    pairs = zip(images, locations.tolist(), strict=True)
    return torch.stack([slow_glimpse(image, x, y, *retina) for image, (x, y) in pairs])


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 9),
    scales=st.integers(1, 4),
    factor=st.integers(2, 3),
    channels=st.integers(1, 3),
    height=st.integers(1, 37),
    width=st.integers(1, 37),
    reach=st.sampled_from([1.0, 2.0, 100.0]),
    seed=st.integers(0, 2**31),
)
def test_agrees_with_the_slow_reference(
    size: int,
    scales: int,
    factor: int,
    channels: int,
    height: int,
    width: int,
    reach: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, channels, height, width, generator=generator)
    # Multiples of 1/64 are exact in float32, so that reference and sensor round alike.
    locations = (torch.rand(2, 2, generator=generator) * 2 - 1) * reach
    locations = (locations * 64).round() / 64
    sensor = GlimpseSensor(size, scales, factor)
    wanted = slow_glimpses(images, locations, size, scales, factor)
    for source in (images, sensor.prepare(images)):
        got = sensor(source, locations)
        assert got.shape == (2, scales, channels, size, size)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), wanted, atol=1e-5, rtol=0)


def test_precision_does_not_suffer_from_the_size_of_the_image(generator: torch.Generator) -> None:
    image = torch.rand(1, 1, 1501, 1203, generator=generator)
    sensor = GlimpseSensor(12, 4)
    for location in ([0.9, 0.9], [-0.3, 0.7]):
        where = torch.tensor([location])
        wanted = slow_glimpses(image, where, 12, 4, 2)
        got = sensor(sensor.prepare(image), where)
        torch.testing.assert_close(got.double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("location", [[1e6, 0.0], [0.0, -1e6], [math.inf, -math.inf]])
def test_far_outside_there_is_nothing(location: list[float]) -> None:
    images = torch.ones(1, 2, 30, 40)
    sensor = GlimpseSensor(5, 3)
    where = torch.tensor([location])
    assert not sensor(images, where).any()
    assert not sensor(sensor.prepare(images), where).any()


def test_images_of_a_batch_do_not_touch() -> None:
    """The sums run over the whole batch at once: nothing of a neighbour may leak in."""
    images = torch.zeros(3, 2, 9, 11)
    images[0, 1] = images[2, 0] = 1
    sensor = GlimpseSensor(4, 4)
    for x, y in itertools.product((-1.0, 0.0, 1.0), repeat=2):
        got = sensor(sensor.prepare(images), torch.tensor([[x, y]]).expand(3, 2))
        assert not got[1].any()
        assert not got[0, :, 0].any()
        assert not got[2, :, 1].any()


def test_under_autocast_glimpses_stay_exact(generator: torch.Generator) -> None:
    images = torch.rand(4, 1, 50, 40, generator=generator)
    locations = torch.rand(4, 2, generator=generator) * 2 - 1
    sensor = GlimpseSensor(6, 3)
    exact = sensor(sensor.prepare(images), locations)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sensor(sensor.prepare(images), locations), exact)
    rounded = sensor(sensor.prepare(images.bfloat16()), locations)
    torch.testing.assert_close(rounded, exact, atol=4e-3, rtol=0)


def test_preparing_leaves_the_images_alone(generator: torch.Generator) -> None:
    images = torch.rand(2, 1, 20, 20, generator=generator)
    before = images.clone()
    GlimpseSensor(4, 3).prepare(images)
    assert torch.equal(images, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_the_cpu(generator: torch.Generator) -> None:
    images = torch.rand(8, 3, 61, 47, generator=generator)
    locations = torch.rand(8, 2, generator=generator) * 2 - 1
    sensor = GlimpseSensor(7, 3)
    wanted = sensor(images, locations)
    sensor.cuda()
    for source in (images.cuda(), sensor.prepare(images.cuda())):
        torch.testing.assert_close(sensor(source, locations.cuda()).cpu(), wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 1), "glimpse_size must be a whole number from 1 to 65,536; got 0"),
        ((8, 0), "num_scales must be a whole number from 1 to 17; got 0"),
        ((8, 2, 1.5), "scale_factor must be a whole number from 2 to 65,536; got 1.5"),
        ((8, 2, 1), "scale_factor must be a whole number from 2 to 65,536; got 1"),
        ((8, 30), "num_scales must be a whole number from 1 to 17; got 30"),
        ((8, 15), "widest patch must be at most 65536 pixels"),
    ],
)
def test_an_impossible_retina_is_refused(arguments: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GlimpseSensor(*arguments)


def test_wrong_input_says_what_was_wanted() -> None:
    sensor = GlimpseSensor(4, 1)
    where = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\); got \(28, 28\)"):
        sensor(torch.zeros(28, 28), where)
    with pytest.raises(ValueError, match="images must be float in .* For bytes pass images / 255"):
        sensor(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), where)
    with pytest.raises(ValueError, match=r"locations must be \(1, 2\).*got \(3, 2\)"):
        sensor(torch.zeros(1, 1, 8, 8), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="at least one pixel"):
        sensor(torch.zeros(1, 1, 0, 8), where)


@pytest.mark.parametrize("prepared", [True, False])
def test_slopes_are_the_derivative_where_there_is_one(prepared: bool) -> None:
    """Of an image that rises evenly, by 3 a pixel to the right and by 5 a pixel downwards."""
    height, width = 80, 120
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    images = (3.0 * columns + 5.0 * rows).expand(2, 1, height, width)
    sensor = GlimpseSensor(4, num_scales=3)
    locations = torch.tensor([[0.0, 0.0], [0.3, -0.2]])
    slopes = sensor.slopes(sensor.prepare(images) if prepared else images, locations)
    assert slopes.shape == (2, 2, 3, 1, 4, 4)
    wanted = torch.tensor([3.0 * width / 2, 5.0 * height / 2])
    torch.testing.assert_close(slopes, wanted.view(1, 2, 1, 1, 1, 1).expand_as(slopes))


@pytest.mark.parametrize("prepared", [True, False])
def test_a_loss_reaches_the_location_through_the_slopes(
    prepared: bool, generator: torch.Generator
) -> None:
    """Against glimpses taken apart: 2 pixels each way, and 4 at the scale of 4 x 4 boxes."""
    images = torch.rand(3, 2, 30, 40, generator=generator)
    sensor = GlimpseSensor(5, num_scales=3)
    locations = (torch.rand(3, 2, generator=generator) * 2 - 1).requires_grad_()
    weights = torch.rand(3, 3, 2, 5, 5, generator=generator)
    glimpses = sensor(sensor.prepare(images) if prepared else images, locations)
    torch.testing.assert_close(glimpses.detach(), sensor(images, locations.detach()))
    (glimpses * weights).sum().backward()
    wanted = torch.zeros(3, 2)
    pixels = to_pixels(locations.detach(), 30, 40)
    for scale, reach in enumerate((2, 2, 4)):
        for axis, size in enumerate((40, 30)):
            for sign in (1, -1):
                moved = pixels.clone()
                moved[:, axis] += reach * sign
                patch = sensor(images, moved * torch.tensor([2 / 40, 2 / 30]) - 1)[:, scale]
                gain = (patch * weights[:, scale]).flatten(1).sum(1)
                wanted[:, axis] += sign * gain * (size / 2) / (2 * reach)
    torch.testing.assert_close(locations.grad, wanted, rtol=1e-4, atol=1e-4)


def test_images_of_different_sizes_give_the_glimpses_that_each_gives_alone(
    generator: torch.Generator,
) -> None:
    images = [torch.rand(2, h, w, generator=generator) for h, w in ((30, 41), (1, 1), (64, 9))]
    padded = pad_images(images)
    assert padded.sizes.tolist() == [[30, 41], [1, 1], [64, 9]]
    sensor = GlimpseSensor(5, 3)
    weights = torch.rand(3, 3, 2, 5, 5, generator=generator)
    for reach in (1.0, 1.5):
        locations = (torch.rand(3, 2, generator=generator) * 2 - 1) * reach
        alone = [
            sensor(image[None], place[None])[0]
            for image, place in zip(images, locations, strict=True)
        ]
        alone_slopes = [
            sensor.slopes(image[None], place[None])[0]
            for image, place in zip(images, locations, strict=True)
        ]
        prepared = sensor.prepare(padded)
        for got in (sensor(padded, locations), sensor(prepared, locations)):
            torch.testing.assert_close(got, torch.stack(alone))
        for got in (sensor.slopes(padded, locations), sensor.slopes(prepared, locations)):
            torch.testing.assert_close(got, torch.stack(alone_slopes))
        moved = locations.clone().requires_grad_()
        (sensor(prepared, moved) * weights).sum().backward()
        pull = (torch.stack(alone_slopes) * weights[:, None]).flatten(2).sum(2)
        torch.testing.assert_close(moved.grad, pull)


def test_wrong_sizes_say_what_was_wanted() -> None:
    sensor, images, where = GlimpseSensor(4, 1), torch.zeros(2, 1, 8, 9), torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"sizes must be \(2, 2\) int.*got \(2,\)"):
        sensor(PaddedImages(images, torch.tensor([8, 9])), where)
    with pytest.raises(ValueError, match=r"sizes must be \(2, 2\) int.*torch.float32"):
        sensor.prepare(PaddedImages(images, torch.ones(2, 2)))
    with pytest.raises(ValueError, match=r"1 to \(8, 9\).*got \[8, 0\] to \[9, 9\]"):
        sensor(PaddedImages(images, torch.tensor([[8, 9], [9, 0]])), where)
    with pytest.raises(ValueError, match=r"prepared for boxes of \(1,\).*got \(1, 2\)"):
        GlimpseSensor(4, 2)(sensor.prepare(images), where)


def test_memory_that_is_used_again_holds_nothing_of_the_images_before() -> None:
    sensor = GlimpseSensor(8, 3)
    generator = torch.Generator().manual_seed(0)
    # Large enough for memory of their own: 3 x 60 x 165 x 145 floats.
    first = torch.rand(60, 1, 160, 140, generator=generator)
    second = torch.zeros_like(first)
    second[:, :, 80, 70] = 1
    locations = torch.rand(60, 2, generator=generator) * 2 - 1
    lone = GlimpseSensor(8, 3)(second, locations)  # from the images, in memory of its own
    sensor.prepare(first)
    prepared = sensor.prepare(second)
    torch.testing.assert_close(sensor(prepared, locations), lone)
    again = sensor.prepare(first)  # while the others are still looked at
    torch.testing.assert_close(sensor(prepared, locations), lone)
    torch.testing.assert_close(sensor(again, locations), sensor(first, locations))


@pytest.mark.parametrize(("scales", "factor"), [(1, 2), (2, 2), (4, 2), (3, 3)])
def test_nothing_is_read_of_memory_that_was_not_written(
    scales: int, factor: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_of_garbage(rows: int, columns: int, _device: torch.device) -> Tensor:
        return torch.full((rows, columns), torch.nan)

    monkeypatch.setattr("foveal.scene.dense.empty", full_of_garbage)
    sensor = GlimpseSensor(5, scales, factor)
    images = torch.rand(2, 2, 17, 30, generator=generator)
    prepared = sensor.prepare(images)
    places = torch.linspace(-1.5, 1.5, 13)
    for x, y in itertools.product(places, places):
        locations = torch.stack([x, y]).expand(2, 2)
        torch.testing.assert_close(sensor(prepared, locations), sensor(images, locations))


def test_threads_prepare_their_own_images() -> None:
    sensor = GlimpseSensor(8, 2)
    locations = torch.zeros(40, 2)

    def wrong(value: int) -> int:
        images = torch.full((40, 1, 160, 140), float(value))
        looks = (sensor(sensor.prepare(images), locations) for _ in range(20))
        return sum(int((look != value).sum()) for look in looks)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(wrong, range(1, 5))) == [0, 0, 0, 0]
