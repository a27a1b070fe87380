from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from foveal.evaluation.classifier import rollouts
from foveal.io.files import read_tensors, write_tensors
from foveal.io.models import METRICS_FILE
from foveal.model.attention import RecurrentAttention
from foveal.model.context import ConvContextSettings
from foveal.model.whole_image import FullyConnected, ReferenceConfig
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.engine import CHECKPOINT_FILE
from foveal.training.journal import read_metrics
from foveal.training.objective import ObjectiveConfig
from foveal.training.progress import Progress, TrainingDiverged, TrainingStopped
from foveal.training.rewards import LOOK_REWARDS
from foveal.viz.scanpath import scanpath_of
from tests.conftest import TINY, Halves, StopAt

BRIEF = TrainConfig(
    epochs=3, batch_size=16, lr=3e-3, log_every=2, final_location_std=0.1, gradient_clip=1.0
)


def make_trainer(directory: Path, config: TrainConfig = BRIEF, **options: object) -> Trainer:
    torch.manual_seed(config.seed)
    objective = options.pop("objective", None) or ObjectiveConfig(
        reward="log_likelihood", standardize_advantages=True, credit_decay=0.8
    )
    model = RecurrentAttention(options.pop("model", TINY))  # type: ignore[arg-type]
    return Trainer(model, Halves(), config, objective, directory, **options)  # type: ignore[arg-type]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def steps_of(directory: Path) -> list[dict[str, float]]:
    """The metrics without what depends on the clock."""
    clock = ("images_per_second", "seconds")
    return [{k: v for k, v in line.items() if k not in clock} for line in read_metrics(directory)]


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_only_the_stop_is_trained(optimizer: str, tmp_path: Path) -> None:
    """At a large cost a look it stops at once, at none later; a resumed run goes on so."""
    chances = []
    for cost in (0.0, 3.0):
        model = dataclasses.replace(TINY, stop=True)
        config = dataclasses.replace(BRIEF, lr=0.1, only_stop=True, weight_decay=0.1)
        config = dataclasses.replace(config, optimizer=optimizer)
        given = {"model": model, "objective": ObjectiveConfig(stop_cost=cost, glimpse_weight=1)}
        trainer = make_trainer(tmp_path / str(cost), config, **given)
        before = weights(trainer)
        trainer.run()
        for name, value in weights(trainer).items():
            assert torch.equal(value, before[name]) != name.startswith("stop_head"), name
        rollout = trainer.model.eval()(torch.rand(20, 1, 12, 12))
        chances.append(float(rollout.stop_logits.detach()[:, 0].sigmoid().mean()))
        again = make_trainer(tmp_path / str(cost), config, **given)
        assert again.restore()
        assert all(torch.equal(value, weights(trainer)[k]) for k, value in weights(again).items())
    assert max(chances[0], 0.5) < chances[1]
    with pytest.raises(ValueError, match="--only-stop is for a model that can stop. Pass --stop"):
        make_trainer(tmp_path, dataclasses.replace(BRIEF, only_stop=True))


@pytest.mark.parametrize("optimizer", ["muon", "adam", "sgd"])
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(optimizer: str, tmp_path: Path) -> None:
    config = TrainConfig(**{**vars(BRIEF), "optimizer": optimizer})
    whole = make_trainer(tmp_path / "whole", config)
    whole.run()
    parts = tmp_path / "parts"
    for step, number in ((3, signal.SIGTERM), (10, signal.SIGINT), (17, signal.SIGTERM)):
        trainer = make_trainer(parts, config, listener=StopAt(step, number))
        trainer.restore()
        with pytest.raises(TrainingStopped, match=r"stopped at step \d+ of 30"):
            trainer.run()
    trainer = make_trainer(parts, config)
    assert trainer.restore()
    outcome = trainer.run()
    assert outcome.steps == 30
    assert outcome.seen == 480
    for name, value in weights(whole).items():
        assert torch.equal(value, trainer.model.state_dict()[name]), name
    assert steps_of(parts) == steps_of(tmp_path / "whole")


