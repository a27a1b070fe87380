from __future__ import annotations

import math

import pytest
import torch

from foveal.training.control_objective import (
    ControlObjective,
    control_loss,
    generalized_advantages,
    policy_loss,
)


@pytest.mark.parametrize(("discount", "credit_decay"), [(1.0, 1.0), (0.9, 0.7), (0.5, 0.0)])
def test_advantages_are_the_weighted_sum_of_their_definition(
    discount: float, credit_decay: float, generator: torch.Generator
) -> None:
    """arXiv 1506.02438, eq. 16, decision by decision, game by game; nothing passes an end."""
    length, games = 9, 40
    rewards = torch.rand(length, games, generator=generator)
    values = torch.rand(length + 1, games, generator=generator)
    over = torch.rand(length, games, generator=generator) < 0.25
    terminated = over & (torch.rand(length, games, generator=generator) < 0.5)
    got = generalized_advantages(rewards, values, terminated, over, discount, credit_decay)
    for b in range(games):
        for t in range(length):
            wanted, weight = 0.0, 1.0
            for later in range(t, length):
                follows = 0.0 if terminated[later, b] else discount * values[later + 1, b].item()
                wanted += weight * (rewards[later, b].item() + follows - values[later, b].item())
                if over[later, b]:
                    break
                weight *= discount * credit_decay
            assert got[t, b].item() == pytest.approx(wanted, abs=1e-5)


def test_without_limit_the_gradient_is_reinforces(generator: torch.Generator) -> None:
    scores = torch.randn(6, 4, generator=generator, requires_grad=True)
    actions = torch.tensor([0, 1, 2, 3, 1, 0])
    advantages = torch.randn(6, generator=generator)
    log_probs = scores.log_softmax(1)[torch.arange(6), actions]
    policy_loss(log_probs, log_probs.detach(), advantages, 0.0).sum().backward()
    # By hand: the gradient of log softmax is the indicator less the probabilities.
    indicator = torch.nn.functional.one_hot(actions, 4)
    wanted = -advantages[:, None] * (indicator - scores.detach().softmax(1))
    torch.testing.assert_close(scores.grad, wanted)


@pytest.mark.parametrize(
    ("moved", "advantage", "counts"),
    [
        (1.5, 1.0, False),
        (1.1, 1.0, True),
        (0.5, 1.0, True),
        (0.5, -1.0, False),
        (0.9, -1.0, True),
        (1.5, -1.0, True),
    ],
)
def test_what_moved_far_enough_no_longer_counts(
    moved: float, advantage: float, counts: bool
) -> None:
    log_prob = torch.tensor([-1.0]).add(torch.tensor(moved).log()).requires_grad_()
    policy_loss(log_prob, torch.tensor([-1.0]), torch.tensor([advantage]), 0.2).sum().backward()
    assert log_prob.grad is not None
    assert bool(log_prob.grad != 0) == counts


def test_only_what_was_played_and_looked_at_is_scored(generator: torch.Generator) -> None:
    """Three decisions of two games: one action after the end, two locations never seen."""
    logits = torch.randn(3, 2, 3, generator=generator, requires_grad=True)
    locations = torch.randn(3, 2, generator=generator, requires_grad=True)
    baselines = torch.randn(3, 2, generator=generator, requires_grad=True)
    actions = torch.randint(3, (3, 2), generator=generator)
    advantages, returns = torch.randn(2, 3, 2, generator=generator)
    played = torch.tensor([[True, True], [True, True], [True, False]])
    looked = torch.tensor([[True, True], [True, False], [True, False]])
    before = logits.detach().log_softmax(-1).gather(-1, actions[..., None]).squeeze(-1)
    terms = control_loss(
        logits,
        actions,
        locations,
        (before, locations.detach()),
        baselines,
        advantages,
        returns,
        (played, looked),
        ControlObjective(),
        0.01,
    )
    terms.total.backward()
    for tensor, counts in ((logits, played), (locations, looked), (baselines, played)):
        assert tensor.grad is not None
        reached = tensor.grad.reshape(3, 2, -1).ne(0).any(-1)
        assert torch.equal(reached, counts)
    errors = (baselines - returns).square()[played]
    torch.testing.assert_close(terms.baseline, errors.mean())
    chances = logits.softmax(-1)
    entropies = -(chances * chances.log()).sum(-1)[played]
    torch.testing.assert_close(terms.entropy, entropies.mean())
    policy = -(advantages[played].sum() + advantages[looked].sum()) / 5
    torch.testing.assert_close(terms.policy, policy)
    total = policy + 0.5 * terms.baseline - 0.01 * terms.entropy
    torch.testing.assert_close(terms.total, total)


def test_the_entropy_of_the_locations_has_its_gradient() -> None:
    """Of three places, each drawn as often as is likely, once; one more is never looked at."""
    chances = torch.tensor([1 / 8, 2 / 8, 5 / 8])
    places = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2, 0])
    looked = torch.tensor([[True] * 8 + [False]])
    gradients = []
    for estimated in (True, False):
        scores = chances.log().requires_grad_()
        log_probs = scores.log_softmax(-1)
        if estimated:
            nothing = torch.zeros(1, 9)
            terms = control_loss(
                torch.zeros(1, 9, 2),
                nothing.long(),
                log_probs[places][None],
                (nothing - math.log(2), log_probs[places][None].detach()),
                nothing,
                nothing,
                nothing,
                (looked, looked),
                ControlObjective(location_entropy_weight=0.3),
                0.0,
            )
            terms.total.backward()
        else:
            (0.3 * (log_probs.exp() * log_probs).sum()).backward()
        gradients.append(scores.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"discount": 1.1}, r"discount must be a number from 0 to 1; got 1.1"),
        ({"clip": -0.1}, "clip must be a number from 0 to 1,000,000; got -0.1"),
    ],
)
def test_impossible_objectives_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ControlObjective(**values)  # type: ignore[arg-type]


def test_no_gradient_flows_through_advantages() -> None:
    values, never = torch.rand(4, 2, requires_grad=True), torch.zeros(3, 2, dtype=torch.bool)
    got = generalized_advantages(torch.ones(3, 2), values, never, never, 0.9, 0.8)
    assert not got.requires_grad


def test_the_defaults_are_those_of_proximal_policy_optimization() -> None:
    """arXiv 1707.06347, §6: clip 0.2, lambda 0.95, value coefficient of the order of 1/2."""
    defaults = ControlObjective()
    assert (defaults.clip, defaults.credit_decay, defaults.discount) == (0.2, 0.95, 1.0)
    assert (defaults.baseline_weight, defaults.entropy_weight) == (0.5, 0.005)
    assert defaults.detach_baseline
    assert defaults.standardize_advantages
