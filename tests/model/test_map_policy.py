"""The context, its feature map, and the policy that reads it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, distributions, nn

import foveal
from foveal import geometry
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.context import ConvContextSettings
from foveal.model.core import CORES, LSTMCore, State
from foveal.model.map_policy import MapPolicy, MapSettings
from foveal.model.policy import drawn
from foveal.scene import as_scene
from foveal.scene.files import ArraySource
from foveal.viz.scanpath import follow
from tests.conftest import TINY

MAPPED = dataclasses.replace(TINY, policy="map", context="conv")
COARSE = dataclasses.replace(
    MAPPED, context_settings=ConvContextSettings(thumbnail_size=9, map_features=6)
)


@pytest.mark.parametrize("share", [0.0, 1 - 2**-24])
def test_a_cell_of_no_weight_is_never_drawn(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where weights that should add up to 1 fall short by a rounding."""
    monkeypatch.setattr(
        "foveal.model.policy.random_rows", lambda _, shape, *__: torch.full(shape, share)
    )
    weights = torch.rand(50, 3602, generator=torch.Generator().manual_seed(0))
    weights[:, [0, -1]] = 0
    weights /= weights.sum(-1, keepdim=True)
    assert (weights.cumsum(-1)[:, -1] < 1 - 2**-24).any(), "or nothing is tried here"
    wanted = 1 if share == 0 else 3600
    assert (drawn(weights.log(), None) == wanted).all()


def a_map(batch: int = 2, down: int = 3, across: int = 4, features: int = 5) -> Tensor:
    """A feature map whose cells cover the image evenly."""
    x = (torch.arange(across) + 0.5) * 2 / across - 1
    y = (torch.arange(down) + 0.5) * 2 / down - 1
    cells = torch.stack([x.expand(down, across), y[:, None].expand(down, across)])
    values = torch.randn(batch, features, down, across)
    return torch.cat([cells.expand(batch, -1, -1, -1), values], dim=1)


