"""Big images on disk, of which the sensor reads only the windows that it looks at.

`open_source` opens a file as a source by what it holds: tiled and pyramidal TIFF, BigTIFF and
OME-TIFF, NumPy arrays on disk, whole slides. `ArraySource` is the same over an array at hand. A
model takes a sequence of sources in place of a batch of images::

    model([open_source("slide.tif"), ArraySource(array)])

A TIFF of few pixels is read whole, by the same reader: its size changes no pixel. What a glimpse
costs does not depend on the size of the image either: see `foveal.scene.files.sources`.
"""

import stat
from pathlib import Path

from foveal.scene.files.slides import SlideSource, is_slide
from foveal.scene.files.sources import LARGE, ArraySource, Source, naming, open_array

TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ARRAY_HEAD = b"\x93NUMPY"
SLIDES = {  # suffixes of scanners' files
    *(".bif", ".czi", ".dcm", ".mrxs", ".ndpi"),
    *(".scn", ".svs", ".svslide", ".vms", ".vmu"),
}


def open_source(path: str | Path, num_channels: int | None = None) -> Source:
    """Open an image file for reading by windows; by its content, whatever its name.

    Args:
        path: a TIFF, an array that `numpy.save` wrote, or a whole slide.
        num_channels: 1 or 3 to convert to grey or RGB, as a model takes; None leaves it as it is.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged, of an unsupported kind, or of one that needs an extra.
    """
    path = Path(path)
    head = _head(path)
    with naming(path):
        if head.startswith(ARRAY_HEAD):
            return open_array(path, num_channels)
        is_tiff = head.startswith(TIFF_HEADS)
        # Many scanners' files are TIFFs too: OpenSlide knows which.
        if path.suffix.lower() in SLIDES and (not is_tiff or is_slide(path)):
            return SlideSource(path, num_channels)
        if is_tiff:
            from foveal.scene.files.tiff import TiffSource  # noqa: PLC0415 (slow to import)

            return TiffSource(path, num_channels)
    raise ValueError(
        f"{path} is no image that can be read by windows: it must be a TIFF, an array that "
        "numpy.save wrote, or a whole slide. Convert it, or read it whole."
    )


def is_source(path: Path) -> bool:
    """Whether `open_source` is what reads a file, be it large or small."""
    return _head(path).startswith((*TIFF_HEADS, ARRAY_HEAD)) or path.suffix.lower() in SLIDES


def is_large(path: str | Path, *, large: int = LARGE) -> bool:
    """Whether a file is better read by windows, or can be read in no other way.

    That is an array of `numpy.save`, a whole slide, or a TIFF of more than ``large`` pixels. A file
    that cannot be opened is not: who reads it whole finds out what is wrong.
    """
    path = Path(path)
    try:
        if not _head(path).startswith(TIFF_HEADS):
            return is_source(path)
        with open_source(path) as source:
            return source.height * source.width > large
    except (OSError, ValueError):
        return False


def _head(path: Path) -> bytes:
    with naming(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is missing. Correct the path.") from None
        if not stat.S_ISREG(mode):  # of a pipe nothing may ever come
            what = "a directory" if stat.S_ISDIR(mode) else "neither a file nor a directory"
            raise FileNotFoundError(f"{path} is {what}. Correct the path.")
        with path.open("rb", buffering=0) as file:
            return file.read(8)


__all__ = [
    "LARGE", "SLIDES", "ArraySource", "Source", "is_large", "is_source", "naming", "open_source",
]  # fmt: skip