@pytest.mark.parametrize("reward", LOOK_REWARDS)
def test_a_run_with_all_that_trains_a_gaze_is_resumed_as_it_was(
    reward: str, tmp_path: Path
) -> None:
    """A context, a map, and every head and critic that the objective can ask for."""
    model = dataclasses.replace(
        TINY,
        policy="map",
        context="conv",
        context_settings=ConvContextSettings(thumbnail_size=9, map_features=4),
    )
    objective = ObjectiveConfig(
        reward="log_likelihood",
        privileged_baseline=True,
        glimpse_weight=0.5,
        step_weight=0.2,
        look_weight=1.0,
        look_reward=reward,
    )
    options = {"model": model, "objective": objective}
    whole = make_trainer(tmp_path / "whole", **options)
    whole.run()
    with pytest.raises(TrainingStopped):
        make_trainer(tmp_path / "parts", listener=StopAt(7, signal.SIGTERM), **options).run()
    trainer = make_trainer(tmp_path / "parts", **options)
    assert trainer.restore()
    trainer.run()
    for name, value in whole.learner.state_dict().items():
        assert torch.equal(value, trainer.learner.state_dict()[name]), name


def test_a_run_begun_before_a_measure_was_added_goes_on_the_same(tmp_path: Path) -> None:
    config = TrainConfig(**{**vars(BRIEF), "log_every": 4})
    whole = make_trainer(tmp_path / "whole", config)
    whole.run()
    old = tmp_path / "old"
    with pytest.raises(TrainingStopped):  # at the validation after step 10, two after a reading
        make_trainer(old, config, listener=StopAt(9, signal.SIGTERM)).run()
    tensors, about = read_tensors(old / CHECKPOINT_FILE)
    assert (about["step"], about["counted"]) == (10, 2)
    tensors["totals"] = tensors["totals"][:5].clone()  # as many as there once were
    write_tensors(old / CHECKPOINT_FILE, tensors, about)
    between = make_trainer(old, config)
    between.restore()
    between.save()
    trainer = make_trainer(old, config)
    trainer.restore()
    trainer.run()
    for name, value in weights(whole).items():
        assert torch.equal(value, trainer.model.state_dict()[name]), name
    got, wanted = steps_of(old), steps_of(tmp_path / "whole")
    added = {"baseline_fit", "location_spread"}
    (at,) = [number for number, line in enumerate(wanted) if line["step"] == 12]
    assert added <= wanted[at].keys()
    wanted[at] = {name: value for name, value in wanted[at].items() if name not in added}
    assert got == wanted, "one line goes without the new measures, and nothing else differs"


def test_drawing_while_training_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveal.training.engine.DRAWN_EVERY", 0)
    config = TrainConfig(**{**vars(BRIEF), "epochs": 25, "batch_size": 80, "validate_every": 2})
    plain = make_trainer(tmp_path / "plain", config)
    plain.run()
    drawn_at: list[int] = []

    def illustrate() -> NDArray[np.uint8]:
        with contextlib.closing(rollouts(trainer.model, trainer.task, "validation")) as batches:  # type: ignore[arg-type]
            scene, _, rollout = next(batches)
        path = scanpath_of(trainer.model, scene, rollout, 0, classes=("0", "1"))  # type: ignore[arg-type]
        drawn_at.append(trainer.step)
        return np.full((len(path.centers), 5, 3), 255, dtype=np.uint8)

    trainer = make_trainer(tmp_path / "drawn", config, illustrate=illustrate)
    trainer.run()
    for name, value in weights(plain).items():
        assert torch.equal(value, trainer.model.state_dict()[name]), name
    assert steps_of(tmp_path / "drawn") == steps_of(tmp_path / "plain")
    # 50 steps, a validation every 4: the first in each tenth, and the last.
    assert drawn_at == [8, 12, 16, 20, 28, 32, 36, 40, 48, 50]
    events = EventAccumulator(str(tmp_path / "drawn"), size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("scanpaths")] == drawn_at
    assert (events.Images("scanpaths")[0].width, events.Images("scanpaths")[0].height) == (5, 3)
    drawn_at.clear()
    monkeypatch.setattr("foveal.training.engine.DRAWN_EVERY", 600)
    trainer = make_trainer(tmp_path / "quick", config, illustrate=illustrate)
    trainer.run()
    assert drawn_at == [50], "of a short run the last alone"
    tags = set(events.Tags()["scalars"])
    wanted = {"error", "reward", "baseline_fit", "gradient_norm", "location_spread"}
    assert wanted | {"validation_error"} <= tags


