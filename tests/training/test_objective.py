from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.policy import gaussian_log_prob
from foveal.training.critic import Learner, answered
from foveal.training.objective import (
    ObjectiveConfig,
    advantages,
    baseline_loss,
    cross_entropy,
    gaze_moments,
    hybrid_loss,
    reinforce_loss,
    stop_loss,
)
from foveal.training.rewards import LOOK_REWARDS, REWARDS, reward_of
from tests.conftest import TINY


def test_reinforce_is_the_exact_gradient_by_enumeration() -> None:
    """Two decisions among three choices, every sequence weighed by its probability."""
    scores = torch.tensor([[0.3, -0.2, 0.5], [-0.4, 0.1, 0.2]], requires_grad=True)
    rewards = torch.tensor([[0.0, 1.0, 0.2], [0.7, 0.1, 0.0], [0.4, 0.9, 1.0]])

    probabilities = scores.softmax(1)
    expected_reward = probabilities[0] @ rewards @ probabilities[1]
    (exact,) = torch.autograd.grad(expected_reward, scores)

    log_probabilities = scores.log_softmax(1)
    estimate = torch.zeros_like(exact)
    for first, second in itertools.product(range(3), repeat=2):
        log_probs = torch.stack([log_probabilities[0, first], log_probabilities[1, second]])[None]
        weight = log_probs.sum().exp().item()
        loss = reinforce_loss(log_probs, rewards[first, second].expand(1, 2))
        (gradient,) = torch.autograd.grad(loss, scores, retain_graph=True)
        estimate -= weight * gradient
    torch.testing.assert_close(estimate, exact)


def test_the_stop_is_paid_what_enumeration_expects() -> None:
    """Every sequence of decisions, weighed by its probability; its gradient by differences."""
    draws = torch.Generator().manual_seed(2)
    odds = torch.randn(3, 4, generator=draws, dtype=torch.float64)
    logits = 2 * torch.randn(3, 4, 5, generator=draws, dtype=torch.float64)
    labels, counts = torch.tensor([1, 0, 4]), torch.tensor([1.0, 2.0, 0.5])

    def by_enumeration(odds: Tensor, cost: float) -> float:
        total = 0.0
        for row, decisions in itertools.product(
            range(3), itertools.product((False, True), repeat=4)
        ):
            chance, first = 1.0, None
            for look, stops in enumerate(decisions):
                stop = 1 / (1 + math.exp(-odds[row, look]))
                chance *= stop if stops else 1 - stop
                first = look if stops and first is None else first
            last = 3 if first is None else first
            likely = math.log(logits[row, last].detach().softmax(0)[labels[row]])
            total += float(counts[row]) * chance * (cost * (last + 1) - max(likely, -3.0)) / 3
        return total

    for cost in (0.0, 0.3):
        given = odds.clone().requires_grad_()
        loss = stop_loss(given, logits.requires_grad_(), labels, cost, counts)
        assert float(loss.detach()) == pytest.approx(by_enumeration(odds, cost), rel=1e-5)
        loss.backward()
        assert given.grad is not None
        assert logits.grad is None, "the recognizer has an objective of its own"
        for row, look in itertools.product(range(3), range(4)):
            step = torch.zeros_like(odds)
            step[row, look] = 1e-4
            slope = by_enumeration(odds + step, cost) - by_enumeration(odds - step, cost)
            assert float(given.grad[row, look]) == pytest.approx(slope / 2e-4, abs=1e-6)


def test_a_stop_changes_nothing_but_itself() -> None:
    config = RAMConfig(glimpse_size=4, num_glimpses=3, core_size=16, stop=True)
    learner = Learner(RecurrentAttention(config))
    images, labels = torch.rand(6, 1, 12, 12), torch.arange(6)
    rollout = learner(images, labels, generator=torch.Generator().manual_seed(0))
    assert float(rollout.stop_logits.detach().sigmoid().max()) < 0.5, "it begins by looking on"
    gradients = []
    for given in (rollout, rollout._replace(stop_logits=None)):
        learner.zero_grad()
        hybrid_loss(given, labels).total.backward(retain_graph=True)
        gradients.append(
            {
                name: weight.grad.clone()
                for name, weight in learner.named_parameters()
                if weight.grad is not None
            }
        )
    stops = {name for name in gradients[0] if "stop_head" in name}
    assert stops == gradients[0].keys() - gradients[1].keys() != set()
    assert all(torch.equal(gradients[0][name], value) for name, value in gradients[1].items())


