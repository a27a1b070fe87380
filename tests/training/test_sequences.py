"""Training on labels that are sequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foveal.evaluation.classifier import answers, evaluate, judged
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.rollout import Rollout
from foveal.names import IGNORED
from foveal.tasks.task import Task
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.critic import Learner
from foveal.training.objective import ObjectiveConfig, hybrid_loss
from foveal.training.rewards import LOOK_REWARDS
from tests.conftest import TINY

SEVERAL = replace(TINY, num_glimpses=2, max_answers=3, num_classes=4, core="lstm", with_end=True)
ALL_TERMS = ObjectiveConfig(
    reward="log_likelihood",
    privileged_baseline=True,
    glimpse_weight=0.5,
    step_weight=0.25,
    look_weight=1.0,
    look_reward="gain",
)


def rollout_of(config: RAMConfig, count: int, **learner: bool) -> tuple[Learner, Tensor]:
    torch.manual_seed(2)
    return Learner(RecurrentAttention(config), **learner).train(), torch.rand(count, 1, 20, 20)


def chosen_for(rollout: Rollout) -> list[int]:
    """Which answer each of the D chosen glimpses was for, from 0."""
    looks = rollout.step_logits.shape[1]
    first = looks - rollout.log_probs.shape[1]
    return [look // rollout.looks_an_answer for look in range(first, looks)]


def test_the_loss_of_a_sequence_is_the_mean_of_its_answers_until_the_first_wrong_one() -> None:
    learner, images = rollout_of(SEVERAL, 64)
    rollout: Rollout = learner(images)
    given = rollout.answers
    # Right, wrong, ended, and wrong at first, turn by turn.
    labels = given.clone()
    labels[1::4, 1] = (given[1::4, 1] + 1) % 4
    labels[2::4, 2] = IGNORED
    labels[3::4, 0] = (given[3::4, 0] + 1) % 4
    terms = hybrid_loss(rollout, labels, ObjectiveConfig())
    logits = rollout.answer_logits
    logs = logits.log_softmax(-1)
    total = torch.zeros(())
    for row in range(64):
        for answer in range(3):
            label = int(labels[row, answer])
            if label == IGNORED or (labels[row, :answer] != given[row, :answer]).any():
                continue
            looks = [d for d, of in enumerate(chosen_for(rollout)) if of == answer]
            reward = float(label == given[row, answer])
            surplus = reward - rollout.baselines[row, looks]
            chosen = rollout.log_probs[row, looks]
            count = 64 * len(looks)
            total = total - logs[row, answer, label] / 64
            total = total - (chosen * surplus.detach()).sum() / 64 + surplus.square().sum() / count
    torch.testing.assert_close(terms.total, total / 3)
    assert terms.error == pytest.approx(0.5)
    (gradient,) = torch.autograd.grad(terms.total, logits, retain_graph=True, allow_unused=True)
    assert gradient is None  # it is a view of its own
    (gradient,) = torch.autograd.grad(terms.supervised, rollout.step_logits, retain_graph=True)
    reached = gradient[:, list(rollout.answered_at)].abs().sum(-1) > 0
    assert reached[0::4].all()
    assert reached[1::4].all(0).tolist() == [True, True, False]
    assert not reached[2::4, 2].any()
    assert reached[3::4].any(0).tolist() == [True, False, False]
    # Without the cut all that are wanted are learned from.
    whole = hybrid_loss(rollout, labels, ObjectiveConfig(cut_after_error=False))
    (gradient,) = torch.autograd.grad(whole.supervised, rollout.step_logits, retain_graph=True)
    reached = gradient[:, list(rollout.answered_at)].abs().sum(-1) > 0
    assert torch.equal(reached, labels != IGNORED)


def test_each_term_of_a_sequence_is_that_of_the_same_looks_for_one_answer() -> None:
    """All answers are wanted and none is cut: each has the objective of one answer."""
    config = replace(SEVERAL, with_end=False).with_parts(policy="map", context="conv")
    learner, images = rollout_of(
        config, 16, privileged_baseline=True, glimpse_head=True, look_critic=True
    )
    images = torch.rand(16, 1, 40, 40)
    labels = torch.randint(4, (16, 3), generator=torch.Generator().manual_seed(1))
    rollout: Rollout = learner(images, labels)
    objective = replace(ALL_TERMS, cut_after_error=False)
    terms = hybrid_loss(rollout, labels, objective)
    alone = [hybrid_loss(rollout.part(n), labels[:, n], objective) for n in range(3)]
    for name in ("total", "supervised", "reinforce", "baseline", "reward"):
        wanted = torch.stack([getattr(part, name) for part in alone]).mean()
        torch.testing.assert_close(getattr(terms, name), wanted)
    # The critic is told the label of the answer that each look is for.
    critic = learner.critic
    assert critic is not None
    for decision, answer in enumerate(chosen_for(rollout)):
        hidden, prior = rollout.hidden[:, decision], rollout.prior_logits[:, decision]
        expected = critic(hidden, prior, labels[:, answer])
        torch.testing.assert_close(rollout.baselines[:, decision], expected)
    assert LOOK_REWARDS["gain"](rollout.part(1), labels[:, 1]).shape == (16, 2)


class Quarters(Task):
    """From one to three of four columns are lit, told from left to right or in any order."""

    classes = ("a", "b", "c", "d", "end")
    max_answers, with_end, image_size = 3, True, (8, 32)

    def __init__(self, ordered: bool) -> None:
        self.ordered = ordered
        lit = [tuple(c for c in range(4) if n >> c & 1) for n in range(16)]
        chosen = [columns for columns in lit if 1 <= len(columns) <= 3]
        self.images = torch.zeros(len(chosen), 1, 8, 32)
        self.labels = torch.full((len(chosen), 3), IGNORED)
        for row, columns in enumerate(chosen):
            told = columns if ordered else columns[::-1]
            for place, column in enumerate(told):
                self.images[row, :, :, 8 * column : 8 * column + 8] = 1
                self.labels[row, place] = column
            if len(columns) < 3:
                self.labels[row, len(columns)] = 4

    def size(self, split: str) -> int:
        return 1400 if split == "train" else len(self.labels)

    def batch(self, _: str, indices: Tensor, __: object) -> tuple[Tensor, Tensor]:
        chosen = indices % len(self.labels)
        return self.images[chosen], self.labels[chosen]

    def fixed_batches(self, _: str) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.images, self.labels


@pytest.mark.parametrize("ordered", [True, False])
def test_sequences_and_sets_are_learned(ordered: bool, tmp_path: Path) -> None:
    task = Quarters(ordered)
    torch.manual_seed(0)
    model = RecurrentAttention(
        replace(
            SEVERAL,
            glimpse_size=8,
            num_scales=3,
            num_classes=5,
            num_glimpses=1,
            core_size=32,
            glimpse_features=32,
            policy="center",
        )
    )
    config = TrainConfig(epochs=10, batch_size=50, lr=1e-2, log_every=20)
    trainer = Trainer(model, task, config, ObjectiveConfig(), tmp_path)
    assert evaluate(model, task, "test").error > 70
    validation = trainer.run().validation
    found = evaluate(model, task, "test")
    assert found.error == validation["validation_error"] < 30
    assert found.answer_error == validation["validation_answer_error"] <= found.error
    labels, given = answers(model, task, "test")
    assert labels.shape == given.shape == (14, 3)
    if ordered:
        assert torch.equal(labels, task.labels)
    assert torch.equal(labels.sort(1).values, task.labels.sort(1).values)


def test_errors_of_sequences_by_hand() -> None:
    labels = torch.tensor([[0, 1, 4], [2, 4, IGNORED], [3, 2, 1], [1, 4, IGNORED]])
    given = torch.tensor([[0, 1, 4], [2, 3, 1], [3, 0, 0], [4, IGNORED, IGNORED]])
    found = judged(labels, given)
    assert found.error == 75
    assert found.answer_error == pytest.approx(100 * 5 / 10)
    assert found.count == 4