def test_lines_after_the_checkpoint_are_written_again_after_a_kill(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    whole.run()
    killed = tmp_path / "killed"
    with pytest.raises(TrainingStopped):
        make_trainer(killed, listener=StopAt(9, signal.SIGTERM)).run()
    with (killed / METRICS_FILE).open("a") as file:
        file.write('{"step": 12, "epoch": 1, "error": 1.0}\n{"step": 14, "epo')
    trainer = make_trainer(killed)
    trainer.restore()
    trainer.run()
    assert steps_of(killed) == steps_of(tmp_path / "whole")


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    make_trainer(tmp_path).run()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_network_learns_and_its_curve_is_kept(tmp_path: Path) -> None:
    config = TrainConfig(**{**vars(BRIEF), "epochs": 12, "lr": 1e-2})
    outcome = make_trainer(tmp_path, config).run()
    lines = read_metrics(tmp_path)
    validations = [line["validation_error"] for line in lines if "validation_error" in line]
    assert len(validations) == 12
    assert outcome.validation["validation_error"] == validations[-1] <= 5
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == list(range(2, 121, 2))
    assert trained[-1]["loss"] < trained[0]["loss"]
    assert trained[-1]["lr"] == 0
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_rival_network_trains_by_the_same_engine(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = FullyConnected(ReferenceConfig(image_size=(12, 12), num_classes=2, hidden=16))
    trainer = Trainer(model, Halves(), BRIEF, ObjectiveConfig(), tmp_path)
    assert trainer.run().validation == {"validation_error": 0}


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    with pytest.raises(TrainingStopped):
        make_trainer(tmp_path, listener=StopAt(4, signal.SIGTERM)).run()
    good = (tmp_path / CHECKPOINT_FILE).read_bytes()
    trainer = make_trainer(tmp_path)
    trainer.restore()
    with torch.no_grad():
        trainer.model.action_head.bias.fill_(math.nan)  # type: ignore[union-attr]
    with pytest.raises(TrainingDiverged, match="last good checkpoint is kept.*lower --lr"):
        trainer.run()
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == good


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.save()
    good = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with torch.no_grad():
        trainer.model.action_head.weight[0, 0] = math.inf  # type: ignore[union-attr,index]
    with pytest.raises(TrainingDiverged):
        trainer.save()
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == good


def test_a_full_disk_keeps_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tmp_path)
    trainer.save()
    good = (tmp_path / CHECKPOINT_FILE).read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    trainer.step = 5
    with pytest.raises(OSError, match="No space left on device.*what was there before"):
        trainer.save()
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == good
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["last.safetensors"]


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path).save()
    path = tmp_path / CHECKPOINT_FILE
    other = make_trainer(tmp_path, TrainConfig(**{**vars(BRIEF), "lr": 1e-4}))
    with pytest.raises(ValueError, match="belongs to another configuration"):
        other.restore()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        make_trainer(tmp_path).restore()
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        make_trainer(tmp_path).restore()


def test_a_checkpoint_of_another_kind_of_device_is_refused_as_such(tmp_path: Path) -> None:
    make_trainer(tmp_path).save()
    path = tmp_path / CHECKPOINT_FILE
    tensors, about = read_tensors(path)
    seed_and_offset = torch.zeros(16, dtype=torch.uint8)  # the state of a GPU's generator
    write_tensors(path, tensors | {"generator": seed_and_offset}, about)
    words = "random numbers of another kind of device than cpu.*pass --device cuda"
    with pytest.raises(ValueError, match=words):
        make_trainer(tmp_path).restore()


def test_the_rate_and_the_exploration_fall_as_stated(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    fixed = make_trainer(tmp_path, TrainConfig(batch_size=16))
    for share, wanted in ((0.0, 0.2), (0.5, 0.15), (1.0, 0.1)):
        trainer.step, fixed.step = (int(share * t.total_steps) for t in (trainer, fixed))
        assert trainer._location_std() == pytest.approx(wanted)
        assert trainer._rate() == pytest.approx((1 - share) * trainer.optimization.lr)
        assert fixed._location_std() == 0.2


def test_every_image_is_seen_once_an_epoch_in_an_order_of_the_seed(tmp_path: Path) -> None:
    first, again = make_trainer(tmp_path), make_trainer(tmp_path)
    assert torch.equal(first._order(0), again._order(0))
    assert not torch.equal(first._order(0), first._order(1))
    assert first._order(3).sort().values.tolist() == list(range(160))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1 to 1,000,000,000; got 0"),
        ({"lr": -1.0}, "lr must be a number above 0 and at most 1,000,000,000; got -1.0"),
        ({"lr": math.nan}, "lr must be a number above 0 .*; got nan"),
        ({"momentum": 1.0}, r"momentum must be a number at least 0 and below 1; got 1.0"),
        ({"optimizer": "adamw"}, "optimizer must be one of muon, muon-conv, adam, .*'adamw'"),
        ({"gradient_clip": -1.0}, "gradient_clip must be a number from 0 to .*; got -1.0"),
    ],
)
def test_impossible_training_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainConfig(**values)  # type: ignore[arg-type]


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most the 160 training images; got 161"):
        make_trainer(tmp_path, TrainConfig(batch_size=161))


