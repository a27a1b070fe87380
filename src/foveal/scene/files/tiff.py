"""TIFF, BigTIFF and OME-TIFF, small and large, tile by tile, through tifffile."""

import logging
import math
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from foveal.scene.files.directories import LeanFile
from foveal.scene.files.sources import Floats, Level, Source, level_factor, naming, scaled

CACHE = 8 * 2**20  # bytes of decoded tiles kept of each file
LARGEST_SEGMENT = 64 * 2**20  # bytes that may have to be decoded for one look at a few pixels
# How colours are kept, and in how many samples.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
PREMULTIPLIED, OPACITY = 1, 2  # what a sample beyond the colours may be
ORIENTATION = 274  # the tag
# Of each: whether rows and columns are stored in reverse, and (from 5 on) for one another.
REVERSED = {2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
OLD_JPEG, DEFLATES = 6, (8, 32946)
JPEGS = (OLD_JPEG, 7, 34892, 33007)  # compressions whose tables may lie outside the tiles
JPEG_END = b"\xff\xd9"  # which nothing else in a JPEG is: its decoder makes what is missing grey
AXES = ("YX", "YXS", "SYX", "CYX")  # of an image: rows, columns, samples or channels

# What tifffile says of a damaged file is said in the error, and logged for those who listen.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffSource(Source):
    """A TIFF file, of which only the tiles under a window are read; see `Source`.

    Tiles of any compression that tifffile and imagecodecs decode; strips that are not compressed,
    through a memory map; compressed strips as long as one is small. It is the first image of
    several. Pixels are upright, and black where they are transparent; unsigned numbers of any width
    become [0, 1] by their own largest, and floats must be in it.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is damaged, or of an unsupported kind.
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
        """Bytes read from the file so far, directories included, those of a memory map not."""
        return self._file.bytes_read

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self, num_channels: int | None) -> None:
        with naming(self.path, "is damaged or cut off in its directory"):
            tiff = tifffile.TiffFile(self._file, name=self.path.name)  # type: ignore[arg-type]
            series = tiff.series[0]
            pages = [_pages(level)[: None if series.axes in AXES else 1] for level in series.levels]
            page = self._page = _check_page(pages[0][0].keyframe, self.path)
            orientation = page.tags.valueof(ORIENTATION, 1)
        self._reversed = REVERSED.get(orientation, (0, 0))
        self._turned = orientation in range(5, 9)
        self._planes: list[list[tuple[Any, int]]] = []
        self._cache = _TileCache()
        self._maps: dict[int, NDArray[Any]] = {}
        full, levels = _size(page), []
        for part in pages:
            factor = level_factor(full, _size(part[0])) if part else None
            planes = _planes(part)
            if factor is None or (self._planes and len(planes) != len(self._planes[0])):
                continue
            (height, width), tile = _size(part[0]), _tile(part[0])
            levels.append(
                Level(width, height, factor, tile[::-1])
                if self._turned
                else Level(height, width, factor, tile)
            )
            self._planes.append(planes)
        self._map_strips()
        self._colors: Floats | None = None
        if page.photometric == PALETTE:
            self._colors = scaled(np.asarray(page.colormap, dtype=np.uint16)).T
        samples = len(self._planes[0]) * _samples(page)
        channels = self._find_opacity(samples, num_channels)
        super().__init__(str(self.path), levels, channels, num_channels)

    def _find_opacity(self, samples: int, num_channels: int | None) -> int:
        """Which samples are colours, and which is the opacity; returns how many channels it is."""
        page = self._page
        colours = self._count = COLOURS[page.photometric]
        if samples < colours:
            raise ValueError(
                f"{self.path} has colours in {samples} sample(s), where {page.photometric.name} "
                f"takes {colours}. Write it again as RGB."
            )
        extra = page.extrasamples
        if not extra and page.photometric == RGB and samples == 4:
            extra = (OPACITY,)
        places = [i for i, kind in enumerate(extra) if kind in (PREMULTIPLIED, OPACITY)]
        self._opacity = colours + places[0] if places else None
        self._premultiplied = bool(
            places and extra[places[0]] == PREMULTIPLIED and self._colors is None
        )
        grey = colours == 1 and self._colors is None
        if not places and (grey or (page.photometric == RGB and num_channels in (None, samples))):
            self._count = samples  # channels of any other meaning
            return samples
        return 1 if grey else 3

    def _map_strips(self) -> None:
        """Map what lies in one piece; refuse pieces of which each is too much for a look."""
        for number, planes in enumerate(self._planes):
            page = planes[0][0].keyframe
            if not page.is_tiled and page.is_final and len({id(plane) for plane, _ in planes}) == 1:
                kind = page.dtype.newbyteorder(page.parent.byteorder)
                start = planes[0][0].dataoffsets[0]
                pixels: NDArray[Any] = np.memmap(self.path, kind, "r", start, page.shaped)
                pixels = np.moveaxis(pixels[:, 0], 0, -2)  # planes beside samples: one of them is 1
                self._maps[number] = pixels.reshape(*_size(page), -1)
                continue
            rows, width = _tile(page)
            samples = _samples(page)
            size = rows * width * samples * page.dtype.itemsize
            if size > LARGEST_SEGMENT:
                kind = "big tiles" if page.is_tiled else "no tiles"
                raise ValueError(
                    f"{self.path} has {kind}: its pieces of {rows:,} x {width:,} pixels would cost "
                    f"{size / 2**20:,.0f} MB for each look. Write it in small tiles: "
                    f"vips tiffsave {self.path} tiled.tif --tile --pyramid --bigtiff"
                )

    def _pixels(self, number: int, top: int, left: int, height: int, width: int) -> Floats:
        if self._turned:
            top, left, height, width = left, top, width, height
        rows, columns = _size(self._planes[number][0][0])
        down, right = (slice(None, None, -1 if backwards else 1) for backwards in self._reversed)
        if self._reversed[0]:
            top = rows - top - height
        if self._reversed[1]:
            left = columns - left - width
        pixels = self._coloured(self._raw(number, top, left, height, width))[down, right]
        return pixels.transpose(1, 0, 2) if self._turned else pixels

    def _raw(self, number: int, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        if number in self._maps:
            return self._maps[number][top : top + height, left : left + width]
        parts = [
            self._window(number, plane, top, left, height, width)
            for plane in range(len(self._planes[number]))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def _coloured(self, raw: NDArray[Any]) -> Floats:
        """Colours in [0, 1] of raw numbers ``(height, width, samples)``, black if transparent."""
        page = self._page
        bits = page.bitspersample if isinstance(page.bitspersample, int) else None
        values = scaled(raw, bits, str(self.path))
        colours = values[..., : self._count]
        opacity = np.float32(1) if self._opacity is None else values[..., self._opacity, None]
        white = opacity if self._premultiplied else np.float32(1)
        if self._colors is not None:
            colours = self._colors[raw[..., 0].astype(np.intp)]
        elif page.photometric == WHITE_IS_ZERO:
            colours = np.maximum(white - colours, 0)
        elif page.photometric == CMYK:
            ink = np.maximum(white - colours, 0)
            colours = ink[..., :3] * ink[..., 3:] / np.maximum(white, np.float32(1e-6))
        return colours if self._premultiplied or self._opacity is None else colours * opacity

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
                index = first + row * across + column
                decode = partial(self._decode, page, index)
                tile = self._cache.get((number, plane, index), decode)
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

    def _decode(self, page: Any, index: int) -> NDArray[Any]:
        """One tile or strip, ``(rows, columns, samples)``."""
        place, key = self._file.tile(page.offset, index), page.keyframe
        if place is None:
            if index >= len(page.dataoffsets) or key.is_tiled:
                raise EOFError(f"it lists no tile {index}")
            place = page.dataoffsets[index], page.databytecounts[index]
        offset, size = place
        if not size:  # left out, as sparse files do
            rows, columns = _tile(page)
            return np.full((rows, columns, _samples(key)), key.nodata, dtype=key.dtype)
        data = self._file.read_at(offset, size)
        if len(data) < size:
            raise EOFError(
                f"a tile should end at byte {offset + size:,}, and the file has {self._file.size:,}"
            )
        tables = {"jpegtables": page.jpegtables} if key.compression in JPEGS else {}
        if tables and key.compression != OLD_JPEG and JPEG_END not in data:
            raise EOFError(f"the JPEG of tile {index} has no end")
        with naming(self.path, "has a tile that cannot be decoded"):
            try:
                tile: NDArray[Any] = key.decode(data, index, **tables)[0][0]
            except Exception as problem:
                if key.compression == OLD_JPEG:
                    raise NotImplementedError("JPEG in the old style of TIFF 6.0") from problem
                if key.compression not in DEFLATES or key.is_tiled:
                    raise
                tile = key.decode(_last_rows(key, data, index), index)[0][0]
        return tile


def _samples(page: Any) -> int:
    """Numbers of a pixel that lie beside one another; of planes one each."""
    return page.samplesperpixel if page.planarconfig == 1 else 1


def _last_rows(key: Any, data: bytes, index: int) -> bytes:
    """A strip less the rows below the image, which some programs write too, compressed again."""
    across = key.imagewidth * _samples(key)
    strips = -(-key.imagelength // key.rowsperstrip)
    rows = min(key.rowsperstrip, key.imagelength - index % strips * key.rowsperstrip)
    row, stream = -(-across * key.bitspersample // 8), zlib.decompressobj()
    pixels = stream.decompress(data, key.rowsperstrip * row)
    stream.decompress(stream.unconsumed_tail, 1)  # to its end, where its checksum is
    if not stream.eof:
        raise EOFError(f"strip {index} is cut off, or longer than it may be")
    return zlib.compress(pixels[: rows * row], 0)


class _TileCache:
    """Decoded tiles, of which those used longest ago go first."""

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int], decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        tile = decode()  # several threads at once
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._size += tile.nbytes
            while self._size > CACHE and len(self._tiles) > 1:
                self._size -= self._tiles.popitem(last=False)[1].nbytes
        return tile


def _check_page(page: Any, path: Path) -> Any:
    """A page of a supported kind; raises `ValueError` where it is not."""
    if 0 in page.shaped:
        raise EOFError("no pixels in it")
    decoded = page.compression in JPEGS and page.planarconfig == 1 and not page.extrasamples
    if page.photometric not in COLOURS or (page.photometric == YCBCR and not decoded):
        colors = getattr(page.photometric, "name", page.photometric)
        raise ValueError(f"{path} keeps its colours as {colors}. Convert it to RGB.")
    if page.dtype is None or page.dtype.kind not in "buf":
        kind = getattr(page.sampleformat, "name", page.sampleformat)
        raise ValueError(
            f"{path} must hold whole numbers from 0 up, or floats in [0, 1]; got "
            f"{page.bitspersample}-bit numbers of the kind {kind}. Save it as unsigned numbers of "
            "8 or 16 bits."
        )
    if page.compression != 1:
        try:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
            if page.predictor != 1:
                tifffile.TIFF.UNPREDICTORS[page.predictor]
        except KeyError:
            name = getattr(page.compression, "name", page.compression)
            raise ValueError(
                f"{path} is compressed with {name}, which is not read; pip install --upgrade "
                "imagecodecs may bring it. Or write the file with deflate or LZW."
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
    return min(key.rowsperstrip, key.imagelength), key.imagewidth
