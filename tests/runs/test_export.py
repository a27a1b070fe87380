from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from foveal import RAMConfig, RecurrentAttention, cli, geometry
from foveal.io.files import config_from_dict
from foveal.runs import export
from foveal.runs.export import ExportMismatch, export_model
from tests.conftest import TINY

SMALL = dataclasses.replace(TINY, num_glimpses=2, num_scales=2)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def model() -> RecurrentAttention:
    torch.manual_seed(3)
    return RecurrentAttention(SMALL).eval()


@pytest.fixture(scope="module")
def exported(model: RecurrentAttention, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    made = export_model(model, path, about={"classes": ["left", "right"]})
    assert made.bytes == path.stat().st_size
    assert made.logit_difference < 1e-4
    assert made.location_difference < 1e-5
    assert list(path.parent.iterdir()) == [path], "one file, and nothing beside it"
    return path


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 100, 7), (4, 30, 30), (3, 501, 1000)])
def test_onnx_runtime_does_what_the_rollout_does(
    model: RecurrentAttention, exported: Path, size: tuple[int, int, int]
) -> None:
    batch, height, width = size
    generator = torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 1, height, width, generator=generator)
    first = torch.rand(batch, 2, generator=generator) * 2 - 1
    with torch.no_grad():
        rollout = model(images, first_location=first)
    fed = {"images": images.numpy(), "first_location": first.numpy()}
    logits, probabilities, locations = session(exported).run(None, fed)
    np.testing.assert_allclose(logits, rollout.logits, atol=1e-4)
    np.testing.assert_allclose(probabilities, rollout.step_logits.softmax(-1), atol=1e-4)
    np.testing.assert_array_equal(
        geometry.to_pixels(torch.from_numpy(locations), height, width),
        geometry.to_pixels(rollout.locations, height, width),
    )


def test_the_first_location_may_be_left_out_or_be_one_for_all(exported: Path) -> None:
    images = torch.rand(4, 1, 20, 20).numpy()
    runtime = session(exported)
    left_out = runtime.run(None, {"images": images})
    center = np.zeros((1, 2), np.float32)
    one_for_all = runtime.run(None, {"images": images, "first_location": center})
    for ours, theirs in zip(left_out, one_for_all, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (left_out[2][:, 0] == 0).all()


def test_the_file_says_what_it_is(exported: Path) -> None:
    file = onnx.load(exported)
    said = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert said["classes"] == ["left", "right"]
    assert said["num_glimpses"] == 2
    assert config_from_dict(RAMConfig, said["foveal"], "the file") == SMALL
    sizes = file.graph.input[0].type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", 1, "height", "width"]
    assert all(value.doc_string for value in (*file.graph.input, *file.graph.output))


def test_a_program_is_loaded_by_pytorch_alone(tmp_path: Path) -> None:
    model = RecurrentAttention(dataclasses.replace(SMALL, core="lstm", num_channels=3)).eval()
    export_model(model, tmp_path / "model.pt2", num_glimpses=3)
    program = torch.export.load(tmp_path / "model.pt2").module()
    for batch, height, width in ((1, 9, 40), (5, 33, 3)):
        images, first = torch.rand(batch, 3, height, width), torch.rand(batch, 2)
        with torch.no_grad():
            rollout = model(images, first_location=first, num_glimpses=3)
            logits, _, locations = program(images, first)
        torch.testing.assert_close(logits, rollout.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(locations, rollout.locations, atol=1e-6, rtol=0)


def test_an_agent_is_one_step_that_carries_its_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "catch.onnx"
    assert cli.main(["export", "catch", "--out", str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["inputs"] == ["images", "location", "hidden", "cell"]
    assert answer["outputs"][-2:] == ["next_hidden", "next_cell"]
    assert min(answer["milliseconds"].values()) > 0
    agent, runtime = RecurrentAttention.from_pretrained("catch"), session(path)
    location, state = torch.zeros(2, 2), agent.initial_state(2)
    fed = [location.numpy(), *(part.numpy() for part in state if part is not None)]
    for _ in range(4):
        screens = torch.rand(2, 1, 24, 24)
        with torch.no_grad():
            step = agent.step(screens, location, (*state,))
        location, state = step.next_location, step.state
        names = ("images", "location", "hidden", "cell")
        logits, _, *fed = runtime.run(None, dict(zip(names, (screens.numpy(), *fed), strict=True)))
        np.testing.assert_allclose(logits, step.logits, atol=1e-4)
        np.testing.assert_allclose(fed[0], location, atol=1e-5)


def test_what_differs_from_pytorch_is_not_written(
    model: RecurrentAttention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that computes something else is found out, by whichever output it shows in."""
    runner = export._program_runner

    for wrong in range(3):

        def skewed(content: bytes, wrong: int = wrong) -> export.Run:
            run = runner(content)
            return lambda inputs: [
                out + 2e-4 * (index == wrong) for index, out in enumerate(run(inputs))
            ]

        monkeypatch.setattr(export, "_program_runner", skewed)
        monkeypatch.setattr(export, "_program_file", _saved)
        with pytest.raises(ExportMismatch, match="was not written: on 1 image"):
            export_model(model, tmp_path / "model.pt2")
        assert not list(tmp_path.iterdir())


_SAVED: list[bytes] = []
_make_program = export._program_file


def _saved(module: export.Exportable) -> bytes:
    """The program of the one model that the test above exports, made once."""
    if not _SAVED:
        _SAVED.append(_make_program(module))
    return _SAVED[0]


WRONG = {
    "mnist-28 --out model.pb": r"must be a .onnx file \(ONNX\) or a .pt2 file .* got 'model.pb'",
    "mnist-28 --out taken.onnx": "taken.onnx cannot be written: is a directory",
    "mnist-28 --out file/model.onnx": "file is no directory that can be written",
    "mnist-28 --out /proc/model.onnx": "/proc is no directory that can be written",
    "mnist-28 --out model.onnx --num-glimpses 0": "num_glimpses must be .* from 1 to 1,000; got 0",
    "catch --out model.onnx --num-glimpses 3": "what is exported here is one step",
    "random --out model.pt2": "policy is random, and an exported model has no source",
    "mnist-29 --out model.onnx": "there is no directory 'mnist-29'. Did you mean mnist-28?",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_gives_one_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.onnx").mkdir()
    Path("file").touch()
    RecurrentAttention(dataclasses.replace(TINY, policy="random")).save_pretrained("random")
    assert cli.main(["export", *line.split()]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(WRONG[line], err), err
    assert not list(Path().glob("model*"))


def test_a_full_disk_leaves_what_was_there(
    model: RecurrentAttention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"before")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(export, "_program_file", _saved)
    with pytest.raises(OSError, match="could not be written .No space left on device"):
        export_model(model, path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", "mnist-28", "--out", str(tmp_path / "model.onnx")]) == 2
    assert "needs onnx. Install it: pip install 'foveal[onnx]'" in capsys.readouterr().err
