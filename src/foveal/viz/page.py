"""Scanpaths as one HTML file, which loads nothing from anywhere, to step through in a browser."""

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.io.files import write_file
from foveal.model.drawn import SCALE_COLORS, as_picture
from foveal.names import printable
from foveal.viz.scanpath import Scanpath
from foveal.viz.theme import DARK, LIGHT, Theme, answer_color

TEMPLATE = Path(__file__).with_name("page.html")
EXACT_UP_TO = 256  # pixels a side; larger images are shown as a smaller copy, compressed
DIGITS = 3  # of a probability: tenths of a percent, as everywhere on a page
SHOWN = 512  # pixels a side of that copy
MOST_BYTES = 32_000  # of an image, so that twenty make less than 2 MB with their glimpses
QUALITIES = (85, 60, 35, 10)  # of the compression, until it is as small


def save_page(images: Sequence[Sequence[Scanpath]], title: str, out: Path) -> None:
    """Write the page of `page`, in one step."""
    write_file(out, page(images, title).encode())


def page(images: Sequence[Sequence[Scanpath]], title: str) -> str:
    """A page in which one steps through looks, and switches between mean and sampled policy.

    It holds all its data: glimpses as the model saw them, in 256 levels, probabilities to three
    places, and the images; those of more than 256 pixels a side, or 32 kB, as a compressed copy.
    What a browser shows as seen by then it composes of the glimpses, as
    `foveal.viz.scanpath.reconstruct` does.

    For each image there is the scanpath of the mean policy, then any number of sampled ones.
    """
    data = json.dumps({"title": title, "images": [_image(paths) for paths in images]})
    values = {
        "TITLE": html.escape(printable(title)),
        "LIGHT": _variables(LIGHT),
        "DARK": _variables(DARK),
        "SCALE_COLORS": json.dumps(SCALE_COLORS),
        # In a script element nothing but "<" could end it.
        "DATA": data.replace("<", "\\u003c"),
    }
    parts = TEMPLATE.read_text(encoding="utf-8").split("@@")
    return "".join(values[part] if number % 2 else part for number, part in enumerate(parts))


def _image(paths: Sequence[Scanpath]) -> dict[str, Any]:
    first = paths[0]
    return {
        "name": first.name,
        "size": list(first.image_size),
        "picture": _picture(first.image),
        "classes": list(first.classes),
        "patchSizes": list(first.patch_sizes),
        "glimpseSize": first.glimpses.shape[2],
        "paths": [
            {
                "centers": path.centers.tolist(),
                "colors": [answer_color(path.answer_at(look)) for look in range(path.num_looks)],
                # Of the answer that each look is for: the right class, if known, or else its own.
                "labels": [path.wanted(look) for look in range(path.num_looks)],
                "known": [path.known(look) for look in range(path.num_looks)],
                "corners": [
                    [  # None where that scale was not read
                        path.square(look, scale)[:2] if scale in path.scales(look) else None
                        for scale in range(len(path.patch_sizes))
                    ]
                    for look in range(path.num_looks)
                ],
                "probabilities": np.round(path.probabilities.astype(float), DIGITS).tolist(),
                "glimpses": _data_url(_encoded(as_picture(_strip(path.glimpses)), "png"), "png"),
            }
            for path in paths
        ],
    }


def _strip(glimpses: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(T, S, G, G[, 3])`` as one image: a column a look, a row a scale."""
    glimpses = np.nan_to_num(glimpses)
    looks, scales, side = glimpses.shape[:3]
    moved = np.moveaxis(glimpses, 0, 2)  # (S, G, T, G[, 3])
    return moved.reshape(scales * side, looks * side, *glimpses.shape[4:])


def _picture(pixels: NDArray[np.float32]) -> str:
    """An image as it is where that is small, otherwise a compressed copy."""
    image = as_picture(pixels)
    if max(image.size) <= EXACT_UP_TO and len(exact := _encoded(image, "png")) <= MOST_BYTES:
        return _data_url(exact, "png")
    image.thumbnail((SHOWN, SHOWN))
    for quality in QUALITIES:
        content = _encoded(image, "jpeg", quality=quality)
        if len(content) <= MOST_BYTES:
            break
    return _data_url(content, "jpeg")


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _variables(theme: Theme) -> str:
    """A theme as the custom properties of a style sheet."""
    return " ".join(f"--{name}: {color};" for name, color in vars(theme).items())
