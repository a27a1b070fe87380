from __future__ import annotations

import dataclasses
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from foveal import RAMConfig, RecurrentAttention, cli, geometry
from foveal.evaluation.stopping import look_until_sure
from foveal.io.files import config_from_dict
from foveal.model.context import CONTEXTS, Context, ConvContextSettings
from foveal.model.core import CORES, RNNCore, State
from foveal.runs import export
from foveal.runs.export import ExportMismatch, export_model
from foveal.runs.graphs import Exportable, OneGlimpse, UnrolledGlimpses
from foveal.scene.preparation import Preparation
from tests.conftest import TINY
from tests.model.test_rollout import SEVERAL, model_of

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


@pytest.mark.parametrize("distinct", [False, True])
def test_several_answers_are_those_of_the_rollout(tmp_path: Path, distinct: bool) -> None:
    model = model_of(dataclasses.replace(SEVERAL, distinct=distinct), spread=0.01)
    images, first = torch.rand(6, 1, 20, 30), torch.rand(6, 2) * 2 - 1
    with torch.no_grad():
        rollout = model(images, first_location=first)
    assert any(len(set(row)) < 3 for row in rollout.answers.tolist()) != distinct
    export_model(model, tmp_path / "model.onnx")
    fed = {"images": images.numpy(), "first_location": first.numpy()}
    logits, probabilities, _ = session(tmp_path / "model.onnx").run(None, fed)
    np.testing.assert_allclose(logits, rollout.answer_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities, rollout.step_logits.softmax(-1), atol=1e-4)


