from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from foveal.evaluation.prediction import predict
from foveal.geometry import pad_images
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.core import sum_of_linear
from foveal.model.policy import LocationPolicy, followed
from foveal.model.sensor import GlimpseSensor
from foveal.scene.sparse import SparseScene
from foveal.training.critic import Learner
from foveal.training.objective import hybrid_loss
from tests.conftest import TINY

ODD = RAMConfig(
    glimpse_size=5,
    num_scales=2,
    scale_factor=3,
    scale_gain=2.5,
    num_glimpses=3,
    num_channels=3,
    num_classes=7,
    glimpse_hidden=11,
    location_hidden=13,
    glimpse_features=17,
    core_size=19,
)


def by_hand(model: RecurrentAttention, images: Tensor, locations: Tensor) -> Tensor:
    """The rectifier network's logits from the paper's equations, in plain matrix products."""

    def linear(layer: nn.Linear, inputs: Tensor) -> Tensor:
        return inputs @ layer.weight.T + layer.bias

    network, core = model.glimpse_network, model.core
    hidden = torch.zeros(len(images), model.config.core_size)
    for t in range(locations.shape[1]):
        gains = model.config.scale_gain ** torch.arange(model.config.num_scales)
        rho = model.sensor(images, locations[:, t]) * gains[:, None, None, None]
        rho = rho.reshape(len(images), -1)
        h_g = linear(network.from_pixels, rho).clamp(min=0)
        h_l = linear(network.from_location, locations[:, t]).clamp(min=0)
        mixed = linear(network.pixels_to_features, h_g) + linear(network.location_to_features, h_l)
        g = mixed.clamp(min=0)
        hidden = (linear(core.from_hidden, hidden) + linear(core.from_features, g)).clamp(min=0)
    return linear(model.action_head, hidden)


def test_the_rollout_computes_the_papers_equations(generator: torch.Generator) -> None:
    model = RecurrentAttention(ODD)
    images = torch.rand(4, 3, 20, 26, generator=generator)
    rollout = model(images, generator=generator)
    torch.testing.assert_close(rollout.logits, by_hand(model, images, rollout.locations))


@pytest.mark.parametrize("core", ["rnn", "lstm"])
@pytest.mark.parametrize("batch", [1, 6])
def test_shapes_with_every_size_different(core: str, batch: int) -> None:
    config = RAMConfig(**{**vars(ODD), "core": core})
    model = RecurrentAttention(config)
    rollout = model(torch.rand(batch, 3, 20, 26))
    assert rollout.logits.shape == (batch, 7)
    assert rollout.step_logits.shape == (batch, 3, 7)
    assert rollout.locations.shape == (batch, 3, 2)
    assert rollout.log_probs.shape == rollout.baselines.shape == (batch, 2)
    assert rollout.state[0].shape == (batch, 19)
    assert torch.equal(rollout.logits, rollout.step_logits[:, -1])
    assert (rollout.locations.abs() <= 1).all()
    assert model(torch.rand(batch, 3, 9, 70), num_glimpses=5).locations.shape == (batch, 5, 2)


def test_the_first_look_is_the_given_one_and_all_looks_are_recorded() -> None:
    model = RecurrentAttention(RAMConfig()).eval()
    first = torch.rand(5, 2) * 2 - 1
    rollout = model(torch.rand(5, 1, 28, 28), first_location=first)
    assert torch.equal(rollout.locations[:, 0], first)


