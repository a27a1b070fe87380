"""Images of any size written as tiled TIFF pyramids, a band of rows at a time."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

TILE = 256  # pixels a side
IN_MEMORY = 2**20  # bytes of each smaller copy; what is beyond lies in a temporary file
BIG = 2**31  # bytes from which on the file's offsets have 64 bits (BigTIFF)

Bytes = NDArray[np.uint8]


def count_copies(height: int, width: int) -> int:
    """How many smaller copies a pyramid has: each half the last, until one fits a tile."""
    return max(0, (-(-max(height, width) // TILE) - 1).bit_length())


def band_height(height: int, width: int) -> int:
    """Rows that `write_pyramid` takes at once: whole tiles, and whole pixels of every copy."""
    return int(max(TILE, 2 ** count_copies(height, width)))


def write_pyramid(path: Path, bands: Iterable[Bytes], height: int, width: int) -> None:
    """Write a grey image as a tiled TIFF with smaller copies of itself, compressed with deflate.

    Every pixel of a copy is the mean of the pixels of the image that it stands for, rounded once.
    Memory holds a band and its copies. The ``bands`` are the image from top to bottom, ``(rows,
    width)`` each, with `band_height` rows but in the last.
    """
    import tifffile  # noqa: PLC0415 (slow to import)

    copies = count_copies(height, width)
    options: dict[str, Any] = {
        "tile": (TILE, TILE),
        "dtype": np.uint8,
        "photometric": "minisblack",
        "compression": "zlib",
        "compressionargs": {"level": 1},  # the fastest: most of what is written so is black
        "metadata": None,
        "software": False,
    }
    with ExitStack() as stack:
        files: list[IO[bytes]] = [
            stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(path.parent)))
            for _ in range(copies)
        ]
        writer = stack.enter_context(tifffile.TiffWriter(path, bigtiff=height * width > BIG))
        tiles = _tiles(_reduced(bands, files, width), width)
        writer.write(tiles, shape=(height, width), subifds=copies, **options)
        for number, file in enumerate(files, 1):
            size = -(-height // 2**number), -(-width // 2**number)
            tiles = _tiles(_read_back(file, *size), size[1])
            writer.write(tiles, shape=size, subfiletype=1, **options)


def _reduced(bands: Iterable[Bytes], files: list[IO[bytes]], width: int) -> Iterator[Bytes]:
    """Pass the bands on, and add their smaller copies to the files."""
    top = 0
    for band in bands:
        sums = band.astype(np.uint32)
        for number, file in enumerate(files, 1):
            step = 2**number
            sums = _halved(sums)
            rows, columns = (
                np.minimum(step, end - np.arange(start, end, step))
                for start, end in ((top, top + len(band)), (0, width))
            )
            area = rows[:, None] * columns
            file.write(((sums + area // 2) // area).astype(np.uint8).tobytes())
        top += len(band)
        yield band  # last: who takes the tiles need not ask for more than there are


def _halved(sums: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Sums over 2 x 2; over what there is of them at an odd end."""
    rows, columns = sums.shape
    if rows % 2 or columns % 2:
        sums = np.pad(sums, ((0, rows % 2), (0, columns % 2)))
    across = sums[:, ::2] + sums[:, 1::2]
    return across[::2] + across[1::2]


def _read_back(file: IO[bytes], height: int, width: int) -> Iterator[Bytes]:
    file.seek(0)
    for top in range(0, height, TILE):
        rows = min(TILE, height - top)
        yield np.frombuffer(file.read(rows * width), dtype=np.uint8).reshape(rows, width)


def _tiles(bands: Iterable[Bytes], width: int) -> Iterator[Bytes]:
    """Cut bands into tiles, from left to right; those at the end are filled up with zeros."""
    for band in bands:
        for top in range(0, len(band), TILE):
            for left in range(0, width, TILE):
                part = band[top : top + TILE, left : left + TILE]
                tile = np.zeros((TILE, TILE), dtype=np.uint8)
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile
