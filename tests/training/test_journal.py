from __future__ import annotations

import pytest
import torch

from foveal.training.journal import Gap, with_fit_and_spread
from foveal.training.objective import gaze_moments


def test_fit_and_spread_are_those_of_all_steps_together(generator: torch.Generator) -> None:
    """Summed moments of unequal batches say what the numbers themselves do."""
    rewards = torch.randn(4, 50, generator=generator, dtype=torch.float64) * 2 - 1
    guesses = rewards + 0.5 * torch.randn(4, 50, generator=generator, dtype=torch.float64)
    places = torch.rand(4, 50, 3, 2, generator=generator, dtype=torch.float64) * 2 - 1
    x, y, square = torch.stack([gaze_moments(part) for part in places]).mean(0).tolist()
    means = {
        "loss": 1.5,
        "reward": float(rewards.mean()),
        "reward_square": float(rewards.square().mean()),
        "baseline_loss": float((guesses - rewards).square().mean()),
        "gaze_x": x,
        "gaze_y": y,
        "gaze_square": square,
    }
    got = with_fit_and_spread(means, "reward")
    assert list(got) == ["loss", "reward", "baseline_loss", "baseline_fit", "location_spread"]
    residual, total = (guesses - rewards).square().sum(), (rewards - rewards.mean()).square().sum()
    assert got["baseline_fit"] == pytest.approx(float(1 - residual / total))
    spread = places.flatten(0, 2).var(0, unbiased=False).mean().sqrt()
    assert got["location_spread"] == pytest.approx(float(spread))
    assert got["location_spread"] == pytest.approx(3**-0.5, abs=0.03), "uniform"


def test_what_cannot_be_said_is_left_out() -> None:
    old = {"loss": 1.0, "reward": 0.5, "baseline_loss": 0.1}
    assert with_fit_and_spread(old, "reward") == old, "moments are missing"
    always = old | {"reward": 1.0, "reward_square": 1.0}
    assert "baseline_fit" not in with_fit_and_spread(always, "reward"), "nothing to explain"
    without = old | {"reward_square": 1.0, "baseline_loss": 0.0}
    assert "baseline_fit" not in with_fit_and_spread(without, "reward"), "there is no baseline"
    game = {"return": 0.1, "baseline_loss": 0.5, "target": 1.0, "target_square": 2.0}
    wanted = {"return": 0.1, "baseline_loss": 0.5, "baseline_fit": 0.5}
    assert with_fit_and_spread(game, "target") == wanted


def test_what_does_not_generalize_is_said_once() -> None:
    gap = Gap()
    assert not gap({}, {"validation_error": 69}), "nothing is known of training yet"
    assert not gap({"error": 60}, {"validation_error": 69})
    assert not gap({"error": 1}, {"validation_error": 6}), "a small gap is nothing unusual"
    assert not gap({"error": 0.9}, {})
    words = gap({}, {"validation_error": 69})
    assert "error 0.9 % in training, 69.0 % in validation" in words
    assert not gap({"error": 0}, {"validation_error": 90}), "once is enough"
    assert not Gap()({"return": 1}, {"validation_return": 0})
