"""TIFF directories without their tables of tiles, whose length grows with the image.

A TIFF lists the place and the size of every tile: a megabyte for an image of 65,536 pixels a side.
tifffile reads these tables whole. `LeanFile` shows it the file with the tables cut to one entry,
and reads the entries of the tiles that are asked for.
"""

import contextlib
import struct
import threading
from pathlib import Path
from typing import NamedTuple

TILE_OFFSETS, TILE_SIZES, CHILDREN = 324, 325, 330  # tags; 330 lists further directories
WIDTHS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # of whole numbers, by type
MOST_DIRECTORIES = MOST_ENTRIES = 4096  # a pyramid has a dozen, a directory a few dozens


class Table(NamedTuple):
    """Where a tag's numbers lie: how to unpack one, where the first is, and how many there are."""

    number: struct.Struct
    start: int
    length: int


class _Layout(NamedTuple):
    """How the parts of a directory are packed, in the byte order of the file."""

    order: str
    place: struct.Struct
    counter: struct.Struct
    entry: struct.Struct


class LeanFile:
    """A TIFF file, read-only, without buffering, safe to read from several threads.

    Attributes:
        tables: of tiles, by the position of their directory and the tag.
        bytes_read: of the file so far.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.size = path.stat().st_size
        self.bytes_read = 0
        self.tables: dict[tuple[int, int], Table] = {}
        self._cut: dict[int, bytes] = {}  # what is shown in place of some bytes
        self._place = 0
        with contextlib.suppress(struct.error):  # tifffile says better what is wrong
            self._cut_tables()

    def read_at(self, place: int, size: int) -> bytes:
        """``size`` bytes from ``place`` on, fewer at the end of the file."""
        parts = []
        with self._lock:
            size = max(min(size, self.size - place), 0)  # of any numbers that a directory holds
            self._file.seek(min(place, self.size))
            while size > 0 and (part := self._file.read(size)):
                parts.append(part)
                size -= len(part)
                self.bytes_read += len(part)
        return b"".join(parts)

    def tile(self, directory: int, number: int) -> tuple[int, int] | None:
        """Place and size of a tile, in bytes; None if the directory at this place has none such.

        Raises `EOFError` if the file ends before it says.
        """
        tables = [self.tables.get((directory, tag)) for tag in (TILE_OFFSETS, TILE_SIZES)]
        if any(table is None or number >= table.length for table in tables):
            return None
        offset, size = (self._entry(table, number) for table in tables if table)
        return offset, size

    def _entry(self, table: Table, number: int) -> int:
        data = self.read_at(table.start + number * table.number.size, table.number.size)
        if len(data) < table.number.size:  # 0 would stand for a tile that was left out, as black
            raise EOFError(f"its list of tiles ends before tile {number}")
        return int(table.number.unpack(data)[0])

    # What tifffile asks of a file.

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes from where the file stands, all that follow if negative."""
        size = max(self.size - self._place, 0) if size < 0 else size
        data = bytearray(self.read_at(self._place, size))
        for place, shown in self._cut.items():
            if place < self._place + len(data) and self._place < place + len(shown):
                for i, byte in enumerate(shown, place - self._place):
                    if 0 <= i < len(data):
                        data[i] = byte
        self._place += len(data)
        return bytes(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Stand ``offset`` bytes from the start, from here (1) or from the end (2); where it is."""
        self._place = offset + (0, self._place, self.size)[whence]
        return self._place

    def tell(self) -> int:
        """Where the file stands, in bytes."""
        return self._place

    def __del__(self) -> None:
        # Sources are handed on, looked ahead at and dropped; what nobody refers to is closed.
        if hasattr(self, "_file"):
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    # The directories.

    def _cut_tables(self) -> None:
        """Find the tables of all directories, and show one entry of each."""
        head = self.read_at(0, 16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        version = struct.unpack(f"{order}H", head[2:4])[0] if order else 0
        if version not in (42, 43):
            return
        big = version == 43
        layout = _Layout(
            order,
            place=struct.Struct(order + ("Q" if big else "I")),
            counter=struct.Struct(order + ("Q" if big else "H")),
            entry=struct.Struct(order + ("HHQ8s" if big else "HHI4s")),
        )
        ahead = [layout.place.unpack_from(head, 8 if big else 4)[0]]
        seen: set[int] = set()
        while ahead and len(seen) < MOST_DIRECTORIES:
            directory = ahead.pop()
            if directory and directory not in seen:
                seen.add(directory)
                ahead += self._cut_tables_of(directory, layout, seen)

    def _cut_tables_of(self, directory: int, layout: _Layout, seen: set[int]) -> list[int]:
        """Do so in one directory; returns the places of the next one and of its children.

        A next one that was seen before is not shown: tifffile would go round for ever.
        """
        order, place, counter, entry = layout
        (entries,) = counter.unpack(self.read_at(directory, counter.size))
        if entries > MOST_ENTRIES:
            return []
        first = directory + counter.size
        data = self.read_at(first, entries * entry.size + place.size)
        ahead = [place.unpack_from(data, entries * entry.size)[0]]
        if ahead[0] in seen:
            self._cut[first + entries * entry.size] = place.pack(0)
        for i in range(entries):
            tag, kind, count, inline = entry.unpack_from(data, i * entry.size)
            if kind not in WIDTHS or tag not in (TILE_OFFSETS, TILE_SIZES, CHILDREN):
                continue
            number = struct.Struct(order + WIDTHS[kind])
            value_at = first + (i + 1) * entry.size - len(inline)
            fits = count * number.size <= len(inline)
            start = value_at if fits else place.unpack(inline)[0]
            if tag == CHILDREN:
                listed = self.read_at(start, min(count, MOST_DIRECTORIES) * number.size)
                ahead += [child for (child,) in number.iter_unpack(listed)]
                continue
            self.tables[directory, tag] = Table(number, start, count)
            if not fits:
                self._cut[value_at - place.size] = place.pack(1)  # the count, before the value
        return ahead
