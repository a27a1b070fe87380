from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from foveal.viz.page import SHOWN, page, save_page
from foveal.viz.scanpath import Scanpath, reconstruct
from tests.viz.test_scanpath import make_path

BOX = "e => (({left, top, right, bottom}) => [left, top, right, bottom])(e.getBoundingClientRect())"
CHROMIUM = Path("/usr/bin/chromium")
FIRST = torch.tensor([0.1, 0.3])


class Parts(HTMLParser):
    """What a page consists of: its tags, their attributes, and the text of its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data, self._inside = "", False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = tag == "script" and ("id", "data") in attributes

    def handle_endtag(self, _tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.data += data


def make_images(count: int = 2) -> list[list[Scanpath]]:
    return [
        [
            make_path(scales=3, name=f"image {number}", label=number % 10, first_location=FIRST),
            make_path(scales=3, name=f"image {number}", first_location=FIRST, sampled=True),
        ]
        for number in range(count)
    ]


def pixels_of(url: str) -> NDArray[np.uint8]:
    content = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


def test_the_page_holds_what_the_scanpaths_do() -> None:
    images = make_images()
    found = json.loads(Parts(page(images, "Looks")).data)
    assert found["title"] == "Looks"
    assert len(found["images"]) == 2
    for shown, paths in zip(found["images"], images, strict=True):
        path = paths[0]
        assert shown["size"] == [30, 50]
        assert shown["name"] == path.name
        assert shown["patchSizes"] == list(path.patch_sizes)
        levels = (255 * path.image).round()
        np.testing.assert_array_equal(pixels_of(shown["picture"]), levels)
        for one, path in zip(shown["paths"], paths, strict=True):
            assert one["centers"] == path.centers.tolist()
            assert one["labels"] == [path.label] * path.num_looks
            known = path.answer if path.label is None else path.label
            assert one["known"] == [known] * path.num_looks
            np.testing.assert_allclose(one["probabilities"], path.probabilities, atol=5.1e-4)
            strip, side = pixels_of(one["glimpses"]), shown["glimpseSize"]
            for look in range(path.num_looks):
                for scale in range(3):
                    got = strip[scale * side :, look * side :][:side, :side]
                    levels = (255 * path.glimpses[look, scale]).round()
                    np.testing.assert_array_equal(got, levels)
                    assert one["corners"][look][scale] == list(path.square(look, scale)[:2])


def test_the_page_loads_nothing() -> None:
    text = page(make_images(), "Looks")
    assert not re.search(r"https?:", text)
    assert not re.search(r"\burl\(|@import|\bimport\b|\bfetch\(|XMLHttpRequest|WebSocket", text)
    tags = Parts(text).tags
    assert {"link", "iframe", "object", "embed", "base", "form"}.isdisjoint(t for t, _ in tags)
    for _, attributes in tags:
        assert {"src", "href", "action", "onclick", "onload"}.isdisjoint(attributes)
    (policy,) = (
        attributes["content"]
        for tag, attributes in tags
        if tag == "meta" and "http-equiv" in attributes
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_each_picture_has_a_name_before_any_script_has_run() -> None:
    tags = Parts(page(make_images(), "Looks")).tags
    pictures = [attributes for _, attributes in tags if attributes.get("role") == "img"]
    assert len(pictures) == 2
    assert all(attributes.get("aria-label") for attributes in pictures)


def test_names_cannot_break_out_of_the_page() -> None:
    name = '</script><script>alert("x")</script>'
    path = dataclasses.replace(make_path(), name=name, classes=(name, *"bcdefghij"))
    parts = Parts(page([[path]], f"{name} & Co"))
    assert [tag for tag, _ in parts.tags].count("script") == 2
    found = json.loads(parts.data)
    assert found["images"][0]["name"] == found["images"][0]["classes"][0] == name
    assert found["title"] == f"{name} & Co"
    page([[path]], "runs/caf\udce9").encode()


def test_photographs_are_shown_small_and_the_page_stays_small(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).random((900, 1200, 3), dtype=np.float32)  # the worst case
    path = dataclasses.replace(make_path(channels=3, scales=3), image=photo, image_size=(900, 1200))
    save_page([[path] * 4 for _ in range(20)], "Photographs", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
    shown = json.loads(Parts((tmp_path / "page.html").read_text()).data)["images"][0]
    assert shown["size"] == [900, 1200]
    content = base64.b64decode(shown["picture"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(content)).size == (SHOWN, SHOWN * 3 // 4)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser_one_steps_through_the_looks(
    width: int, scheme: str, browser: Any, tmp_path: Path
) -> None:
    images = make_images()
    save_page(images, "Looks", tmp_path / "page.html")
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
    )
    tab = context.new_page()
    troubles: list[str] = []
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto((tmp_path / "page.html").as_uri())

    def wait_for(words: str) -> str:
        tab.wait_for_function("(words) => said.textContent.startsWith(words)", arg=words)
        said: str = tab.inner_text("#said")
        return said

    x, y = images[0][0].centers[0]
    assert f"at ({x}, {y})" in wait_for("Look 1 of 4")
    assert tab.locator("main").count() == tab.locator("main h1").count() == 1
    assert tab.locator("body > :not(main, script)").count() == 0, "all of it lies in a landmark"
    assert tab.locator("#where rect").count() == 3
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    x, y = images[0][0].centers[2]
    assert f"at ({x}, {y})" in wait_for("Look 3 of 4")
    assert tab.locator("#where rect").count() == 2 + 3, "earlier looks by their finest square"
    assert tab.locator("#where text").all_text_contents() == ["1", "2", "3"]
    # The browser's reconstruction is ours, but for the rounding to 256 levels.
    shown = tab.evaluate(
        "[...seen.getContext('2d').getImageData(0, 0, seen.width, seen.height).data]"
    )
    red, alpha = (np.array(shown).reshape(30, 50, 4)[..., part] for part in (0, 3))
    wanted = reconstruct(images[0][0], 3)
    np.testing.assert_array_equal(alpha == 0, np.isnan(wanted))
    np.testing.assert_allclose(red[alpha > 0], 255 * wanted[alpha > 0], atol=0.51)
    tab.keyboard.press("p")
    x, y = images[0][1].centers[2]
    tab.wait_for_function(f"said.textContent.includes('at ({x}, {y})')")
    assert tab.is_checked("#policies input[value='1']")
    tab.keyboard.press("ArrowDown")
    wait_for("Look 1 of 4")
    assert tab.input_value("#image") == "1"
    tab.focus("#look")
    tab.keyboard.press("ArrowRight")
    wait_for("Look 2 of 4")
    tab.click("#play")
    wait_for("Look 4 of 4")
    assert tab.inner_text("#play") == "Play", "it stops at the end"
    discs = tab.eval_on_selector_all("#where .number", f"all => all.map({BOX})")
    edge = tab.eval_on_selector("#where", BOX)
    assert len(discs) == 4
    for number, (left, top, right, bottom) in enumerate(discs):
        assert edge[0] <= left < right <= edge[2], "none is cut at an edge"
        assert edge[1] <= top < bottom <= edge[3]
        for other in discs[:number]:
            apart = math.hypot(left - other[0], top - other[1])
            assert apart >= right - left - 0.1, "none hides another"
        for dot in tab.eval_on_selector_all("#where circle:not(.number)", f"all => all.map({BOX})"):
            middle = ((dot[0] + dot[2]) / 2, (dot[1] + dot[3]) / 2)
            away = math.hypot(middle[0] - (left + right) / 2, middle[1] - (top + bottom) / 2)
            assert away > (right - left) / 2, "nor a place that was looked at"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut off"
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert dark == (scheme == "dark")
    assert not troubles
    assert all(url.startswith(("file:", "data:")) for url in requests)
    context.close()