def by_loops(policy: MapPolicy, hidden: Tensor, feature_map: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and means of one image, cell by cell, from the definition."""
    _, down, across = feature_map.shape
    count = len(feature_map) - 2
    weight, bias = policy.queries.weight.detach(), policy.queries.bias.detach()
    queries = [
        weight[k * count : (k + 1) * count] @ hidden + bias[k * count : (k + 1) * count]
        for k in range(3)
    ]
    products, means = [], []
    for row in range(down):
        for column in range(across):
            key = feature_map[2:, row, column]
            weighed, dx, dy = (float(query @ key) / math.sqrt(count) for query in queries)
            x, y = feature_map[:2, row, column].tolist()
            products.append(weighed)
            means.append([x + math.tanh(dx) * 2 / across, y + math.tanh(dy) * 2 / down])
    return torch.tensor(products).softmax(0), torch.tensor(means)


@pytest.fixture
def policy() -> MapPolicy:
    return MapPolicy(7, 5, MapSettings())


@pytest.mark.parametrize(
    ("down", "across", "std"),
    [(3, 4, 0.2), pytest.param(19, 24, 0.05, id="a large map, of which only cells near it count")],
)
def test_score_is_the_log_density_of_the_mixture(
    policy: MapPolicy, down: int, across: int, std: float
) -> None:
    feature_map, hidden = a_map(2, down, across), torch.randn(3, 2, 7)
    choices = (torch.randn(3, 2, 2) / 2).clamp(-1, 1)
    choices[0, 0] = torch.tensor([-1.0, 1.0])  # at a corner, where fewer are near
    got = policy.score(hidden, choices, std, feature_map)
    for step in range(3):
        for row in range(2):
            weights, means = by_loops(policy, hidden[step, row], feature_map[row])
            mixture = distributions.MixtureSameFamily(
                distributions.Categorical(weights),
                distributions.Independent(distributions.Normal(means, std), 1),
            )
            torch.testing.assert_close(got[step, row], mixture.log_prob(choices[step, row]))


def test_samples_are_of_the_density(policy: MapPolicy) -> None:
    """How often a half of the image is chosen, against the mixture's closed form."""
    feature_map, hidden, count = a_map(1), torch.randn(1, 7), 20_000
    policy.train()
    generator = torch.Generator().manual_seed(5)
    _, choice = policy(
        hidden.expand(count, -1), 0.3, generator, feature_map.expand(count, -1, -1, -1)
    )
    weights, means = by_loops(policy, hidden[0], feature_map[0])
    normal = distributions.Normal(means, 0.3)
    for edge in (-0.4, 0.1, 0.5):
        wanted = (weights[:, None] * normal.cdf(torch.tensor(edge))).sum(0)
        got = (choice < edge).float().mean(0)
        assert torch.all((got - wanted).abs() < 4 * (wanted * (1 - wanted) / count).sqrt())


def test_the_mean_policy_takes_the_likeliest_cell(policy: MapPolicy) -> None:
    feature_map, hidden = a_map(), torch.randn(2, 7)
    mean, choice = policy.eval()(hidden, 0.3, None, feature_map)
    for row in range(2):
        weights, means = by_loops(policy, hidden[row], feature_map[row])
        torch.testing.assert_close(choice[row], means[weights.argmax()])
    torch.testing.assert_close(mean, choice)


@pytest.mark.parametrize(("height", "width"), [(60, 60), (31, 60), (100, 37), (1, 1), (9, 2)])
def test_places_of_a_thumbnail_are_the_middles_of_its_boxes(height: int, width: int) -> None:
    side = 8
    places = geometry.thumbnail_places(height, width, side)[0]
    box = -(-max(height, width) // side)
    for row in range(side):
        for column in range(side):
            middle = ((column + 0.5) * box, (row + 0.5) * box)
            wanted = [
                place / size * 2 - 1 for place, size in zip(middle, (width, height), strict=True)
            ]
            np.testing.assert_allclose(places[:, row, column], wanted, rtol=1e-5)


def test_images_of_several_sizes_are_looked_at_as_each_alone() -> None:
    model = RecurrentAttention(COARSE).eval()
    images = [
        torch.rand(1, 30, 18),
        torch.rand(1, 9, 41),
        torch.rand(1, 1, 1),
        torch.rand(1, 60, 60),
    ]
    together = model(geometry.pad_images(images))
    for row, image in enumerate(images):
        alone = model(image[None])
        torch.testing.assert_close(together.locations[row], alone.locations[0])
        torch.testing.assert_close(together.logits[row], alone.logits[0])


def test_nothing_beyond_the_image_is_chosen() -> None:
    """Half of the thumbnail of a wide image lies beyond it: no cell there has any weight."""
    torch.manual_seed(0)
    model = RecurrentAttention(COARSE).train()
    state, _ = model.first_state(4, model.thumbnail(torch.rand(4, 1, 20, 60)))
    weights, _ = model.location_policy.mixture(state[0][:, None], *model.maps(state))
    rows = weights.exp().view(4, 9, 9).sum(2)
    assert torch.all(rows[:, :3] > 0)
    assert torch.all(rows[:, 3:] == 0)


def test_where_an_image_ends_on_the_edge_of_a_cell_the_next_is_beyond_it() -> None:
    """Also where the edge is no number of 32 bits."""
    torch.manual_seed(0)
    settings = ConvContextSettings(thumbnail_size=96, map_stride=4, context_layers=3)
    model = RecurrentAttention(dataclasses.replace(MAPPED, context_settings=settings)).eval()
    for cells in range(1, 24):
        width = 12 * cells  # cells of 4 boxes of 3 pixels
        state, _ = model.first_state(1, model.thumbnail(torch.rand(1, 1, 288, width)))
        chances = model.location_policy.cell_weights(state[0][:, None], model.maps(state)[0])
        assert chances is not None
        assert torch.all(chances[0, 0, :, :cells] > 0)
        assert torch.all(chances[0, 0, :, cells:] == 0), width


def test_what_lies_beyond_the_image_tells_the_core_nothing() -> None:
    """Its first state is of the largest features of the cells inside, by hand."""
    torch.manual_seed(0)
    settings = ConvContextSettings(thumbnail_size=32, map_stride=4, context_layers=3)
    model = RecurrentAttention(dataclasses.replace(MAPPED, context_settings=settings)).eval()
    context = model.context
    for layer in context.to_state:  # type: ignore[union-attr]
        torch.nn.init.normal_(layer.weight)
    thumbnail = model.thumbnail(torch.rand(3, 1, 64, 16))  # two of eight cells across
    features = context.layers(torch.cat([context.gain * thumbnail[:, :1], thumbnail[:, 1:]], 1))  # type: ignore[union-attr,operator,index]
    largest = features.relu()[:, :, :, :2].amax((2, 3))
    assert (features.relu().amax((2, 3)) > largest).any(), "or nothing is tried here"
    state, _ = model.first_state(3, thumbnail)
    torch.testing.assert_close(state[0], context.to_state[0](largest).tanh())  # type: ignore[union-attr,index]


def test_the_first_look_is_decided_and_credited() -> None:
    model = RecurrentAttention(COARSE).train()
    rollout = model(torch.rand(5, 1, 20, 24))
    assert rollout.log_probs.shape == rollout.baselines.shape == (5, 3)
    assert rollout.hidden.shape == (5, 3, 16)
    assert rollout.prior_logits.shape == (5, 3, 2)
    torch.testing.assert_close(rollout.prior_logits[:, 1:], rollout.step_logits[:, :-1])
    given = model(torch.rand(5, 1, 20, 24), first_location=torch.zeros(5, 2))
    assert given.log_probs.shape == (5, 2)
    uniform = dataclasses.replace(COARSE, policy_settings=MapSettings(choose_first=False))
    assert RecurrentAttention(uniform)(torch.rand(5, 1, 20, 24)).log_probs.shape == (5, 2)


class LastCore(LSTMCore):
    """Shows the policy the last tensor of its own state."""

    def for_policy(self, state: State) -> Tensor:
        return state[-1]


@pytest.mark.parametrize("core", ["rnn", "last"])
def test_a_stream_of_steps_is_the_rollout(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CORES, "last", LastCore)
    config = dataclasses.replace(COARSE, core=core)
    model, images = RecurrentAttention(config).eval(), torch.rand(3, 1, 20, 24)
    rollout = model(images)
    location, state = model.begin(images)
    for t in range(3):
        torch.testing.assert_close(location, rollout.locations[:, t])
        step = model.step(images, location, state)
        torch.testing.assert_close(step.logits, rollout.step_logits[:, t])
        location, state = step.next_location, step.state


def test_a_stream_that_goes_on_is_told_of_what_is_there_now() -> None:
    model = RecurrentAttention(COARSE).eval()
    for layer in model.context.to_state:
        nn.init.normal_(layer.weight)
    before, now = torch.rand(2, 1, 20, 24), torch.rand(2, 1, 20, 24)
    location, state = model.begin(before)
    state = model.step(before, location, state).state
    fresh = torch.tensor([True, False])
    _, after = model.begin_where(fresh, now, location, state)
    _, start = model.begin(now)
    assert torch.equal(after[-1], start[-1])
    assert torch.equal(after[0][0], start[0][0])
    assert torch.equal(after[0][1], state[0][1] + start[0][1])
    assert start[0][1].any()


def test_the_gradient_of_the_log_density_reaches_the_map() -> None:
    model = RecurrentAttention(COARSE).train()
    model(torch.rand(3, 1, 20, 24)).log_probs.sum().backward()
    assert model.context is not None
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for name, parameter in model.context.named_parameters()
        if name.startswith("layers")
    )


@pytest.mark.parametrize(("height", "width"), [(9, 18), (15, 60), (60, 15), (1, 1), (61, 5)])
def test_the_thumbnail_is_less_the_mean_inside_the_image_alone(height: int, width: int) -> None:
    """A pixel of the thumbnail is inside where its box holds any pixel of the image."""
    config = dataclasses.replace(COARSE, pixel_mean=(0.25,), pixel_std=(0.5,))
    thumbnail = RecurrentAttention(config).thumbnail(torch.rand(1, 1, height, width))
    assert thumbnail is not None
    box = -(-max(height, width) // 9)
    for row in range(9):
        for column in range(9):
            inside = row * box < height and column * box < width
            value = float(thumbnail[0, 0, row, column])
            assert (value == 0) == (not inside), (row, column)


def test_pixels_inside_are_told_from_others_at_every_width() -> None:
    """Also where the image ends with a pixel of the thumbnail, and that is no number of 32 bits."""
    settings = ConvContextSettings(thumbnail_size=24, map_features=6)
    config = dataclasses.replace(MAPPED, context_settings=settings)
    model = RecurrentAttention(dataclasses.replace(config, pixel_mean=(2.0,), pixel_std=(0.5,)))
    for height, width in ((24, 20), (24, 22), (40, 40), *((48, width) for width in range(1, 49))):
        thumbnail = model.thumbnail(torch.rand(1, 1, height, width))
        assert thumbnail is not None
        inside = torch.arange(24) * -(-height // 24) < width
        assert torch.equal((thumbnail[0, 0, :1] != 0).all(0), inside), (height, width)


def test_thin_images_take_memory_by_their_pixels() -> None:
    """Padded to squares this one would take terabytes."""
    image = torch.rand(1, 1, 8, 800_000)
    made = as_scene(image).thumbnail(8)
    wanted = torch.zeros(8, 8)
    wanted[0] = image[0, 0].view(8, 8, -1).sum((0, 2)) / 100_000**2
    torch.testing.assert_close(made[0, 0], wanted, rtol=1e-3, atol=1e-9)
    for shape in ((8, 300_000), (300_000, 8), (1, 1), (300, 20)):
        array = np.random.default_rng(0).random(shape, np.float32)
        whole = as_scene([ArraySource(array)]).image(0)
        np.testing.assert_array_equal(whole[0], array)


def test_what_the_thumbnail_reads_is_counted() -> None:
    assert RecurrentAttention(COARSE).count_pixels_read() == 3 * 16 + 81


def test_a_convolutional_glimpse_network_is_its_layers() -> None:
    config = dataclasses.replace(TINY, glimpse_size=10, num_scales=2, glimpse_network="conv")
    model = RecurrentAttention(config)
    network = model.glimpse_network
    glimpses, places = torch.rand(3, 2, 1, 10, 10), torch.rand(3, 2)
    seen = glimpses.flatten(1, 2)
    for index, padding in ((0, 2), (2, 1), (4, 1)):
        layer = network.convolutions[index]
        seen = nn.functional.conv2d(seen, layer.weight, layer.bias, 2, padding).relu()
    wanted = network.pixels_to_features(seen.flatten(1)) + network.location_to_features(
        network.from_location(places).relu()
    )
    torch.testing.assert_close(network(glimpses, places), wanted.relu())


class Mapless(foveal.Context):
    """A context that makes a map of another width than it says."""

    side, map_channels = 4, 3

    def __init__(self, _num_channels: int, state_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = state_sizes

    def forward(self, thumbnail: Tensor) -> tuple[tuple[Tensor, ...], None]:
        return tuple(thumbnail.new_zeros(len(thumbnail), size) for size in self.sizes), None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"policy": "map"}, "reads a context's feature map.*--context conv"),
        ({"policy": "map", "context": "mapless"}, r"must give a feature map of \(B, 5, h, w\)"),
    ],
)
def test_a_policy_without_its_map_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], said: str
) -> None:
    monkeypatch.setitem(foveal.CONTEXTS, "mapless", Mapless)
    with pytest.raises(ValueError, match=said):
        RecurrentAttention(dataclasses.replace(TINY, **changes))(torch.rand(1, 1, 8, 8))


