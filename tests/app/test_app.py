"""What is behind the page, without a browser."""

from __future__ import annotations

import json
import logging
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from foveal import RAMConfig, RecurrentAttention
from foveal.app.catch import CatchTable
from foveal.app.draw import Drawing
from foveal.app.models import Agent, Classifier, load_models, named
from foveal.app.picture import Viewing
from foveal.app.rounds import deal, replay
from foveal.app.sessions import MOST, Sessions
from foveal.app.strokes import compose, digits_of, draw_digit, read_strokes
from foveal.envs import EnvConfig
from foveal.tasks import CanvasTask, TaskConfig

SEVEN = [[[0.2, 0.1], [0.8, 0.1], [0.4, 0.9]]]
FOUR = [[[0.3, 0.1], [0.2, 0.55], [0.8, 0.55]], [[0.65, 0.3], [0.65, 0.95]]]


@pytest.fixture(scope="module")
def models() -> tuple[list[Classifier], list[Agent]]:
    return load_models()


@pytest.fixture(scope="module")
def drawing(models: tuple[list[Classifier], list[Agent]]) -> Drawing:
    return Drawing(models[0])


@pytest.fixture(scope="module")
def table(models: tuple[list[Classifier], list[Agent]]) -> CatchTable:
    return CatchTable(models[1], Sessions())


def moved(strokes: list[Any], size: float, x: float, y: float) -> list[Any]:
    return [[[x + size * a, y + size * b] for a, b in stroke] for stroke in strokes]


@pytest.mark.parametrize("size", [0.15, 1.0])
def test_a_drawing_is_brought_to_the_size_of_mnist(size: float) -> None:
    """20 pixels high, centre of mass in the middle: LeCun et al. 1998."""
    digit, middle = draw_digit(read_strokes(moved(SEVEN, size, 0, 0)))
    rows, _ = np.nonzero(digit > 127)
    assert 19 <= rows.max() - rows.min() + 1 <= 20
    light = digit / digit.sum()
    ys, xs = np.mgrid[:28, :28] + 0.5
    assert (light * ys).sum() == pytest.approx(14, abs=0.25)
    assert (light * xs).sum() == pytest.approx(14, abs=0.25)
    assert middle == pytest.approx((0.5 * size, 0.5 * size))


def test_lines_are_as_wide_whatever_the_size_of_the_drawing() -> None:
    small, large = (draw_digit(read_strokes(moved(SEVEN, size, 0, 0)))[0] for size in (0.1, 1))
    np.testing.assert_allclose(small.astype(int), large.astype(int), atol=2)


def test_a_drawing_stays_where_it_was_drawn() -> None:
    task = CanvasTask(TaskConfig(digits="uci", canvas_size=60, num_clutter=6))
    bar = [[[0.7, 0.2], [0.7, 0.5]]]  # centre at (42, 21) pixels
    image = compose(task, read_strokes(bar), 0, seed=0)
    assert image.shape == (1, 60, 60)
    ys, xs = np.nonzero(image[0].numpy() > 0.5)
    assert (ys.min() + ys.max() + 1) / 2 == pytest.approx(21, abs=1)
    assert (xs.min() + xs.max() + 1) / 2 == pytest.approx(42, abs=1)
    corner = compose(task, read_strokes(moved(SEVEN, 0.2, 0.8, 0.8)), 0, seed=0)
    assert (corner > 0.5).sum() == (compose(task, read_strokes(SEVEN), 0, 0) > 0.5).sum()


def test_clutter_adds_light_and_comes_from_the_seed() -> None:
    task = CanvasTask(TaskConfig(digits="uci", canvas_size=60, num_clutter=6))
    strokes = read_strokes(moved(SEVEN, 0.3, 0.3, 0.3))
    bare, once, again, other = (
        compose(task, strokes, n, s) for n, s in ((0, 1), (6, 1), (6, 1), (6, 2))
    )
    assert (once >= bare).all()
    assert (once > bare).sum() > 20
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_several_digits_are_told_apart_and_lie_where_they_were_drawn() -> None:
    task = CanvasTask(TaskConfig(digits="uci", canvas_size=100, num_clutter=6))
    places = ((0.05, 0.1), (0.6, 0.1), (0.3, 0.65))
    alone = [moved(FOUR, 0.3, *place) for place in places]
    # Drawn in turns, and the last a bar across two strokes, which joins them.
    turns = [stroke for strokes in zip(*alone, strict=True) for stroke in strokes]
    found = digits_of(read_strokes(turns))
    assert sorted(len(digit) for digit in found) == [2, 2, 2]
    bar = [[[0.05, 0.2], [0.95, 0.2]]]
    assert sorted(len(digit) for digit in digits_of(read_strokes(turns + bar))) == [2, 5]
    image = compose(task, read_strokes(turns), 0, seed=0, counts=(1, 3))
    one_by_one = sum(compose(task, read_strokes(strokes), 0, seed=0) for strokes in alone)
    assert torch.equal(image, one_by_one)
    for counts, words in {(1, 2): "reads 1 to 2 digits; 3 drawn", (4, 4): "reads 4 digits"}.items():
        with pytest.raises(ValueError, match=words):
            compose(task, read_strokes(turns), 0, seed=0, counts=counts)


