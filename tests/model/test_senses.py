from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foveal import RAMConfig, RecurrentAttention
from tests.conftest import TINY

SENSING = dataclasses.replace(TINY, senses=(("heading", 4), ("speed", 2)), sense_features=5)


def sensing(**changes: Any) -> RecurrentAttention:
    torch.manual_seed(0)
    return RecurrentAttention(dataclasses.replace(SENSING, **changes)).eval()


def senses(batch: int) -> dict[str, torch.Tensor]:
    return {"speed": torch.randn(batch, 2), "heading": torch.eye(4)[torch.arange(batch) % 4]}


def test_a_sense_enters_the_core_beside_the_glimpse() -> None:
    """By hand: h = relu(W [g, relu(A a), relu(B b)] + b + U h), look by look."""
    model, images, given = sensing(), torch.rand(3, 1, 12, 12), senses(3)
    rollout = model(images, senses=given, first_location=torch.zeros(3, 2))
    linear: Any = nn.functional.linear
    felt = [
        linear(given[name], network.weight, network.bias).clamp(min=0)
        for name, network in zip(("heading", "speed"), model.senses.networks, strict=True)
    ]
    hidden = torch.zeros(3, TINY.core_size)
    core: Any = model.core
    for look in range(TINY.num_glimpses):
        glimpse = model.glimpse_network(
            model.sensor(images, rollout.locations[:, look]), rollout.locations[:, look]
        )
        inputs = torch.cat([glimpse, *felt], dim=1)
        hidden = (core.from_features(inputs) + core.from_hidden(hidden)).clamp(min=0)
    torch.testing.assert_close(rollout.logits, model.action_head(hidden))


def test_a_step_takes_senses_that_change() -> None:
    model, image = sensing(), torch.rand(2, 1, 12, 12)
    location, state = model.begin(image)
    first = model.step(image, location, state, senses=senses(2))
    again = model.step(image, location, state, senses=senses(2))
    assert not torch.equal(first.logits, again.logits), "speeds are drawn anew"
    numbered = {**senses(2), "heading": torch.tensor([3, 1])}
    one_hot = {**numbered, "heading": torch.eye(4)[[3, 1]]}
    by_number = model.step(image, location, state, senses=numbered)
    assert torch.equal(by_number.logits, model.step(image, location, state, senses=one_hot).logits)
    assert by_number.logits.grad_fn is not None


def test_senses_are_learned() -> None:
    """Black images: the answer is in the sense alone."""
    model = sensing(senses=(("heading", 4),), num_classes=4).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    heading = torch.arange(32) % 4
    for _ in range(60):
        logits = model(torch.zeros(32, 1, 12, 12), senses={"heading": heading}).logits
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, heading).backward()
        optimizer.step()
    assert (logits.argmax(1) == heading).all()


def test_a_saved_model_senses_as_before(tmp_path: Path) -> None:
    model, images, given = sensing(), torch.rand(2, 1, 12, 12), senses(2)
    model.save_pretrained(tmp_path)
    again = RecurrentAttention.from_pretrained(tmp_path)
    assert again.config == model.config
    place = torch.zeros(2, 2)
    before = model(images, senses=given, first_location=place).logits
    assert torch.equal(again(images, senses=given, first_location=place).logits, before)


def test_a_model_without_senses_is_as_it_was() -> None:
    torch.manual_seed(0)
    plain = RecurrentAttention(TINY)
    assert not [name for name in plain.state_dict() if "sense" in name]
    more = sensing()
    entered = 10 * TINY.core_size + (4 + 1) * 5 + (2 + 1) * 5
    assert more.count_parameters() - plain.count_parameters() == entered
    assert more.count_multiply_adds(2) - plain.count_multiply_adds(2) == 2 * (
        10 * TINY.core_size + 4 * 5 + 2 * 5
    )


WRONG = {
    "nothing": (
        None,
        r"senses heading \(4\), speed \(2\) beside the image; got nothing. Pass",
    ),
    "one": ({"heading": torch.zeros(2, 4)}, "got heading. Pass"),
    "another": ({**senses(2), "smell": torch.zeros(2, 1)}, "got speed, heading, smell"),
    "narrow": ({**senses(2), "heading": torch.zeros(2, 3)}, r"'heading' must be .* got \(2, 3\)"),
    "of another batch": ({**senses(3), "heading": torch.zeros(2, 4)}, r"'speed' must .* \(3, 2\)"),
    "too high": ({**senses(2), "heading": torch.tensor([0, 4])}, "whole numbers from 0 to 3"),
    "a number": ({**senses(2), "heading": torch.tensor(1)}, r"'heading' must be .* got \(\) of"),
    "nan": ({**senses(2), "speed": torch.full((2, 2), torch.nan)}, "'speed' must be finite"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_other_senses_are_refused(kind: str) -> None:
    given, words = WRONG[kind]
    with pytest.raises(ValueError, match=words):
        sensing()(torch.rand(2, 1, 12, 12), senses=given)


def test_senses_where_there_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="the model senses nothing beside the image; got speed"):
        RecurrentAttention(TINY)(torch.rand(2, 1, 12, 12), senses={"speed": torch.zeros(2, 2)})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((("a", 1), ("a", 2)), "senses must have names of their own, and be at most 64; got"),
        (tuple((str(i), 1) for i in range(65)), "at most 64"),
        ((("a", 0),), "senses must be a whole number from 1 to 65,536; got 0"),
        (("ab",), "senses must be a tuple, or in JSON a list; got 'ab'"),
        ((("a", 60_000), ("b", 60_000)), "weights"),
    ],
)
def test_impossible_senses_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RAMConfig(senses=given, sense_features=4096)
