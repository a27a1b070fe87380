from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.model.drawn import SCALE_COLORS
from foveal.names import printable
from foveal.viz.drawing import DPI, as_pixels, draw, draw_sheet, save_picture, shorten
from foveal.viz.film import frame
from foveal.viz.theme import THEMES
from tests.viz.test_scanpath import CLASSES, make_path


def rgb(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


@pytest.mark.parametrize(("channels", "scales", "looks"), [(1, 1, 1), (1, 4, 7), (3, 2, 3)])
def test_the_sheet_shows_every_look(channels: int, scales: int, looks: int, tmp_path: Path) -> None:
    path = make_path(channels, scales, label=3, num_glimpses=looks, name="test image 8")
    figure = draw(path)
    image, cells = figure.axes
    assert [text.get_text() for text in image.texts] == [str(look + 1) for look in range(looks)]
    squares = [(*patch.get_xy(), patch.get_width()) for patch in image.patches]
    assert squares == [path.square(look, i) for look in range(looks) for i in range(scales)]
    np.testing.assert_array_equal(image.lines[0].get_xydata(), path.centers)
    shown = [np.asarray(drawn.get_array()) for drawn in cells.images]
    wanted = path.glimpses.reshape(-1, *path.glimpses.shape[2:])
    assert len(shown) == looks * scales
    np.testing.assert_array_equal(shown, wanted)
    assert f"it is {CLASSES[3]}" in figure.texts[0].get_text() or path.answer == 3
    assert figure.texts[0].get_text().startswith("test image 8, 50 x 30 pixels: answer ")
    save_picture(figure, tmp_path / "new" / "look.png")
    with Image.open(tmp_path / "new" / "look.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] == int(figure.get_figwidth() * DPI)
    for color in SCALE_COLORS[:scales]:
        assert (pixels == rgb(color)).all(-1).sum() > 50, "the squares can be seen"


def test_beliefs_are_bars_as_long_as_the_probability() -> None:
    path = make_path(label=2)
    _, cells = draw(path).axes
    bars = [patch for patch in cells.patches if patch.get_linewidth() == 0]
    lengths = np.array([bar.get_width() for bar in bars]).reshape(4, 3)
    wanted = -np.sort(-path.probabilities, axis=1)[:, :3]
    np.testing.assert_allclose(lengths / lengths[0, 0], wanted / wanted[0, 0], rtol=1e-5)


def test_a_sheet_holds_many_images_one_below_the_other(tmp_path: Path) -> None:
    paths = [make_path(name=f"image {number}") for number in range(3)]
    one, three = draw(paths[0]), draw_sheet(paths)
    assert len(three.axes) == 6
    assert three.get_figwidth() == one.get_figwidth()
    assert 2.5 * one.get_figheight() < three.get_figheight() < 3 * one.get_figheight()
    bounds = [axes.get_position().bounds for axes in three.axes]
    assert all(left >= 0 and bottom >= 0 for left, bottom, _, _ in bounds)
    tops = [bottom + height for _, bottom, _, height in bounds]
    assert all(bounds[i][1] > tops[i + 2] for i in range(4)), "none lies over another"
    save_picture(three, tmp_path / "sheet.svg")
    words = "".join(ElementTree.parse(tmp_path / "sheet.svg").getroot().itertext())
    assert all(f"image {number}, 50 x 30 pixels" in words for number in range(3)), "text is text"
    save_picture(three, tmp_path / "sheet.pdf")
    assert (tmp_path / "sheet.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="at least one scanpath"):
        draw_sheet([])


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_equal_sheets_are_equal_files(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_picture(draw(make_path()), tmp_path / f"{name}.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_what_it_lies_on(theme: str) -> None:
    """A contrast of at least 4.5, as the WCAG has it for text."""
    colors = THEMES[theme]  # type: ignore[index]

    def luminance(color: str) -> float:
        parts = [part / 255 for part in rgb(color)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for under in (colors.background, colors.right, colors.wrong):
        light, dark = sorted((luminance(under), luminance(colors.text)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, under
    pixels = as_pixels(draw(make_path(), colors))
    assert pixels[0, -1].tolist() == rgb(colors.background)


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not be written"):
        save_picture(draw(make_path()), tmp_path / "file" / "look.png")


def test_long_names_are_cut() -> None:
    assert [shorten(name, 5) for name in ("seven", "eleven")] == ["seven", "elev…"]


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """No mathematics, and nothing that an SVG or a font would choke on."""
    names = ("$20%$30", r"$\frac$", "a\x1b\tb", "caf\udce9", "日本🦊", *"fghij")
    path = dataclasses.replace(make_path(name="$x%$\n2"), classes=names)
    as_pixels(draw(path))
    for kind in ("svg", "pdf", "png"):
        save_picture(draw(path), tmp_path / f"look.{kind}")
    drawn = ElementTree.parse(tmp_path / "look.svg")  # a control would make it no XML
    texts = ["".join(element.itertext()) for element in drawn.iter() if "text" in element.tag]
    assert any(text.startswith(r"$x%$\n2, 50 x 30 pixels: answer ") for text in texts)
    shown = {names[int(i)] for i in np.argsort(-path.probabilities)[:, :3].flat}
    assert {printable(name)[:9] for name in shown} <= {text[:9] for text in texts}
    frame(path, 3)
