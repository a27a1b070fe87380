"""Answers that are sequences: in the model, and as labels."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.rollout import Rollout, ended, matched
from foveal.names import IGNORED
from tests.conftest import TINY

SEVERAL = replace(TINY, num_glimpses=2, max_answers=3, core="lstm", num_classes=4)


def model_of(config: RAMConfig, spread: float = 0.5) -> RecurrentAttention:
    torch.manual_seed(5)
    model = RecurrentAttention(config).eval()
    if model.questions is not None:
        torch.nn.init.normal_(model.questions, std=spread)
    return model


def test_a_rollout_of_three_answers_is_its_steps_with_a_question_before_each() -> None:
    model, images = model_of(SEVERAL), torch.rand(5, 1, 20, 30)
    first = torch.rand(5, 2) * 2 - 1
    rollout: Rollout = model(images, first_location=first)
    location, state = model.begin(images, location=first)
    for look in range(6):
        assert torch.equal(rollout.locations[:, look], location)
        step = model.step(images, location, state)
        torch.testing.assert_close(rollout.step_logits[:, look], step.logits)
        state = step.state
        if look in (1, 3):
            assert model.questions is not None
            state = (state[0] + model.questions[look // 2], *state[1:])
        location = model.decide(state).location
    assert list(rollout.answered_at) == [1, 3, 5]
    assert torch.equal(rollout.answer_logits, rollout.step_logits[:, [1, 3, 5]])
    assert torch.equal(rollout.answers, rollout.step_logits[:, [1, 3, 5]].argmax(-1))
    assert torch.equal(rollout.logits, rollout.step_logits[:, 5])


def test_one_answer_is_a_sequence_of_one() -> None:
    """As many looks for one answer, or for three without a question, look and tell the same."""
    one = model_of(replace(SEVERAL, max_answers=1, num_glimpses=6))
    three = model_of(SEVERAL, spread=0.0)
    assert one.questions is None
    assert set(three.state_dict()) - set(one.state_dict()) == {"questions"}
    images, generators = torch.rand(4, 1, 20, 20), [torch.Generator().manual_seed(1) for _ in "ab"]
    ours, theirs = (
        m.train()(images, generator=g) for m, g in zip((one, three), generators, strict=True)
    )
    for name in ("logits", "step_logits", "locations", "log_probs", "hidden", "prior_logits"):
        torch.testing.assert_close(getattr(theirs, name), getattr(ours, name))
    assert ours.part(0) is ours
    assert ours.answer_logits.shape == (4, 1, 4)


@pytest.mark.parametrize("policy", ["learned", "map"])
def test_the_parts_of_a_rollout_are_its_looks_answer_by_answer(policy: str) -> None:
    context = "conv" if policy == "map" else "none"
    model = model_of(SEVERAL.with_parts(policy=policy, context=context)).train()
    rollout = model(torch.rand(3, 1, 40, 40))
    parts = [rollout.part(answer) for answer in range(3)]
    for name in ("locations", "step_logits", "log_probs", "prior_logits", "hidden", "baselines"):
        whole = torch.cat([getattr(part, name) for part in parts], dim=1)
        assert torch.equal(whole, getattr(rollout, name)), name
    assert [len(part.features) for part in parts] == [2, 2, 2]
    wanted = [part.log_probs.shape[1] for part in parts]
    assert wanted == ([2, 2, 2] if policy == "map" else [1, 2, 2])
    for part, logits in zip(parts, rollout.answer_logits.unbind(1), strict=True):
        assert torch.equal(part.logits, logits)
        assert part.num_answers == 1


def test_a_set_is_right_in_any_order() -> None:
    """By hand: an exact match is one of all permutations; the end stays behind the others."""
    generator = torch.Generator().manual_seed(3)
    sets = torch.tensor([[0, 1, 3], [2, 2, 0], [1, 3, IGNORED], [3, IGNORED, IGNORED]])
    logits = torch.randn(400, 3, 4, generator=generator)
    labels = sets.repeat(100, 1)
    got = matched(labels, logits, end=3)
    assert torch.equal(got.sort(1).values, labels.sort(1).values)
    # Where an end is among the labels it is the last of them.
    ends = labels[:, 2] == 3
    assert (got[ends, 2] == 3).all()
    assert torch.equal(got[2::4, 1:], labels[2::4, 1:])
    answers = logits.argmax(-1)
    right = (got == answers).all(1)
    for row in range(0, 400, 4):
        orders = [[*list(order), 3] for order in itertools.permutations([0, 1])]
        assert bool(right[row]) == (answers[row].tolist() in orders)
        orders = [list(order) for order in itertools.permutations([2, 2, 0])]
        assert bool(right[row + 1]) == (answers[row + 1].tolist() in orders)
    # A wrong answer stands for the label that it believes in most of those that are left.
    one = matched(torch.tensor([[0, 1, 2]]), torch.tensor([[[1.0, 5, 2, 9]] * 3]))
    assert one.tolist() == [[1, 2, 0]]


def test_of_a_set_as_many_answers_are_right_as_it_has_in_common_with_them() -> None:
    """Against multisets; a wrong answer takes no label that a later one names."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(4, (300, 4), generator=generator)
    logits = torch.randn(300, 4, 6, generator=generator)
    got, answers = matched(labels, logits), logits.argmax(-1)
    for row in range(300):
        common = Counter(labels[row].tolist()) & Counter(answers[row].tolist())
        assert int((got[row] == answers[row]).sum()) == common.total()
    wrong_first = torch.tensor([[[0, 5.0, 0, 9], [0, 9, 0, 0]]])
    assert matched(torch.tensor([[1, 2]]), wrong_first).tolist() == [[2, 1]]