def test_checkpoints_hold_no_pickle(tmp_path: Path) -> None:
    make_trainer(tmp_path).save()
    content = (tmp_path / CHECKPOINT_FILE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["about"])["step"] == 0
    tensors, _ = read_tensors(tmp_path / CHECKPOINT_FILE)
    assert tensors["generator"].dtype == torch.uint8


def test_validation_comes_early_in_a_long_run(tmp_path: Path) -> None:
    """After the first epoch and the fourth, then every ten; training is the same."""
    often, rarely = (
        dataclasses.replace(BRIEF, epochs=23, validate_every=every) for every in (1, 10)
    )
    reports: list[Progress] = []
    trainer = make_trainer(tmp_path / "rarely", rarely, listener=reports.append)
    trainer.run()
    validated = [report for report in reports if report.validated]
    assert [report.step for report in validated] == [10, 40, 100, 200, 230]
    assert all(report.seconds_left > 0 for report in validated[:-1])
    assert validated[-1].seconds_left == 0
    other = make_trainer(tmp_path / "often", often)
    other.run()
    for name, value in weights(other).items():
        assert torch.equal(value, weights(trainer)[name])


def test_what_another_run_learned_is_neither_lost_nor_taken(tmp_path: Path) -> None:
    """Of a directory that was used: a run is gone on with, or it is refused."""
    config = dataclasses.replace(BRIEF, keep="best")
    make_trainer(tmp_path, config).run()
    learned = (tmp_path / CHECKPOINT_FILE).read_bytes()
    another = dataclasses.replace(config, lr=1e-6, epochs=1)
    with pytest.raises(ValueError, match="has a checkpoint, which would be lost. Call `restore`"):
        make_trainer(tmp_path, another).run()
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == learned
    # One that was killed before its first checkpoint leaves better weights, and half a file.
    (tmp_path / CHECKPOINT_FILE).unlink()
    half = tmp_path / CHECKPOINT_FILE.parent / ".last.safetensors.123.partial"
    half.write_bytes(learned[:100])
    others = tmp_path / ".notes.123.partial"
    others.touch()
    outcome = make_trainer(tmp_path, another).run()
    assert outcome.kept == outcome.steps == 10
    assert not half.exists()
    assert others.exists(), "what the run does not write is left alone"


@pytest.mark.parametrize("stops", [(), (13, 25)])
def test_the_weights_of_the_best_validation_are_kept(
    stops: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that we say: of the two best the later, whether the run is resumed or not."""
    errors, then = {10: 50.0, 20: 10.0, 30: 20.0, 40: 10.0, 50: 30.0}, {}
    config = dataclasses.replace(BRIEF, epochs=5, keep="best")

    def judged(model: RecurrentAttention, *_: object) -> SimpleNamespace:
        then[trainer.step] = {name: v.clone() for name, v in model.state_dict().items()}
        return SimpleNamespace(error=errors[trainer.step])

    monkeypatch.setattr("foveal.training.classifier.evaluate", judged)
    for step in stops:
        trainer = make_trainer(tmp_path, config, listener=StopAt(step, signal.SIGTERM))
        trainer.restore()
        with pytest.raises(TrainingStopped):
            trainer.run()
    trainer = make_trainer(tmp_path, config)
    trainer.restore()
    outcome = trainer.run()
    assert outcome.validation == {"validation_error": 10.0}
    assert outcome.kept == 40
    for name, value in weights(trainer).items():
        assert torch.equal(value, then[40][name]), name
    assert not torch.equal(then[40]["action_head.bias"], then[50]["action_head.bias"])
