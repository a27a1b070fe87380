"""What screens suggest, against what can be worked out by hand."""

from __future__ import annotations

import pytest
import torch

from foveal.envs import EnvConfig
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.runs.screens import suggest_for_screens
from tests.envs import test_games  # it registers what is still

assert test_games.Still


@pytest.mark.parametrize(
    ("shape", "lit", "wanted"),
    [
        # One pixel of 24 x 24: its root mean square is 1/24, and 1/4 of that is in averages.
        ((24, 24), (0, 0), (8, 3, 6.0, 4.0)),
        # All lit: averages are as bright. The coarsest patch of 12 x 2^5 reaches across 210.
        ((210, 160, 3), (), (12, 6, 1.0, 1.0)),
        # Two rows of 32, in one average: as bright there. 1/16 is lit, at 0.25.
        ((32, 32), [0, 1], (8, 3, 1.0, 1.0)),
        # A row of 16: two of the four pixels that are averaged are lit, 1/4 at 1/2 in power.
        ((16, 16), 0, (4, 3, 1.0, 2.0)),
    ],
)
def test_sizes_and_gains_follow_from_the_screen(
    shape: tuple[int, ...], lit: object, wanted: tuple[float, ...]
) -> None:
    options = (f"shape={shape}", "high=255", "dtype=uint8")
    found, reasons = suggest_for_screens(EnvConfig("test/Still-v0", (*options, f"lit={lit}")))
    assert tuple(found.values()) == pytest.approx(wanted)
    assert "--glimpse-size" in reasons[0].words
    assert "--glimpse-gain" in reasons[1].words


@pytest.mark.parametrize(
    ("side", "thumbnail", "cells", "scales", "gain"),
    [(10, 5, 5, 1, 2), (24, 12, 12, 1, 2.4), (84, 42, 21, 2, 4.6), (240, 48, 24, 3, 19.5)],
)
def test_a_thumbnail_of_the_screen_has_half_of_its_pixels_across(
    side: int, thumbnail: int, cells: int, scales: int, gain: float
) -> None:
    """And at most 48; glimpses of 4, 8 and 12 pixels need not reach across: a quarter of it.

    Of the screen a row is lit: its root mean square is side^-1/2, to be 1/4 (a gain is at least 1),
    and its averages are as many times darker as a pixel of the thumbnail has rows.
    """
    options = (f"shape=({side}, {side})", "high=255", "dtype=uint8", "lit=0")
    found, reasons = suggest_for_screens(EnvConfig("test/Still-v0", options), "conv")
    settings = found["context_settings"]
    assert (settings.thumbnail_size, found["num_scales"]) == (thumbnail, scales)
    assert settings.thumbnail_gain == pytest.approx(gain, rel=0.03)
    assert settings.context_pool == "none"
    assert f"--thumbnail-size {thumbnail}" in reasons[2].words
    model = RAMConfig(
        policy="map", context="conv", num_channels=1, num_glimpses=1, num_classes=3, **found
    )
    _, state = RecurrentAttention(model).begin(torch.rand(2, 1, side, side))
    assert state[-1].shape[-2:] == (cells, cells)
