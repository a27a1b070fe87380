"""Image files as arrays of bytes: one file in, ``(C, H, W)`` uint8 out, or one clear error."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveal.scene.files import SLIDES, Source, is_large, is_source, naming, open_source

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp"),
    *(".webp", ".tif", ".tiff", ".btf", ".tf8", ".bmp", ".dib", ".npy", *SLIDES),
)
LARGEST = 178_956_970  # pixels of one picture; what Pillow, too, takes for a decompression bomb
HEADS = (b"\x89PNG", b"\xff\xd8\xff")  # that no file has by chance
GREY_MODES = {"1", "L", "LA", "I;16", "I"}
MODES = {1: "L", 3: "RGB"}
ORIENTATION, ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that turn a picture

Bytes = NDArray[np.uint8]


def read_picture(path: Path, num_channels: int) -> Bytes:
    """Decode an image file, upright (EXIF orientation); ``(num_channels, H, W)`` uint8.

    A grey picture is made RGB (3 channels) and the other way round (1) as the channels ask.
    Transparent pixels are laid on black: what is not there is 0, as outside the image. 16-bit grey
    is scaled to 8 bits; CMYK is converted by Pillow's plain formula, without a colour profile. Of a
    file with several pages it is the first. What `open_source` reads is read by it: see
    `foveal.scene.files`.

    Raises:
        OSError: if there is no such file, or it cannot be read.
        ValueError: if it is no PNG, JPEG, WebP, TIFF or BMP, is damaged or too large, or has pixels
            whose range is not known.
    """
    if num_channels not in MODES:
        raise ValueError(f"image files have 1 or 3 channels; the model takes {num_channels}.")
    with naming(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what is odd in a file, and comes as an error later
        if is_source(path):
            with open_source(path, num_channels) as source:
                if source.width * source.height > LARGEST:
                    raise ValueError(_too_large(path))
                return source.whole()
        with _opened(path) as image:
            return decoded(image, num_channels)


def decoded(image: Image, num_channels: int) -> Bytes:
    """A picture of Pillow's as `read_picture` gives it."""
    pixels = np.asarray(_eight_bits(image).convert(MODES[num_channels]))
    planes = pixels[None] if num_channels == 1 else np.moveaxis(pixels, -1, 0)
    return np.array(planes, order="C")  # a copy: Pillow's own memory is not to be written to


def open_picture(path: Path, num_channels: int) -> Bytes | Source:
    """An image file of any size, decoded or to be read where it is looked at; raises as both do."""
    large = is_large(path)
    return open_source(path, num_channels) if large else read_picture(path, num_channels)


class Header(NamedTuple):
    """What the header of an image file says."""

    size: tuple[int, int]  # (height, width) of the upright picture, in pixels
    grey: bool  # whether it has no colours
    large: bool  # whether it is read by windows (see foveal.scene.files.is_large)


def probe(path: Path) -> Header:
    """What an image file is, from its header alone; raises as `read_picture`.

    Of any file that `read_picture` or `open_source` reads. The size of a PNG that says after its
    pixels which side is up may be the wrong way round.
    """
    with naming(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if is_source(path):
            with open_source(path) as source:
                size, grey = (source.height, source.width), source.num_channels == 1
                return Header(size, grey, is_large(path))
        with _opened(path) as image:
            width, height = image.size
            size = (width, height) if _on_its_side(image) else (height, width)
            grey = image.mode in GREY_MODES or _packed(image) == "LA;16B"  # which becomes RGBA
            return Header(size, grey, large=False)


# Besides names that begin with a dot: what systems leave behind. In lower case.
HIDDEN = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle"),
    *("$recycle.bin", "system volume information", "lost+found"),
}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is none of the user's own."""
    return name.startswith(".") or name.lower() in HIDDEN


def is_picture(name: str) -> bool:
    """Whether a file is an image by its suffix."""
    return name.lower().endswith(SUFFIXES)