@pytest.mark.parametrize("baseline", [0.0, 0.7, -3.0])
def test_reinforce_is_the_exact_gradient_by_quadrature(baseline: float) -> None:
    """A Gaussian choice whose reward is a smooth function; any baseline leaves it unbiased."""
    std, mean = 0.3, torch.tensor([[0.2, -0.1]], requires_grad=True, dtype=torch.float64)
    axis = torch.linspace(-6 * std, 6 * std, 401, dtype=torch.float64)
    offsets = torch.cartesian_prod(axis, axis)
    cell = (axis[1] - axis[0]) ** 2

    def reward(places: Tensor) -> Tensor:
        return torch.cos(2 * places[:, 0]) * torch.exp(-(places[:, 1] ** 2))

    # Closed form: E cos(2x) = cos(2m) exp(-2 s^2); E exp(-y^2) under a Gaussian, likewise.
    widened = 1 + 2 * std**2
    expected = (
        torch.cos(2 * mean[0, 0])
        * math.exp(-2 * std**2)
        * torch.exp(-(mean[0, 1] ** 2) / widened)
        / math.sqrt(widened)
    )
    (exact,) = torch.autograd.grad(expected, mean)

    places = mean.detach() + offsets
    log_probs = gaussian_log_prob(places, mean, std)
    weights = log_probs.detach().exp() * cell
    gains = reward(places) - baseline
    # The loss is a mean over samples: weigh them by their probability instead.
    loss = reinforce_loss(log_probs[:, None], (gains * weights * len(places))[:, None])
    (gradient,) = torch.autograd.grad(loss, mean)
    torch.testing.assert_close(-gradient, exact, rtol=1e-5, atol=1e-8)


