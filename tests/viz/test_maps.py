from __future__ import annotations

import numpy as np
import pytest
import torch

from foveal.evaluation.classifier import Gaze
from foveal.viz.maps import density, draw_maps


def test_a_map_counts_looks_where_they_fell() -> None:
    corners = torch.tensor([[-1.0, -1.0], [-0.9, -0.9], [0.99, -0.99], [0.9, 0.9]])
    got = density(corners, (20, 40), bins=4)
    assert got.shape == (2, 4), "parts are squares"
    np.testing.assert_array_equal(got, [[4, 0, 0, 2], [0, 0, 0, 2]])
    assert got.mean() == 1
    everywhere = torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    np.testing.assert_allclose(density(everywhere, (9, 9), bins=3), np.ones((3, 3)), atol=0.02)
    assert density(torch.ones(3, 2), (30, 30)).sum() == pytest.approx(24 * 24), "the edge counts"


@pytest.mark.parametrize(("looks", "shown"), [(1, None), (6, 4), (9, None)])
def test_there_is_a_map_for_each_look_and_a_curve_of_all(looks: int, shown: int | None) -> None:
    places = torch.rand(50, looks, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    gaze = Gaze(places, tuple(range(40, 40 - looks, -1)))
    figure = draw_maps(gaze, (30, 60), title="Where it looks", num_maps=shown)
    upper, lower = figure.subfigs
    maps = [axes for axes in upper.axes if axes.images]
    assert [axes.get_title() for axes in maps] == [
        f"look {look + 1}" for look in range(shown or looks)
    ]
    for look, axes in enumerate(maps):
        np.testing.assert_array_equal(
            axes.images[0].get_array(), density(places[:, look], (30, 60))
        )
    curve = lower.axes[0].lines[0].get_xydata()
    wanted = [(look + 1, 100 * (40 - look) / 50) for look in range(looks)]
    np.testing.assert_allclose(curve, wanted)
    figure.canvas.draw()