@pytest.mark.parametrize("core", ["rnn", "lstm"])
@pytest.mark.parametrize("training", [True, False])
def test_steps_make_the_rollout(core: str, training: bool) -> None:
    """A stream that happens to stand still gives what the rollout over a still image gives."""
    torch.manual_seed(1)
    config = RAMConfig(num_glimpses=4, core=core)  # type: ignore[arg-type]
    model = RecurrentAttention(config).train(training)
    images, first = torch.rand(3, 1, 28, 28), torch.rand(3, 2)
    rollout = model(images, first_location=first, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    location, state = first, model.initial_state(3)
    for t in range(4):
        out = model.step(images, location, state, generator=generator)
        torch.testing.assert_close(out.logits, rollout.step_logits[:, t])
        assert torch.equal(location, rollout.locations[:, t])
        if t < 3:
            torch.testing.assert_close(out.log_prob, rollout.log_probs[:, t])
        location, state = out.next_location, out.state


def test_lstm_core_is_the_textbooks() -> None:
    model = RecurrentAttention(RAMConfig(core="lstm"))
    cell = model.core.cell
    features, hidden, memory = torch.rand(2, 256), torch.rand(2, 256), torch.rand(2, 256)
    gates = features @ cell.weight_ih.T + cell.bias_ih + hidden @ cell.weight_hh.T + cell.bias_hh
    i, f, g, o = gates.chunk(4, 1)
    wanted_memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
    state = model.core(
        features,
        (
            hidden,
            memory,
        ),
    )
    torch.testing.assert_close(state[1], wanted_memory)
    torch.testing.assert_close(state[0], o.sigmoid() * wanted_memory.tanh())


def test_eval_mode_takes_the_mean_and_training_mode_its_noise() -> None:
    model = RecurrentAttention(RAMConfig(num_glimpses=2, location_std=0.05))
    images, first = torch.rand(1, 1, 28, 28).expand(4000, -1, -1, -1), torch.zeros(4000, 2)
    mean = model.eval()(images, first_location=first).locations[:, 1]
    assert (mean == mean[0]).all()
    sampled = model.train()(images, first_location=first).locations[:, 1]
    deviation = sampled - mean
    torch.testing.assert_close(deviation.std(0), torch.full((2,), 0.05), rtol=0.05, atol=0)
    torch.testing.assert_close(deviation.mean(0), torch.zeros(2), rtol=0, atol=0.004)


def test_equal_seeds_give_equal_scanpaths() -> None:
    model, images = RecurrentAttention(RAMConfig()), torch.rand(3, 1, 28, 28)
    first, second, other = (
        model(images, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.locations, second.locations)
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(first.locations, other.locations)


def test_a_first_location_is_in_the_image() -> None:
    model, images = RecurrentAttention(RAMConfig()).eval(), torch.rand(2, 1, 28, 28)
    for wrong in (30.0, -1.5, float("nan")):
        with pytest.raises(ValueError, match=r"first_location must be in \[-1, 1\].*got \["):
            model(images, first_location=torch.full((2, 2), wrong))
    edge = torch.ones(2, 2, dtype=torch.float64)
    assert torch.equal(model(images, first_location=edge).locations[:, 0], torch.ones(2, 2))
    assert torch.equal(model(images, first_location=[[0, 0]] * 2).locations[:, 0], 0 * edge.float())  # type: ignore[arg-type]
    for std in (0, torch.tensor(0.0), torch.tensor(math.nan)):
        with pytest.raises(ValueError, match="location_std must be above 0; got (0|nan)"):
            model(images, location_std=std)


def test_a_step_takes_numbers_of_any_type_and_refuses_none() -> None:
    model, images = RecurrentAttention(RAMConfig()).eval(), torch.rand(2, 1, 28, 28)
    location, state = torch.tensor([[0.5, -1], [1, 0]]), model.initial_state(2)
    wanted = model.step(images, location, state).logits
    for given in (location.double(), location.numpy(), location.tolist()):
        assert torch.equal(model.step(images, given, state).logits, wanted)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a location must be numbers in \[-1, 1\]; got one that"):
        model.step(images, location * math.nan, state)
    with pytest.raises(ValueError, match=r"the state must be of 2 image\(s\), as there are; got"):
        model.step(images, location, model.initial_state(3))


def test_weights_of_other_types_are_refused_with_what_to_do() -> None:
    images = torch.rand(2, 1, 28, 28)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        model = RecurrentAttention(RAMConfig()).eval().to(kind)
        for look in (model, model.begin, lambda x, m=model: predict(m, x[0].numpy()[0])):
            with pytest.raises(ValueError, match=r"float32; got .*float.* Call model.float\(\)"):
                look(images)
        assert torch.isfinite(model.float()(images).logits).all()


@pytest.mark.parametrize("scales", [1, 3])
def test_a_gradient_reaches_the_images(scales: int) -> None:
    """As saliency maps want it: against finite differences of one pixel."""
    torch.manual_seed(0)
    config = RAMConfig(num_scales=scales, num_glimpses=3, policy="center")
    model = RecurrentAttention(config).eval()
    images, first = torch.rand(1, 1, 28, 28), torch.zeros(1, 2)
    wanted = images.clone().requires_grad_()
    model(wanted, first_location=first).logits[0, 3].backward()
    assert wanted.grad is not None
    row, column = divmod(int(wanted.grad.abs().argmax()), 28)
    ends = []
    for change in (-0.01, 0.01):
        images[0, 0, row, column] += change
        ends.append(model(images, first_location=first).logits[0, 3].item())
        images[0, 0, row, column] -= change
    slope = (ends[1] - ends[0]) / 0.02
    assert float(wanted.grad[0, 0, row, column]) == pytest.approx(slope, rel=0.05)


def test_a_policys_own_first_location_is_brought_into_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images = RecurrentAttention(RAMConfig()).eval(), torch.rand(2, 1, 28, 28)
    given = torch.tensor([[7.0, 0.5], [-3.0, -7.0]])
    monkeypatch.setattr(model.location_policy, "first", lambda *_: given)
    assert model(images).locations[:, 0].tolist() == [[1.0, 0.5], [-1.0, -1.0]]
    state = model.initial_state(2)
    beyond, edge = (
        model.step(images, place, state).logits for place in (given, given.clamp(-1, 1))
    )
    assert torch.equal(beyond, edge)
    with pytest.raises(ValueError, match="location_std must be above 0; got -1"):
        model.step(images, given, state, location_std=-1)
    monkeypatch.setattr(model.location_policy, "first", lambda *_: given[:1])
    with pytest.raises(ValueError, match=r"the first location of \(B, 2\); got \(1, 2\)"):
        model(images)


def test_the_first_location_is_uniform(generator: torch.Generator) -> None:
    model = RecurrentAttention(RAMConfig(num_glimpses=1))
    with torch.inference_mode():
        places = model(torch.zeros(20_000, 1, 8, 8), generator=generator).locations[:, 0]
    counts = torch.histogram(places.flatten(), bins=10, range=(-1, 1)).hist
    assert counts.sum() == 40_000
    assert ((counts - 4000).square() / 4000).sum() < 27.9  # chi-square, 9 degrees, p = 0.001


def test_bfloat16_under_autocast_stays_near() -> None:
    torch.manual_seed(0)
    model, images = RecurrentAttention(RAMConfig()).eval(), torch.rand(8, 1, 28, 28)
    first = torch.zeros(8, 2)
    exact = model(images, num_glimpses=1, first_location=first).logits
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(images, num_glimpses=1, first_location=first).logits
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.02, rtol=0.02)


def test_counts() -> None:
    """Against sums written out for the paper's network on 28 x 28 MNIST."""
    model = RecurrentAttention(RAMConfig())
    weights = 64 * 128 + 2 * 128 + 128 * 256 + 128 * 256 + 256 * 256 + 256 * 256
    heads = 256 * 2 + 256 * 10
    biases = 128 + 128 + 256 + 256 + 256 + 256 + 2 + 10
    assert model.count_parameters() == weights + heads + biases
    assert model.count_multiply_adds() == weights + heads
    assert model.count_pixels_read() == 7 * 64
    assert model.count_pixels_read(num_glimpses=3) == 3 * 64
    lstm = RecurrentAttention(RAMConfig(core="lstm"))
    core = 2 * 256 * 256
    assert lstm.count_multiply_adds() == weights + heads - core + 4 * core


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    model = RecurrentAttention(ODD).eval()
    model.save_pretrained(tmp_path / "model")
    again = RecurrentAttention.from_pretrained(tmp_path / "model")
    assert again.config == ODD
    assert not again.training
    images, first = torch.rand(2, 3, 30, 30), torch.zeros(2, 2)
    wanted = model(images, first_location=first).logits
    assert torch.equal(again(images, first_location=first).logits, wanted)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_glimpses": 0}, "num_glimpses must be a whole number from 1 to 1,000; got 0"),
        ({"glimpse_size": 1000}, "glimpse_size must be .* from 1 to 256; got 1000. To see more"),
        ({"num_classes": 2.5}, "num_classes must be a whole number from 1 to 1,000,000; got 2.5"),
        (
            {"policy": "centre"},
            "unknown policy 'centre'; it must .* Did you mean center",
        ),
        (
            {"core": "lstmm"},
            "unknown core 'lstmm'; .* rnn, lstm, sum, attention, or one that foveal --import",
        ),
        ({"location_std": 0.0}, "location_std must be a number above 0 and at most 1,000; got 0.0"),
    ],
)
def test_impossible_configurations_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RAMConfig(**values)  # type: ignore[arg-type]


