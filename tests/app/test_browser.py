"""A real browser uses the page: Chromium, Debian's package, without a window."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page is the extra foveal[app]")
sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="needs Chromium: apt-get install chromium, as .ci/run does"
    ),
    # A browser that other tests crowd out stalls once in hundreds of pages: twice is a fault.
    pytest.mark.flaky(reruns=1, only_rerun=["TimeoutError"]),
]
PATIENCE = 90_000  # milliseconds, on a machine that does much besides
SEVEN = [[(0.2, 0.2), (0.7, 0.2), (0.4, 0.8)]]
ONE = [[(0.6, 0.1), (0.6, 0.6)]]
WIDTHS = (1280, 390)


class Server:
    """``foveal app`` as a process of its own, and what it says."""

    def __init__(self, directory: Path) -> None:
        self.log, self.url = directory / "log", ""
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "foveal", "app", "--no-browser", "--max-upload", "1"],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, pattern: str) -> str:
        """The first group of a pattern, as soon as the log has it."""
        for _ in range(PATIENCE // 100):
            found = re.search(pattern, self.log.read_text())
            if found:
                return found[1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"{pattern} not in {self.log.read_text()!r}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("app"))
    try:
        started.url = started.wait_for(r"(http://127\.0\.0\.1:\d+): the page is open")
        yield started
        with urllib.request.urlopen(f"{started.url}/gradio_api/heartbeat/an-open-page"):
            started.process.send_signal(signal.SIGINT)
            assert started.process.wait(30) == 0, "Ctrl-C ends it"
    finally:
        started.process.kill()
        started.process.wait(30)
    said = started.log.read_text().splitlines()
    assert all(line.startswith(("http://", "foveal app: a page was closed")) for line in said), said


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


class Visitor:
    """One session on the page, and all that its browser asked for."""

    def __init__(self, browser: Any, server: Server, width: int = WIDTHS[0]) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.failed: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.failed.append(str(error)))
        self.page.goto(server.url)
        self.page.locator("#pad canvas").wait_for()

    def draw(self, strokes: list[list[tuple[float, float]]]) -> None:
        canvas = self.page.locator("#pad canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        for stroke in strokes:
            for number, (x, y) in enumerate(stroke):
                self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
                if number == 0:
                    self.page.mouse.down()
            self.page.mouse.up()

    def answer(self, tab: str = "draw") -> tuple[str, int]:
        """The answer and the number of looks that the page gives."""
        said = self.page.locator(f"#{tab}-answer [data-answer]")
        said.wait_for()
        return said.get_attribute("data-answer"), int(said.get_attribute("data-looks"))

    def gaze(self, tab: str = "draw") -> Any:
        return self.page.frame_locator(f"#{tab}-gaze iframe:not(.foveal-loading)")

    def turn_to(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab).click()

    def leave(self) -> None:
        self.context.close()


@pytest.fixture
def visit(chromium: Any, server: Server) -> Iterator[Any]:
    visitors: list[Visitor] = []

    def arrive(width: int = WIDTHS[0]) -> Visitor:
        visitors.append(Visitor(chromium, server, width))
        return visitors[-1]

    yield arrive
    for visitor in visitors:
        assert not visitor.failed
        visitor.leave()


def test_a_drawn_digit_is_answered_and_its_gaze_stepped_through(visit: Any) -> None:
    visitor = visit()
    assert "Nothing is drawn yet" in visitor.page.locator("#draw-answer").inner_text()
    visitor.draw(SEVEN)
    assert visitor.answer() == ("7", 8)
    gaze = visitor.gaze()
    gaze.get_by_text("Look 8 of 8").wait_for()
    assert gaze.locator("#where .number").count() == 8
    assert gaze.locator("#beliefs li").count() == 10
    gaze.get_by_label("Look before").click()
    gaze.get_by_text("Look 7 of 8").wait_for()
    assert gaze.locator("#where .number").count() == 7
    visitor.page.get_by_role("button", name="Clear").click()
    visitor.page.get_by_text("Nothing is drawn yet").wait_for()
    assert visitor.page.locator("#draw-gaze iframe").count() == 0
    visitor.draw([[(0.5, 0.5)]])
    visitor.page.get_by_text("only a dot").wait_for()


def test_uploads_good_and_bad(visit: Any, tmp_path: Path) -> None:
    frames = [Image.new("L", (60, 60), light) for light in (0, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "text.png").write_text("a thousand words")
    (tmp_path / "empty.png").touch()
    (tmp_path / "large.png").write_bytes(bytes(2_000_000))
    sheet = Image.new("L", (60, 60))
    sheet.paste(255, (30, 10, 33, 30))
    sheet.save(tmp_path / "one.png")
    visitor = visit()
    visitor.turn_to("Your image")
    chooser = visitor.page.locator("#picture-file input[type=file]")
    for name, words in (
        ("text.png", "text.png is not a PNG"),
        ("empty.png", "empty.png is empty"),
        ("film.gif", "film.gif is an animation of 2 frames"),
        ("large.png", "large.png has 2 MB; at most 1 MB are taken"),
    ):
        chooser.set_input_files(tmp_path / name)
        visitor.page.get_by_text(words).first.wait_for()
        if name != "large.png":
            visitor.page.get_by_label("Remove").or_(
                visitor.page.get_by_label("Clear")
            ).first.click()
            # Or the server's answer to this comes after, and over, what the page says next.
            visitor.page.get_by_text("No image yet").wait_for()
    chooser.set_input_files(tmp_path / "one.png")
    assert visitor.answer("picture") == ("1", 8)
    visitor.gaze("picture").get_by_text("Look 8 of 8").wait_for()


def carries(request: Any, word: str) -> bool:
    """Whether a request calls a function of the page, with a word in what it is given."""
    return request.url.endswith("/run/predict") and f'"{word}' in (request.post_data or "")


def test_catch_is_watched_and_played_with_the_keyboard(visit: Any) -> None:
    visitor = visit()
    visitor.turn_to("Catch")
    page = visitor.page
    page.get_by_label("Moves a second").fill("12")
    page.locator("#catch-watch").click()
    page.locator("#board").get_by_text("Over.").wait_for()
    page.locator("#catch-score").get_by_text("No games yet").wait_for()
    with page.expect_response(lambda reply: carries(reply.request, "")) as dealt:
        page.locator("#catch-play").click()
    game = dealt.value.json()["data"][0]
    page.keyboard.down("ArrowLeft")
    with page.expect_request(lambda request: carries(request, "moves")) as judged:
        page.locator("#catch-score [data-games='1']").wait_for()
    page.keyboard.up("ArrowLeft")
    moves = judged.value.post_data_json["data"][0]["moves"]
    assert len(moves) == 23
    assert set(moves[10:]) == {0}, "the key was held"
    paddle = game["paddles"][0]
    for move in moves:
        paddle = min(max(paddle + move - 1, 0), 22)
    caught = int(0 <= game["balls"][-1][0] - paddle < 2)
    score = page.locator("#catch-score [data-games]")
    assert score.get_attribute("data-you") == str(caught)
    assert score.get_attribute("data-agent") == str(int(game["caught"]))


def test_sessions_do_not_mix_and_one_may_leave_in_mid_game(visit: Any, server: Server) -> None:
    first, second = visit(), visit()
    first.draw(SEVEN)
    second.draw(ONE)
    assert first.answer()[0] == "7"
    assert second.answer()[0] == "1"
    second.turn_to("Catch")
    second.page.locator("#catch-play").click()
    second.page.get_by_role("button", name="Pause").click()
    second.leave()
    others = server.wait_for(r"foveal app: a page was closed in mid-game; .* for (\d+) other")
    assert int(others) >= 1
    assert server.log.read_text().count("mid-game") == 1
    first.page.get_by_role("button", name="Clear").click()
    first.page.get_by_text("Nothing is drawn yet").wait_for()
    first.draw(ONE)
    assert first.answer()[0] == "1"


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_and_nothing_comes_from_elsewhere(visit: Any, width: int) -> None:
    visitor = visit(width)
    visitor.draw(SEVEN)
    visitor.gaze().get_by_text("Look 8 of 8").wait_for()
    for tab in ("Draw", "Your image", "Catch"):
        visitor.turn_to(tab)
        if tab == "Catch":
            visitor.page.locator("#catch-play").click()
            visitor.page.get_by_text(re.compile(r"Move \d+ of 23")).wait_for()
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == width
        frames = [frame for frame in visitor.page.frames if frame.parent_frame]
        for frame in frames if tab == "Draw" else []:
            inside, seen = frame.evaluate(
                "[document.documentElement.scrollHeight, window.innerHeight]"
            )
            assert inside <= seen, "the frame is as high as what it shows"
        directory = os.environ.get("FOVEAL_SCREENSHOTS")
        if directory:
            visitor.page.screenshot(path=Path(directory, f"{tab}-{width}.png"), full_page=True)
    assert visitor.asked
    for url in visitor.asked:
        assert url.startswith((visitor.page.url, "data:", "blob:", "about:")), url


def test_on_a_phone_what_belongs_together_is_seen_together(visit: Any) -> None:
    """The answer under the drawing, and Catch's buttons under the game, before anything else."""
    visitor = visit(390)
    page = visitor.page
    visitor.draw(SEVEN)
    visitor.answer()

    def box(selector: str) -> Any:
        return page.locator(selector).bounding_box()

    def bottom(selector: str) -> float:
        found = box(selector)
        return float(found["y"] + found["height"])

    assert 0 <= box("#draw-answer [data-answer]")["y"] - bottom("#pad .foveal-buttons") < 60
    assert box("#draw-model")["y"] > bottom("#draw-gaze iframe")
    said = page.locator("#draw-answer").inner_text()
    believed = visitor.gaze().locator("#beliefs .right").inner_text()
    assert re.findall(r"[\d.]+.%", believed.replace("\u00a0", " ")) == re.findall(r"[\d.]+.%", said)
    visitor.turn_to("Catch")
    for button, who in (("play", "you"), ("watch", "agent")):
        page.locator(f"#catch-{button}").click()
        page.get_by_text(re.compile(r"Move \d+ of 23")).wait_for()
        canvas = f"#board [data-who={who}] canvas"
        assert 0 <= box("#board .foveal-buttons")["y"] - bottom(canvas) < 60
        assert bottom("#board .foveal-buttons") - box(canvas)["y"] < 844
        page.locator("#board").get_by_text("Over.").wait_for()


def test_the_served_page_names_no_other_host(server: Server) -> None:
    with urllib.request.urlopen(server.url) as reply:
        page, policy = reply.read().decode(), reply.headers["content-security-policy"]
    hosts = set(re.findall(r"https?://([^/\"'\\\s<]+)", page))
    assert hosts <= {server.url.removeprefix("http://")}
    assert policy.startswith("default-src 'self'")
