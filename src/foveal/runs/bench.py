"""How fast the parts are, each beside the least that it could cost, measured in turns.

A floor is measured in the same run as what it is the floor of: for what multiplies matrices, the
bare products; for what moves memory, a copy of the bytes that must move. Times are milliseconds.
"""

import dataclasses
import runpy
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from foveal.envs.catch import ACTIONS, CatchConfig, CatchGames
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.sensor import GlimpseSensor
from foveal.runs.recipes import RETINAS
from foveal.tasks import TASKS, CanvasTask
from foveal.training.capture import WARM_UP, CapturedStep, make_graph
from foveal.training.critic import Learner
from foveal.training.objective import ObjectiveConfig, hybrid_loss

STEPS = ("mnist-28", "cluttered-60", "cluttered-100")
Benched = Literal["rnn", "lstm"]
BENCHED: tuple[Benched, ...] = get_args(Benched)
SENSORS = {"8 x 8, 1 scale": (8, 1), "12 x 12, 3 scales": (12, 3), "12 x 12, 4 scales": (12, 4)}
SENSOR_BATCH, SMALL, LARGE = 64, 100, 2000  # images, pixels a side
GAMES = 4096
OBVIOUS = Path(__file__).parents[3] / "benchmarks" / "obvious.py"

MakeSensor = Callable[[int, int], nn.Module]


def in_turns(
    functions: Sequence[Callable[[], object]], rounds: int, device: torch.device
) -> list[list[float]]:
    """Milliseconds of each function in each round, the functions taking turns."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 2):
        for function, kept in zip(functions, times, strict=True):
            _wait(device)
            began = time.perf_counter()
            function()
            _wait(device)
            if turn >= 2:  # the first two warm up
                kept.append(1000 * (time.perf_counter() - began))
    return times


def quartiles(times: list[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return statistics.quantiles(times, n=4) if len(times) > 1 else times * 3


def training_step(
    task: str,
    core: Benched,
    batch_size: int,
    rounds: int,
    device: torch.device,
    obvious: MakeSensor | None = None,
) -> dict[str, Any]:
    """Images in memory to changed weights: rollout, objective, backward, Adam.

    On a GPU it is a CUDA graph, as in training (`CapturedStep`); with the ``obvious`` sensor, which
    waits for the device at each image, it cannot be.

    Gives quartiles of ``step``, ``floor`` (the products of every layer at every glimpse: forward,
    and by both factors backward), perhaps ``obvious``; ``ratio`` and ``speedup`` of the medians.
    """
    config = dataclasses.replace(RETINAS[task], core=core)
    model, images, labels = _problem(task, config, batch_size, device)
    step = _captured(_step_of(model, images, labels), device)
    products = _products(model, batch_size, device)

    def floor() -> None:
        for _ in range(config.num_glimpses):
            for inputs, weights, gradients in products:
                torch.mm(inputs, weights)
                torch.mm(gradients, weights.t())
                torch.mm(inputs.t(), gradients)

    measured, least = in_turns([step, floor], rounds, device)
    part = f"{task}, {config.num_glimpses} glimpses, {core}, batch {batch_size}"
    row = _row(part, "step", measured, least, batch_size)
    if obvious is not None:
        model.model.sensor = obvious(config.glimpse_size, config.num_scales)
        slow_step = _step_of(model, images, labels)
        (slow,) = in_turns([slow_step], max(1, rounds // 5), device)
        row["obvious"] = quartiles(slow)
        row["speedup"] = statistics.median(slow) / statistics.median(measured)
    return row


def evaluation(task: str, batch_size: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Images in memory to answers, with the mean policy; the floor is the forward products."""
    config = RETINAS[task]
    model, images, _ = _problem(task, config, batch_size, device)
    answer = torch.inference_mode()(partial(model.eval().model, images))
    products = _products(model.model, batch_size, device)

    def floor() -> None:
        for _ in range(config.num_glimpses):
            for inputs, weights, _ in products:
                torch.mm(inputs, weights)

    measured, least = in_turns([answer, floor], rounds, device)
    part = f"{task}, {config.num_glimpses} glimpses, batch {batch_size}"
    return _row(part, "evaluation", measured, least, batch_size)


def latency(rounds: int, device: torch.device) -> dict[str, Any]:
    """One 100 x 100 image to its answer, 8 glimpses at 4 scales."""
    config = RETINAS["cluttered-100"]
    model, images, _ = _problem("cluttered-100", config, 1, device)
    answer = torch.inference_mode()(partial(model.eval().model, images))
    (times,) = in_turns([answer], 10 * rounds, device)
    return {"part": "100 x 100, 8 glimpses, one image", "latency": quartiles(times)}