def test_the_score_is_of_the_sample_before_it_was_clamped() -> None:
    """d log pi / d mean = (l - mean) / std^2 of the raw sample, even where l left the image."""
    std = 0.5
    model = RecurrentAttention(RAMConfig(num_glimpses=2, location_std=std))
    with torch.no_grad():
        model.location_policy.mean.weight.zero_()
        model.location_policy.mean.bias.copy_(torch.tensor([0.9, -0.8]))
    images = torch.rand(64, 1, 28, 28)
    first = torch.zeros(64, 2)
    rollout = model(images, first_location=first, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(64, 2, generator=torch.Generator().manual_seed(3))
    raw = torch.tensor([0.9, -0.8]) + std * noise
    assert ((raw.abs() > 1).any(1)).sum() > 10, "the test needs samples outside the image"
    torch.testing.assert_close(rollout.locations[:, 1], raw.clamp(-1, 1))
    wanted = torch.distributions.Normal(torch.tensor([0.9, -0.8]), std).log_prob(raw).sum(1)
    torch.testing.assert_close(rollout.log_probs[:, 0], wanted)
    (score,) = torch.autograd.grad(rollout.log_probs.sum(), model.location_policy.mean.bias)
    torch.testing.assert_close(score, ((raw - torch.tensor([0.9, -0.8])) / std**2).sum(0))


def parameters_reached(model: nn.Module, loss: Tensor) -> set[str]:
    """The parts of the model that a loss has a non-zero gradient in."""
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {
        name.removeprefix("model.").split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


@pytest.mark.parametrize("core", ["rnn", "lstm"])
@pytest.mark.parametrize("privileged", [False, True])
def test_each_term_reaches_its_parameters_and_no_others(core: str, privileged: bool) -> None:
    seeing = {"glimpse_network", "core"}
    images, labels = torch.rand(16, 1, 28, 28), torch.arange(16) % 10
    for detach in (True, False):
        torch.manual_seed(0)
        config = RAMConfig(
            num_glimpses=4,
            core=core,  # type: ignore[arg-type]
            detach_policy=detach,
        )
        model = Learner(RecurrentAttention(config), privileged_baseline=privileged)
        rollout = model(images, labels)
        reward = reward_of(rollout, labels, "log_likelihood")
        gains = reward[:, None] - rollout.baselines
        policy = parameters_reached(model, reinforce_loss(rollout.log_probs, gains))
        assert policy == {"location_policy"} | (set() if detach else seeing)
        answer = parameters_reached(model, cross_entropy(rollout.logits, labels))
        assert answer == {"action_head"} | seeing
        baseline = parameters_reached(model, baseline_loss(rollout.baselines, reward))
        assert baseline == {"critic"}


def test_rewards_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    answers = answered(logits)
    assert reward_of(answers, labels, "correct").tolist() == [1.0, 0.0, 0.0]
    given: list[Any] = [labels == 0, labels, [1.0, 2.0], torch.ones(2)]
    monkeypatch.setitem(REWARDS, "mine", lambda *_: given.pop(0))
    for wanted_of_mine in ((labels == 0).float(), labels.float()):  # truths, whole numbers
        torch.testing.assert_close(reward_of(answers, labels, "mine"), wanted_of_mine)
    for got in ("list", r"\(2,\)"):
        with pytest.raises(ValueError, match=rf"'mine' must be \(3,\), .* got {got}"):
            reward_of(answers, labels, "mine")
    right = -math.log(1 + math.exp(-2))
    wanted = [right, right - 2, -3.0]  # the last is cut off at the floor
    torch.testing.assert_close(reward_of(answers, labels, "log_likelihood"), torch.tensor(wanted))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_critics_begin_with_what_an_even_belief_earns(classes: int) -> None:
    """Against the rewards themselves, of answers that prefer no class; 100 are below the floor."""
    even, labels = torch.zeros(classes, classes), torch.arange(classes)
    rollout = answered(even)._replace(
        glimpse_logits=even[:, None], step_logits=even[:, None], prior_logits=even[:, None]
    )
    rollout = rollout._replace(log_probs=torch.zeros(classes, 1))
    for reward, look_reward in itertools.product(("correct", "log_likelihood"), LOOK_REWARDS):
        config = ObjectiveConfig(reward=reward, look_reward=look_reward)
        wanted = reward_of(rollout, labels, reward).mean()
        told = LOOK_REWARDS[look_reward](rollout, labels).mean()
        starts = config.rewards_at_chance(classes)
        assert starts == pytest.approx((float(wanted), float(told)), abs=1e-6)
        model = RecurrentAttention(dataclasses.replace(TINY, num_classes=classes))
        learner = Learner(model, look_critic=True, privileged_baseline=True, starts=starts)
        hidden = torch.zeros(1, 16)
        for critic, start in zip((learner.critic, learner.look_critic), starts, strict=True):
            assert critic is not None
            assert critic(hidden, even[:1]).item() == pytest.approx(start, abs=0.4)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 1.0])
def test_advantages_are_the_weighted_sums_of_surprises(decay: float) -> None:
    """Schulman et al. 2016, eq. 16, term by term: no discount, and a reward at the end alone."""
    baselines = [[0.5, -0.2, 0.1, 0.9], [0.0, 1.0, 2.0, 4.0]]
    rewards = [1.0, -2.0]
    wanted = []
    for values, reward in zip(baselines, rewards, strict=True):
        surprises = [after - now for now, after in itertools.pairwise([*values, reward])]
        wanted.append(
            [sum(decay**k * x for k, x in enumerate(surprises[t:])) for t in range(len(values))]
        )
    got = advantages(torch.tensor(rewards), torch.tensor(baselines), decay)
    torch.testing.assert_close(got, torch.tensor(wanted))
    if decay == 1:
        torch.testing.assert_close(got, torch.tensor(rewards)[:, None] - torch.tensor(baselines))