def test_distinct_answers_are_the_likeliest_that_were_not_given() -> None:
    """Against the same looks of a model that may repeat itself."""
    free, images = model_of(SEVERAL, spread=0.01), torch.rand(6, 1, 20, 30)
    distinct = model_of(replace(SEVERAL, distinct=True), spread=0.01)
    first = torch.rand(6, 2) * 2 - 1
    told, wanted = distinct(images, first_location=first), free(images, first_location=first)
    assert any(len(set(row)) < 3 for row in wanted.answers.tolist()), "repeats are usual here"
    for row, beliefs in enumerate(wanted.answer_logits):
        given: list[int] = []
        for ranking in beliefs.argsort(descending=True).tolist():
            given.append(next(one for one in ranking if one not in given))
        assert told.answers[row].tolist() == given
    torch.testing.assert_close(told.step_logits[:, :2], wanted.step_logits[:, :2])
    torch.testing.assert_close(told.logits, told.step_logits[:, -1])
    for look in range(1, 6):  # what h would have answered before each, of the same answer
        ruled_out = told.step_logits[:, look] < -1000
        assert torch.equal(told.prior_logits[:, look - 1] < -1000, ruled_out)
        assert ruled_out.sum(1).tolist() == [look // 2] * 6


def test_nothing_is_said_behind_the_end() -> None:
    answers = torch.tensor([[1, 3, 0], [3, 3, 1], [0, 1, 2], [0, 1, 3]])
    assert ended(answers, 3).tolist() == [
        [1, 3, IGNORED],
        [3, IGNORED, IGNORED],
        [0, 1, 2],
        [0, 1, 3],
    ]
    assert torch.equal(ended(answers, None), answers)


def test_sizes_of_sequences_that_make_no_sense_are_refused() -> None:
    for changes, words in {
        ("max_answers", 0): "max_answers must be",
        ("num_glimpses", 400): "num_glimpses must be at most 333 for each of max_answers 3",
    }.items():
        with pytest.raises(ValueError, match=words):
            replace(SEVERAL, **dict([changes]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="with_end is for sequences"):
        replace(TINY, with_end=True)
    for config in (TINY, replace(SEVERAL, num_classes=2)):
        with pytest.raises(ValueError, match="distinct is for several answers, at most as many"):
            replace(config, distinct=True)
    assert replace(SEVERAL, with_end=True).end == 3
    assert SEVERAL.end is None


def test_what_looks_at_several_answers_cost_is_counted() -> None:
    one, three = model_of(replace(SEVERAL, max_answers=1)), model_of(SEVERAL)
    assert three.count_pixels_read() == 3 * one.count_pixels_read() == 6 * 16
    assert three.count_multiply_adds(2) == 3 * one.count_multiply_adds(2)
