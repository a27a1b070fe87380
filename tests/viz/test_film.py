from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.evaluation.agent import Moment
from foveal.model.attention import RecurrentAttention
from foveal.model.drawn import SCREEN, on_screen, outline
from foveal.viz.film import (
    Film,
    check_film,
    contact_sheet,
    film_of,
    frame,
    save_film,
)
from foveal.viz.theme import THEMES
from tests.conftest import TINY
from tests.viz.test_drawing import rgb
from tests.viz.test_scanpath import make_path


def test_a_frame_shows_no_more_than_has_been_seen_by_then() -> None:
    path = make_path(scales=3)
    unseen = [
        (np.asarray(frame(path, look)) == rgb(THEMES["light"].unseen)).all(-1).sum()
        for look in range(path.num_looks)
    ]
    assert unseen == sorted(unseen, reverse=True)
    assert unseen[0] > unseen[-1] > 0


@pytest.mark.parametrize("size", [(40_000, 40_000), (40_000, 40), (40, 40_000)])
def test_a_square_of_less_than_a_pixel_is_a_point_at_its_place(size: tuple[int, int]) -> None:
    """The eye is at three quarters of the image's longer side, and so is the point."""
    squares = {0: (int(0.75 * size[1]), int(0.75 * size[0]), 24)}
    longer = int(np.argmax(size))
    screen = on_screen(np.zeros((1, 1), dtype=np.float32), size)
    outline(screen, squares, size)
    drawn = np.argwhere(np.asarray(screen).any(-1))
    assert len(drawn)
    assert drawn[:, longer].mean() == pytest.approx(0.75 * SCREEN, abs=2)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_gif_has_a_frame_for_each_look_and_stays_at_the_answer(
    theme: str, tmp_path: Path
) -> None:
    paths = [make_path(name="one"), make_path(name="two", num_glimpses=2)]
    frames, times = film_of(paths, THEMES[theme])  # type: ignore[index]
    save_film(frames, times, tmp_path / "look.gif")
    with Image.open(tmp_path / "look.gif") as film:
        assert film.n_frames == 4 + 2
        lasting = []
        for number in range(film.n_frames):
            film.seek(number)
            lasting.append(film.info["duration"])
            assert film.size == frames[0].size
    assert lasting == times
    assert lasting[3] == lasting[5] > lasting[0]
    assert frames[0].getpixel((0, 0)) == tuple(rgb(THEMES[theme].background))  # type: ignore[index]


def test_an_mp4_shows_each_frame_as_long_as_it_should(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    colors = ((255, 0, 0), (0, 0, 255))
    frames = [Image.new("RGB", (61, 33), color) for color in colors]
    save_film(frames, [400, 1000], tmp_path / "film.mp4")
    with av.open(tmp_path / "film.mp4") as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 62, 34)
        shown = [one.to_ndarray(format="rgb24")[16, 30] for one in film.decode(video=0)]
    assert len(shown) == 25 * 1.4
    wanted = [colors[0]] * 10 + [colors[1]] * 25
    np.testing.assert_allclose(np.array(shown, dtype=int), wanted, atol=12)


def test_without_pyav_an_mp4_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **options: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'pip install "foveal\[video\]"'):
        save_film([Image.new("RGB", (4, 4))], [100], tmp_path / "film.mp4")
    check_film(tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


def test_a_game_is_kept_to_its_end_or_as_long_as_asked() -> None:
    agent = RecurrentAttention(TINY)

    def moments(film: Film) -> None:
        for look in range(6):
            over = torch.tensor([look == 3, look == 5])
            film(
                Moment(
                    images=torch.rand(2, 1, 20, 30),
                    locations=torch.zeros(2, 2),
                    actions=torch.zeros(2, dtype=torch.long),
                    rewards=torch.zeros(2),
                    over=over,
                    played=torch.tensor([look != 4, True]),
                )
            )

    whole, short = Film(agent, 3), Film(agent, 1, most_looks=2)
    moments(whole)
    moments(short)
    assert [len(reel) for reel in whole.reels] == [4, 6, 1], "a reset is no look"
    assert [len(reel) for reel in short.reels] == [2]
    sheet, (width, height) = contact_sheet(whole.reels[1] * 2), whole.reels[1][0].size
    assert sheet.shape == (2 * -(-height // 2), 6 * -(-width // 2), 3)
