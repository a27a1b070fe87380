from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveal.evaluation.classifier import (
    EVALUATION_SEED,
    answers,
    evaluate,
    evaluation_of,
    observe,
    rollouts,
)
from foveal.evaluation.stopping import beliefs, stopped
from foveal.model.attention import RecurrentAttention
from foveal.scene.files import ArraySource
from foveal.scene.sources import GuardedSource
from tests.conftest import TINY, Halves


class Oracle(nn.Module):
    """Knows the class from the lit half, and is wrong where it is told to be."""

    def forward(self, images: Tensor) -> Tensor:
        right = images[:, 0, :, 6:].mean((1, 2)) > images[:, 0, :, :6].mean((1, 2))
        return nn.functional.one_hot(right.long(), 2).float()


def test_evaluation_counts_wrong_answers() -> None:
    task = Halves()
    assert evaluate(Oracle(), task, "test").error == 0
    task.labels = task.labels.clone()
    task.labels[:10] = 1 - task.labels[:10]
    result = evaluate(Oracle(), task, "test")
    assert result.error == 25
    assert result.count == 40


def test_evaluation_repeats_and_leaves_the_mode_alone() -> None:
    model, task = RecurrentAttention(TINY).train(), Halves()
    state = torch.random.get_rng_state()
    assert evaluate(model, task, "test") == evaluate(model, task, "test")
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())


def test_several_rollouts_answer_by_their_mean_probability() -> None:
    torch.manual_seed(0)
    model, task = RecurrentAttention(TINY).eval(), Halves()
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    wrong = 0
    for images, labels in task.fixed_batches("test"):
        chances = [model(images, generator=generator).logits.softmax(-1) for _ in range(7)]
        wrong += int((torch.stack(chances).mean(0).argmax(-1) != labels).sum())
    assert 0 < wrong < 40
    assert evaluate(model, task, "test", rollouts=7).error == 100 * wrong / 40


def test_the_rollouts_are_those_that_evaluation_counts() -> None:
    torch.manual_seed(0)
    model, task = RecurrentAttention(TINY).train(), Halves()
    wrong = 0
    for images, labels, rollout in rollouts(model, task, "test"):
        assert len(images) == len(labels) == len(rollout.logits)
        wrong += int((rollout.logits.argmax(-1) != labels).sum())
    assert 0 < wrong < 40
    assert evaluate(model, task, "test").error == 100 * wrong / 40
    assert model.training, "the mode is put back"
    batches = rollouts(model, task, "test")
    next(batches)
    batches.close()
    assert model.training, "also where not all batches are wanted"
    assert not torch.is_inference_mode_enabled()


def test_a_split_without_a_readable_image_is_refused_by_all_that_looks() -> None:
    class Unreadable(Halves):
        def fixed_batches(self, _split: str) -> Iterator[tuple[Any, torch.Tensor]]:
            yield [GuardedSource(Broken(), lambda _: None)], torch.zeros(1, dtype=torch.long)

    class Broken(ArraySource):
        def __init__(self) -> None:
            super().__init__(np.zeros((12, 12), dtype=np.uint8))

        def _pixels(self, *_: int) -> Any:
            raise ValueError("the array is gone")

    model, task = RecurrentAttention(TINY), Unreadable()
    for look in (answers, observe, beliefs, stopped):
        how = {"threshold": 0.9, "stop": "confident"} if look is stopped else {}
        with pytest.raises(ValueError, match="the test split has no images to judge the model by"):
            look(model, task, "test", **how)  # type: ignore[operator]


def test_a_gaze_has_the_error_after_each_number_of_looks() -> None:
    torch.manual_seed(1)
    model, task = RecurrentAttention(TINY), Halves()
    found = observe(model, task, "test", num_glimpses=5)
    assert found.locations.shape == (40, 5, 2)
    wanted = [evaluate(model, task, "test", num_glimpses=looks + 1) for looks in range(5)]
    assert list(found.evaluations) == wanted
    other = observe(model, task, "test", num_glimpses=5, seed=3)
    assert not torch.equal(other.locations[:, 0], found.locations[:, 0])


@pytest.mark.parametrize(("wrong", "count"), [(0, 100), (107, 10_000), (40, 40)])
def test_the_interval_is_wilsons(wrong: int, count: int) -> None:
    z, p = 1.959963984540054, wrong / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count**2))
    wanted = (100 * max(0.0, middle - reach), 100 * min(1.0, middle + reach))
    assert evaluation_of(wrong, count).interval == pytest.approx(wanted, abs=1e-9)