def test_baseline_loss_is_the_mean_square() -> None:
    baselines = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    wanted = ((1 - 3) ** 2 + (2 - 3) ** 2 + (0 - 1) ** 2 + (-1 - 1) ** 2) / 4
    assert baseline_loss(baselines, torch.tensor([3.0, 1.0])).item() == pytest.approx(wanted)


def test_the_hybrid_loss_adds_its_terms_by_weight(generator: torch.Generator) -> None:
    model = RecurrentAttention(RAMConfig(num_glimpses=3))
    images, labels = torch.rand(8, 1, 28, 28, generator=generator), torch.arange(8)
    rollout = model(images, generator=generator)
    config = ObjectiveConfig(reinforce_weight=0.3, baseline_weight=0.2)
    terms = hybrid_loss(rollout, labels, config)
    wanted = terms.supervised + 0.3 * terms.reinforce + 0.2 * terms.baseline
    assert terms.total.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert terms.error.item() == pytest.approx(1 - terms.reward.item())


def test_one_glimpse_takes_no_decision() -> None:
    model = RecurrentAttention(RAMConfig(num_glimpses=1))
    rollout = model(torch.rand(5, 1, 28, 28))
    assert rollout.log_probs.shape == rollout.baselines.shape == (5, 0)
    config = ObjectiveConfig(standardize_advantages=True)
    terms = hybrid_loss(rollout, torch.arange(5), config)
    assert terms.total.item() == pytest.approx(terms.supervised.item())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"reward": "win"},
            "unknown reward 'win'; it must be one of correct, log_likel",
        ),
        ({"baseline_weight": -1.0}, "baseline_weight must be a number from 0 .*; got -1.0"),
    ],
)
def test_impossible_objectives_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ObjectiveConfig(**values)  # type: ignore[arg-type]


def test_what_glimpses_answer_alone_is_scored_from_the_second_on() -> None:
    logits = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, 1, 1, 0])
    chances = logits.softmax(-1)
    wanted = -sum(
        math.log(chances[image, look, labels[image]]) for image in range(5) for look in (1, 2, 3)
    )
    assert float(cross_entropy(logits[:, 1:], labels)) == pytest.approx(wanted / 15, rel=1e-5)
    assert float(cross_entropy(logits[:, :0], labels)) == 0, "one look, which nobody chose"


def test_the_glimpse_term_needs_its_head_and_is_added_by_its_weight() -> None:
    torch.manual_seed(0)
    config, labels = ObjectiveConfig(glimpse_weight=0.5), torch.tensor([1, 2, 3, 4])
    images = torch.rand(4, 1, 28, 28)
    model = RecurrentAttention(RAMConfig(num_glimpses=3))
    rollout = Learner(model, glimpse_head=True)(images)
    assert rollout.glimpse_logits is not None
    alone = cross_entropy(rollout.glimpse_logits[:, 1:], labels)  # nobody chose the first
    without = hybrid_loss(rollout, labels, ObjectiveConfig()).total
    torch.testing.assert_close(hybrid_loss(rollout, labels, config).total, without + 0.5 * alone)
    with pytest.raises(ValueError, match="need a rollout with glimpse_logits"):
        hybrid_loss(RecurrentAttention(RAMConfig(num_glimpses=3))(images), labels, config)


