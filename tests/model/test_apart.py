"""Looks at places apart, a map that begins with what is lit, and evidence that adds up."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.context import ConvContext, ConvContextSettings
from foveal.model.core import AttentionCore, State, SumCore
from foveal.model.map_policy import MapSettings
from foveal.model.policy import gaussian_log_prob
from tests.conftest import TINY

SIDE = 9  # cells a side
COARSE = dataclasses.replace(
    TINY,
    policy="map",
    core="sum",
    context="conv",
    context_settings=ConvContextSettings(thumbnail_size=SIDE, map_features=6),
)


def model(apart: float, **values: object) -> RecurrentAttention:
    settings = MapSettings(apart=apart)
    config: RAMConfig = dataclasses.replace(
        COARSE,
        policy_settings=settings,
        location_std=1e-4,
        **values,  # type: ignore[arg-type]
    )
    made = RecurrentAttention(config)
    with torch.no_grad():  # means in the middles of cells
        for part in (made.location_policy.queries.weight, made.location_policy.queries.bias):
            part[6:] = 0
    return made


def cells(locations: torch.Tensor) -> torch.Tensor:
    """(x, y) of the cells that locations lie in."""
    return ((locations + 1) / 2 * SIDE).floor()


@pytest.mark.parametrize("training", [True, False])
def test_no_cell_is_looked_at_twice_until_there_is_no_other(training: bool) -> None:
    made = model(0.5).train(training)
    images = torch.rand(3, 1, 18, 18)
    found = cells(made(images, num_glimpses=SIDE**2 + 4).locations)
    for row in found:
        assert len(torch.unique(row[: SIDE**2], dim=0)) == SIDE**2
    again = cells(model(0).eval()(images, num_glimpses=5).locations)
    assert any(len(torch.unique(row, dim=0)) < 5 for row in again), "else nothing is shown here"


def test_nor_are_the_neighbours_of_a_cell() -> None:
    found = cells(model(1.5).train()(torch.rand(4, 1, 18, 18), num_glimpses=5).locations)
    off = (found[:, :, None] - found[:, None]).abs().amax(-1) + 9 * torch.eye(5)
    assert off.min() >= 2


@pytest.mark.parametrize("choose_first", [True, False])
def test_a_look_is_scored_among_the_cells_that_were_left(choose_first: bool) -> None:
    torch.manual_seed(3)
    made = model(1.5).train()
    made.location_policy.chooses_first = choose_first
    images, std = torch.rand(2, 1, 18, 18), 0.05
    rollout = made(images, num_glimpses=4, location_std=std)
    decided = rollout.locations[:, 4 - rollout.log_probs.shape[1] :]
    assert decided.shape[1] == (4 if choose_first else 3)
    state, _ = made.first_state(2, made.thumbnail(images))
    weights, means = made.location_policy.mixture(rollout.hidden, made.maps(state)[0])
    for row in range(2):
        gone = torch.zeros(SIDE**2, dtype=torch.bool)
        places = rollout.locations[row]
        for look, place in enumerate(places):
            number = look - (0 if choose_first else 1)
            if number >= 0:
                left = weights[row, number].masked_fill(gone, -torch.inf).softmax(0).log()
                # Near the edge a choice is clamped, and its score is of what it was before.
                inside = place.abs().max() < 1
                each = left + gaussian_log_prob(place, means[row, number], std)
                if inside:
                    torch.testing.assert_close(
                        rollout.log_probs[row, number], each.logsumexp(0), rtol=1e-4, atol=1e-4
                    )
            middles = made.maps(state)[0][row, :2].flatten(1).t()
            gone |= ((middles - place).abs() <= 1.5 * 2 / SIDE).all(1)


def looks_by_steps(made: RecurrentAttention, images: Tensor) -> tuple[Tensor, State]:
    """Compare a rollout with steps of a stream, one after another; where the stream is then."""
    rollout = made(images)
    location, state = made.begin(images)
    for look in range(rollout.locations.shape[1]):
        torch.testing.assert_close(location, rollout.locations[:, look])
        step = made.step(images, location, state)
        location, state = step.next_location, step.state
    torch.testing.assert_close(step.logits, rollout.logits)
    return location, state


def test_steps_of_a_stream_are_the_looks_of_a_rollout() -> None:
    made = model(0.5).eval()
    images = torch.rand(2, 1, 18, 18)
    location, state = looks_by_steps(made, images)
    with pytest.raises(ValueError, match="the state must be 3 tensor"):
        made.step(images, location, state[:2])


def test_a_map_begins_with_what_is_lit() -> None:
    settings = ConvContextSettings(thumbnail_size=14, map_stride=2, map_features=4, map_light=20.0)
    context = ConvContext(3, (8,), settings)
    thumbnail = torch.rand(2, 3, 14, 14)
    feature_map = context(thumbnail).feature_map
    assert feature_map is not None
    assert feature_map.shape == (2, 2 + 4 + 1, 7, 7)
    for y in range(7):
        for x in range(7):
            light = thumbnail[:, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2))
            torch.testing.assert_close(feature_map[:, -1, y, x], 20 * light)
    lit = torch.zeros(1, 1, 28, 28)
    lit[..., 4:8, 20:24] = 1  # all of the cell in the second row, the sixth column
    config = dataclasses.replace(COARSE, context_settings=settings, policy_settings=MapSettings())
    made = RecurrentAttention(config).eval()
    assert made.context is not None
    with torch.no_grad():
        for parameter in made.location_policy.queries.parameters():
            parameter[4:].zero_()  # of the means' offsets; those of weights begin with nothing
    hidden, prior = torch.randn(2, 1, made.config.core_size), feature_map[:, -1:]
    weights = made.location_policy.cell_weights(hidden, feature_map)
    wanted = prior.flatten(2).softmax(-1).view_as(prior)
    torch.testing.assert_close(weights, wanted, msg="with nothing else, whatever the features are")
    look = made(lit, num_glimpses=1)
    torch.testing.assert_close(look.locations[0, 0], torch.tensor([4 / 7, -4 / 7]))
    made.context.light.data.fill_(1)  # or every look is there, and none less likely than another
    made.train()(lit).log_probs.sum().backward()
    assert made.context.light.grad != 0, "how much light counts is learned"


def test_a_map_begins_where_its_features_are_strong() -> None:
    """And the policy does not train them: it would drown what the answer tells them."""
    settings = ConvContextSettings(
        thumbnail_size=14, map_stride=2, map_features=4, map_strength=10.0
    )
    config = dataclasses.replace(
        COARSE, context_settings=settings, policy_settings=MapSettings(), detach_policy=True
    )
    made = RecurrentAttention(config).train()
    context = made.context
    assert isinstance(context, ConvContext)
    nn.init.normal_(context.to_state[0].weight)
    feature_map = context(torch.rand(2, 3, 14, 14)).feature_map
    assert feature_map is not None
    values = feature_map[:, 2:6].detach().numpy()
    for row in range(2):
        sums = np.maximum(values[row], 0).sum(0)
        wanted = 10 * sums / sums.max()
        np.testing.assert_allclose(feature_map[row, 6].detach(), wanted, rtol=1e-4)
    rollout = made(torch.rand(2, 1, 28, 28))
    rollout.log_probs.sum().backward(retain_graph=True)
    assert context.strength is not None
    assert context.strength.grad
    assert context.layers[0].weight.grad is None
    rollout.logits.sum().backward()
    assert context.layers[0].weight.grad.abs().sum() > 0


def test_evidence_adds_up_in_any_order() -> None:
    core, features = SumCore(5, 3), torch.randn(4, 2, 5)
    wanted = torch.zeros(2, 3)
    for each in features:
        gate = 1 / (1 + torch.exp(-(each @ core.gate.weight.t() + core.gate.bias)))
        wanted += gate * (each @ core.evidence.weight.t() + core.evidence.bias)
    for order in ((0, 1, 2, 3), (2, 0, 3, 1)):
        state = core.initial(2)
        for look in order:
            state = core(features[look], state)
        torch.testing.assert_close(state[0], wanted)
    assert isinstance(core.gate, nn.Linear)


def test_attention_is_a_softmax_over_looks_and_what_was_there_before_in_any_order() -> None:
    core, features = AttentionCore(5, 3), torch.randn(4, 2, 5)
    scores = torch.cat(
        [torch.zeros(1, 2, 3), 8 * core.weight(features)]
    )  # (before and looks, B, 3)
    told = torch.cat([torch.zeros(1, 2, 3), core.evidence(features)])
    wanted = (scores.softmax(0) * told).sum(0)
    for order in ((0, 1, 2, 3), (2, 0, 3, 1)):
        state = core.initial(2)
        for look in order:
            state = core(features[look], state)
        torch.testing.assert_close(state[0], wanted)
        torch.testing.assert_close(state[1], scores.logsumexp(0))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="apart must be a number from 0 to 1,000; got -1"):
        MapSettings(apart=-1)
    whole = ConvContextSettings(thumbnail_size=14, map_light=2)
    light = ConvContext(3, (8,), whole).light
    assert light is not None
    assert light.dtype == torch.float32
    with pytest.raises(ValueError, match="map_light must be a number from 0 to 1,000,000; got -2"):
        ConvContextSettings(map_light=-2)


def test_more_looks_than_there_are_places_are_said() -> None:
    agent = model(1.5).eval()
    image = torch.rand(1, 1, 27, 27)
    # Of 9 x 9 cells a look closes 3 x 3 at the most, and 9 at the least: at most 25 looks differ.
    with pytest.warns(
        UserWarning, match=r"has \d+ places to be looked at; the other \d+ looks fall"
    ):
        found = agent.predict(image[0], num_glimpses=81)
    assert 9 <= len(set(map(tuple, found.locations))) <= 25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.predict(image[0], num_glimpses=9)
