"""Looks at one scale each, which the policy chooses."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributions, nn

import foveal
from foveal import geometry
from foveal.model.attention import RecurrentAttention
from foveal.model.context import ConvContextSettings
from foveal.model.map_policy import MapPolicy, MapSettings
from foveal.model.policy import LocationPolicy, ZoomPolicy
from foveal.training.objective import reinforce_loss
from foveal.viz.drawing import draw
from foveal.viz.film import film_of
from foveal.viz.page import page
from foveal.viz.scanpath import follow, reconstruct
from tests.conftest import TINY

ZOOM = dataclasses.replace(TINY, zoom=True, num_scales=3)
MAPPED = dataclasses.replace(
    ZOOM,
    policy="map",
    context="conv",
    context_settings=ConvContextSettings(thumbnail_size=9, map_features=4),
)


def chances_of(policy: ZoomPolicy, hidden: Tensor) -> Tensor:
    """Of the scales: four fifths as h says, a fifth evenly."""
    return 0.8 * policy.scale(hidden).softmax(-1) + 0.2 / policy.num_scales


@pytest.mark.parametrize("count", [2, 3, 4, 7, 17])
def test_zooms_name_scales_evenly_from_the_finest_to_the_coarsest(count: int) -> None:
    scales = torch.arange(count)
    zooms = geometry.to_zooms(scales, count)
    torch.testing.assert_close(zooms, torch.linspace(-1, 1, count))
    assert torch.equal(geometry.to_scales(zooms, count), scales)
    nearby = zooms + (torch.rand(count) - 0.5) * 1.9 / (count - 1)
    assert torch.equal(geometry.to_scales(nearby, count), scales)
    assert geometry.to_scales(torch.tensor([-9.0, 9.0]), count).tolist() == [0, count - 1]


def test_score_is_the_log_density_of_a_place_and_a_scale() -> None:
    policy, hidden = ZoomPolicy(LocationPolicy(7), 7, 3), torch.randn(5, 2, 7)
    places, scales = torch.randn(5, 2, 2), torch.randint(3, (5, 2))
    choices = torch.cat([places, geometry.to_zooms(scales, 3)[..., None]], dim=-1)
    place = distributions.Independent(distributions.Normal(policy.place.mean(hidden), 0.2), 1)
    scale = distributions.Categorical(chances_of(policy, hidden))
    wanted = place.log_prob(places) + scale.log_prob(scales)
    torch.testing.assert_close(policy.score(hidden, choices, 0.2), wanted)


def test_a_scale_has_float32s_probability_where_the_rest_is_bfloat16() -> None:
    policy, hidden = ZoomPolicy(LocationPolicy(7), 7, 3), torch.randn(50, 7)
    choices = torch.cat([torch.rand(50, 2), torch.ones(50, 1)], dim=-1)
    wanted = policy.score(hidden, choices, 0.2)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            policy(hidden, 0.2, None)
        got = policy.score(hidden, choices, 0.2)
    assert torch.equal(got, wanted)
    (gradient,) = torch.autograd.grad(got.sum(), policy.scale.weight)
    assert gradient.any()


def test_samples_are_of_the_density_and_the_mean_policy_takes_the_likeliest() -> None:
    policy, hidden, count = ZoomPolicy(LocationPolicy(7), 7, 4), torch.randn(1, 7), 20_000
    _, choice = policy(hidden.expand(count, -1), 0.3, torch.Generator().manual_seed(5))
    chances = chances_of(policy, hidden)[0].detach()
    shares = geometry.to_scales(choice[:, 2], 4).bincount(minlength=4) / count
    assert torch.all((shares - chances).abs() < 4 * (chances * (1 - chances) / count).sqrt())
    torch.testing.assert_close(
        choice[:, :2].mean(0), policy.place.mean(hidden)[0], atol=0.01, rtol=0
    )
    mean, choice = policy.eval()(hidden, 0.3, None)
    assert geometry.to_scales(choice[0, 2], 4) == chances.argmax()
    torch.testing.assert_close(choice[0, :2], policy.place.mean(hidden)[0])
    torch.testing.assert_close(mean, choice)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_reinforce_is_the_exact_gradient_by_enumeration_of_scales(baseline: float) -> None:
    """Two looks among three scales, each sequence weighed by its probability."""
    policy, hidden = ZoomPolicy(LocationPolicy(5), 5, 3), torch.randn(2, 1, 5)
    rewards = torch.tensor([[0.0, 1.0, 0.2], [0.7, 0.1, 0.0], [0.4, 0.9, 1.0]])
    place = torch.zeros(2, 1, 2)
    chances = chances_of(policy, hidden)[:, 0]
    wanted = torch.autograd.grad(chances[0] @ rewards @ chances[1], policy.scale.weight)[0]
    got = torch.zeros_like(wanted)
    densities = policy.place.score(hidden, place, 1.0).detach()[:, 0]
    for scales in itertools.product(range(3), repeat=2):
        zooms = geometry.to_zooms(torch.tensor(scales), 3).view(2, 1, 1)
        log_probs = policy.score(hidden, torch.cat([place, zooms], -1), 1.0).t()
        weight = (log_probs.sum() - densities.sum()).exp().item()
        reward = rewards[scales] - baseline
        loss = reinforce_loss(log_probs, reward.expand(1, 2))
        got -= weight * torch.autograd.grad(loss, policy.scale.weight)[0]
    torch.testing.assert_close(got, wanted)


def test_the_map_policy_zooms_too() -> None:
    place = MapPolicy(7, 5, MapSettings())
    policy, hidden, choices = ZoomPolicy(place, 7, 3), torch.randn(3, 2, 7), torch.rand(3, 2, 3)
    feature_map = torch.rand(2, 7, 3, 4)
    scales = geometry.to_scales(choices[..., 2:], 3)
    chosen = chances_of(policy, hidden).log().gather(-1, scales).squeeze(-1)
    wanted = place.score(hidden, choices[..., :2], 0.2, feature_map) + chosen
    torch.testing.assert_close(policy.score(hidden, choices, 0.2, feature_map), wanted)
    rollout = RecurrentAttention(MAPPED)(torch.rand(2, 1, 20, 24))
    assert rollout.locations.shape == (2, 3, 3)


def test_a_look_reads_the_chosen_scale_and_nothing_else() -> None:
    """A pixel that lies beyond the fine patch is seen by the coarse one alone."""
    model = RecurrentAttention(ZOOM)
    image = torch.zeros(1, 1, 30, 30)
    image[0, 0, 15, 21] = 1  # 6 pixels from the centre; patches reach 2, 4 and 8
    for zoom, light in ((-1.0, 0), (0.0, 0), (1.0, 1 / 16)):
        glimpse = model.sensor(image, torch.tensor([[0.0, 0.0, zoom]]))
        assert glimpse.shape == (1, 1, 1, 4, 4)
        assert glimpse.sum() == pytest.approx(light)


def test_slopes_are_those_of_the_chosen_scale() -> None:
    sensor = RecurrentAttention(ZOOM).sensor
    images, places = torch.rand(6, 1, 30, 40), torch.rand(6, 2) - 0.5
    scales = torch.tensor([0, 1, 2, 2, 1, 0])
    zoomed = torch.cat([places, geometry.to_zooms(scales, 3)[:, None]], dim=1).requires_grad_()
    for scene in (images, sensor.prepare(images)):
        wanted = sensor.slopes(scene, places)[torch.arange(6), :, scales]
        torch.testing.assert_close(sensor.slopes(scene, zoomed)[:, :, 0], wanted)
        weights = torch.rand(6, 1, 1, 4, 4)
        (pull,) = torch.autograd.grad((sensor(scene, zoomed) * weights).sum(), zoomed)
        torch.testing.assert_close(pull[:, :2], (wanted * weights).sum((2, 3, 4)))
        assert (pull[:, 2] == 0).all()


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_glimpse_network_is_told_the_scale(network: str) -> None:
    model = RecurrentAttention(dataclasses.replace(ZOOM, glimpse_network=network))
    glimpses = torch.rand(1, 1, 1, 4, 4).expand(3, -1, -1, -1, -1)
    places = torch.tensor([[0.1, 0.2, zoom] for zoom in (-1.0, 0.0, 1.0)])
    features = model.perceive(glimpses, places)
    assert not torch.allclose(features[0], features[1])
    assert not torch.allclose(features[1], features[2])


def test_each_scale_has_its_own_gain() -> None:
    model = RecurrentAttention(dataclasses.replace(ZOOM, scale_gain=3.0, glimpse_gain=2.0))
    glimpses, scales = torch.rand(3, 1, 1, 4, 4), torch.tensor([2, 0, 1])
    wanted = glimpses * torch.tensor([18.0, 2.0, 6.0]).view(3, 1, 1, 1, 1)
    torch.testing.assert_close(model.scaling(glimpses, scales), wanted)


@pytest.mark.parametrize("config", [ZOOM, MAPPED])
def test_a_stream_of_steps_is_the_rollout_and_every_look_is_chosen(
    config: foveal.RAMConfig,
) -> None:
    model, images = RecurrentAttention(config).eval(), torch.rand(3, 1, 20, 24)
    rollout = model(images)
    assert rollout.log_probs.shape == (3, 3)
    location, state = model.begin(images)
    for t in range(3):
        torch.testing.assert_close(location, rollout.locations[:, t])
        step = model.step(images, location, state)
        torch.testing.assert_close(step.logits, rollout.step_logits[:, t])
        location, state = step.next_location, step.state
    assert torch.isin(rollout.locations[..., 2], torch.tensor([-1.0, 0.0, 1.0])).all()


def test_costs_are_those_of_one_scale_a_look() -> None:
    one = RecurrentAttention(dataclasses.replace(TINY, num_scales=1))
    model, all_scales = (
        RecurrentAttention(dataclasses.replace(TINY, num_scales=3, zoom=zoom))
        for zoom in (True, False)
    )
    assert model.count_pixels_read() == 3 * 16
    assert all_scales.count_pixels_read() == 3 * 3 * 16
    # A third number of the location and the weights of three scales: in each of three looks.
    assert model.count_multiply_adds(3) == one.count_multiply_adds(3) + 3 * (8 + 3 * 16)


def test_the_answers_gradient_moves_the_gaze() -> None:
    model = RecurrentAttention(dataclasses.replace(ZOOM, location_gradient=1.0)).train()
    rollout = model(torch.rand(8, 1, 20, 20))
    rollout.logits.sum().backward()
    assert model.location_policy.place.mean.weight.grad.abs().sum() > 0
    assert model.location_policy.scale.weight.grad is None


def test_a_saved_model_loads(tmp_path: Path) -> None:
    model, images = RecurrentAttention(MAPPED).eval(), torch.rand(2, 1, 20, 20)
    model.save_pretrained(tmp_path)
    assert "one of 3 scale" in (tmp_path / "README.md").read_text()
    again = RecurrentAttention.from_pretrained(tmp_path)
    assert again.config == MAPPED
    torch.testing.assert_close(again(images).logits, model(images).logits)


class Untold(nn.Module):
    """A glimpse network of somebody's own, made before there was a zoom."""

    def __init__(self, _shape: object, features: int, _glimpse: int, _location: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, glimpses: Tensor, _locations: Tensor) -> Tensor:
        return glimpses.new_zeros(len(glimpses), self.features)


