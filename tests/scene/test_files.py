from __future__ import annotations

import math
import struct
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from foveal.geometry import pad_images
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.sensor import GlimpseSensor
from foveal.scene.files import ArraySource, Source, is_large, open_source, sources, tiff
from foveal.scene.files.slides import SlideSource
from foveal.scene.files.sources import Level
from tests.conftest import TINY

Array = NDArray[Any]


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def averages(image: Array, left: int, top: int, count: int, box: int) -> Array:
    """Box averages of an ``(H, W, C)`` image, pixel by pixel: ``(C, count, count)``, float64."""
    patch = np.zeros((image.shape[2], count, count))
    for row in range(count):
        for column in range(count):
            y, x = top + row * box, left + column * box
            inside = image[max(y, 0) : max(y + box, 0), max(x, 0) : max(x + box, 0)]
            patch[:, row, column] = inside.sum((0, 1), dtype=np.float64) / box**2
    return patch


def pyramid(image: Array, levels: int) -> list[Array]:
    """The image and its exact averages over 2 x 2, 4 x 4, ... pixels, rounded to its type."""
    copies = [image]
    for level in range(1, levels):
        f = 2**level
        height, width = image.shape[0] // f, image.shape[1] // f
        boxes = image[: height * f, : width * f].reshape(height, f, width, f, -1)
        mean = boxes.mean((1, 3)).reshape(height, width, *image.shape[2:])
        copies.append(mean.round().astype(image.dtype) if image.dtype.kind == "u" else mean)
    return copies


def write_tiff(
    path: Path, copies: list[Array], *, as_children: bool = True, big: bool = False, **options: Any
) -> Path:
    """A tiled TIFF with the copies as child directories, or as further pages."""
    options = {"tile": (32, 48), "metadata": None, "photometric": "minisblack"} | options
    children = len(copies) - 1 if as_children else 0
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        writer.write(copies[0], subifds=children, **options)
        for copy in copies[1:]:
            writer.write(copy, subfiletype=1, **options)
    return path