def test_a_model_of_several_digits_answers_each() -> None:
    task = TaskConfig(canvas_size=100, num_digits=(1, 5), arrangement="apart", answer="sequence")
    config = RAMConfig(num_glimpses=1, max_answers=5, with_end=True, num_classes=11)
    network = RecurrentAttention(config).eval()
    with torch.no_grad():
        network.action_head.bias[7] = 50.0
    model = Classifier("five", network, (*"0123456789", "end"), task)
    said, shown = Drawing([model])(moved(SEVEN, 0.3, 0, 0) + moved(FOUR, 0.3, 0.5, 0), "five", 0, 0)
    assert 'data-answer="7 7 7 7 7" data-looks="5"' in said
    assert shown is not None


def test_the_belief_in_a_sequence_is_that_in_its_answers_and_its_end() -> None:
    task = TaskConfig(canvas_size=100, num_digits=(1, 5), arrangement="apart", answer="sequence")
    config = RAMConfig(num_glimpses=1, max_answers=5, with_end=True, num_classes=11)
    network = RecurrentAttention(config).eval()
    with torch.no_grad():
        network.action_head.weight.zero_()
        network.action_head.bias.zero_()
        network.action_head.bias[10] = 2.0  # the end, at once
    model = Classifier("none", network, (*"0123456789", "end"), task)
    path = model.look(torch.zeros(1, 100, 100), 0)
    assert path.answers == ()
    assert path.chance == pytest.approx(math.exp(2) / (math.exp(2) + 10))
    with torch.no_grad():
        network.action_head.bias[3] = 3.0  # 3, five times
    path = model.look(torch.zeros(1, 100, 100), 0)
    assert path.answers == (3,) * 5
    assert path.chance == pytest.approx((math.exp(3) / (math.exp(2) + math.exp(3) + 9)) ** 5)


@pytest.mark.parametrize("name", ["cluttered-60", "mnist-28"])
def test_drawn_digits_are_recognized(drawing: Drawing, name: str) -> None:
    for strokes, wanted in ((SEVEN, "7"), (FOUR, "4")):
        said, shown = drawing(moved(strokes, 0.4, 0.2, 0.3), name, 0, 0)
        looks = named(drawing.models, name).network.config.num_glimpses
        assert f'data-answer="{wanted}" data-looks="{looks}"' in said
        assert shown is not None
        assert shown["page"].startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("strokes", "words"),
    [
        ([], "Nothing is drawn yet"),
        (None, "Nothing is drawn yet"),
        ([[]], "Nothing is drawn yet"),
        ([[[0.5, 0.5]]], "only a dot"),
        ([[[0.5, 0.5], [0.51, 0.5]]], "only a dot"),
        ([[[0.5]]], "must be lists of points"),
        ("7", "must be lists of points"),
        ([[["a", "b"]]], "must be lists of points"),
        ([[[0.5, float("nan")], [0, 0]]], "must be lists of points"),
        ([[[0.5, 0.5]] * 20_001], "may have 20,000 points; this one has 20,001"),
    ],
)
def test_a_drawing_of_nothing_gets_a_message(drawing: Drawing, strokes: Any, words: str) -> None:
    said, shown = drawing(strokes, "cluttered-60", 4, 0)
    assert 'role="alert"' in said
    assert words in said
    assert shown is None


def test_a_model_that_does_not_exist_gets_a_message(drawing: Drawing) -> None:
    said, shown = drawing(SEVEN, "<b>none", 0, 0)
    assert "there is no model &#x27;&lt;b&gt;none&#x27;; choose one of cluttered-100, " in said
    assert shown is None