def test_credit_for_each_look_is_the_exact_gradient_by_enumeration() -> None:
    """Two looks among three places, each rewarded by itself: every sequence by its probability."""
    scores = torch.tensor([[0.3, -0.2, 0.5], [-0.4, 0.1, 0.2]], requires_grad=True)
    tells = torch.tensor([[0.1, -0.05, 0.4], [-0.03, 0.8, 0.2]])  # what a look at each place tells
    probabilities = scores.softmax(1)
    (exact,) = torch.autograd.grad((probabilities * tells).sum(), scores)

    config = ObjectiveConfig(reinforce_weight=0.0, look_weight=1.0, baseline_weight=0.0)
    logits = torch.zeros(1, 3)
    estimate = torch.zeros_like(exact)
    for places in itertools.product(range(3), repeat=2):
        log_probs = torch.stack([scores.log_softmax(1)[t, places[t]] for t in range(2)])[None]
        told = torch.stack([tells[t, places[t]] for t in range(2)])
        # Beliefs whose first class has this log-probability, less 1 so that none is above 0.
        first = (told - 1).exp()
        alone = torch.stack([first.log(), ((1 - first) / 2).log(), ((1 - first) / 2).log()], -1)
        rollout = answered(logits)._replace(
            locations=torch.zeros(1, 2, 2),
            log_probs=log_probs,
            baselines=torch.zeros(1, 2),
            look_baselines=torch.tensor([[0.3, -0.7]]),  # any baseline leaves it unbiased
            glimpse_logits=alone[None],
            features=[torch.zeros(1, 1)] * 2,
            prior_logits=torch.zeros(1, 2, 3),
        )
        loss = hybrid_loss(rollout, torch.tensor([0]), config).total
        (gradient,) = torch.autograd.grad(loss, scores, retain_graph=True)
        estimate -= log_probs.sum().exp().item() * gradient
    torch.testing.assert_close(estimate, exact)


@pytest.mark.parametrize("chosen", [2, 3])
def test_what_looks_tell_alone_and_add(chosen: int) -> None:
    """Against a loop over images and looks; the first of three looks may be nobody's choice."""
    torch.manual_seed(3)
    steps, alone = 3 * torch.randn(4, 3, 5), 3 * torch.randn(4, 3, 5)
    alone[0, -1, 0] = 5.0  # a look that shows the first class
    prior = torch.cat([3 * torch.randn(4, 1, 5), steps[:, :-1]], dim=1)[:, 3 - chosen :]
    labels = torch.tensor([0, 4, 2, 2])
    rollout = answered(steps[:, -1])._replace(
        step_logits=steps,
        glimpse_logits=alone,
        prior_logits=prior,
        log_probs=torch.zeros(4, chosen),
    )
    told, found, added = (
        LOOK_REWARDS[name](rollout, labels) for name in ("alone", "found", "gain")
    )
    assert told.shape == found.shape == added.shape == (4, chosen)

    def known(logits: Tensor, label: Tensor) -> float:
        exps = [math.exp(value) for value in logits.tolist()]
        return max(-3.0, math.log(exps[int(label)] / sum(exps)))

    for row, label in enumerate(labels):
        for look in range(chosen):
            t = look + 3 - chosen
            wanted = max(known(alone[row, t], label), -math.log(5))  # no worse than to know nothing
            assert told[row, look].item() == pytest.approx(wanted, abs=1e-5)
            wanted = wanted if label else -math.log(5)  # that nothing is there no look shows
            assert found[row, look].item() == pytest.approx(wanted, abs=1e-5)
            gain = known(steps[row, t], label) - known(prior[row, look], label)
            assert added[row, look].item() == pytest.approx(gain, abs=1e-5)


@pytest.mark.parametrize("earlier", [2, 3])
def test_the_answers_before_the_last_are_trained_too(earlier: int) -> None:
    """With a first look that is chosen, also the answer before any look."""
    torch.manual_seed(3)
    steps, labels = torch.randn(4, earlier + 1, 5), torch.tensor([0, 4, 2, 2])
    rollout = answered(steps[:, -1])._replace(
        step_logits=steps[:, -3:],
        prior_logits=steps[:, :-1],
        features=[torch.zeros(4, 1)] * 3,
        locations=torch.zeros(4, 3, 2),
    )
    plain = hybrid_loss(rollout, labels, ObjectiveConfig()).total
    both = hybrid_loss(rollout, labels, ObjectiveConfig(step_weight=0.25)).total
    beliefs = steps[:, :-1].softmax(-1)
    known = [math.log(beliefs[row, t, labels[row]]) for row in range(4) for t in range(earlier)]
    wanted = -sum(known) / len(known)
    assert (both - plain).item() == pytest.approx(0.25 * wanted, abs=1e-5)