def check(source: Source, image: Array, *, box: int, tolerance: float, aligned: int = 1) -> None:
    """Windows at some places, partly outside, against the pixels in memory."""
    generator = np.random.default_rng(box)
    pixels = image.reshape(*image.shape[:2], -1)
    for _ in range(6):
        x, y = (int(generator.integers(-3 * box, side)) // aligned * aligned for side in (300, 200))
        got = source.read(x, y, 5, box)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, averages(pixels, x, y, 5, box), atol=tolerance, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 3),
    count=st.integers(1, 7),
    box=st.integers(1, 17),
    left=st.integers(-150, 60),
    top=st.integers(-150, 60),
)
def test_an_array_gives_what_averaging_it_gives(
    height: int, width: int, channels: int, count: int, box: int, left: int, top: int
) -> None:
    image = noise(height, width, channels)
    got = ArraySource(image).read(left, top, count, box)
    wanted = averages(image / 255, left, top, count, box)
    np.testing.assert_allclose(got, wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"as_children": False},
        {"big": True},
        {"byteorder": ">"},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "zstd", "big": True},
    ],
    ids=str,
)
def test_a_pyramid_on_disk_gives_what_the_image_gives(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(256, 384)
    if "byteorder" in options:
        order = options.pop("byteorder")
        monkeypatch.setattr(tifffile.TiffWriter, "__init__", _with_order(order))
    path = write_tiff(tmp_path / "image.tif", pyramid(image, 4), **options)
    with open_source(path) as source:
        assert (source.height, source.width, source.num_channels) == (256, 384, 1)
        for box in (1, 3, 8):
            check(source, image / 255, box=box, tolerance=2e-6)
        for box in (16, 32, 64):  # from the copies, whose rounding to bytes averages out
            check(source, image / 255, box=box, tolerance=1e-3, aligned=box)


def _with_order(order: str) -> Any:
    plain = tifffile.TiffWriter.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        plain(self, *arguments, **options, byteorder=order)

    return init


def test_of_exact_copies_aligned_boxes_are_exact(tmp_path: Path) -> None:
    image = noise(256, 384, 3).astype(np.float32) / 255
    path = write_tiff(tmp_path / "image.tif", pyramid(image, 4), photometric="rgb")
    with open_source(path) as source:
        for box in (16, 32, 64):
            check(source, image, box=box, tolerance=2e-6, aligned=8)


def test_boxes_that_cut_pixels_of_a_copy_are_near(tmp_path: Path) -> None:
    """Of what varies as slowly as a photograph: waves of 25 pixels and longer."""
    y, x = np.mgrid[:256, :384]
    image = (0.5 + 0.25 * np.sin(x / 4) + 0.25 * np.cos(y / 7)).astype(np.float32)
    path = write_tiff(tmp_path / "image.tif", pyramid(image, 4))
    with open_source(path) as source:
        for box in (16, 24, 32, 64):
            check(source, image, box=box, tolerance=2e-2)


def test_coarse_boxes_come_from_the_coarsest_copy_that_is_fine_enough(tmp_path: Path) -> None:
    copies = [np.full((256 // f, 384 // f), f, dtype=np.uint8) for f in (1, 2, 4, 8)]
    with open_source(write_tiff(tmp_path / "image.tif", copies)) as source:
        levels = [
            round(255 * float(source.read(0, 0, 2, box)[0, 0, 0])) for box in (1, 8, 15, 16, 32)
        ]
    assert levels == [1, 1, 1, 2, 4]


def test_copies_of_uneven_sizes_cover_the_whole_image(tmp_path: Path) -> None:
    """Rounded up and rounded down."""
    image = np.full((301, 250), 200, dtype=np.uint8)
    for size in ((151, 125), (150, 125)):
        copies = [image, np.full(size, 200, dtype=np.uint8)]
        with open_source(write_tiff(tmp_path / "image.tif", copies)) as source:
            assert len(source.levels) == 2
            check(source, image / 255, box=32, tolerance=1e-6)


def test_how_much_smaller_a_copy_is() -> None:
    assert sources.level_factor((301, 250), (76, 63)) == 4
    assert sources.level_factor((301, 250), (75, 62)) == 4
    assert sources.level_factor((300, 250), (120, 100)) == pytest.approx(2.5)
    assert sources.level_factor((301, 250), (100, 100)) is None


def test_a_copy_of_something_else_is_left_alone(tmp_path: Path) -> None:
    copies = [noise(256, 384), noise(100, 100)]  # a label, of another shape
    with open_source(write_tiff(tmp_path / "image.tif", copies)) as source:
        assert len(source.levels) == 1


def test_without_copies_a_wide_window_is_read_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK", 64)
    image = noise(256, 384)
    np.save(tmp_path / "image.npy", image)
    for path in (tmp_path / "image.npy", write_tiff(tmp_path / "image.tif", [image])):
        with open_source(path) as source:
            for box in (16, 31, 64):
                check(source, image / 255, box=box, tolerance=2e-6)


def test_what_is_read_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """Not even the lists of tiles, of which the larger image has 4,096 entries."""
    read = []
    for side in (256, 16_384):
        path = tmp_path / f"{side}.tif"
        with tifffile.TiffWriter(path, bigtiff=True) as writer:
            tile = noise(256, 256)
            tiles = (
                (tile for _ in range((side // 256) ** 2)) if side == 256 else _sparse(tile, 4096)
            )
            writer.write(tiles, shape=(side, side), dtype=np.uint8, tile=(256, 256), metadata=None)
        with open_source(path) as source:
            middle = 256 * ((side // 256) // 2)
            got = source.read(middle + 5, middle + 7, 3, 1)
            np.testing.assert_allclose(got[0], tile[7:10, 5:8] / 255, atol=1e-6)
            read.append(source.bytes_read)  # type: ignore[attr-defined]
    assert read[0] < 256 * 256 + 2000
    assert abs(read[1] - read[0]) < 200


def _sparse(tile: Array, count: int) -> Any:
    """Tiles of which only the first and the one right of and below the middle are there."""
    middle = (count + math.isqrt(count)) // 2
    yield from (tile if i in (0, middle) else None for i in range(count))


def test_decoded_tiles_are_kept_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(256, 384)
    with open_source(write_tiff(tmp_path / "image.tif", [image])) as source:
        assert isinstance(source, tiff.TiffSource)
        source.read(0, 0, 4, 1)
        once = source.bytes_read
        source.read(4, 4, 4, 1)
        assert source.bytes_read == once
        monkeypatch.setattr(tiff, "CACHE", 4 * 32 * 48)
        source.read(0, 0, 16, 16)
        assert source._cache._size <= 4 * 32 * 48


def test_many_threads_may_read_one_source(tmp_path: Path) -> None:
    image = noise(256, 384)
    places = [(x, y) for x in range(0, 350, 23) for y in range(0, 250, 31)]
    path = write_tiff(tmp_path / "image.tif", [image], compression="zlib")
    with open_source(path) as source, ThreadPoolExecutor(8) as pool:
        patches = list(pool.map(lambda place: source.read(*place, 6, 1), places))
    for (x, y), patch in zip(places, patches, strict=True):
        wanted = averages(image[..., None] / 255, x, y, 6, 1)
        np.testing.assert_allclose(patch, wanted, atol=1e-6)


# --- Kinds of pixels --------------------------------------------------------------------------


def test_grey_and_colours_become_what_the_model_takes(tmp_path: Path) -> None:
    image = noise(64, 96, 3)
    grey = np.asarray(Image.fromarray(image).convert("L"))  # rounded to bytes
    path = write_tiff(tmp_path / "image.tif", [image], photometric="rgb")
    with open_source(path, 1) as source:
        check(source, grey / 255, box=1, tolerance=0.51 / 255)
        assert source.num_channels == 1
    path = write_tiff(tmp_path / "grey.tif", [grey])
    with open_source(path, 3) as source:
        check(source, np.stack([grey] * 3, -1) / 255, box=3, tolerance=2e-6)


@pytest.mark.parametrize("kind", ["uint16", "float32", "bool", "uint32"])
def test_numbers_of_any_width_become_0_to_1(tmp_path: Path, kind: str) -> None:
    shares = noise(64, 96) / 255
    largest = {"uint16": 2**16 - 1, "uint32": 2**32 - 1}.get(kind, 1)
    image = (shares * largest).round() if kind != "float32" else shares
    path = write_tiff(tmp_path / "image.tif", [image.astype(kind)])
    with open_source(path) as source:
        check(source, image / largest, box=2, tolerance=2e-6)


def test_planes_kept_apart_come_together(tmp_path: Path) -> None:
    image = noise(64, 96, 3)
    apart = np.moveaxis(image, -1, 0)
    path = write_tiff(tmp_path / "p.tif", [apart], photometric="rgb", planarconfig="separate")
    ome = tmp_path / "image.ome.tif"
    tifffile.imwrite(ome, apart, tile=(32, 32), metadata={"axes": "CYX"}, photometric="minisblack")
    for name in (path, ome):
        with open_source(name) as source:
            check(source, image / 255, box=2, tolerance=2e-6)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_in_strips_come_together(compression: str | None, tmp_path: Path) -> None:
    """As OME-TIFF, ImageJ and tifffile's plain files have them: pages behind the first are bare."""
    image = noise(64, 96, 3)
    apart = np.moveaxis(image, -1, 0)
    kinds = {
        "a.ome.tif": {"metadata": {"axes": "CYX"}},
        "imagej.tif": {"imagej": True, "metadata": {"axes": "CYX"}},
        "plain.tif": {"metadata": {"axes": "CYX"}},
    }
    for name, kind in kinds.items():
        path, given = tmp_path / name, {"photometric": "minisblack", "compression": compression}
        tifffile.imwrite(path, apart, rowsperstrip=16, **given, **kind)
        with open_source(path) as source:
            check(source, image / 255, box=2, tolerance=2e-6)


def test_a_pyramid_in_ome_tiff_is_found(tmp_path: Path) -> None:
    image = noise(256, 384)
    copies = pyramid(image, 3)
    with tifffile.TiffWriter(tmp_path / "image.ome.tif", bigtiff=True) as writer:
        writer.write(copies[0], subifds=2, tile=(64, 64), metadata={"axes": "YX"})
        for copy in copies[1:]:
            writer.write(copy, subfiletype=1, tile=(64, 64))
    with open_source(tmp_path / "image.ome.tif") as source:
        assert [level.factor for level in source.levels] == [1, 2, 4]
        check(source, image / 255, box=32, tolerance=1e-3, aligned=32)


def test_white_may_be_zero_and_colours_come_from_a_palette(tmp_path: Path) -> None:
    image = noise(64, 96)
    path = write_tiff(tmp_path / "white.tif", [image], photometric="miniswhite")
    with open_source(path) as source:
        check(source, 1 - image / 255, box=2, tolerance=2e-6)
    colors = noise(3, 256, seed=1).astype(np.uint16) * 257
    path = write_tiff(tmp_path / "palette.tif", [image], photometric="palette", colormap=colors)
    with open_source(path) as source:
        check(source, colors.T[image] / 65535, box=2, tolerance=2e-6)


def test_what_is_transparent_is_0_as_outside_the_image(tmp_path: Path) -> None:
    image = noise(64, 96, 4)
    path = write_tiff(
        tmp_path / "image.tif", [image], photometric="rgb", extrasamples=["unassalpha"]
    )
    opacity = image[..., 3:] / 255
    with open_source(path) as source:
        check(source, image[..., :3] / 255 * opacity, box=2, tolerance=2e-6)


def test_strips_are_mapped_or_decoded_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(256, 384, 3)
    plain, packed = tmp_path / "plain.tif", tmp_path / "packed.tif"
    tifffile.imwrite(plain, image, photometric="rgb", rowsperstrip=16)
    tifffile.imwrite(packed, image, photometric="rgb", rowsperstrip=16, compression="zlib")
    for path in (plain, packed):
        with open_source(path) as source:
            check(source, image / 255, box=3, tolerance=2e-6)
    monkeypatch.setattr(tiff, "LARGEST_SEGMENT", 10_000)
    with pytest.raises(ValueError, match="has no tiles: .* of 16 x 384 .* vips tiffsave"):
        open_source(packed)
    open_source(plain).close()


# --- Whole slides -----------------------------------------------------------------------------


def test_a_slide_gives_what_the_image_gives(tmp_path: Path) -> None:
    image = noise(256, 384, 3)
    path = write_tiff(
        tmp_path / "slide.tif",
        pyramid(image, 3),
        photometric="rgb",
        tile=(64, 64),
        as_children=False,
    )
    with SlideSource(path) as source:
        assert [level.factor for level in source.levels] == [1, 2, 4]
        check(source, image / 255, box=3, tolerance=2e-6)
        check(source, image / 255, box=32, tolerance=1e-3, aligned=32)
    with SlideSource(path, 1) as source:
        assert source.read(0, 0, 4, 1).shape == (1, 4, 4)


def test_what_only_has_a_slides_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(ValueError, match=r"text.svs is not a whole slide that OpenSlide can read"):
        open_source(tmp_path / "text.svs")


def test_without_openslide_a_slide_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    (tmp_path / "slide.mrxs").write_bytes(b"a slide of 3DHISTECH")
    with pytest.raises(ValueError, match=r"slide.mrxs .* pip install \"foveal\[wsi\]\""):
        open_source(tmp_path / "slide.mrxs")


# --- Which files ------------------------------------------------------------------------------


def test_only_what_is_large_is_read_by_windows(tmp_path: Path) -> None:
    image = noise(64, 96)
    write_tiff(tmp_path / "image.tif", [image])
    Image.fromarray(image).save(tmp_path / "image.png")
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "text.tif").write_text("II*\0 no TIFF")
    assert not is_large(tmp_path / "image.tif")
    assert is_large(tmp_path / "image.tif", large=64 * 96 - 1)
    assert is_large(tmp_path / "image.npy")
    for name in ("image.png", "text.tif", "nowhere.tif"):
        assert not is_large(tmp_path / name, large=10)
    with pytest.raises(ValueError, match=r"image.png is no image that can be read by windows"):
        open_source(tmp_path / "image.png")


def damaged(tmp_path: Path, kind: str) -> Path:
    """A file that cannot be read, of some kind."""
    path = tmp_path / f"{kind} ä.tif"
    content = write_tiff(tmp_path / "good.tif", [noise(256, 384)], compression="zlib").read_bytes()
    directory = struct.unpack("<I", content[4:8])[0]
    if kind == "directory":
        content = content[: directory + 2] + b"\xff" * 200 + content[directory + 202 :]
    elif kind == "empty":
        content = b""
    elif kind == "text":
        content = b"II*\0 is how a TIFF begins, and this is none"
    elif kind == "cut directory":
        content = content[: directory + 20]
    elif kind == "signed":
        write_tiff(path, [noise(64, 96).astype(np.int16)])
        return path
    elif kind == "lab":
        write_tiff(path, [noise(64, 96, 3)], photometric="cielab")
        return path
    elif kind == "array":
        path = path.with_suffix(".npy")
        content = b"\x93NUMPY\1\0v\0{"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("directory", "is damaged or cut off in its directory"),
        ("cut directory", "is damaged or cut off in its directory"),
        ("text", "is damaged or cut off in its directory"),
        ("empty", "is no image that can be read by windows"),
        ("signed", "must hold whole numbers from 0 up"),
        ("lab", "keeps its colours as CIELAB. Convert it to RGB"),
        ("array", "is not a readable array"),
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, kind: str, words: str) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(ValueError, match=words) as caught:
        open_source(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.tif is missing. Correct the path"):
        open_source(tmp_path / "nowhere.tif")


def test_damage_is_noticed_where_it_is_read(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "image.tif", pyramid(noise(256, 384), 2), compression="zlib")
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]  # type: ignore[union-attr]
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\0" * 50 + content[start + 50 :])
    with open_source(path) as source:
        source.read(100, 100, 4, 1)
        with pytest.raises(ValueError, match="a tile that cannot be decoded"):
            source.read(0, 0, 4, 1)
    # Directories first and tiles after them, as some programs write: then cut off.
    path = write_tiff(tmp_path / "image.tif", [noise(256, 384)])
    path.write_bytes(path.read_bytes()[:-60_000])
    with (
        open_source(path) as source,
        pytest.raises(ValueError, match="is damaged or cut off .a tile should end"),
    ):
        source.read(380, 250, 1, 1)


def test_an_unknown_compression_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "image.tif", [noise(64, 96)], compression="zstd")
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {})
    with pytest.raises(ValueError, match="compressed with ZSTD, .* --upgrade imagecodecs"):
        open_source(path)


def test_channels_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="has 4 channels and the model takes 3"):
        ArraySource(noise(8, 8, 4), 3)
    with pytest.raises(ValueError, match=r"must be \(H, W\) or \(H, W, C\).*got \(8,\)"):
        ArraySource(noise(8))


# --- The sensor and the model -----------------------------------------------------------------


def as_tensor(image: Array) -> torch.Tensor:
    pixels = torch.from_numpy(image).float() / 255
    return pixels[None] if pixels.ndim == 2 else pixels.movedim(-1, 0)


def test_the_sensor_sees_in_sources_what_it_sees_in_images(generator: torch.Generator) -> None:
    images = [noise(60, 80, seed=1), noise(200, 90, seed=2), noise(17, 31, seed=3)]
    padded = pad_images([as_tensor(image) for image in images])
    sensor = GlimpseSensor(6, 4)
    files = [ArraySource(image) for image in images]
    for reach in (1, 3):
        where = (torch.rand(3, 2, generator=generator) * 2 - 1) * reach
        seen = sensor(files, where)
        torch.testing.assert_close(seen, sensor(padded, where), atol=2e-6, rtol=0)
        slopes = sensor.slopes(padded, where)
        torch.testing.assert_close(sensor.slopes(files, where), slopes, atol=1e-3, rtol=1e-4)


def test_a_model_over_sources_is_the_model_over_images(tmp_path: Path) -> None:
    images = [noise(64, 96, 3, seed=1), noise(256, 384, 3, seed=2)]
    padded = pad_images([as_tensor(image) for image in images])
    paths = [tmp_path / "0.tif", tmp_path / "1.npy"]
    write_tiff(paths[0], pyramid(images[0], 2), photometric="rgb")
    np.save(paths[1], images[1])
    model = RecurrentAttention(RAMConfig(glimpse_size=5, num_scales=3, num_channels=3)).eval()
    first = torch.tensor([[0.3, -0.8], [-0.9, 0.5]])
    files = [open_source(path) for path in paths]
    rollout = model(files, first_location=first)
    wanted = model(padded, first_location=first)
    for got, right in zip(rollout, wanted, strict=True):
        if isinstance(right, torch.Tensor):
            torch.testing.assert_close(got, right, atol=1e-5, rtol=1e-4)
    step = model.step(files, first, model.initial_state(2))
    torch.testing.assert_close(step.logits, wanted.step_logits[:, 0], atol=1e-5, rtol=1e-4)
    for file in files:
        file.close()


def test_training_over_sources_gives_the_same_gradients() -> None:
    images = [noise(40, 60, seed=1), noise(70, 30, seed=2)]
    padded = pad_images([as_tensor(image) for image in images])
    torch.manual_seed(0)
    model = RecurrentAttention(TINY.__class__(**{**TINY.__dict__, "location_gradient": 1.0}))
    gradients = []
    for batch in ([ArraySource(image) for image in images], padded):
        model.zero_grad()
        rollout = model(batch, generator=torch.Generator().manual_seed(3))
        (rollout.logits.square().sum() + rollout.log_probs.sum()).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert model.location_policy.mean.weight.grad is not None
    assert model.location_policy.mean.weight.grad.abs().max() > 0
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-3)


def test_sources_that_cannot_be_a_batch_are_refused() -> None:
    model = RecurrentAttention(TINY)
    with pytest.raises(ValueError, match=r"must have 1 channel\(s\).*got 3"):
        model([ArraySource(noise(8, 8, 3))])
    with pytest.raises(ValueError, match=r"must have as many channels; got \[1, 3\]"):
        model([ArraySource(noise(8, 8, 3)), ArraySource(noise(8, 8))])
    with pytest.raises(ValueError, match="a sequence of Tensor"):
        model([torch.zeros(1, 8, 8)])
    with pytest.raises(ValueError, match="a sequence of ndarray"):
        model(np.zeros((2, 1, 8, 8), np.float32))
    with pytest.raises(ValueError, match="a sequence of none"):
        model([])


def test_where_a_smaller_copy_is_damaged_a_larger_one_is_read() -> None:
    """The averages are those of the image itself; it is said once."""

    class Cracked(ArraySource):
        def _pixels(self, number: int, top: int, left: int, height: int, width: int) -> Any:
            if number:
                raise ValueError("a tile cannot be decoded")
            return super()._pixels(number, top, left, height, width)

    pixels = noise(128, 96, 1)
    source = Cracked(pixels)
    source.levels += [Level(64, 48, 2), Level(16, 12, 8)]
    with pytest.warns(
        UserWarning, match=r"cannot be decoded.* (16 x 12|64 x 48) pixels: a larger one is"
    ) as told:
        found = source.read(0, 0, 2, 64)
    assert len(told) == 2, "each copy once"
    np.testing.assert_allclose(found, averages(pixels / 255, 0, 0, 2, 64), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source.read(0, 0, 2, 64)
