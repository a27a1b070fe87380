from __future__ import annotations

import contextlib
import gc
import json
import logging
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.tasks import CanvasTask, TaskConfig
from foveal.tasks.augmentation import AugmentationConfig
from foveal.training.capture import WARM_UP, CapturedStep, CudaGraph, Graph
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.journal import read_metrics
from foveal.training.objective import ObjectiveConfig
from foveal.training.progress import TrainingStopped
from tests.conftest import Halves, StopAt

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

MODEL = RAMConfig(
    glimpse_size=6,
    num_scales=2,
    num_glimpses=3,
    glimpse_hidden=16,
    location_hidden=16,
    glimpse_features=32,
    core_size=32,
    core="lstm",
    scale_gain=3.0,
    location_std=0.3,
    detach_policy=False,
    location_gradient=1.0,
)
OBJECTIVE = ObjectiveConfig(
    privileged_baseline=True,
    reward="log_likelihood",
    glimpse_weight=0.5,
    credit_decay=0.9,
    standardize_advantages=True,
)
CONFIG = TrainConfig(
    epochs=2,
    batch_size=128,
    lr=3e-3,
    weight_decay=0.1,
    gradient_clip=1.0,
    final_location_std=0.05,
    log_every=2,
)


class RecordedOperations(TorchDispatchMode):
    """A CUDA graph's way of working, on a CPU.

    What PyTorch computes while a function runs is kept, operation by operation, with the very
    tensors that it read and wrote; a replay computes it again, into the same memory, and runs no
    Python of the function.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.replays = -1  # the recording computes already what the first replay is to give

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        return function()

    def record(self, function: Callable[[], Tensor]) -> None:
        with self:
            self.result = function()

    def replay(self) -> Tensor:
        self.replays += 1
        if self.replays:
            with torch._C._AutoDispatchBelowAutograd():  # where the operations were seen
                for operation in self.operations:
                    self._again(*operation)
        return self.result

    def _again(self, func: Any, args: Any, kwargs: Any, before: Any) -> None:
        after = func(*args, **kwargs)
        for old, new in zip(pytree.tree_leaves(before), pytree.tree_leaves(after), strict=True):
            if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                old.copy_(new)


class Calls:
    """Tensors in place of numbers, as with a graph, and every step called as it is."""

    device = torch.device("cpu")

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        return function()

    def record(self, function: Callable[[], Tensor]) -> None:
        self.function = function

    def replay(self) -> Tensor:
        return self.function()


class Unrecordable(Calls):
    """What a GPU says when the host asks for a value during a recording."""

    def record(self, _function: Callable[[], Tensor]) -> None:
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nSearch for it")
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error") from None


def make_trainer(
    directory: Path,
    graph: Graph | None,
    config: TrainConfig = CONFIG,
    *,
    device: str = "cpu",
    **options: Any,
) -> Trainer:
    torch.manual_seed(0)
    augmentation = AugmentationConfig(shift=0.1, rotation=10, rescale=0.1, warp=0.01)
    task = CanvasTask(
        TaskConfig(digits="uci", canvas_size=40, num_clutter=2, augmentation=augmentation), device
    )
    trainer = Trainer(
        RecurrentAttention(MODEL), task, config, OBJECTIVE, directory, device=device, **options
    )
    if device == "cpu":
        trainer.captured = CapturedStep(trainer._compute, graph)
    return trainer


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in trainer.model.state_dict().items()}


def assert_alike(
    got: dict[str, Tensor], wanted: dict[str, Tensor], start: dict[str, Tensor]
) -> None:
    """Two runs led to the same weights but for rounding, which Muon's bfloat16 enlarges."""
    for name, value in wanted.items():
        assert (got[name] - value).norm() <= 0.2 * (value - start[name]).norm(), name


def measured(directory: Path) -> list[dict[str, float]]:
    clock = ("images_per_second", "seconds")
    return [{k: v for k, v in line.items() if k not in clock} for line in read_metrics(directory)]


@pytest.mark.parametrize("optimizer", ["muon", "adam", "sgd"])
def test_a_recorded_step_computes_what_each_step_would(optimizer: str, tmp_path: Path) -> None:
    """The same tensors, in the same places, are all that a recording may read.

    A number of Python's that changes from step to step, a tensor made anew, a random number drawn
    on another way: each would make the runs differ.
    """
    config = replace(CONFIG, optimizer=optimizer)  # type: ignore[arg-type]
    called = make_trainer(tmp_path / "called", Calls(), config)
    called.run()
    graph = RecordedOperations()
    recorded = make_trainer(tmp_path / "recorded", graph, config)
    recorded.run()
    assert graph.replays == recorded.total_steps - 4 > 10
    for name, value in weights(called).items():
        assert torch.equal(value, weights(recorded)[name]), name
    assert measured(tmp_path / "recorded") == measured(tmp_path / "called")
    assert torch.equal(called.generator.get_state(), recorded.generator.get_state())


