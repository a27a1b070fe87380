"""Model directories from a stranger: one line each, soon, and without much memory."""

from __future__ import annotations

import copy
import json
import re
import resource
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from foveal.cli import main
from foveal.io.models import WEIGHTS_FILE, loaded, save_model
from foveal.model.attention import RecurrentAttention
from foveal.runs.agent import AgentRun
from foveal.runs.classifier import CanvasRun
from foveal.runs.run import saved_as
from foveal.runs.saved import load
from foveal.tasks import TaskConfig
from tests.conftest import TINY

SECONDS, BYTES = 30.0, 2**30  # of processor time, the first imports among them
DEEP = "[" * 100_000
NUMBERS = st.sampled_from([-1, 0, 1, 3, 1000, 65_536, 10**6, 10**9, 10**30, -(10**9)])
VALUES = st.one_of(
    NUMBERS,
    st.sampled_from([True, None, "", "abc", [], [1], {}, {"a": 1}, [[[]]], "x" * 10_000]),
    st.sampled_from([1e300, -0.5, float("nan"), float("inf"), 1e-300]),
    st.lists(NUMBERS, max_size=3),
)


@pytest.fixture(scope="module", params=["digits", "agent"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each kind, beside an image."""
    place = tmp_path_factory.mktemp(request.param)
    task = TaskConfig(digits="uci", canvas_size=20)
    run = CanvasRun(task=task, model=TINY) if request.param == "digits" else AgentRun(model=TINY)
    about = {"name": "mnist-28", "classes": ["a", "b"], "image_size": [20, 20]}
    save_model(place / "model", RecurrentAttention(TINY), about | saved_as(run))
    Image.new("L", (20, 20)).save(place / "image.png")
    return place


@pytest.fixture
def little_memory() -> Iterator[None]:
    """No more than a gigabyte beside what is there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to everything in nested objects."""
    inside = content.items() if isinstance(content, dict) else ()
    for key, value in inside:
        yield (*path, key)
        yield from places(value, (*path, key))


def replaced(content: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    inner = content
    for key in way[:-1]:
        inner = inner[key]
    if value is None:
        del inner[way[-1]]
    else:
        inner[way[-1]] = value
    return content


def answered(words: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    """The exit code of a command that says at most a line, and soon."""
    began = time.process_time()
    code = main(words)
    assert time.process_time() - began < SECONDS, words
    said = capsys.readouterr().err
    assert code in (0, 1, 2)
    assert code == 0 or (said.count("\n") >= 1 and "Traceback" not in said)
    return code


@pytest.mark.usefixtures("little_memory")
@settings(
    max_examples=30,  # of each of the two models
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_hostile_directories_are_refused_in_a_line(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    model = tmp_path / "model"
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(sound / "model", model)
    if data.draw(st.booleans(), label="the configuration"):
        content = json.loads((model / "config.json").read_text())
        for way in data.draw(st.lists(st.sampled_from(list(places(content))), max_size=3)):
            with_value = data.draw(VALUES)
            try:
                content = replaced(content, way, with_value)
            except (KeyError, TypeError):
                continue  # what was there went before
        (model / "config.json").write_text(json.dumps(content))
    else:
        raw = (model / "model.safetensors").read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + size])
        way = data.draw(st.sampled_from(list(places(header))))
        value = data.draw(VALUES | st.sampled_from(["I64", "C64", "BOOL", "F16", "F8_E4M3"]))
        new = json.dumps(replaced(header, way, value)).encode()
        length = data.draw(st.sampled_from([len(new), 0, 10**9, 2**63]))
        body = data.draw(st.sampled_from([raw[8 + size :], b"", raw[8 + size : -3]]))
        (model / "model.safetensors").write_bytes(struct.pack("<Q", length) + new + body)
    answered(["predict", str(model), str(sound / "image.png"), "--threads", "1"], capsys)
    if (model / "config.json").read_text().count('"env": {'):
        answered(["play", str(model), "--episodes", "2", "--threads", "1"], capsys)
    else:
        answered(["look", str(model), "--out", str(tmp_path / "look.html")], capsys)
    answered(["runs", str(tmp_path)], capsys)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    ("way", "value", "words"),
    [
        ("model.core_size", 10**9, "core_size must be a whole number from 1 to 65,536; got 1000"),
        ("model.num_classes", 10**9, "num_classes is 1000000000"),
        ("model.num_glimpses", 10**9, "num_glimpses must be a whole number from 1 to 1,000"),
        ("model.core_size", 60_000, "make a network of about .* weights; it may have 134,217,728"),
        ("model.core_size", 32, "belongs to another configuration: action_head.weight must be"),
        ("model.num_scales", 10**9, "num_scales must be a whole number from 1 to 17"),
        ("model.pixel_mean", [float("nan")], "pixel_mean must be a number from .*; got nan"),
        ("model.pixel_std", [float("inf")], "pixel_std must be a number above 0 .*; got inf"),
        ("model.core", "lstmm", "unknown core 'lstmm'; .* foveal --import MODULE adds"),
        ("model.policy", "maps", "unknown policy 'maps'; .* foveal --import MODULE adds"),
        ("model.context", "wide", "unknown context 'wide'; .* foveal --import MODULE adds"),
        ("model.glimpse_network", "cnn", "unknown glimpse network 'cnn'; .* --import MODULE adds"),
        ("model.core_settings", {"layers": 2}, "PartSettings has no layers"),
        ("model.core_size", DEEP, "must be JSON; it is damaged or not ours"),
        ("classes", ["a"], "there are 1 classes, but num_classes is 2"),
        ("classes", ["1", 1], "classes must be different names"),
        ("image_size", [10**9, 1], "image_size must be a whole number from 1 to 1,000,000"),
        ("version", -1, "has version -1"),
    ],
)
def test_each_of_these_is_said(
    sound: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    way: str,
    value: Any,
    words: str,
) -> None:
    shutil.copytree(sound / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = replaced(json.loads(path.read_text()), tuple(way.split(".")), value)
    path.write_text(json.dumps(content).replace(f'"{DEEP}"', DEEP))
    began = time.process_time()
    command = ["play", str(tmp_path / "model"), "--episodes", "2"]
    if "env" not in content:
        command = ["predict", str(tmp_path / "model"), str(sound / "image.png")]
    assert main(command) == 2
    assert time.process_time() - began < SECONDS
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(words, said), said


def test_an_unknown_reward_is_named(sound: Path, tmp_path: Path) -> None:
    content = json.loads((sound / "model" / "config.json").read_text())
    if "reward" not in content["objective"]:
        pytest.skip("an agent's reward is its game's")
    shutil.copytree(sound / "model", tmp_path / "model")
    content["objective"]["reward"] = "briar"
    (tmp_path / "model" / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="unknown reward 'briar'; .* --import MODULE adds"):
        assert load(tmp_path / "model").run


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    model = torch.nn.Linear(3, 4)
    with torch.no_grad():
        model.weight[1, 2] = value
    save_model(tmp_path, model, {})
    with pytest.raises(ValueError, match="is damaged: weight must be finite numbers"):
        loaded(lambda: torch.nn.Linear(3, 4), tmp_path / WEIGHTS_FILE)


def test_weights_of_other_types_are_refused_and_half_precision_is_read(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 4)
    save_model(tmp_path, torch.nn.Linear(3, 4).half(), {})
    loaded(lambda: model, tmp_path / WEIGHTS_FILE)
    assert model.weight.dtype == torch.float32
    save_model(tmp_path, torch.nn.Linear(3, 4, dtype=torch.complex64), {})
    with pytest.raises(ValueError, match=r"must be finite numbers; it holds others \(complex64\)"):
        loaded(lambda: model, tmp_path / WEIGHTS_FILE)
    norm = torch.nn.BatchNorm1d(3)  # counts its batches in a whole number
    save_model(tmp_path, norm, {})
    loaded(lambda: torch.nn.BatchNorm1d(3), tmp_path / WEIGHTS_FILE)