def test_a_stream_that_did_not_begin_is_refused() -> None:
    model, images = RecurrentAttention(COARSE), torch.rand(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"model\.begin"):
        model.initial_state(1)
    with pytest.raises(ValueError, match=r"model\.begin"):
        model.step(images, torch.zeros(1, 2), (torch.zeros(1, 16),))


@pytest.mark.parametrize(
    "values",
    [
        {"thumbnail_size": 8},
        {"thumbnail_size": 20, "map_stride": 3},
        {"map_features": 0},
        {"thumbnail_gain": 0.0},
        {"map_stride": 1.5},
    ],
)
def test_settings_that_make_no_context_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be .*; got"):
        ConvContextSettings(**values)  # type: ignore[arg-type]


def test_the_paper_has_no_context() -> None:
    assert RAMConfig().context == "none"
    assert RecurrentAttention(TINY).context is None


def test_a_picture_shows_where_the_map_lies() -> None:
    """On a wide image the map goes on below it: its cells cover a square as wide as the image."""
    model = RecurrentAttention(COARSE).eval()
    image = torch.rand(1, 20, 60)
    path = follow(model, image, classes=("a", "b"))
    assert path.cells is not None
    assert path.cells.shape == (9, 9)
    assert path.cells.sum() == pytest.approx(1, abs=1e-5)
    box = -(-60 // 9)  # pixels of the image a side of a cell
    assert path.cells_size == pytest.approx((9 * box, 9 * box), rel=1e-5)
    row, column = np.unravel_index(path.cells.argmax(), path.cells.shape)
    middle = np.array([(column + 0.5) * box, (row + 0.5) * box])
    assert np.all(np.abs(path.centers[0] - middle) <= 1.5 * box + 1), "an offset of up to a cell"


@pytest.mark.parametrize("pool", ["max", "none"])
def test_the_core_is_told_what_there_is_or_also_where(pool: Literal["max", "none"]) -> None:
    """Of a filter of one pixel, a thumbnail that is mirrored has the same features elsewhere."""
    settings = ConvContextSettings(
        thumbnail_size=9, map_features=6, context_layers=1, context_pool=pool
    )
    model = RecurrentAttention(dataclasses.replace(COARSE, context_settings=settings)).eval()
    kernel, weight = model.context.layers[0].weight, model.context.to_state[0].weight
    with torch.no_grad():
        alone = torch.zeros_like(kernel)
        alone[:, 0, 2, 2] = kernel[:, 0, 2, 2]  # no places, and no neighbours
        kernel.copy_(alone)
        nn.init.normal_(weight)
    image = torch.rand(1, 1, 9, 9)
    images = torch.cat([image, image.flip(-1)])
    _, (state, *_) = model.begin(images)
    assert torch.allclose(state[0], state[1], atol=1e-6) == (pool == "max")
    gain, bias = settings.thumbnail_gain, model.context.layers[0].bias
    features = [
        [torch.relu(gain * pixel * k[0, 2, 2] + b) for pixel in images[1].flatten()]
        for k, b in zip(kernel, bias, strict=True)
    ]
    told = [max(each) for each in features] if pool == "max" else itertools.chain(*features)
    wanted = torch.tanh(weight @ torch.stack([*told]) + model.context.to_state[0].bias)
    torch.testing.assert_close(state[1], wanted)


@pytest.mark.parametrize("map_only", [0, 0.5, 1])
def test_with_a_map_only_the_thumbnail_tells_the_answer_nothing(map_only: float) -> None:
    """Of images that differ where no look was the answer is the same, but not the places."""
    settings = ConvContextSettings(thumbnail_size=9, map_features=6, map_only=map_only)
    model = RecurrentAttention(dataclasses.replace(COARSE, context_settings=settings)).eval()
    for layer in model.context.to_state:
        nn.init.normal_(layer.weight)
    images = torch.rand(1, 1, 36, 36).repeat(2, 1, 1, 1)
    images[1, :, 18:] = 0
    first = torch.full((2, 2), -0.6)
    looked = model(images, num_glimpses=1, first_location=first).logits
    assert torch.equal(looked[0], looked[1]) == (map_only == 1)
    places = model(images, num_glimpses=2, first_location=first).locations[:, 1]
    assert not torch.equal(places[0], places[1])


@pytest.mark.parametrize(("share", "without"), [(0, 0), (0.25, 2), (0.5, 4), (0.75, 6), (1, 8)])
def test_of_a_share_of_the_training_images_the_core_starts_from_nothing(
    share: float, without: int
) -> None:
    settings = ConvContextSettings(thumbnail_size=9, map_features=6, map_only=share)
    model = RecurrentAttention(dataclasses.replace(COARSE, context_settings=settings)).train()
    for layer in model.context.to_state:
        nn.init.normal_(layer.weight)
    _, state = model.begin(torch.rand(8, 1, 36, 36))
    assert int((state[0] == 0).all(1).sum()) == without


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_a_map_that_begins_where_the_answer_is_strong_is_trained_where_it_says_no_answer(
    share: float,
) -> None:
    """By the policy, where nothing else would; else by the answer alone."""
    settings = ConvContextSettings(thumbnail_size=9, map_strength=5.0, map_only=share)
    config = dataclasses.replace(COARSE, context_settings=settings, policy_settings=MapSettings())
    model = RecurrentAttention(config).train()
    model(torch.rand(4, 1, 36, 36)).log_probs.sum().backward()
    kernel = model.context.layers[0].weight
    assert (kernel.grad is not None and bool(kernel.grad.any())) == (share == 1)