@pytest.mark.parametrize("optimizer", ["muon", "adam", "sgd"])
def test_numbers_as_tensors_change_nothing_but_rounding(optimizer: str, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, optimizer=optimizer)  # type: ignore[arg-type]
    plain = make_trainer(tmp_path / "plain", None, config)
    plain.run()
    called = make_trainer(tmp_path / "called", Calls(), config)
    called.run()
    start = weights(make_trainer(tmp_path / "start", None, config))
    assert_alike(weights(called), weights(plain), start)


def test_a_stopped_and_resumed_run_of_recorded_steps_is_the_uninterrupted_one(
    tmp_path: Path,
) -> None:
    whole = make_trainer(tmp_path / "whole", RecordedOperations())
    whole.run()
    parts = tmp_path / "parts"
    stop = StopAt(8, signal.SIGTERM)
    with pytest.raises(TrainingStopped):
        make_trainer(parts, RecordedOperations(), listener=stop).run()
    trainer = make_trainer(parts, RecordedOperations())
    assert trainer.restore()
    trainer.run()
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(trainer)[name]), name
    assert measured(parts) == measured(tmp_path / "whole")


def test_what_cannot_be_recorded_goes_on_as_it_is_and_says_why_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(CONFIG, epochs=1)
    called = make_trainer(tmp_path / "called", Calls(), config)
    called.run()
    with caplog.at_level(logging.WARNING):
        fallen = make_trainer(tmp_path / "fallen", Unrecordable(), config)
        fallen.run()
    assert caplog.messages == [
        "steps are not captured as a CUDA graph: operation not permitted when stream is capturing"
    ]
    for name, value in weights(called).items():
        torch.testing.assert_close(weights(fallen)[name], value, rtol=1e-3, atol=1e-4)
    assert torch.equal(called.generator.get_state(), fallen.generator.get_state())


def test_what_a_failed_recording_computed_is_gone_before_the_step_is_called() -> None:
    computed: list[weakref.ref[Tensor]] = []

    class Full(Calls):
        def record(self, function: Callable[[], Tensor]) -> None:
            result = function()
            computed.append(weakref.ref(result))
            raise torch.OutOfMemoryError("CUDA out of memory")

    alive: list[bool] = []

    def function(number: Tensor | float) -> Tensor:
        alive.append(any(result() is not None for result in computed))
        return torch.ones(3) * number

    step = CapturedStep(function, Full())
    for _ in range(WARM_UP + 2):
        step(0.5)
    assert alive == [False] * (WARM_UP + 3)


def test_what_is_left_of_another_run_is_gone_before_a_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Run:
        def __init__(self) -> None:
            self.itself = self

    cuda = Cuda(monkeypatch, fails=False)
    gc.disable()
    try:
        left = weakref.ref(Run())
        assert left() is not None
        generator: Any = Cuda.Named(cuda, "ours")
        CudaGraph(torch.device("cuda", 0), generator)
        assert left() is None
    finally:
        gc.enable()


def test_inputs_lie_where_they_lay_and_have_the_values_of_the_call() -> None:
    seen: list[tuple[int, int, float]] = []

    def function(chosen: Tensor, number: Tensor, nothing: None) -> Tensor:
        assert nothing is None
        seen.append((chosen.data_ptr(), number.data_ptr(), float(chosen.sum() * number)))
        return chosen * number

    step = CapturedStep(function, Calls())
    results = [step(torch.tensor([i, 2]), 0.5, None).tolist() for i in range(6)]
    assert results == [[i / 2, 1.0] for i in range(6)]
    assert len({places[:2] for places in seen}) == 1
    assert [value for *_, value in seen] == [i / 2 + 1 for i in range(6)]


def test_without_a_graph_a_step_gets_what_it_was_called_with() -> None:
    given: list[object] = []
    step = CapturedStep(lambda *inputs: given.extend(inputs) or torch.ones(1), None)  # type: ignore[func-returns-value]
    chosen = torch.tensor([1])
    step(chosen, 0.5, None)
    assert given[0] is chosen
    assert given[1:] == [0.5, None]


def test_nothing_is_recorded_on_a_cpu_nor_where_images_come_from_the_host(tmp_path: Path) -> None:
    model = RecurrentAttention(replace(MODEL, num_classes=2))
    config = replace(CONFIG, batch_size=16)
    trainer = Trainer(model, Halves(), config, OBJECTIVE, tmp_path)
    assert trainer.captured.graph is None


def test_a_step_on_a_gpu_never_waits_for_it_and_waiting_would_be_noticed() -> None:
    script = Path(__file__).with_name("fake_gpu.py")
    flaws = {
        "value": "DataDependentOutputException: aten._local_scalar_dense",
        "branch": "DataDependentOutputException: aten._local_scalar_dense",
        "mask": "DynamicOutputShapeException: aten.nonzero",
        "from-host": "RuntimeError: aten.zeros.default works on ['cpu']",
        "to-host": "RuntimeError: aten._to_copy.default works on ['cpu', 'fakegpu']",
    }
    sound = (
        *("plain,lstm,muon,none", "map,rnn,adam,none", "zoom,sum,muon-conv,none"),
        *("trail,lstm,muon,none", "set,rnn,sgd,none", "pair,rnn,adam,none"),
        *("sum,lstm,adam,none", "bag,rnn,muon,none"),
    )
    done = subprocess.run(
        [sys.executable, str(script), *sound, *(f"plain,rnn,sgd,{flaw}" for flaw in flaws)],
        capture_output=True,
        text=True,
        check=True,
    )
    failures = json.loads(done.stdout)
    assert [failures[case] for case in sound] == [None] * len(sound)
    for flaw, words in flaws.items():
        assert failures[f"plain,rnn,sgd,{flaw}"].startswith(words), failures