class Broken(Untold):
    """Takes five sizes, and fails for another reason."""

    def __init__(self, shape: object, features: int, *sizes: int) -> None:
        super().__init__(shape, features, *sizes[:2])
        self.layer = nn.Linear("3", features)  # type: ignore[arg-type]


def test_wrong_input_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"zoom needs 2 scales.*got num_scales 1.*--num-scales 3"):
        dataclasses.replace(TINY, zoom=True)
    monkeypatch.setitem(foveal.GLIMPSE_NETWORKS, "untold", Untold)
    RecurrentAttention(dataclasses.replace(TINY, glimpse_network="untold"))
    with pytest.raises(ValueError, match="'untold' does not. Choose another: --glimpse-network"):
        RecurrentAttention(dataclasses.replace(ZOOM, glimpse_network="untold"))
    monkeypatch.setitem(foveal.GLIMPSE_NETWORKS, "broken", Broken)
    with pytest.raises(TypeError, match="str"):
        RecurrentAttention(dataclasses.replace(ZOOM, glimpse_network="broken"))
    images = torch.rand(2, 1, 9, 9)
    for config, given, wanted in ((ZOOM, 2, r"3 numbers, \(x, y, zoom\)"), (TINY, 3, "2 numbers")):
        with pytest.raises(ValueError, match=f"a location must be {wanted}"):
            RecurrentAttention(config)(images, first_location=torch.zeros(2, given))


