"""Looking until sure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from foveal.evaluation.classifier import answers, evaluation_of
from foveal.evaluation.prediction import Prediction
from foveal.evaluation.stopping import (
    ALL_LOOKS,
    THRESHOLDS,
    Beliefs,
    Kind,
    beliefs,
    look_until_sure,
    rule_of,
    stopped,
)
from foveal.model.attention import RecurrentAttention
from foveal.randomness import OneForAll
from foveal.scene.sparse import SparseScene
from foveal.tasks import CanvasTask, TaskConfig
from tests.conftest import TINY, Halves
from tests.model.test_rollout import SEVERAL, model_of
from tests.test_cli import Foveal, foveal  # noqa: F401 (a fixture)


def hesitant(
    policy: str = "learned", context: str = "none", classes: int = 2, stop: bool = False
) -> RecurrentAttention:
    """A model whose beliefs differ from image to image and from look to look."""
    torch.manual_seed(3)
    config = replace(TINY, num_glimpses=6, num_classes=classes, core="lstm", stop=stop)
    model = RecurrentAttention(config.with_parts(policy=policy, context=context)).eval()
    torch.nn.init.normal_(model.action_head.weight, std=3.0)
    if model.stop_head is not None:  # so that it stops after one look here, and another there
        torch.manual_seed(0)
        std, bias = (6.0, -2.0) if classes == 2 else (1.0, 1.0)
        torch.nn.init.normal_(model.stop_head.unit.weight, std=std)
        torch.nn.init.constant_(model.stop_head.unit.bias, bias)
    return model.requires_grad_(False)


@pytest.mark.parametrize(("policy", "context"), [("learned", "none"), ("map", "conv")])
def test_a_stop_answers_as_the_whole_rollout_at_that_look(policy: str, context: str) -> None:
    model, images = hesitant(policy, context), torch.rand(60, 1, 40, 40)
    draws = [torch.Generator().manual_seed(1) for _ in "ab"]
    whole = model(images, generator=draws[0])
    confidence = whole.step_logits.softmax(-1).amax(-1)
    threshold = float(confidence.median())
    found = look_until_sure(model, images, threshold, generator=draws[1])
    assert not found.logits.is_inference(), "a temperature can be fitted to them"
    assert len(found.looks.unique()) > 2, "or nothing is tried here"
    for row in range(60):
        sure = (confidence[row] >= threshold).nonzero()
        last = int(sure[0]) if len(sure) else 5
        assert found.looks[row] == last + 1
        torch.testing.assert_close(found.logits[row], whole.step_logits[row, last])
        seen = found.locations[row, : last + 1]
        torch.testing.assert_close(seen, whole.locations[row, : last + 1])
        assert found.locations[row, last + 1 :].isnan().all()


@pytest.mark.parametrize("threshold", [0.3, None])
def test_a_learned_stop_is_where_its_unit_says(threshold: float | None) -> None:
    """By hand, from h and the belief after each look."""
    model, images = hesitant(stop=True), torch.rand(60, 1, 40, 40)
    assert model.stop_head is not None
    draws = [torch.Generator().manual_seed(1) for _ in "abc"]
    whole = model(images, generator=draws[0])
    found = look_until_sure(model, images, threshold, stop="learned", generator=draws[1])
    weight, bias = model.stop_head.unit.weight[0], model.stop_head.unit.bias
    location, state = model.begin(images, draws[2])
    done = torch.zeros(60, dtype=torch.int64)
    for look in range(1, 7):
        step = model.step(images, location, state)
        location, state = step.next_location, step.state
        belief = step.logits.softmax(-1).amax(-1).clamp(1e-6, 1 - 1e-6)
        odds = state[0] @ weight[:-1] + (belief / (1 - belief)).log() * weight[-1] + bias
        assert whole.stop_logits is not None
        torch.testing.assert_close(whole.stop_logits[:, look - 1], odds, rtol=1e-3, atol=1e-4)
        assert step.stop is not None
        torch.testing.assert_close(step.stop, 1 / (1 + (-odds).exp()), rtol=1e-3, atol=1e-4)
        stops = (step.stop >= (threshold or 0.5)) | (look == 6)
        done = done.where((done > 0) | ~stops, look)
    assert torch.equal(found.looks, done)
    assert len(done.unique()) > 2, "or nothing is tried here"
    torch.testing.assert_close(found.logits, whole.step_logits[torch.arange(60), done - 1])


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


@pytest.mark.parametrize("distinct", [False, True])
def test_a_sequence_is_looked_at_until_its_end_is_answered(distinct: bool) -> None:
    """As the whole rollout answers; what it says and looks at behind an end is left out."""
    model = model_of(replace(SEVERAL, with_end=True, distinct=distinct), spread=0.05)
    images = torch.rand(40, 1, 20, 30) * torch.linspace(0, 1, 40).view(-1, 1, 1, 1)
    draws = [torch.Generator().manual_seed(1) for _ in "abc"]
    with torch.no_grad():  # so that one image ends here, and another there
        torch.nn.init.normal_(model.action_head.weight, std=3.0)
        model.action_head.bias -= model(images, generator=draws[2]).answer_logits[:, 0].mean(0)
        whole = model(images, generator=draws[0])
    found = look_until_sure(model, images, generator=draws[1])
    told = [row.index(3) + 1 if 3 in row else 3 for row in whole.answers.tolist()]
    assert len(set(told)) > 1, "or nothing is tried here"
    assert found.looks.tolist() == [2 * count for count in told]
    for row, count in enumerate(told):
        torch.testing.assert_close(found.logits[row, :count], whole.answer_logits[row, :count])
        assert not found.logits[row, count:].any()
        seen = found.locations[row, : 2 * count]
        torch.testing.assert_close(seen, whole.locations[row, : 2 * count])
        assert found.locations[row, 2 * count :].isnan().all()
    model.about["classes"] = ["fox", "hen", "cat", "(end)"]
    for image in images[::5]:
        answer = model.predict(image)
        assert isinstance(answer, Prediction)
        row = model(image[None], generator=OneForAll().manual_seed(0)).answers[0].tolist()
        names = [["fox", "hen", "cat"][label] for label in row[: (*row, 3).index(3)]]
        assert [one.answer for one in answer.answers] == names
        looks = min(3, len(names) + 1) * 2
        assert (len(answer.locations), answer.pixels_read) == (looks, looks * 16)


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


def test_where_every_threshold_costs_errors_nothing_stops() -> None:
    """Beliefs that are rounded to 1, and wrong at the first look."""
    told = Beliefs(torch.ones(4, 3), torch.tensor([[False, False, True]] * 4))
    assert told.at(THRESHOLDS[-1]).error == 100
    assert told.calibrated() == ALL_LOOKS
    assert told.at(told.calibrated()).error == 0


@pytest.mark.parametrize(("stop", "threshold"), [("confident", 0.9), ("learned", 0.5)])
def test_a_split_is_judged_as_the_curve_says(stop: Kind, threshold: float) -> None:
    model, task = hesitant(stop=True), Halves()
    seen = beliefs(model, task, "validation", stop=stop)
    labels, given, looks = stopped(model, task, "validation", threshold, stop=stop)
    point = seen.at(threshold)
    if stop == "learned":
        thresholds = [each.threshold for each in seen.curve]
        looked = [each.looks for each in seen.curve]
        assert (min(thresholds), max(thresholds)) == pytest.approx((0, 1), abs=1e-5)
        assert looked == sorted(looked)
        assert looked[0] < looked[-1]
    assert float(looks.float().mean()) == pytest.approx(point.looks)
    assert 100 * float((labels != given).float().mean()) == pytest.approx(point.error)
    whole = answers(model, task, "validation")
    assert 100 * float((whole[0] != whole[1]).float().mean()) == pytest.approx(
        seen.at(ALL_LOOKS).error
    )


def test_files_are_read_until_the_model_is_sure(foveal: Foveal, tmp_path: Path) -> None:  # noqa: F811
    task = CanvasTask(TaskConfig(digits="uci", canvas_size=60))
    images, _ = task.batch("test", torch.arange(30), torch.Generator().manual_seed(5))
    model = RecurrentAttention.from_pretrained("translated-60")
    whole = model.predict(list(images))
    found = model.predict(list(images), threshold=0.9)
    some = {len(one.locations) for one in found}
    assert len(some) > 1
    for one, all_looks in zip(found, whole, strict=True):
        looks = len(one.locations)
        assert one.locations == all_looks.locations[:looks]
        assert len(one.sizes) == looks
        assert one.pixels_read == looks * 432
        sure = next(iter(one.probabilities.values())) >= 0.9
        assert sure or looks == len(all_looks.locations)
    Image.fromarray((255 * images[0, 0]).byte().numpy()).save(tmp_path / "a.png")
    line = f"predict translated-60 {tmp_path / 'a.png'} --threshold 0.9 --json"
    assert len(json.loads(foveal(line)[1])["locations"]) <= 8
    code, _, err = foveal(line.replace("0.9", "1.5"))
    assert (code, err.count("\n")) == (2, 1)
    assert "threshold must be a number above 0 and below 1; got 1.5" in err


def test_a_policy_that_draws_looks_the_same_way_again() -> None:
    model, images = hesitant("random"), torch.rand(5, 1, 20, 20)
    draws = [torch.Generator().manual_seed(7) for _ in "abc"]
    whole = model(images, generator=draws[0])
    for draw in draws[1:]:
        found = look_until_sure(model, images, 0.999999, generator=draw)
        seen = ~found.locations.isnan()
        assert seen[:, 1].any()
        assert torch.equal(found.locations[seen], whole.locations[seen])


def test_a_threshold_outside_and_sequences_are_refused() -> None:
    for threshold in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold must be .* above 0 and below 1; got"):
            look_until_sure(hesitant(), torch.rand(2, 1, 20, 20), threshold)
    with pytest.raises(
        ValueError, match="the model gives 3. Leave out --stop, --threshold and --looks"
    ):
        look_until_sure(RecurrentAttention(SEVERAL), torch.rand(2, 1, 20, 20), 0.5)
    with pytest.raises(ValueError, match="a stop is for a single answer; got max_answers 3. Leave"):
        replace(SEVERAL, stop=True)
    with pytest.raises(ValueError, match="learned no stop. Train one: .*: --threshold 0.99"):
        hesitant().predict(torch.rand(1, 20, 20), stop="learned")
    with pytest.raises(ValueError, match="needs a threshold.* Pass --threshold 0.99"):
        hesitant().predict(torch.rand(1, 20, 20), stop="confident")
    with pytest.raises(ValueError, match="unknown stop 'sure'; it must be one of confident"):
        rule_of(hesitant(), "sure", 0.5)  # type: ignore[arg-type]
    assert rule_of(hesitant(), "none", None) is None


@pytest.mark.parametrize("looks", [0, -1, 2.5])
def test_no_answer_without_a_look(looks: int) -> None:
    model = RecurrentAttention(TINY)
    with pytest.raises(ValueError, match="num_glimpses must be a whole number from 1 to"):
        look_until_sure(model, torch.rand(2, 1, 28, 28), 0.5, num_glimpses=looks)


def test_a_learned_stop_from_file_to_picture(foveal: Foveal, tmp_path: Path) -> None:  # noqa: F811
    """It is saved and loaded, and Python, predict, look and evaluate stop at the same look."""
    model = hesitant(classes=10, stop=True)
    model.save_pretrained(tmp_path / "model")
    images = torch.rand(8, 28, 28)
    taken = []
    for number, image in enumerate(images):
        name = tmp_path / f"{number}.png"
        Image.fromarray((255 * image).byte().numpy()).save(name)
        found = model.predict(name, stop="learned")
        taken.append(len(found.locations))
        code, out, _ = foveal(f"look {tmp_path / 'model'} {name} --stop learned --json")
        told = json.loads(out)
        assert (code, told["answer"]) == (0, found.answer)
        assert told["locations"] == found.locations
        assert told["pixels_read"] == found.pixels_read == 16 * len(found.locations)
    assert len(set(taken)) > 1, "or nothing is tried here"
    line = f"predict {tmp_path / 'model'} {tmp_path / '[0-7].png'} --stop learned --json"
    predicted = [json.loads(row) for row in foveal(line)[1].splitlines()]
    assert [len(row["locations"]) for row in predicted] == taken
    line = f"evaluate {tmp_path / 'model'} --task mnist-28 --digits uci --json"
    told = json.loads(foveal(f"{line} --stop learned --looks-curve curve.svg")[1])
    assert told["threshold"] == 0.5
    assert 1 <= told["looks"] <= 6
    assert told["curve_learned"][0]["looks"] < told["curve_learned"][-1]["looks"]
    assert all(f"{stop} stop" in Path("curve.svg").read_text() for stop in ("confident", "learned"))
    for line, words in {
        "evaluate mnist-28 --digits uci --stop learned": "the model has learned no stop. Train one",
        f"look {tmp_path / 'model'} --maps a.png --stop learned": "Leave out --stop and --threshol",
        "train mnist-28 --stop-cost 0.1": "stop_cost is for a model that learns to stop. Pass --st",
        "train mnist-28 --stop --stop-cost -1": "stop_cost must be a number from 0 to ",
        "train mnist-28 --stop --only-stop": "Pass --start MODEL with it.",
        "train mnist-28 --start mnist-28 --only-stop": "Pass --stop with it.",
    }.items():
        code, _, err = foveal(f"{line} --digits uci" if line.startswith("train") else line)
        assert (code, err.count("\n")) == (2, 1), err
        assert words in err


def test_the_command_stops_and_draws(foveal: Foveal) -> None:  # noqa: F811
    line = "evaluate cluttered-60 --digits uci --json --threads 1"
    whole = json.loads(foveal(line)[1])
    first = json.loads(foveal(f"{line} --threshold 0.5 --json")[1])
    drawn = json.loads(foveal(f"{line} --threshold 0.5 --looks-curve curve.svg --json")[1])
    assert (first["error"], first["looks"]) == (drawn["error"], drawn["looks"]), "a picture more"
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
    assert foveal("evaluate cluttered-60 --digits uci --threshold 0.9")[1] == out, "as predict"
    for flags, words in {
        "--stop confident --threshold 1": "threshold must be a number above 0 and below 1; got 1",
        "--stop confident --rollouts 3": "a stop is of one rollout",
        "--looks-curve curve.txt": "--looks-curve must end in one of .png, .svg, .pdf",
    }.items():
        code, _, err = foveal(f"evaluate cluttered-60 --digits uci {flags}")
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