def count_files(path: Path) -> int:
    """How many files are below a directory; 1 for a file."""
    return sum(len(files) for *_, files in os.walk(path)) if path.is_dir() else 1


def find_pictures(directory: Path, passed_over: Counter[str] | None = None) -> Iterator[Path]:
    """The image files below a directory, by their suffixes, in order of name; none is hidden.

    Symbolic links are followed, each directory once: a loop of them ends. The directory's own name
    may be hidden. The other files are counted, by their suffixes or as "hidden".
    """
    counts, seen = Counter[str]() if passed_over is None else passed_over, set()
    for place, folders, files in os.walk(directory, followlinks=True):
        here = os.path.realpath(place)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        for name in filter(is_hidden, folders + files):
            counts["hidden"] += count_files(Path(place, name))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(name for name in files if not is_hidden(name)):
            if is_picture(name):
                yield Path(place, name)
            else:
                counts[Path(name).suffix.lower()] += 1


def _opened(path: Path) -> Image:
    """The picture, not decoded yet."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 (slow to import)

    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            head = file.read(4)
        if not head:
            raise ValueError(f"{path} is empty (0 bytes). Fetch it again, or remove it.") from None
        if head.startswith(HEADS):
            raise ValueError("its header") from None
        raise ValueError(_of_another_kind(path)) from None
    except Image.DecompressionBombError:
        raise ValueError(_too_large(path)) from None
    if image.width * image.height > LARGEST:  # where a program has lifted Pillow's own limit
        image.close()
        raise ValueError(_too_large(path))
    return image


def _of_another_kind(path: Path) -> str:
    from PIL import Image  # noqa: PLC0415

    wanted = f"{path} is not a PNG, JPEG, WebP, TIFF or BMP image, whatever its name says"
    try:
        with Image.open(path) as image:
            return f"{wanted}: it is of the kind {image.format}. Convert it to PNG."
    except Exception:  # of any of Pillow's readers
        return f"{wanted}. Convert it, or remove it."


def _on_its_side(image: Image) -> bool:
    if image.format == "PNG" and "exif" not in image.info:
        return False  # Pillow would decode the whole file to look for what may follow the pixels
    try:
        return image.getexif().get(ORIENTATION, 1) in ON_ITS_SIDE
    except Exception:  # damaged EXIF data: then nothing is turned
        return False


def _too_large(path: Path) -> str:
    return (
        f"{path} would unfold to more than {LARGEST:,} pixels, the most that are decoded into "
        "memory (a small file that unfolds to more may be an attack). Scale it down, or cut it up."
    )


def _eight_bits(image: Image) -> Image:
    """The picture upright, in a mode of 8 bits, transparent pixels on black."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    key = _transparent(image)
    image.load()
    with contextlib.suppress(Exception):  # of damaged EXIF data: then nothing is turned
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        numbers = np.asarray(image).astype(np.int64)
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high > 65_535:
            raise ValueError(
                f"numbers from {low:,} to {high:,} are not supported; they must be of 16 bits"
            )
        numbers[numbers == key] = 0
        return Image.fromarray(((numbers * 255 + 32_767) // 65_535).astype(np.uint8))
    if key is not None:
        image = image.convert("L") if image.mode == "1" else image
        image.info["transparency"] = key
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA"))
    return image


def _packed(image: Image) -> str:
    """How a file holds the numbers of a pixel, by Pillow's name; nothing of one that is loaded."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles else ""


def _transparent(image: Image) -> Any:
    """The grey or colour that a PNG says is transparent, as Pillow's pixels hold it."""
    key = image.info.get("transparency")
    if image.mode not in {"1", "L", "RGB", "I;16"} or key is None:
        return None
    raw = _packed(image)
    if raw == "RGB;16B":
        return tuple(part >> 8 for part in key)  # as Pillow cuts its pixels
    return key * {"L;2": 85, "L;4": 17}.get(raw, 1)
