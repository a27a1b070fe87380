"""Looks that are said from where the last one was, and those chosen before anything is seen."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from foveal.model.attention import RecurrentAttention
from foveal.model.context import ConvContextSettings
from foveal.model.map_policy import MapPolicy, MapSettings
from foveal.model.policy import gaussian_log_prob
from tests.conftest import TINY
from tests.model.test_apart import looks_by_steps
from tests.model.test_map_policy import a_map, by_loops

SIDE = 9  # cells a side, of two pixels


def model(**settings: object) -> RecurrentAttention:
    return RecurrentAttention(
        dataclasses.replace(
            TINY,
            core="lstm",
            policy="map",
            context="conv",
            context_settings=ConvContextSettings(thumbnail_size=SIDE, map_features=6),
            policy_settings=MapSettings(**settings),  # type: ignore[arg-type]
            location_std=1e-3,
        )
    )


@pytest.mark.parametrize("apart", [0.0, 0.5])
def test_a_weight_has_a_query_times_the_way_from_the_last_look(apart: float) -> None:
    torch.manual_seed(1)
    policy = MapPolicy(7, 5, MapSettings(apart=apart, steps=True))
    assert policy.steps is not None
    feature_map, hidden, choice = a_map(), torch.randn(2, 7), torch.rand(2, 2) - 0.5
    looks = torch.tensor([[[-0.9, -0.5], [0.3, 0.8]], [[0.7, 0.1], [-0.2, -0.9]]])
    marks = torch.zeros(2, 3, 4, dtype=torch.uint8)
    for look in looks:
        marks = policy.mark(look, feature_map, marks)
    got = policy.score(hidden[None], choice[None], 0.2, feature_map, marks[None])[0]
    for row in range(2):
        plain, means = by_loops(policy, hidden[row], feature_map[row])
        cells = [(math.floor((x + 1) * 2), math.floor((y + 1) * 1.5)) for x, y in looks[:, row]]
        added = []
        for down in range(3):
            for across in range(4):
                ways = (across - cells[-1][0], down - cells[-1][1])
                told = torch.tensor([math.copysign(math.log(1 + abs(way)), way) for way in ways])
                each = policy.steps(hidden[row]) @ policy.ways(told)
                gone = apart > 0 and (across, down) in cells
                added.append(-1e4 if gone else float(each.detach()))
        weights = (plain.log() + torch.tensor(added)).log_softmax(0)
        wanted = (weights + gaussian_log_prob(choice[row], means, 0.2)).logsumexp(0)
        torch.testing.assert_close(got[row], wanted, rtol=1e-4, atol=1e-4)


def test_the_first_look_has_come_from_nowhere() -> None:
    policy, feature_map, hidden = (
        MapPolicy(7, 5, MapSettings(steps=True)),
        a_map(),
        torch.randn(2, 7),
    )
    none = torch.zeros(2, 3, 4, dtype=torch.uint8)
    weights, _ = policy.mixture(hidden[:, None], feature_map, none[:, None])
    wanted = torch.stack([by_loops(policy, hidden[row], feature_map[row])[0] for row in range(2)])
    torch.testing.assert_close(weights[:, 0].exp(), wanted)


@pytest.mark.parametrize("apart", [0.0, 0.5])
def test_what_was_played_is_scored_alike_and_streamed_alike(apart: float) -> None:
    torch.manual_seed(3)
    made = model(apart=apart, steps=True).train()
    images = torch.rand(2, 1, 18, 18)
    rollout = made(images, num_glimpses=5)
    location, state = rollout.locations[:, 0], made.begin(images)[1]
    for look in range(1, 5):
        state = made.step(images, location, state).state
        location = rollout.locations[:, look]
        inside = (location.abs() < 1).all(1)
        score = made.score(state[0], location, None, *made.maps(state))
        torch.testing.assert_close(score[inside], rollout.log_probs[inside, look])
    looks_by_steps(made.eval(), images)


@pytest.mark.parametrize("moves", [0.0, 0.25])
def test_means_lie_at_most_so_far_beside_the_middles(moves: float) -> None:
    policy, feature_map = MapPolicy(7, 5, MapSettings(moves=moves)), 100 * a_map()
    feature_map[:, :2] /= 100
    hidden = torch.randn(2, 7)
    _, means = policy.mixture(hidden[:, None], feature_map)
    off = (means[:, 0].view(2, 3, 4, 2).permute(0, 3, 1, 2) - feature_map[:, :2]).abs()
    wanted = torch.tensor([0.5, 2 / 3]) * moves  # the widths of cells
    torch.testing.assert_close(off.amax((0, 2, 3)), wanted, atol=1e-3, rtol=0)
    mean, choice = policy.eval()(hidden, 0.1, None, feature_map)
    torch.testing.assert_close(choice, mean)
    assert (means[:, 0] - mean[:, None]).abs().sum(-1).amin(1).max() < 1e-5


def test_in_one_shot_what_looks_show_moves_none_of_them() -> None:
    """Two images with the same thumbnail, of boxes of 2 x 2 pixels that are shuffled inside."""
    boxes = torch.rand(3, 1, SIDE, SIDE, 4)
    others = boxes[..., torch.tensor([2, 0, 3, 1])]
    one, other = (
        each.view(3, 1, SIDE, SIDE, 2, 2).transpose(3, 4).reshape(3, 1, 18, 18)
        for each in (boxes, others)
    )
    for one_shot in (True, False):
        torch.manual_seed(5)
        made = model(apart=0.5, steps=True, one_shot=one_shot).eval()
        with torch.no_grad():
            made.location_policy.queries.weight.mul_(50)
        places = made(one, num_glimpses=6).locations
        same = torch.isclose(places, made(other, num_glimpses=6).locations, atol=1e-5).all()
        assert bool(same) == one_shot
        assert len(torch.unique(places[0], dim=0)) == 6
