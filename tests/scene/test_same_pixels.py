"""A TIFF has the same pixels whether it is small or large: a grid of all that TIFFs differ in.

Each is written from known numbers, and its colours are worked out here from these.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from foveal.scene.files import is_large, open_source
from foveal.tasks.folder.pictures import probe, read_picture

Array = NDArray[Any]
RANDOM = np.random.default_rng(5)
BACKWARDS = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(-1, 8)[:, ::-1])
PALETTE = RANDOM.integers(0, 256, (256, 3))
UPRIGHT = (  # of what is stored, by orientation from 1 on
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: np.rot90(a, 2),
    lambda a: a[::-1],
    lambda a: a.swapaxes(0, 1),
    lambda a: np.rot90(a, -1),
    lambda a: np.rot90(a, 2).swapaxes(0, 1),
    np.rot90,
)
DEPTHS = {"1": 1, "2": 2, "4": 4, "8": 8, "12": 12, "16": 16, "32": 32, "f2": 0, "f4": 0, "f8": 0}
KINDS = {"minisblack": 1, "miniswhite": 1, "palette": 1, "rgb": 3, "separated": 4}


def raw_numbers(samples: int, depth: str, alpha: str) -> Array:
    """Numbers as they are stored, ``(40, 33, samples)``; no colour above its opacity."""
    bits = DEPTHS[depth]
    top = 2**bits - 1 if bits else 1
    shares = RANDOM.random((40, 33, samples))
    if alpha == "assocalpha":
        shares[..., :-1] *= shares[..., -1:]
    raw = np.floor(shares * (top + 1)).clip(0, top) if bits else shares
    kind = depth if bits == 0 else "u1" if bits <= 8 else "u2" if bits <= 16 else "u4"
    return raw.astype(kind)


def colours(raw: Array, kind: str, depth: str, alpha: str) -> Array:
    """``(H, W, 3)``, 0 to 255, as stored."""
    top = 2 ** DEPTHS[depth] - 1 if DEPTHS[depth] else 1
    shares = raw.astype(float) / top
    opacity = shares[..., -1:] if alpha in ("assocalpha", "unassalpha") else np.ones(1)
    inks = shares[..., : KINDS[kind]]
    premultiplied = alpha == "assocalpha" and kind != "palette"
    if premultiplied:
        inks = np.divide(inks, opacity, where=opacity > 0, out=np.zeros_like(inks))
    if kind == "palette":
        plain = PALETTE[raw[..., 0]] / 255
    elif kind == "separated":
        plain = (1 - inks[..., :3]) * (1 - inks[..., 3:])
    else:
        plain = 1 - inks if kind == "miniswhite" else inks
    return np.broadcast_to(plain * opacity * 255, (*raw.shape[:2], 3))


def write(path: Path, raw: Array, kind: str, depth: str, **options: Any) -> None:
    """One such TIFF; with ``fillorder`` 2 the bits of each byte are in reverse.

    tifffile does not write all of it: such a tag is written under the number before its own.
    """
    bits, fill = DEPTHS[depth], options.pop("fillorder")
    alpha, planar = options.pop("alpha"), options.pop("planarconfig")
    tags = [(274, 3, 1, options.pop("orientation"), True), (265, 3, 1, fill, True)]
    if alpha:
        options["extrasamples"] = [alpha]
    if bits not in (0, 1, 8, 16, 32):
        options["bitspersample"] = bits
    if kind == "palette":
        tags.append((319, 3, 3 * 2**bits, (PALETTE[: 2**bits].T * 257).ravel().tolist(), True))
    if raw.shape[2] > 1:
        options["planarconfig"] = planar
        raw = np.moveaxis(raw, -1, 0) if planar == "separate" else raw
    else:
        raw = raw[..., 0]
    options |= {"photometric": kind.replace("palette", "minisblack"), "metadata": None}
    tifffile.imwrite(path, raw.astype(bool) if bits == 1 else raw, extratags=tags, **options)
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
    content = np.fromfile(path, dtype=np.uint8)
    content[page.tags[265].offset] += 1
    if kind == "palette":
        content[page.tags[319].offset] += 1
        content[page.tags[262].valueoffset] = 3
    if fill == 2:
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            content[start : start + size] = BACKWARDS[content[start : start + size]]
    content.tofile(path)


def windows(path: Path, wanted: Array, count: int = 11) -> None:
    """Windows in the corners and the middle, and over the edge, of ``(H, W, 3)`` 0 to 255."""
    height, width = wanted.shape[:2]
    with open_source(path, 3) as source:
        assert (source.height, source.width) == (height, width)
        for x, y in itertools.product((0, width // 2, width - 7), (0, height // 2, height - 7)):
            inside = wanted[y : y + count, x : x + count].transpose(2, 0, 1)
            got = source.read(x, y, count, 1)[:, : inside.shape[1], : inside.shape[2]] * 255
            np.testing.assert_allclose(got, inside, atol=1, rtol=0, err_msg=path.name)


GRID = [
    (kind, depth)
    for kind in KINDS
    for depth in DEPTHS
    if not (kind == "palette" and depth not in ("1", "2", "4", "8"))
    and not (kind in ("rgb", "separated") and depth in ("1", "2", "4", "12"))
]


@pytest.mark.parametrize(("kind", "depth"), GRID)
def test_small_and_large_have_the_pixels_that_were_written(
    tmp_path: Path, kind: str, depth: str
) -> None:
    whole_bytes = DEPTHS[depth] in (0, 8, 16, 32)
    everything = itertools.product(
        ["contig", "separate"],
        [None, "zlib", "lzw", "packbits", "zstd"] if whole_bytes else [None],
        ["", "assocalpha", "unassalpha"] if whole_bytes else [""],
        [False, True] if whole_bytes else [False],
        [1, 2],
    )
    cases = [  # any two choices meet, and all of those that are mapped into memory
        case
        for number, case in enumerate(everything)
        if not whole_bytes or number % 7 == 0 or (case[1] is None and not case[3])
    ]
    for number, (planar, compression, alpha, tiled, fill) in enumerate(cases):
        if kind == "palette" and alpha == "assocalpha":
            continue
        for side in (40, 2100) if number == len(cases) // 2 else (40,):
            cell = raw_numbers(KINDS[kind] + bool(alpha), depth, alpha)
            times = (1, 1, 1) if side == 40 else (53, 64, 1)
            orientation = (GRID.index((kind, depth)) + number) % 8 + 1
            path = tmp_path / f"{side} {planar} {compression} {alpha} {tiled} {fill}.tif"
            options = {"compression": compression, "alpha": alpha, "fillorder": fill}
            if tiled:
                options["tile"] = (16, 32) if side == 40 else (256, 256)
            options |= {"orientation": orientation, "planarconfig": planar}
            write(path, np.tile(cell, times), kind, depth, **options)
            wanted = colours(cell, kind, depth, alpha).round(2).astype(np.float32)
            wanted = UPRIGHT[orientation - 1](np.tile(wanted, times))
            windows(path, wanted)
            assert is_large(path) == (side > 40)
            head = probe(path)
            grey = kind in ("minisblack", "miniswhite")
            assert (head.size, head.grey) == (wanted.shape[:2], grey)
            if side == 40:
                got = read_picture(path, 3)
                wanted = wanted.transpose(2, 0, 1)
                np.testing.assert_allclose(got, wanted, atol=0.6, rtol=0, err_msg=path.name)


def both_ways(path: Path) -> tuple[Array, Array] | str:
    """Of a small file: its pixels whole and by windows; or what is said of it, both ways."""
    outcomes: list[Any] = []
    for read in (
        lambda: read_picture(path, 3) / 255,
        lambda: (s := open_source(path, 3)).read(0, 0, max(s.height, s.width), 1),
    ):
        try:
            outcomes.append(read())
        except ValueError as problem:
            outcomes.append(str(problem))
    if isinstance(outcomes[0], str):
        assert outcomes[0] == outcomes[1]
        return outcomes[0]
    height, width = outcomes[0].shape[1:]
    return outcomes[0], outcomes[1][:, :height, :width]


FAXES, COLOURED = ("group3", "group4"), ("L", "RGB", "CMYK")
WRITTEN = [("1", how) for how in (*FAXES, "tiff_lzw", "packbits")]
WRITTEN += itertools.product(COLOURED, ("jpeg", "tiff_lzw", "packbits"))


@pytest.mark.parametrize(("mode", "compression"), WRITTEN)
def test_what_pillow_writes_is_read_as_pillow_and_tifffile_read_it(
    tmp_path: Path, mode: str, compression: str
) -> None:
    path = tmp_path / "a.tif"
    noise = Image.fromarray(RANDOM.integers(0, 256, (40, 56, 3), dtype=np.uint8))
    noise.convert(mode).save(path, compression=compression)
    whole, windowed = both_ways(path)
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("RGB")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(whole, wanted, atol=1.1 / 255)
    np.testing.assert_allclose(windowed, wanted, atol=1.1 / 255)
    if mode != "CMYK":
        stored = tifffile.imread(path) / (1 if mode == "1" else 255)
        if mode == "1":
            with tifffile.TiffFile(path) as file:
                stored = 1 - stored if file.pages[0].photometric == 0 else stored  # type: ignore
        wanted = np.broadcast_to(np.atleast_3d(stored), (40, 56, 3)).transpose(2, 0, 1)
        np.testing.assert_allclose(windowed, wanted, atol=1.1 / 255)


ONES, FLAT = np.ones((40, 40, 3), np.uint8), np.ones((40, 40), np.float32)
SEVERAL = {"photometric": "minisblack", "planarconfig": "contig"}
SIGNED = (
    "must hold whole numbers from 0 up, or floats in [0, 1]; got 16-bit numbers of the kind INT. "
    "Save it as unsigned numbers of 8 or 16 bits."
)
REFUSED: dict[str, tuple[Array, dict[str, Any], str]] = {
    "int8": (FLAT.astype(np.int8), {}, "must hold whole numbers from 0 up"),
    "int16": (FLAT.astype(np.int16), {}, SIGNED),
    "complex": (FLAT.astype(np.complex64), {}, "must hold whole numbers from 0 up"),
    "nan": (FLAT * np.nan, {}, "holds values that are no number"),
    "infinite": (FLAT * np.inf, {}, "holds floats from inf to inf"),
    "wide": (FLAT * 255, {}, "holds floats from 255 to 255"),
    "below": (FLAT.astype(np.float16) * -0.5, {}, "holds floats from -0.5 to -0.5"),
    "lab": (ONES, {"photometric": "cielab"}, "keeps its colours as CIELAB. Convert it to RGB"),
    "ycbcr": (ONES, {"photometric": "ycbcr"}, "keeps its colours as YCBCR. Convert it to RGB"),
    "logluv": (
        ONES.astype(np.int16),
        {"photometric": "logluv"},
        "keeps its colours as LOGLUV. Conv",
    ),
    "five": (np.ones((40, 40, 5), np.uint8), SEVERAL, "has 5 channels and the model takes 3"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_is_refused_with_the_same_words_whatever_its_size(
    tmp_path: Path, kind: str
) -> None:
    numbers, options, words = REFUSED[kind]
    tifffile.imwrite(tmp_path / "a.tif", numbers, **options)
    said = both_ways(tmp_path / "a.tif")
    assert f"{tmp_path / 'a.tif'} {words}" in said
    large = np.tile(numbers, (53, 53, *[1] * (numbers.ndim - 2)))
    tifffile.imwrite(tmp_path / "a.tif", large, tile=(512, 512), **options)
    with pytest.raises(ValueError, match=re.escape(said)):
        open_source(tmp_path / "a.tif", 3).read(2000, 2000, 9, 1)


def test_floats_in_arrays_are_checked(tmp_path: Path) -> None:
    """Of a small array all of it when it is opened, of a large one what is read."""
    for side in (60, 2100):
        for value, words in ((np.nan, "no number"), (np.inf, "to inf"), (255, "from 0 to 255")):
            array = np.zeros((side, side), dtype=np.float32)
            array[50, 40] = value
            np.save(tmp_path / "a.npy", array)
            with pytest.raises(ValueError, match=f"a.npy holds .*{words}"):
                open_source(tmp_path / "a.npy", 1).read(36, 46, 9, 1)
            if side == 60:
                with pytest.raises(ValueError, match=words):
                    open_source(tmp_path / "a.npy")
                with pytest.raises(ValueError, match=words):
                    read_picture(tmp_path / "a.npy", 1)
            else:
                assert open_source(tmp_path / "a.npy").read(1000, 1000, 9, 1).max() == 0


def test_of_several_pages_it_is_the_first_and_further_samples_are_passed_over(
    tmp_path: Path,
) -> None:
    pages = RANDOM.integers(0, 256, (4, 40, 56), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="minisblack")
    rgbx = RANDOM.integers(0, 256, (40, 56, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "rgbx.tif", rgbx, photometric="rgb", extrasamples=["unspecified"])
    for name, wanted in (("pages", pages[:1]), ("rgbx", rgbx[..., :3].transpose(2, 0, 1))):
        for got in both_ways(tmp_path / f"{name}.tif"):
            np.testing.assert_allclose(got * 255, np.broadcast_to(wanted, (3, 40, 56)), atol=0.01)
    assert open_source(tmp_path / "rgbx.tif").num_channels == 4


def test_directories_in_a_circle_end(tmp_path: Path) -> None:
    page = RANDOM.integers(0, 256, (40, 56), dtype=np.uint8)
    for part in (page, page[:20]):
        tifffile.imwrite(tmp_path / "a.tif", part, metadata=None, append=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, last = (page.offset for page in file.pages)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    end = last + 2 + 12 * int.from_bytes(content[last : last + 2], "little")
    assert content[end : end + 4] == bytes(4)
    content[end : end + 4] = first.to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(content)
    assert np.array_equal(read_picture(tmp_path / "a.tif", 1)[0], page)


def test_whatever_a_decoder_raises_names_the_file(tmp_path: Path) -> None:
    """Of files with bytes changed anywhere, and cut off anywhere."""
    sound = {}
    for suffix in ("tif", "png", "jpg", "npy"):
        path = tmp_path / f"sound.{suffix}"
        numbers = RANDOM.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        if suffix == "npy":
            np.save(path, numbers)
        else:
            Image.fromarray(numbers).save(path)
        sound[suffix] = path.read_bytes()
    for number in range(400):
        suffix = list(sound)[number % 4]
        content = bytearray(sound[suffix])
        for place in RANDOM.integers(0, len(content), 3):
            content[int(place) % (400 if number % 3 else len(content))] = int(RANDOM.integers(256))
        end = len(content) if number % 2 else int(RANDOM.integers(len(content)))
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content[:end])
        said = []
        for read in (probe, lambda path: read_picture(path, 3)):
            try:
                read(path)
            except (OSError, ValueError) as problem:
                said.append(str(problem))
        assert all(line.startswith(str(path)) for line in said)
        assert "\n" not in "".join(said)


@pytest.mark.parametrize("predictor", [False, True])
def test_rows_that_a_strip_has_below_the_image_are_left_out(
    tmp_path: Path, predictor: bool
) -> None:
    """Some programs compress whole strips to the last, and libtiff reads them."""
    path = tmp_path / "rows.tif"
    pixels = RANDOM.integers(0, 256, (64, 33, 3), np.uint8)
    tifffile.imwrite(path, pixels, rowsperstrip=32, compression="zlib", predictor=predictor)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageLength"].overwrite(41)  # type: ignore[union-attr]
    np.testing.assert_array_equal(read_picture(path, 3), np.moveaxis(pixels[:41], -1, 0))


def test_jpegs_of_the_old_style_are_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "old.tif"
    tifffile.imwrite(path, RANDOM.integers(0, 256, (40, 33, 3), np.uint8))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(6)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"not read \(JPEG in the old style .*Convert it to PNG"):
        read_picture(path, 3)


@pytest.mark.parametrize("compression", ["zlib", "jpeg"])
@pytest.mark.parametrize("tiled", [False, True])
def test_pieces_that_are_cut_off_are_not_guessed(
    tmp_path: Path, compression: str, tiled: bool
) -> None:
    """The second half of a tile or strip is zeros: what a decoder makes of it is no image."""
    path = tmp_path / "half.tif"
    pieces: dict[str, Any] = {"tile": (32, 32)} if tiled else {"rowsperstrip": 32}
    pixels = RANDOM.integers(0, 256, (96, 64), np.uint8)
    tifffile.imwrite(path, pixels, compression=compression, **pieces)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        start, length = page.dataoffsets[1], page.databytecounts[1]
    content = bytearray(path.read_bytes())
    content[start + length // 2 : start + length] = bytes(length - length // 2)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"half.tif (is damaged or|has a tile that cannot)"):
        read_picture(path, 1)


def test_a_list_of_tiles_that_is_cut_off_is_damage_and_not_black(tmp_path: Path) -> None:
    """Some programs write the list of tiles last, where a broken download ends before it."""
    path = tmp_path / "cut.tif"
    pixels = RANDOM.integers(1, 256, (128, 128), np.uint8)
    tifffile.imwrite(path, pixels, tile=(32, 32), compression="zlib")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages.first.tags
        for name in ("TileOffsets", "TileByteCounts"):
            tag, end = tags[name], len(content)
            size = tag.valuebytecount
            content += content[tag.valueoffset : tag.valueoffset + size]
            content[tag.offset + 8 : tag.offset + 12] = end.to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_picture(path, 1), pixels[None])
    path.write_bytes(content[:-8])
    with pytest.raises(ValueError, match=r"cut.tif is damaged .*its list of tiles ends before"):
        read_picture(path, 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_among_the_files_is_named_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    for read in (probe, lambda path: read_picture(path, 3), open_source):
        with pytest.raises(FileNotFoundError, match=r"pipe.png is neither a file nor a directory"):
            read(path)