def synthesis(task: str, batch_size: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Fresh canvases; the floor is a copy of as many floats.

    Also ``share``, of the fast recipe's kind of step on this task, in %.
    """
    config = dataclasses.replace(TASKS[task], digits="uci")  # their number changes nothing
    canvases = CanvasTask(config, device)
    generator = torch.Generator(device).manual_seed(0)
    indices = torch.randint(canvases.size("train"), (batch_size,), device=device)
    retina = dataclasses.replace(RETINAS[task], core="lstm" if config.canvas_size else "rnn")
    model, images, labels = _problem(task, retina, batch_size, device)
    step = _captured(_step_of(model, images, labels), device)
    made, copied, steps = in_turns(
        [lambda: canvases.batch("train", indices, generator), images.clone, step], rounds, device
    )
    row = _row(f"{task}, batch {batch_size}", "synthesis", made, copied, batch_size)
    return {**row, "share": 100 * statistics.median(made) / statistics.median(steps)}


def glimpse(
    glimpse_size: int, num_scales: int, rounds: int, device: torch.device
) -> dict[str, Any]:
    """One glimpse of prepared images, at a small and at a large size; and their preparation.

    The floor of the preparation is a copy of as many bytes as it leaves: a plane a scale.
    """
    sensor = GlimpseSensor(glimpse_size, num_scales).to(device)

    def look(prepared: Any) -> None:
        sensor(prepared, torch.rand(SENSOR_BATCH, 2, device=device) * 2 - 1)

    looks: list[Callable[[], object]] = []
    prepared_in, copied_in = [], []
    for side in (SMALL, LARGE):
        images = torch.rand(SENSOR_BATCH, 1, side, side, device=device)
        prepared = sensor.prepare(images)
        planes = torch.empty(num_scales, *images.shape, device=device)
        parts: list[Callable[[], object]]
        parts = [partial(sensor.prepare, images), partial(planes.copy_, images)]
        made, copied = in_turns(parts, 3, device)
        prepared_in.append(statistics.median(made))
        copied_in.append(statistics.median(copied))
        del planes, parts
        looks.append(partial(look, prepared))
    # A look takes a fraction of a millisecond: many of them, so that noise has its chance.
    small, large = in_turns(looks, 20 * rounds, device)
    return {
        "small": quartiles(small),
        "large": quartiles(large),
        "ratio": statistics.median(large) / statistics.median(small),
        "prepare": prepared_in,
        "copy": copied_in,
    }


def environment(rounds: int, device: torch.device) -> dict[str, Any]:
    """A whole game of many games of Catch, with a screen drawn before each decision."""
    games = CatchGames(CatchConfig(), GAMES, device)
    generator = torch.Generator(device).manual_seed(0)
    actions = torch.randint(len(ACTIONS), (GAMES,), device=device)

    def game() -> None:
        games.reset(generator)
        while not games.over:
            games.screens()
            games.step(actions)

    (times,) = in_turns([game], rounds, device)
    steps = 1000 * GAMES * games.length / statistics.median(times)
    return {"games": GAMES, "game": quartiles(times), "steps_per_second": steps}


def obvious_sensor() -> MakeSensor | None:
    """The sensor in benchmarks/obvious.py; None where the package is installed without it."""
    return runpy.run_path(str(OBVIOUS))["ObviousSensor"] if OBVIOUS.exists() else None


def _row(
    part: str, name: str, measured: list[float], least: list[float], batch_size: int
) -> dict[str, Any]:
    """What was measured of a batch, beside its floor."""
    return {
        "part": part,
        name: quartiles(measured),
        "floor": quartiles(least),
        "ratio": statistics.median(measured) / statistics.median(least),
        "images_per_second": 1000 * batch_size / statistics.median(measured),
    }


def _problem(
    task: str, config: RAMConfig, batch_size: int, device: torch.device
) -> tuple[Learner, Tensor, Tensor]:
    """A fresh model, and random images and labels of a task's size."""
    torch.manual_seed(0)
    side = TASKS[task].canvas_size or 28
    images = torch.rand(batch_size, 1, side, side, device=device)
    labels = torch.randint(config.num_classes, (batch_size,), device=device)
    return Learner(RecurrentAttention(config)).to(device), images, labels


def _step_of(model: Learner, images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    on_gpu = images.device.type == "cuda"
    optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=on_gpu)
    objective = ObjectiveConfig()

    def step() -> Tensor:
        terms = hybrid_loss(model(images, labels), labels, objective)
        optimizer.zero_grad()
        torch.autograd.backward(terms.total)
        optimizer.step()
        return terms.total.detach()

    return step


def _captured(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """The step as training runs it on this device, recorded already where it is a CUDA graph."""
    captured = CapturedStep(step, make_graph(device, torch.Generator(device)))
    if captured.graph is not None:
        for _ in range(WARM_UP + 1):
            captured()
    return captured


def _products(
    model: nn.Module, batch_size: int, device: torch.device
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each matrix of weights, random inputs, weights and gradients of its sizes."""
    shapes = [weight.shape for weight in model.parameters() if weight.ndim == 2]
    return [
        (
            torch.randn(batch_size, inputs, device=device),
            torch.randn(inputs, outputs, device=device),
            torch.randn(batch_size, outputs, device=device),
        )
        for outputs, inputs in shapes
    ]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