def test_wrong_calls_say_what_was_wanted() -> None:
    model = RecurrentAttention(RAMConfig())
    with pytest.raises(ValueError, match=r"images must have 1 channel\(s\).*got 3"):
        model(torch.zeros(2, 3, 28, 28))
    with pytest.raises(ValueError, match="num_glimpses must be a whole number from 1 .*got 0"):
        model(torch.zeros(2, 1, 28, 28), num_glimpses=0)
    with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\); got \(28, 28\)"):
        model(torch.zeros(28, 28))
    with pytest.raises(ValueError, match="images must be at least one; got none"):
        model(torch.zeros(0, 1, 28, 28))


def test_random_looks_are_uniform_and_pay_no_heed(generator: torch.Generator) -> None:
    model = RecurrentAttention(RAMConfig(policy="random", num_glimpses=3)).eval()
    images = torch.zeros(2000, 1, 28, 28)
    rollout = model(images, generator=generator)
    looks = rollout.locations.view(-1, 2)
    # A uniform number in [-1, 1] has variance 1/3; no two steps or coordinates go together.
    torch.testing.assert_close(looks.var(0), torch.full((2,), 1 / 3), atol=0.02, rtol=0)
    together = torch.corrcoef(rollout.locations.flatten(1).T)
    assert (together - torch.eye(6)).abs().max() < 0.1
    assert looks.abs().max() <= 1
    torch.testing.assert_close(rollout.log_probs.exp(), torch.full((2000, 2), 0.25))
    again = model(images, generator=generator.manual_seed(1406))
    assert torch.equal(again.locations, rollout.locations)