def test_pictures_show_the_square_that_was_read() -> None:
    torch.manual_seed(2)
    model, image = RecurrentAttention(ZOOM), torch.rand(1, 20, 60)
    path = follow(model, image, classes=("a", "b"), sampled=True)
    scales = [path.scales(look) for look in range(3)]
    assert all(len(read) == 1 for read in scales)
    assert len({read[0] for read in scales}) > 1, "the test needs looks at different scales"
    assert path.sizes == [path.patch_sizes[read[0]] for read in scales]
    places, cells = draw(path).axes
    squares = [(*patch.get_xy(), patch.get_width()) for patch in places.patches]
    assert squares == [path.square(look, read[0]) for look, read in enumerate(scales)]
    assert len(cells.images) == 3
    assert len(film_of([path])[0]) == 3
    data = page([[path]], "title").split('id="data">')[1].split("</script>")[0]
    for corners, read in zip(
        json.loads(data)["images"][0]["paths"][0]["corners"], scales, strict=True
    ):
        assert [scale for scale, corner in enumerate(corners) if corner] == read
    x, y, size = path.square(0, scales[0][0])
    seen = ~np.isnan(reconstruct(path, 1))
    wanted = np.zeros_like(seen)
    wanted[max(0, y) : max(0, y + size), max(0, x) : max(0, x + size)] = True
    np.testing.assert_array_equal(seen, wanted)