@pytest.mark.parametrize("chosen", [2, 3])
def test_the_answer_before_any_look_is_trained_where_a_look_is_chosen_by_it(chosen: int) -> None:
    torch.manual_seed(3)
    prior, labels = torch.randn(4, chosen, 5), torch.tensor([0, 4, 2, 2])
    rollout = answered(torch.randn(4, 5))._replace(
        prior_logits=prior,
        log_probs=torch.zeros(4, chosen),
        baselines=torch.zeros(4, chosen),
        features=[torch.zeros(4, 1)] * 3,
        locations=torch.zeros(4, 3, 2),
    )
    plain = hybrid_loss(rollout, labels, ObjectiveConfig()).total
    more = hybrid_loss(rollout, labels, ObjectiveConfig(context_weight=0.5)).total
    beliefs = prior[:, 0].softmax(-1)
    known = [math.log(beliefs[row, label]) for row, label in enumerate(labels.tolist())]
    wanted = -0.5 * sum(known) / 4 if chosen == 3 else 0
    assert (more - plain).item() == pytest.approx(wanted, abs=1e-5)


def test_what_a_learner_must_add_is_said() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    rollout = answered(torch.zeros(2, 3))._replace(
        features=[torch.zeros(2, 1)], locations=torch.zeros(2, 1, 2)
    )
    with pytest.raises(ValueError, match="look_critic"):
        hybrid_loss(rollout, labels, ObjectiveConfig(look_weight=1.0))
    with pytest.raises(ValueError, match="glimpse_head"):
        hybrid_loss(rollout, labels, ObjectiveConfig(glimpse_weight=1.0))
    with pytest.raises(ValueError, match="look_reward"):
        ObjectiveConfig(look_reward="gains")


@pytest.mark.parametrize("standardize", [False, True])
def test_the_whole_objective_by_hand(*, standardize: bool) -> None:
    """All terms at once, each from its definition, with images that count differently."""
    torch.manual_seed(7)
    steps, alone, prior = torch.randn(4, 3, 5), torch.randn(4, 3, 5), torch.randn(4, 2, 5)
    baselines, expected, log_probs = torch.rand(4, 2), -torch.rand(4, 2), -torch.rand(4, 2)
    labels = steps[:, -1].argmax(-1)
    labels[0] = (labels[0] + 1) % 5  # one wrong answer of four
    weights, places = torch.tensor([0.5, 2.0, 1.0, 0.25]), torch.rand(4, 3, 2)
    rollout = answered(steps[:, -1])._replace(
        step_logits=steps,
        glimpse_logits=alone,
        prior_logits=prior,
        baselines=baselines,
        look_baselines=expected,
        log_probs=log_probs,
        locations=places,
        features=[torch.zeros(4, 1)] * 3,
    )
    config = ObjectiveConfig(
        reinforce_weight=0.3,
        baseline_weight=0.2,
        glimpse_weight=0.7,
        step_weight=0.4,
        look_weight=0.6,
        standardize_advantages=standardize,
    )
    terms = hybrid_loss(rollout, labels, config, weights)
    right = labels[:, None, None].expand(4, 3, 1)
    known, by_step, before = (
        part.log_softmax(-1).gather(-1, right[:, : part.shape[1]])[..., 0]
        for part in (alone, steps, prior)
    )
    least = -math.log(alone.shape[-1])  # a look tells no less than nothing
    told, reward = known[:, 1:].clamp(min=least), torch.tensor([0.0, 1.0, 1.0, 1.0])

    def surrogate(advantage: Tensor) -> Tensor:
        if standardize:
            mean = advantage.sum() / 8
            advantage = advantage / (((advantage - mean) ** 2).sum() / 7).sqrt()
        return -sum(log_probs[b, t] * advantage[b, t] * weights[b] for b, t in PLACES) / 4

    wanted = -(by_step[:, 2] * weights).sum() / 4
    assert terms.supervised.item() == pytest.approx(wanted.item(), rel=1e-5)
    wanted = (
        wanted + 0.3 * surrogate(reward[:, None] - baselines) + 0.6 * surrogate(told - expected)
    )
    squares = ((baselines - reward[:, None]) ** 2).sum() + ((expected - told) ** 2).sum()
    wanted = wanted + 0.2 * squares / 8 - 0.7 * (known[:, 1:] * weights[:, None]).sum() / 8
    wanted = wanted - 0.4 * (before * weights[:, None]).sum() / 8
    assert terms.total.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert (terms.reward.item(), terms.reward_square.item(), terms.error.item()) == (
        0.75,
        0.75,
        0.25,
    )
    x, y = places[:, 1:].reshape(8, 2).T
    moments = [x.sum() / 8, y.sum() / 8, ((x**2).sum() + (y**2).sum()) / 8]
    torch.testing.assert_close(terms.gaze, torch.stack(moments))