def test_center_looks_never_leave_it() -> None:
    model = RecurrentAttention(RAMConfig(policy="center", num_glimpses=3))
    rollout = model(torch.rand(5, 1, 28, 28))
    assert torch.equal(rollout.locations, torch.zeros(5, 3, 2))
    assert torch.equal(rollout.log_probs, torch.zeros(5, 2))


@pytest.mark.parametrize("policy", ["random", "center"])
def test_a_control_has_no_policy_to_learn_and_learns_to_answer(policy: str) -> None:
    model = RecurrentAttention(RAMConfig(policy=policy, num_glimpses=3))  # type: ignore[arg-type]
    assert not list(model.location_policy.parameters())
    labels = torch.tensor([1, 2, 3, 4])
    hybrid_loss(model(torch.rand(4, 1, 28, 28)), labels).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_answers_gradient_moves_the_gaze_within_its_bound(generator: torch.Generator) -> None:
    """A loss linear in the glimpses: its gradient at a look is the slopes' product, then cut."""
    torch.manual_seed(0)
    images = torch.rand(6, 1, 28, 28, generator=generator)

    def pull(bound: float) -> tuple[Tensor, Tensor]:
        """The gradient at the policy's bias, and at each image's second look, in nats."""
        policy = LocationPolicy(256).train()
        torch.nn.init.zeros_(policy.mean.weight)
        torch.nn.init.zeros_(policy.mean.bias)
        mean, choice = policy(torch.zeros(6, 256), 0.1, generator.manual_seed(3))
        location = followed(choice, mean, bound)
        sensor = GlimpseSensor(8, 1)
        (100 * sensor(images, location).flatten(1).sum(1)).mean().backward()
        slopes = sensor.slopes(images, location.detach()).flatten(2).sum(2)
        return policy.mean.bias.grad, 100 * slopes

    free, each = pull(1e6)
    torch.testing.assert_close(free, each.mean(0), rtol=1e-4, atol=1e-4)
    bounded, each = pull(2.0)
    assert each.norm(dim=1).min() > 2, "every image pulls more than the bound"
    torch.testing.assert_close(bounded, (2 * each / each.norm(dim=1, keepdim=True)).mean(0))


def test_the_answers_gradient_never_pulls_a_gaze_farther_out_of_the_image() -> None:
    """A gaze far out at the right and inside vertically: what the loss wants of it, and gets."""
    policy = LocationPolicy(256).train()
    for wish, wanted in (((1.0, 2.0), (0.0, 2.0)), ((-1.0, -2.0), (-1.0, -2.0))):
        policy.zero_grad()
        torch.nn.init.zeros_(policy.mean.weight)
        policy.mean.bias.data = torch.tensor([3.0, 0.5])
        mean, choice = policy(torch.zeros(5, 256), 0.01, None)
        location = followed(choice, mean, 1e6)
        assert torch.equal(location[:, 0], torch.ones(5)), "clamped to the edge"
        (-location @ torch.tensor(wish)).mean().backward()
        torch.testing.assert_close(-policy.mean.bias.grad, torch.tensor(wanted))


def test_without_a_location_gradient_the_answer_leaves_the_policy_alone() -> None:
    for bound in (0.0, 1.0):
        model = RecurrentAttention(RAMConfig(num_glimpses=3, location_gradient=bound))
        rollout = model(torch.rand(4, 1, 28, 28))
        nn.functional.cross_entropy(rollout.logits, torch.tensor([1, 2, 3, 4])).backward()
        reached = model.location_policy.mean.weight.grad is not None
        assert reached == (bound > 0)
        assert rollout.locations.requires_grad == (bound > 0)
        with torch.no_grad():
            model(torch.rand(4, 1, 28, 28))
        assert not model.eval()(torch.rand(4, 1, 28, 28)).locations.requires_grad


