"""Looking until sure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foveal.evaluation.classifier import answers, evaluation_of
from foveal.evaluation.stopping import (
    ALL_LOOKS,
    THRESHOLDS,
    Beliefs,
    beliefs,
    look_until_sure,
    stopped,
)
from foveal.model.attention import RecurrentAttention
from foveal.scene.sparse import SparseScene
from foveal.tasks import CanvasTask, TaskConfig
from tests.conftest import TINY, Halves
from tests.model.test_rollout import SEVERAL
from tests.test_cli import Foveal, foveal  # noqa: F401 (a fixture)


def hesitant(
    policy: str = "learned", context: str = "none", classes: int = 2
) -> RecurrentAttention:
    """A model whose beliefs differ from image to image and from look to look."""
    torch.manual_seed(3)
    config = replace(TINY, num_glimpses=6, num_classes=classes, core="lstm")
    model = RecurrentAttention(config.with_parts(policy=policy, context=context)).eval()
    torch.nn.init.normal_(model.action_head.weight, std=3.0)
    return model.requires_grad_(False)


@pytest.mark.parametrize(("policy", "context"), [("learned", "none"), ("map", "conv")])
def test_a_stop_answers_as_the_whole_rollout_at_that_look(policy: str, context: str) -> None:
    model, images = hesitant(policy, context), torch.rand(60, 1, 40, 40)
    draws = [torch.Generator().manual_seed(1) for _ in "ab"]
    whole = model(images, generator=draws[0])
    confidence = whole.step_logits.softmax(-1).amax(-1)
    threshold = float(confidence.median())
    found = look_until_sure(model, images, threshold, generator=draws[1])
    assert len(found.looks.unique()) > 2, "or nothing is tried here"
    for row in range(60):
        sure = (confidence[row] >= threshold).nonzero()
        last = int(sure[0]) if len(sure) else 5
        assert found.looks[row] == last + 1
        torch.testing.assert_close(found.logits[row], whole.step_logits[row, last])
        seen = found.locations[row, : last + 1]
        torch.testing.assert_close(seen, whole.locations[row, : last + 1])
        assert found.locations[row, last + 1 :].isnan().all()


def test_images_that_are_done_with_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = hesitant(), torch.rand(80, 1, 20, 20)
    glimpses, look = [], model.sensor.forward
    monkeypatch.setattr(
        model.sensor, "forward", lambda scene, at: glimpses.append(len(at)) or look(scene, at)
    )
    confidence = model(images).step_logits.softmax(-1).amax(-1)
    glimpses.clear()
    found = look_until_sure(model, images, float(confidence.median()))
    assert sum(glimpses) == found.looks.sum() < 0.8 * 6 * 80
    assert glimpses == [int((found.looks > done).sum()) for done in range(len(glimpses))]


def test_sparse_scenes_and_padded_images_stop_too() -> None:
    task = CanvasTask(TaskConfig(digits="uci", canvas_size=400))
    sparse, _ = task.batch("train", torch.arange(20), torch.Generator().manual_seed(0))
    assert isinstance(sparse, SparseScene)
    dense = torch.stack([sparse.image(row) for row in range(20)])
    model = hesitant(classes=10)
    ours, theirs = (
        look_until_sure(model, scene, 0.5, generator=torch.Generator().manual_seed(2))
        for scene in (sparse, dense)
    )
    assert torch.equal(ours.looks, theirs.looks)
    torch.testing.assert_close(ours.logits, theirs.logits)
    part = sparse.rows([3, 1])
    assert torch.equal(part.image(0), sparse.image(3))
    assert part.sizes.tolist() == [[400, 400]] * 2


def test_the_curve_and_the_threshold_by_hand() -> None:
    """By loops over images, each stopping at its first look that is sure enough."""
    draws = torch.Generator().manual_seed(0)
    confidence = torch.rand(300, 4, generator=draws).sqrt()
    right = torch.rand(300, 4, generator=draws) < confidence
    told = Beliefs(confidence, right)
    for threshold in (THRESHOLDS[3], 0.8, THRESHOLDS[20], ALL_LOOKS):
        looks, wrong = [], 0
        for row in range(300):
            last = next((t for t in range(4) if confidence[row, t] >= threshold), 3)
            looks.append(last + 1)
            wrong += not right[row, last]
        point = told.at(threshold)
        assert point.looks == pytest.approx(sum(looks) / 300)
        assert point.error == evaluation_of(wrong, 300).error
    assert len(told.curve) == len(THRESHOLDS)
    chosen, whole = told.calibrated(), told.at(ALL_LOOKS).error
    assert all(told.at(t).error <= whole for t in THRESHOLDS if t >= chosen)
    before = [t for t in THRESHOLDS if t < chosen]
    assert not before or told.at(before[-1]).error > whole
    assert torch.equal(told.confidence, confidence), "nothing is changed by asking"


def test_a_split_is_judged_as_the_curve_says() -> None:
    model, task = hesitant(), Halves()
    seen = beliefs(model, task, "validation")
    labels, given, looks = stopped(model, task, "validation", 0.9)
    point = seen.at(0.9)
    assert float(looks.float().mean()) == pytest.approx(point.looks)
    assert 100 * float((labels != given).float().mean()) == pytest.approx(point.error)
    whole = answers(model, task, "validation")
    assert 100 * float((whole[0] != whole[1]).float().mean()) == pytest.approx(
        seen.at(ALL_LOOKS).error
    )


def test_a_threshold_outside_and_sequences_are_refused() -> None:
    for threshold in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold must be .* above 0 and below 1; got"):
            look_until_sure(hesitant(), torch.rand(2, 1, 20, 20), threshold)
    with pytest.raises(ValueError, match="a stop is for a single answer; the model gives 3"):
        look_until_sure(RecurrentAttention(SEVERAL), torch.rand(2, 1, 20, 20), 0.5)


def test_the_command_stops_and_draws(foveal: Foveal) -> None:  # noqa: F811
    line = "evaluate cluttered-60 --digits uci --json --threads 1"
    whole = json.loads(foveal(line)[1])
    code, out, err = foveal(f"{line} --stop confident --looks-curve curve.svg")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert 1 <= told["looks"] <= 8
    assert told["pixels_read"] == round(told["looks"] * 432) <= whole["pixels_read"]
    assert 0 < told["threshold"] < 1
    curve = told["curve"]
    assert [point["looks"] for point in curve] == sorted(point["looks"] for point in curve)
    assert "looks, mean" in Path("curve.svg").read_text()
    code, out, _ = foveal("evaluate cluttered-60 --digits uci --stop confident --threshold 0.9")
    assert code == 0
    assert "looks on average, where a belief passed 0.9." in out
    for flags, words in {
        "--stop confident --threshold 1": "threshold must be a number above 0 and below 1; got 1",
        "--threshold 0.5": "--threshold is for --stop confident and --looks-curve",
        "--stop confident --rollouts 3": "a stop is of one rollout",
        "--looks-curve curve.txt": "--looks-curve must end in one of .png, .svg, .pdf",
    }.items():
        code, _, err = foveal(f"evaluate cluttered-60 --digits uci {flags}")
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
