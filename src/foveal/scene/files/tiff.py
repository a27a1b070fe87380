"""Tiled and pyramidal TIFF, BigTIFF and OME-TIFF, tile by tile, through tifffile."""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from foveal.scene.files.directories import LeanFile
from foveal.scene.files.sources import Floats, Level, Source, composited, level_factor, scaled

CACHE = 8 * 2**20  # bytes of decoded tiles kept of each file
LARGEST_SEGMENT = 64 * 2**20  # bytes that may have to be decoded for one look at a few pixels
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3  # how colours are kept
JPEGS = (6, 7, 34892, 33007)  # compressions whose tables may lie outside the tiles
AXES = ("YX", "YXS", "SYX", "CYX")  # of an image: rows, columns, samples or channels

# What tifffile says of a damaged file is said in the error, and logged for those who listen.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffSource(Source):
    """A TIFF file, of which only the tiles under a window are read; see `Source`.

    Tiles of any compression that tifffile decodes (most need the extra ``foveal[wsi]``); strips
    that are not compressed, through a memory map; compressed strips as long as one is small.

    Args:
        path: of the file.
        num_channels: see `Source`.

    Attributes:
        bytes_read: of the file so far; those of a memory map not counted.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is damaged, holds no single image, or one of an unsupported kind.
    """

    def __init__(self, path: Path, num_channels: int | None = None) -> None:
        self.path = path
        self._file = LeanFile(path)
        try:
            self._open(num_channels)
        except BaseException:
            self._file.close()
            raise

    @property
    def bytes_read(self) -> int:
        """Bytes read from the file so far, the directories included."""
        return self._file.bytes_read

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self, num_channels: int | None) -> None:
        try:
            tiff = tifffile.TiffFile(self._file, name=self.path.name)  # type: ignore[arg-type]
            series = tiff.series[0]
            pages = [_pages(level) for level in series.levels]
            if not pages[0] or not series.shape:
                raise ValueError("no image in it")
        except Exception as problem:  # tifffile raises whatever a damaged directory leads to
            raise ValueError(
                f"{self.path} is not a readable TIFF ({_line(problem)}): its directory is damaged "
                "or cut off. Restore it from a copy, or write it again."
            ) from None
        if series.axes not in AXES:
            raise ValueError(
                f"{self.path} holds {series.shape} numbers with axes {series.axes}, not one image. "
                "Save the plane to look at as a file of its own."
            )
        self._page = _check_page(pages[0][0], self.path)
        self._planes = [_planes(part) for part in pages]
        self._cache = _TileCache()
        self._maps: dict[int, NDArray[Any]] = {}
        full = _size(pages[0][0])
        levels, kept = [], []
        for part, planes in zip(pages, self._planes, strict=True):
            factor = level_factor(full, _size(part[0])) if part else None
            if factor is None or len(planes) != len(self._planes[0]):
                continue
            levels.append(Level(*_size(part[0]), factor, _tile(part[0])))
            kept.append(planes)
        self._planes = kept
        self._map_strips()
        page = self._page
        channels = len(kept[0]) * (page.samplesperpixel if page.planarconfig == 1 else 1)
        self._opacity = channels in (2, 4) and page.extrasamples not in ((), (0,))
        self._colors: Floats | None = None
        if page.photometric == PALETTE and page.colormap is not None:
            self._colors = scaled(np.asarray(page.colormap, dtype=np.uint16)).T
            channels = 3
        super().__init__(str(self.path), levels, channels - self._opacity, num_channels)

    def _map_strips(self) -> None:
        """Map what lies in one piece; refuse strips of which each is too much for a look."""
        for number, planes in enumerate(self._planes):
            page = planes[0][0]
            if page.is_tiled:
                continue
            if len({id(plane) for plane, _ in planes}) == 1 and page.is_contiguous:
                pixels = np.memmap(
                    self.path,
                    page.dtype.newbyteorder(page.parent.byteorder),
                    "r",
                    page.dataoffsets[0],
                    page.shape,
                )
                if page.planarconfig == 2:
                    pixels = np.moveaxis(pixels, 0, -1)
                self._maps[number] = pixels.reshape(*_size(page), -1)
                continue
            rows, width = _tile(page)
            size = rows * width * page.samplesperpixel * page.dtype.itemsize
            if size > LARGEST_SEGMENT:
                raise ValueError(
                    f"{self.path} has no tiles: its compressed strips of {rows:,} x {width:,} "
                    f"pixels would cost {size / 2**20:,.0f} MB for each look. Write it in tiles: "
                    f"vips tiffsave {self.path} tiled.tif --tile --pyramid --bigtiff"
                )

    def _pixels(self, number: int, top: int, left: int, height: int, width: int) -> Floats:
        if number in self._maps:
            raw = self._maps[number][top : top + height, left : left + width]
        else:
            parts = [
                self._window(number, plane, top, left, height, width)
                for plane in range(len(self._planes[number]))
            ]
            raw = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        page = self._page
        if self._colors is not None:
            colored: Floats = self._colors[raw[..., 0]]
            return colored
        pixels = scaled(raw, page.bitspersample)
        if page.photometric == WHITE_IS_ZERO:
            pixels = 1 - pixels
        return composited(pixels, 0.0) if self._opacity else pixels

    def _window(
        self, number: int, plane: int, top: int, left: int, height: int, width: int
    ) -> NDArray[Any]:
        """Raw numbers ``(height, width, samples)`` of one plane of a level."""
        page, first = self._planes[number][plane]
        rows, columns = _tile(page)
        across = -(-_size(page)[1] // columns)
        window: NDArray[Any] | None = None
        for row in range(top // rows, -(-(top + height) // rows)):
            for column in range(left // columns, -(-(left + width) // columns)):
                tile = self._tile_at(number, plane, first + row * across + column)
                y, x = row * rows, column * columns
                if window is None:
                    window = np.zeros((height, width, tile.shape[-1]), dtype=tile.dtype)
                ys = slice(max(top, y), min(top + height, y + tile.shape[0]))
                xs = slice(max(left, x), min(left + width, x + tile.shape[1]))
                window[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left] = tile[
                    ys.start - y : ys.stop - y, xs.start - x : xs.stop - x
                ]
        assert window is not None
        return window

    def _tile_at(self, number: int, plane: int, index: int) -> NDArray[Any]:
        """One decoded tile or strip, ``(rows, columns, samples)``."""
        key = (number, plane, index)
        tile = self._cache.get(key)
        if tile is None:
            page = self._planes[number][plane][0]
            tile = self._cache.put(key, self._decode(page, index))
        return tile

    def _decode(self, page: Any, index: int) -> NDArray[Any]:
        place = self._file.tile(page.offset, index)
        if place is None:
            if index >= len(page.dataoffsets) or page.is_tiled:
                raise ValueError(f"{self.path} lists no tile {index}: it is damaged.")
            place = page.dataoffsets[index], page.databytecounts[index]
        offset, size = place
        key = page.keyframe
        if not size:  # left out, as sparse files do
            rows, columns = _tile(page)
            samples = key.samplesperpixel if key.planarconfig == 1 else 1
            return np.full((rows, columns, samples), key.nodata, dtype=key.dtype)
        data = self._file.read_at(offset, size)
        if len(data) < size:
            raise ValueError(
                f"{self.path} is truncated: a tile should end at byte {offset + size:,}, and the "
                f"file has {self._file.size:,}. Restore it from a copy."
            )
        tables = {"jpegtables": page.jpegtables} if key.compression in JPEGS else {}
        try:
            decoded = key.decode(data, index, **tables)[0]
        except Exception as problem:  # each codec has errors of its own
            raise ValueError(
                f"{self.path} has a tile that cannot be decoded ({_line(problem)}): it is damaged. "
                "Restore it from a copy."
            ) from None
        tile: NDArray[Any] = decoded[0]
        return tile


class _TileCache:
    """Decoded tiles, of which those used longest ago go first."""

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int]) -> NDArray[Any] | None:
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: tuple[int, int, int], tile: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._size += tile.nbytes
            while self._size > CACHE and len(self._tiles) > 1:
                self._size -= self._tiles.popitem(last=False)[1].nbytes
        return tile


def _check_page(page: Any, path: Path) -> Any:
    """A page of a supported kind; raises `ValueError` where it is not."""
    if page.dtype is None or page.dtype.kind not in "buf" or 0 in page.shaped:
        raise ValueError(
            f"{path} must hold whole numbers from 0 up, or floats in [0, 1]; got "
            f"{page.bitspersample}-bit numbers of sample format {int(page.sampleformat)}. "
            "Save it with 8 or 16 bits."
        )
    known = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE)
    if page.photometric not in known and page.compression not in JPEGS:
        colors = getattr(page.photometric, "name", page.photometric)
        raise ValueError(f"{path} keeps its colours as {colors}. Convert it to RGB.")
    if page.compression != 1:
        try:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
            if page.predictor != 1:
                tifffile.TIFF.UNPREDICTORS[page.predictor]
        except KeyError:
            name = getattr(page.compression, "name", page.compression)
            raise ValueError(
                f'{path} has tiles compressed with {name}. pip install "foveal[wsi]" brings the '
                "codecs; if it is installed, write the file with deflate or JPEG."
            ) from None
    return page


def _pages(series: Any) -> list[Any]:
    return [page for page in series.pages if page is not None]


def _planes(pages: list[Any]) -> list[tuple[Any, int]]:
    """The planes of a level: each a page, and the number of its first tile."""
    planes = []
    for page in pages:
        key = page.keyframe
        separate = key.samplesperpixel if key.planarconfig == 2 else 1
        rows, columns = _tile(key)
        tiles = math.ceil(key.imagelength / rows) * math.ceil(key.imagewidth / columns)
        planes += [(page, sample * tiles) for sample in range(separate)]
    return planes


def _size(page: Any) -> tuple[int, int]:
    return page.keyframe.imagelength, page.keyframe.imagewidth


def _tile(page: Any) -> tuple[int, int]:
    """Rows and columns of a tile, or of a strip."""
    key = page.keyframe
    if key.is_tiled:
        return key.tilelength, key.tilewidth
    return key.rowsperstrip, key.imagewidth


def _line(problem: BaseException) -> str:
    return " ".join(str(problem).split())[:200] or type(problem).__name__