def test_ones_own_model_is_offered_beside_the_shipped(tmp_path: Path) -> None:
    RecurrentAttention(RAMConfig(num_classes=3, num_channels=3)).save_pretrained(tmp_path / "own")
    classifiers, agents = load_models([str(tmp_path / "own")])
    assert classifiers[0].classes == ("0", "1", "2")
    assert not classifiers[0].reads_digits
    assert {"cluttered-60", "mnist-28"} <= {model.name for model in classifiers}
    assert [agent.name for agent in agents] == ["catch"]
    with pytest.raises(FileNotFoundError, match="there is no directory 'nothing'"):
        load_models(["nothing"])


@pytest.fixture
def viewing(models: tuple[list[Classifier], list[Agent]]) -> Viewing:
    return Viewing(models[0])


def bomb(path: Path, side: int) -> None:
    """A PNG of a few kilobytes that unfolds to side x side black pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return len(content).to_bytes(4) + kind + content + check.to_bytes(4)

    header = side.to_bytes(4) * 2 + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(bytes((side // 8 + 1) * 100))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    path.write_bytes(start + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_an_image_file_is_looked_at(viewing: Viewing, tmp_path: Path) -> None:
    digit, _ = draw_digit(read_strokes(SEVEN))
    sheet = Image.new("L", (60, 60))
    sheet.paste(Image.fromarray(digit), (20, 10))
    large = sheet.resize((300, 300), Image.Resampling.NEAREST)
    large.save(tmp_path / "seven.png")
    ink = Image.fromarray(255 - np.asarray(large)).convert("RGB")
    ink.save(tmp_path / "ink.png")
    for name, invert in (("seven.png", False), ("ink.png", True)):
        said, shown = viewing(str(tmp_path / name), "cluttered-60", True, invert)
        assert 'data-answer="7" data-looks="8"' in said
        assert shown is not None
        assert name in shown["page"]
    _, shown = viewing(str(tmp_path / "seven.png"), "cluttered-60", False, False)
    assert shown is not None
    assert '"size": [300, 300]' in shown["page"]


def test_a_large_tiff_is_looked_at_where_it_lies(viewing: Viewing, tmp_path: Path) -> None:
    sheet = np.zeros((2500, 3000), np.uint8)
    sheet[1000:1400, 1500:1540] = 255
    tifffile.imwrite(tmp_path / "slide.tif", sheet, tile=(256, 256))
    said, shown = viewing(str(tmp_path / "slide.tif"), "cluttered-60", False, False)
    assert 'data-looks="8"' in said, said
    assert shown is not None
    assert '"size": [2500, 3000]' in shown["page"]
    said, shown = viewing(str(tmp_path / "slide.tif"), "cluttered-60", True, False)
    assert shown is not None
    assert '"size": [50, 60]' in shown["page"]
    said, shown = viewing(str(tmp_path / "slide.tif"), "cluttered-60", False, True)
    assert 'data-looks="8"' in said, "inverted where it is looked at"
    assert "is dark at its edge, and the images in training were dark (leave out" in said
    (tmp_path / "cut.tif").write_bytes((tmp_path / "slide.tif").read_bytes()[:5000])
    assert "cut.tif is" in viewing(str(tmp_path / "cut.tif"), "cluttered-60", True, False)[0]


def test_wrong_uploads_get_a_message(viewing: Viewing, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("I am a picture, believe me")
    bomb(tmp_path / "bomb.png", 60_000)
    frames = [Image.new("L", (30, 30), light) for light in (0, 99, 200)]
    for name in ("film.gif", "film.png", "film.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    Image.new("L", (100, 100)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    words = {
        "empty.png": "empty.png is empty (0 bytes)",
        "text.png": "text.png is not a PNG",
        "bomb.png": "bomb.png would unfold to",
        "film.gif": "film.gif is an animation of 3 frames",
        "film.png": "film.png is an animation of 3 frames",
        "film.webp": "film.webp is an animation of 3 frames",
        "cut.png": "cut.png is damaged",
        "gone.png": "gone.png is no longer on the server. Drop the file again.",
    }
    for name, wanted in words.items():
        said, shown = viewing(str(tmp_path / name), "cluttered-60", True, False)
        assert wanted in said, said
        assert str(tmp_path) not in said
        assert shown is None
    assert "No image yet" in viewing(None, "cluttered-60", True, False)[0]


def ball_of(game: dict[str, Any]) -> int:
    return int(game["balls"][-1][0])


def test_a_game_is_shown_as_the_agent_plays_it(table: CatchTable) -> None:
    games = [deal(table.agent, seed) for seed in range(12)]
    for game in games:
        assert len(game["balls"]) == len(game["paddles"]) == 24
        assert len(game["corners"]) == len(game["glimpses"]) == 23
        assert [y for _, y in game["balls"]] == list(range(24))
        assert np.abs(np.diff(game["paddles"])).max() <= 1
        assert game["caught"] == (0 <= ball_of(game) - game["paddles"][-1] < 2)
    assert sum(game["caught"] for game in games) >= 11
    assert json.loads(json.dumps(games[0]))["patchSizes"] == [6, 12, 24]
    assert deal(table.agent, 3) == games[3]


def test_what_a_look_brings_is_cut_out_of_the_screen(table: CatchTable) -> None:
    game = deal(table.agent, 5)
    for time in range(23):
        screen = np.zeros((24, 24))
        x, y = game["balls"][time]
        screen[y, x] = 255
        screen[23, game["paddles"][time] : game["paddles"][time] + 2] = 255
        left, top = game["corners"][time][0]
        padded = np.pad(screen, 24)
        wanted = padded[top + 24 : top + 30, left + 24 : left + 30]
        np.testing.assert_array_equal(game["glimpses"][time][0], wanted)


def test_a_persons_game_is_judged_by_the_rules(table: CatchTable) -> None:
    session = table.sessions.of("me")
    caught = 0
    for games in range(1, 5):
        game = table.deal(session, against=True, seed=games)
        aim = ball_of(game) if games % 2 else (ball_of(game) + 12) % 24
        column, moves = game["paddles"][0], []
        for _ in range(23):
            move = 1 + int(np.sign(min(aim, 22) - column))
            moves.append(move)
            column += move - 1
        caught += 0 <= ball_of(game) - column < 2
        said = table.judge(session, {"id": game["id"], "moves": moves})
        assert f'data-games="{games}" data-you="{caught}"' in said
    assert 1 <= caught <= 3


@pytest.mark.parametrize(
    ("played", "words"),
    [
        (None, "not dealt here"),
        ({}, "not dealt here"),
        ({"id": 8, "moves": []}, "not dealt here"),
        ({"id": 7, "moves": "left"}, "not dealt here"),
        ({"id": 7, "moves": [1] * 22}, "not over yet"),
        ({"id": 7, "moves": [1] * 24}, "a game has 23 moves"),
        ({"id": 7, "moves": [1] * 22 + [3]}, "a game has 23 moves"),
        ({"id": 7, "moves": [1] * 22 + ["x"]}, "a game has 23 moves"),
    ],
)
def test_moves_that_cannot_be_are_refused(table: CatchTable, played: Any, words: str) -> None:
    session = Sessions().of("me")
    table.deal(session, against=True, seed=7)
    assert words in table.judge(session, played)
    assert session.games == 0
    assert session.playing


def test_a_game_counts_once(table: CatchTable) -> None:
    session = Sessions().of("me")
    played = {"id": table.deal(session, against=True)["id"], "moves": [1] * 23}
    assert 'data-games="1"' in table.judge(session, played)
    assert "not dealt here" in table.judge(session, played)
    watched = {"id": table.deal(session, against=False)["id"], "moves": [1] * 23}
    assert "not dealt here" in table.judge(session, watched)
    assert session.games == 1


def test_sessions_do_not_mix_and_end(caplog: pytest.LogCaptureFixture) -> None:
    sessions = Sessions()
    sessions.of("a").games = 3
    sessions.of("b").playing = True
    assert sessions.of("a").games == 3
    assert sessions.of("b").games == 0
    with caplog.at_level(logging.INFO):
        sessions.close("a")
        assert not caplog.records
        sessions.close("b")
        sessions.close("never opened")
    assert [record.message for record in caplog.records] == [
        "a page was closed in mid-game; the server goes on for 0 other(s)"
    ]
    assert sessions.of("a").games == 0
    for number in range(2 * MOST):
        sessions.of(str(number))
    assert len(sessions) == MOST


def test_games_of_other_sizes_are_played(table: CatchTable) -> None:
    game = deal(Agent("", table.agent.network, EnvConfig(env_options=("size=12",))), 0)
    assert game["size"] == 12
    assert len(game["balls"]) == 12
    assert replay(EnvConfig(env_options=("size=12",)), 0, [1] * 11).over