class Cuda:
    """What `CudaGraph` asks of PyTorch, written down in order; no device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fails: bool) -> None:
        self.said: list[str] = []
        self.fails = fails
        monkeypatch.setattr(torch.cuda, "Stream", lambda _: self.Named(self, "side"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: self.Named(self, "current"))
        monkeypatch.setattr(torch.cuda, "default_generators", [self.Named(self, "device's")])
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self.Named(self, "graph"))
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: self.within(f"on {stream}"))
        monkeypatch.setattr(torch.cuda, "graph", self.capture)

    class Named:
        """A stream, a generator or a graph: each call of a method is written down."""

        device = torch.device("cuda", 0)

        def __init__(self, cuda: Cuda, name: str) -> None:
            self.cuda, self.name = cuda, name

        def __getattr__(self, method: str) -> Callable[..., Any]:
            def call(*arguments: object) -> Any:
                words = ", ".join(map(str, arguments))
                self.cuda.said.append(f"{self}.{method}({words})")
                return Cuda.Named(self.cuda, f"copy of {self}") if method == "clone_state" else None

            return call

        def __str__(self) -> str:
            return self.name

    @contextlib.contextmanager
    def within(self, what: str) -> Iterator[None]:
        self.said.append(what)
        try:
            yield
        finally:
            self.said.append(f"off {what[3:]}")

    @contextlib.contextmanager
    def capture(self, graph: object, stream: object) -> Iterator[None]:
        self.said.append(f"capture {graph} on {stream}")
        yield
        if self.fails:
            raise RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.parametrize("fails", [False, True])
def test_a_cuda_graph_is_asked_for_in_the_right_order(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Cuda(monkeypatch, fails=fails)
    generator: Any = Cuda.Named(cuda, "ours")
    graph = CudaGraph(torch.device("cuda", 0), generator)

    def function() -> Tensor:
        cuda.said.append("step")
        return torch.ones(1)

    graph.warm_up(function)
    assert cuda.said == [
        *("side.wait_stream(current)", "on side", "step", "off side"),
        "current.wait_stream(side)",
    ]
    cuda.said.clear()
    asked = [
        *("ours.clone_state()", "device's.clone_state()", "graph.register_generator_state(ours)"),
        *("on side", "capture graph on side", "step", "off side"),
    ]
    if fails:
        with pytest.raises(RuntimeError, match="previous error"):
            graph.record(function)
        assert cuda.said == [
            *asked,
            "ours.graphsafe_set_state(copy of ours)",
            "device's.graphsafe_set_state(copy of device's)",
        ]
        return
    graph.record(function)
    assert cuda.said == asked
    assert graph.replay() is graph.replay() is graph.result
    assert cuda.said[len(asked) :] == ["graph.replay()"] * 2


@needs_gpu
@pytest.mark.parametrize("optimizer", ["muon", "adam", "sgd"])
def test_on_a_gpu_captured_and_eager_steps_agree(optimizer: str, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, optimizer=optimizer)  # type: ignore[arg-type]
    captured = make_trainer(tmp_path / "captured", None, config, device="cuda")
    captured.run()
    assert isinstance(captured.captured.graph, CudaGraph), "capture failed"
    eager = make_trainer(tmp_path / "eager", None, config, device="cuda", capture=False)
    start = weights(eager)
    eager.run()
    assert_alike(weights(captured), weights(eager), start)
    assert torch.equal(captured.generator.get_state(), eager.generator.get_state())


@needs_gpu
def test_on_a_gpu_a_failed_capture_leaves_generator_and_stream_usable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = torch.device("cuda", 0)
    generator = torch.Generator(device).manual_seed(0)
    alike = torch.Generator(device).manual_seed(0)

    def draw(_number: Tensor) -> Tensor:
        drawn = torch.rand(3, generator=generator, device=device)
        drawn.sum().item()  # waits for the device, which no recording can
        return drawn

    step = CapturedStep(draw, CudaGraph(device, generator))
    got = [step(0.5) for _ in range(6)]
    wanted = [torch.rand(3, generator=alike, device=device) for _ in range(6)]
    assert torch.equal(torch.stack(got), torch.stack(wanted))
    assert step.graph is None
    (message,) = caplog.messages
    assert message.startswith("steps are not captured as a CUDA graph: ")
    assert torch.isfinite(torch.rand(3, device=device)).all(), "the device's own generator draws"
    assert torch.cuda.current_stream(device) == torch.cuda.default_stream(device)