PLACES = list(itertools.product(range(4), range(2)))


def test_advantages_are_divided_by_their_deviation_even_of_two_or_none() -> None:
    labels = torch.tensor([1, 1])
    rollout = answered(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))._replace(
        log_probs=torch.tensor([[-1.0], [-2.0]]), baselines=torch.tensor([[0.5], [0.0]])
    )
    config = ObjectiveConfig(standardize_advantages=True)
    deviation = ((-0.5 - 0.25) ** 2 + (1 - 0.25) ** 2) ** 0.5  # of -0.5 and 1, by n - 1
    wanted = (-0.5 * 1 + 1 * 2) / deviation / 2
    assert hybrid_loss(rollout, labels, config).reinforce.item() == pytest.approx(wanted, rel=1e-4)
    alike = rollout._replace(baselines=torch.tensor([[-1e-6], [1 - 1e-6]]).double())
    assert hybrid_loss(alike, labels, config).reinforce.item() == pytest.approx(1.5, rel=0.2)


def test_no_gradient_flows_through_advantages_and_what_looks_tell() -> None:
    baselines = torch.rand(2, 3, requires_grad=True)
    for decay in (0.5, 1.0):
        assert not advantages(torch.ones(2), baselines, decay).requires_grad
    steps = torch.randn(2, 3, 4, requires_grad=True)
    rollout = answered(steps[:, -1])._replace(
        glimpse_logits=steps,
        step_logits=steps,
        prior_logits=steps[:, :2],
        log_probs=torch.zeros(2, 2),
    )
    for reward in LOOK_REWARDS.values():
        assert not reward(rollout, torch.tensor([0, 1])).requires_grad


def test_the_objective_as_published_and_its_ranges() -> None:
    """§3.2 has three terms of weight 1, and no other."""
    published = vars(ObjectiveConfig())
    ones = ("reinforce_weight", "baseline_weight", "credit_decay")
    assert [published[name] for name in ones] == [1, 1, 1]
    more = ("glimpse_weight", "step_weight", "look_weight", "standardize_advantages")
    assert not any(published[name] for name in (*more, "privileged_baseline"))
    assert published["detach_baseline"] is True
    reward, baselines = torch.tensor([1.0]), torch.tensor([[0.2, 0.9]])
    torch.testing.assert_close(advantages(reward, baselines), torch.tensor([[0.8, 0.1]]))
    for decay in (0.0, 1.0):
        ObjectiveConfig(credit_decay=decay)
    for decay in (-0.1, 1.5):
        with pytest.raises(ValueError, match="credit_decay must be a number from 0 to 1"):
            ObjectiveConfig(credit_decay=decay)


def test_a_reward_of_another_shape_is_refused() -> None:
    REWARDS.add("one")(lambda rollout, _labels: rollout.logits[:1, 0])
    try:
        with pytest.raises(ValueError, match=r"'one' must be \(3,\), a number for each image"):
            reward_of(answered(torch.zeros(3, 2)), torch.zeros(3, dtype=torch.int64), "one")
    finally:
        del REWARDS["one"]


def test_a_gaze_that_chose_nothing_has_moments_of_zero() -> None:
    assert gaze_moments(torch.zeros(4, 0, 2)).tolist() == [0, 0, 0]