def test_glimpses_answer_alone_in_training(generator: torch.Generator) -> None:
    """Without memory: from the glimpse network's features, by equations."""
    model = RecurrentAttention(RAMConfig(num_glimpses=3))
    learner = Learner(model, glimpse_head=True)
    images = torch.rand(4, 1, 28, 28, generator=generator)
    rollout = learner(images, generator=generator)
    assert rollout.glimpse_logits is not None
    assert learner.glimpse_head is not None
    for t in range(3):
        location = rollout.locations[:, t]
        features = model.glimpse_network(model.sensor(images, location), location)
        wanted = features @ learner.glimpse_head.weight.T + learner.glimpse_head.bias
        torch.testing.assert_close(rollout.glimpse_logits[:, t], wanted)
    assert Learner(model)(images).glimpse_logits is None


def test_images_of_different_sizes_are_looked_at_as_each_alone(generator: torch.Generator) -> None:
    """In a rollout, and step by step."""
    model = RecurrentAttention(ODD).eval()
    images = [torch.rand(3, h, w, generator=generator) for h, w in ((20, 26), (7, 40), (33, 5))]
    padded = pad_images(images)
    first = torch.rand(3, 2, generator=generator) * 2 - 1
    together = model(padded, first_location=first)
    location, state = first, model.initial_state(3)
    for t in range(ODD.num_glimpses):
        torch.testing.assert_close(location, together.locations[:, t])
        step = model.step(padded, location, state)
        location, state = step.next_location, step.state
    torch.testing.assert_close(step.logits, together.logits)
    for i, image in enumerate(images):
        alone = model(image[None], first_location=first[i : i + 1])
        torch.testing.assert_close(alone.step_logits[0], together.step_logits[i])
        torch.testing.assert_close(alone.locations[0], together.locations[i])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_two_products_at_once_are_two_added(precision: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.nn.Linear(5, 7), torch.nn.Linear(3, 7)
    inputs = torch.randn(4, 5, generator=generator)
    others = torch.randn(4, 3, generator=generator)

    def gradients(total: torch.Tensor) -> list[torch.Tensor]:
        total.float().square().sum().backward()
        found = [p.grad.clone() for layer in (one, other) for p in layer.parameters()]  # type: ignore[union-attr]
        one.zero_grad()
        other.zero_grad()
        return [total.detach().float(), *found]

    with torch.autocast("cpu", dtype=precision, enabled=precision is torch.bfloat16):
        ours = gradients(sum_of_linear(one, inputs, other, others))
    wanted = gradients(one(inputs) + other(others))
    tolerance = 1e-5 if precision is torch.float32 else 0.05
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)


def test_a_rollout_over_sparse_images_is_that_over_the_whole_ones(
    generator: torch.Generator,
) -> None:
    places = torch.randint(0, 30, (3, 90, 2), generator=generator)
    light = torch.randint(1, 256, (3, 90), generator=generator)
    sparse = SparseScene(places, light, torch.tensor([[30, 30]] * 3))
    whole = torch.stack([sparse.image(row) for row in range(3)])
    model = RecurrentAttention(dataclasses.replace(ODD, num_channels=1))
    one, other = (
        model(images, generator=torch.Generator().manual_seed(1)) for images in (sparse, whole)
    )
    torch.testing.assert_close(one.logits, other.logits)
    torch.testing.assert_close(one.locations, other.locations)
    with pytest.raises(ValueError, match=r"images must have 3 channel\(s\)"):
        RecurrentAttention(ODD)(sparse)


def test_products_are_counted_as_in_use_and_leave_the_model_as_it_was() -> None:
    """A part that normalizes over the batch could not take the one image in training mode."""
    model = RecurrentAttention(TINY)
    plain = model.count_multiply_adds()
    network, norm = model.glimpse_network, torch.nn.BatchNorm1d(TINY.glimpse_features)

    class Normalized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.norm = network, norm

        def forward(self, glimpses: torch.Tensor, locations: torch.Tensor) -> torch.Tensor:
            return self.norm(self.network(glimpses, locations))

    model.glimpse_network = Normalized()
    assert model.count_multiply_adds() == plain
    assert model.training
    assert norm.training
    assert norm.num_batches_tracked == 0
