"""A TIFF has the same pixels whether it is small or large: a grid of all that TIFFs differ in.

Each is written from known numbers, and its colours are worked out here from these.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

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
    cases = list(everything)[:: 7 if whole_bytes else 1]  # any two choices meet
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
