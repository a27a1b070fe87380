"""Whole-slide formats through OpenSlide, which the extra ``foveal[wsi]`` brings."""

from pathlib import Path
from typing import Any

import numpy as np

from foveal.scene.files.sources import Floats, Level, Source, composited, scaled

BACKGROUND = "openslide.background-color"  # of what was not scanned


class SlideSource(Source):
    """A whole slide, of which only windows are read; see `Source`.

    Raises:
        ValueError: if OpenSlide is not installed, or cannot read the file.
    """

    def __init__(self, path: Path, num_channels: int | None = None) -> None:
        openslide = _openslide(path)
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as problem:
            raise ValueError(
                f"{path} is not a whole slide that OpenSlide can read ({problem}), whatever its "
                "name says. Restore it from a copy, or remove it."
            ) from None
        background = self._slide.properties.get(BACKGROUND, "FFFFFF")
        self._background = scaled(np.frombuffer(bytes.fromhex(background), dtype=np.uint8))
        sizes, factors = self._slide.level_dimensions, self._slide.level_downsamples
        levels = [
            Level(height, width, float(factor))
            for (width, height), factor in zip(sizes, factors, strict=True)
        ]
        super().__init__(str(path), levels, 3, num_channels)

    def close(self) -> None:
        """Close the slide."""
        self._slide.close()

    def _pixels(self, number: int, top: int, left: int, height: int, width: int) -> Floats:
        factor = self.levels[number].factor
        corner = round(left * factor), round(top * factor)
        region = self._slide.read_region(corner, number, (width, height))
        return composited(scaled(np.asarray(region)), self._background)


def is_slide(path: Path) -> bool:
    """Whether OpenSlide knows the file as a scanner's; False where OpenSlide is not installed."""
    try:
        maker = _openslide(path).OpenSlide.detect_format(path)
    except ValueError:
        return False
    return maker not in (None, "generic-tiff")


def _openslide(path: Path) -> Any:
    try:
        import openslide  # noqa: PLC0415 (an extra)
    except ImportError:
        raise ValueError(
            f'{path} is a whole slide: reading it needs OpenSlide; pip install "foveal[wsi]"'
        ) from None
    return openslide