def test_the_first_location_may_be_left_out_or_be_one_for_all(exported: Path) -> None:
    images = torch.rand(4, 1, 20, 20).numpy()
    runtime = session(exported)
    left_out = runtime.run(None, {"images": images})
    center = np.zeros((1, 2), np.float32)
    one_for_all = runtime.run(None, {"images": images, "first_location": center})
    for ours, theirs in zip(left_out, one_for_all, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (left_out[2][:, 0] == 0).all()


def test_the_graph_takes_the_bytes_of_large_dark_on_light_files(
    model: RecurrentAttention, tmp_path: Path
) -> None:
    """By loops over boxes of pixels, and against the rollout on what they give."""
    path = tmp_path / "model.onnx"
    prepare = Preparation(uint8=True, invert=True, side=20)
    export_model(model, path, prepare=prepare, about={"classes": ["left", "right"]})
    runtime = session(path)
    for height, width in ((20, 20), (21, 13), (30, 13), (61, 40), (1, 90)):
        files = np.random.default_rng(height).integers(0, 256, (2, 1, height, width), np.uint8)
        light, box = (255.0 - files) / 255, max(1, int(max(height, width) / 20 + 0.5))
        small = np.zeros((2, 1, -(-height // box), -(-width // box)), np.float32)
        for y in range(small.shape[2]):
            for x in range(small.shape[3]):
                rows, columns = slice(y * box, (y + 1) * box), slice(x * box, (x + 1) * box)
                small[:, :, y, x] = light[:, :, rows, columns].sum((2, 3)) / box**2
        first = torch.tensor([[0.1, -0.3]])
        with torch.no_grad():
            rollout = model(torch.from_numpy(small), first_location=first.expand(2, 2))
        logits, _, locations = runtime.run(None, {"images": files, "first_location": first.numpy()})
        np.testing.assert_allclose(logits, rollout.logits, atol=1e-4)
        np.testing.assert_allclose(locations, rollout.locations, atol=1e-5)
    said = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert said["images"] == {"uint8": True, "invert": True, "side": 20}
    assert runtime.get_inputs()[0].type == "tensor(uint8)"
    words = "uint8 in [0, 255]; dark becomes light; scaled down to about 20 pixels a side"
    assert onnx.load(path).graph.input[0].doc_string == words


@pytest.mark.parametrize("map_only", [0, 1])
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_model_that_chooses_its_first_look_takes_images_alone(
    suffix: str, map_only: float, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    settings = ConvContextSettings(thumbnail_size=9, map_features=4, map_only=map_only)
    config = dataclasses.replace(SMALL, policy="map", context="conv", context_settings=settings)
    model, place = RecurrentAttention(config).eval(), tmp_path / f"model{suffix}"
    assert export_model(model, place).inputs == ("images",)
    images = torch.rand(3, 1, 47, 90)
    with torch.no_grad():
        rollout = model(images)
    if suffix == ".onnx":
        logits, _, locations = session(place).run(None, {"images": images.numpy()})
    else:
        logits, _, locations = torch.export.load(place).module()(images)
    np.testing.assert_allclose(logits, rollout.logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(locations, rollout.locations.numpy(), atol=1e-4)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_model_that_zooms_is_exported_whole_and_step_by_step(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = RecurrentAttention(dataclasses.replace(SMALL, zoom=True)).eval()
    place, images = tmp_path / f"model{suffix}", torch.rand(3, 1, 47, 90)
    assert export_model(model, place).inputs == ("images",)
    made = export_model(model, tmp_path / f"step{suffix}", one_step=True)
    assert made.inputs == ("images", "location", "hidden")
    with torch.no_grad():
        rollout = model(images)
    assert rollout.locations.shape == (3, 2, 3)
    if suffix == ".onnx":
        logits, _, locations = session(place).run(None, {"images": images.numpy()})
    else:
        logits, _, locations = torch.export.load(place).module()(images)
    np.testing.assert_allclose(logits, rollout.logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(locations, rollout.locations.numpy(), atol=1e-5)


def test_senses_beside_the_image_are_inputs(tmp_path: Path) -> None:
    torch.manual_seed(3)
    senses = (("heading", 4), ("speed", 2))
    model = RecurrentAttention(dataclasses.replace(SMALL, senses=senses)).eval()
    images, headings, speeds = torch.rand(3, 1, 47, 90), torch.tensor([0, 3, 1]), torch.rand(3, 2)
    known = {"heading": headings, "speed": speeds}
    one_hot = torch.eye(4)[headings]
    whole, step = tmp_path / "model.onnx", tmp_path / "step.pt2"
    assert export_model(model, whole).inputs[-2:] == ("sense_heading", "sense_speed")
    fed = {"images": images, "sense_heading": one_hot, "sense_speed": speeds}
    logits = session(whole).run(None, {name: value.numpy() for name, value in fed.items()})[0]
    state = model.initial_state(3)
    names = export_model(model, step, one_step=True).inputs
    assert names == ("images", "location", "hidden", "sense_heading", "sense_speed")
    place = torch.zeros(3, 2)
    with torch.no_grad():
        rollout = model(images, senses=known, first_location=place)
        wanted = model.step(images, place, state, senses=known)
        got = torch.export.load(step).module()(images, place, *state, one_hot, speeds)
    np.testing.assert_allclose(logits, rollout.logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(got[0], wanted.logits.numpy(), atol=1e-4)


def test_the_loop_of_the_docs_stops_where_the_model_does(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = RecurrentAttention(dataclasses.replace(SMALL, num_glimpses=5, stop=True)).eval()
    assert model.stop_head is not None
    torch.nn.init.normal_(model.stop_head.unit.weight, std=6.0)
    torch.nn.init.constant_(model.stop_head.unit.bias, -1.0)
    assert export_model(model, tmp_path / "step.pt2", one_step=True).outputs[-1] == "stop"
    whole = export_model(model, tmp_path / "all.pt2")
    assert whole.outputs == ("logits", "probabilities", "locations", "stop")
    pair, first = torch.rand(2, 1, 30, 30), torch.zeros(2, 2)
    stops = torch.export.load(whole.path).module()(pair, first)[-1]
    wanted = model(pair, first_location=first).stop_logits.sigmoid()
    torch.testing.assert_close(stops, wanted, atol=1e-5, rtol=1e-4)
    made = export_model(model, tmp_path / "step.onnx", one_step=True)
    assert made.outputs == ("logits", "probabilities", "next_location", "next_hidden", "stop")
    runtime, images = session(tmp_path / "step.onnx"), torch.rand(20, 1, 30, 40)
    found, looks = look_until_sure(model, images, stop="learned"), []
    for image, first in zip(images, found.locations[:, 0], strict=True):
        location, hidden = first[None].numpy(), np.zeros((1, 16), np.float32)
        for look in range(1, 6):  # noqa: B007
            fed = {"images": image[None].numpy(), "location": location, "hidden": hidden}
            logits, _, location, hidden, stop = runtime.run(None, fed)
            if stop[0] >= 0.5:
                break
        np.testing.assert_allclose(logits[0], found.logits[len(looks)].numpy(), atol=1e-4)
        looks.append(look)
    assert looks == found.looks.tolist()
    assert len(set(looks)) > 1, "or nothing is tried here"


def test_a_location_outside_the_image_is_its_edge(exported: Path) -> None:
    fed = {"images": torch.rand(1, 1, 20, 20).numpy()}
    runtime = session(exported)
    far = runtime.run(None, fed | {"first_location": np.array([[7, -1.5]], np.float32)})
    edge = runtime.run(None, fed | {"first_location": np.array([[1, -1]], np.float32)})
    for ours, theirs in zip(far, edge, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_file_says_what_it_is(exported: Path) -> None:
    file = onnx.load(exported)
    said = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert said["classes"] == ["left", "right"]
    assert said["num_glimpses"] == 2
    assert said["images"] == {"uint8": False, "invert": False, "side": None}
    assert b"graphs.py" not in exported.read_bytes(), "nothing of the machine that made it"
    assert config_from_dict(RAMConfig, said["foveal"], "the file") == SMALL
    sizes = file.graph.input[0].type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", 1, "height", "width"]
    assert all(value.doc_string for value in (*file.graph.input, *file.graph.output))


def test_a_core_that_does_not_begin_with_zeros_says_with_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Warm(RNNCore):
        def __init__(self, input_size: int, hidden_size: int) -> None:
            super().__init__(input_size, hidden_size)
            self.start = torch.nn.Parameter(torch.rand(hidden_size))

        def initial(self, batch_size: int) -> State:
            return (self.start.expand(batch_size, -1),)

    monkeypatch.setitem(CORES, "warm", Warm)
    model = RecurrentAttention(dataclasses.replace(SMALL, core="warm")).eval()
    place, images = tmp_path / "step.onnx", torch.rand(1, 1, 47, 90)
    export_model(model, place, one_step=True)
    file = onnx.load(place)
    told = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    (said,) = (each.doc_string for each in file.graph.input if each.name == "hidden")
    assert "what first_state says at first" in said
    hidden = np.array([told["first_state"]["hidden"]], np.float32)
    where = torch.zeros(1, 2)
    fed = {"images": images.numpy(), "location": where.numpy(), "hidden": hidden}
    with torch.no_grad():
        wanted = model.step(images, where, model.initial_state(1)).logits
    np.testing.assert_allclose(session(place).run(None, fed)[0], wanted.numpy(), atol=1e-4)


def test_a_program_is_loaded_by_pytorch_alone(tmp_path: Path) -> None:
    model = RecurrentAttention(dataclasses.replace(SMALL, core="lstm", num_channels=3)).eval()
    export_model(model, tmp_path / "model.pt2", num_glimpses=3)
    with zipfile.ZipFile(tmp_path / "model.pt2") as parts:
        assert not any(b"graphs.py" in parts.read(name) for name in parts.namelist())
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


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_step_of_an_agent_with_a_context_tells_it_of_each_screen(
    suffix: str, tmp_path: Path
) -> None:
    """Game by game: what begins has the context's state, what goes on has it added to its own."""
    torch.manual_seed(3)
    settings = ConvContextSettings(thumbnail_size=9, map_features=4)
    config = dataclasses.replace(
        SMALL, policy="map", context="conv", context_settings=settings, core="lstm"
    )
    model, place = RecurrentAttention(config).eval(), tmp_path / f"agent{suffix}"
    names = ("images", "location", "fresh", "hidden", "cell")
    assert export_model(model, place, one_step=True).inputs == names
    run = session(place).run if suffix == ".onnx" else torch.export.load(place).module()
    location, state = torch.zeros(3, 2), (torch.zeros(3, 16), torch.zeros(3, 16))
    for begins in ([1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]):
        screens, fresh = torch.rand(3, 1, 33, 20), torch.tensor(begins, dtype=torch.bool)
        fed = (screens, location, fresh, *state)
        if suffix == ".onnx":
            numbers = {name: value.numpy() for name, value in zip(names, fed, strict=True)}
            made = [torch.from_numpy(value) for value in run(None, numbers)]
        else:
            made = list(run(*fed))
        with torch.no_grad():
            for game in range(3):
                screen = screens[game : game + 1]
                at, (h, c, *maps) = model.begin(screen)
                if not begins[game]:
                    at = location[game : game + 1]
                    h, c = h + state[0][game], c + state[1][game]
                step = model.step(screen, at, (h, c, *maps))
                for ours, theirs in zip(
                    (step.logits, step.next_location, *step.state[:2]),
                    (made[0], made[2], *made[3:5]),
                    strict=True,
                ):
                    torch.testing.assert_close(theirs[game : game + 1], ours, atol=1e-4, rtol=0)
        location, state = made[2], (made[3], made[4])


@pytest.mark.parametrize("place", [(0.5, -0.5), None])
def test_a_step_begins_where_the_context_says_or_else_where_it_is_told(
    place: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Placing(Context):
        side = 5

        def __init__(self, _channels: int, state_sizes: tuple[int, ...]) -> None:
            super().__init__()
            self.state_sizes = state_sizes

        def forward(self, thumbnail: torch.Tensor) -> tuple[object, object, None]:
            count = len(thumbnail)
            state = tuple(torch.full((count, size), 0.3) for size in self.state_sizes)
            return state, None if place is None else torch.tensor([place]).expand(count, 2), None

    monkeypatch.setitem(CONTEXTS, "placing", Placing)
    model = RecurrentAttention(dataclasses.replace(SMALL, context="placing")).eval()
    images, told = torch.rand(3, 1, 20, 30), torch.tensor([[0.9, 0.8]]).expand(3, 2)
    fresh, state = torch.tensor([True, False, True]), torch.zeros(3, 16)
    wanted = told if place is None else torch.tensor([place, (0.9, 0.8), place])
    with torch.no_grad():
        logits = OneGlimpse(model, Preparation())(images, told, fresh, state)[0]
        step = model.step(images, wanted, (torch.full((3, 16), 0.3),))
    torch.testing.assert_close(logits, step.logits)
    # All looks at once begin there as well, and only otherwise where they are told to.
    with torch.no_grad():
        unrolled = UnrolledGlimpses(model, Preparation(), 2)
        assert ("first_location" in unrolled.inputs) == (place is None)
        locations = unrolled(images, *((told,) if place is None else ()))[2]
    torch.testing.assert_close(locations[:, 0], told if place is None else wanted[[0, 0, 0]])


def test_a_program_that_looks_at_the_centre_takes_any_batch(tmp_path: Path) -> None:
    model = RecurrentAttention(dataclasses.replace(SMALL, policy="center")).eval()
    export_model(model, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    images = torch.rand(5, 1, 20, 30)
    with torch.no_grad():
        logits, *_ = program(images, torch.zeros(5, 2))
        torch.testing.assert_close(logits, model(images).logits, rtol=1e-4, atol=1e-5)


def test_what_differs_from_pytorch_is_not_written(
    model: RecurrentAttention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that computes something else is found out, by whichever output it shows in."""
    runner = export._program_runner

    for wrong in range(3):

        def skewed(content: bytes, wrong: int = wrong) -> export.Runner:
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


def _saved(module: Exportable) -> bytes:
    """The program of the one model that the test above exports, made once."""
    if not _SAVED:
        _SAVED.append(_make_program(module))
    return _SAVED[0]


WRONG = {
    "mnist-28 --out model.pb": r"must be a .onnx file \(ONNX\) or a .pt2 file .* got 'model.pb'",
    "mnist-28 --out taken.onnx": "taken.onnx cannot be written: it is a directory",
    "mnist-28 --out file/model.onnx": "file is no directory that can be written",
    "mnist-28 --out /proc/model.onnx": "/proc is no directory that can be written",
    "row-3 --out model.onnx --num-glimpses 500": "from 1 to 333; got 500",
    "mnist-28 --out model.onnx --num-glimpses 0": "num_glimpses must be .* from 1 to 1,000; got 0",
    "catch --out model.onnx --num-glimpses 3": "what is exported here is one step",
    "cluttered-60-best --out m.onnx --one-step": "reads each image once.*leave out --one-step",
    "random --out model.pt2": "policy is random, and an exported model has no source",
    "random --out model.onnx --fit": "--fit needs the size of the images that random was",
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
