"""``foveal bench``: a training step beside its matrix products, a look at images of any size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.table import Table

from foveal.commands import (
    choose_device,
    console,
    parse,
    print_json,
    say,
    set_threads,
    working,
)
from foveal.envs.catch import ACTIONS, CatchConfig, CatchGames
from foveal.layers import RAMConfig
from foveal.machine import commit, hardware
from foveal.model import RecurrentAttention
from foveal.objective import ObjectiveConfig, hybrid_loss
from foveal.sensor import GlimpseSensor

STEPS = {
    "mnist-28, 7 glimpses": (28, RAMConfig(glimpse_size=8, num_scales=1, num_glimpses=7)),
    "100 x 100, 8 glimpses": (100, RAMConfig(glimpse_size=12, num_scales=4, num_glimpses=8)),
}
SENSORS = {"8 x 8, 1 scale": (8, 1), "12 x 12, 3 scales": (12, 3), "12 x 12, 4 scales": (12, 4)}
SENSOR_BATCH, SMALL, LARGE = 64, 100, 2000  # images, pixels a side
GAMES = 4096


def run(arguments: list[str]) -> None:
    parse(bench, "bench", arguments)


def bench(
    batch_size: int = 512,
    rounds: int = 15,
    device: str = "auto",
    threads: int = 0,
    json: bool = False,
) -> None:
    """Measure the training step, the sensor and the game of Catch on this machine.

    What is compared is measured in the same run, in turns; times are medians, with quartiles.
    The floor of a step is its matrix products alone: forward, and both backward products, of
    every layer at every glimpse.

    Args:
        batch_size: images in a training step.
        rounds: turns of measurement.
        device: cpu, cuda or auto.
        threads: cores for arithmetic; 0 for all.
        json: print one JSON object.
    """
    if batch_size < 1 or rounds < 1:
        raise ValueError(f"batch_size and rounds must be at least 1; got {batch_size}, {rounds}.")
    set_threads(threads)
    place = choose_device(device)
    with working("measuring", quiet=json):
        steps = [
            {"part": name, **_compare_step(side, config, batch_size, rounds, place)}
            for name, (side, config) in STEPS.items()
        ]
        sensors = [
            {"part": name, **_compare_sensor(*size, rounds, place)}
            for name, size in SENSORS.items()
        ]
        environment = _play(rounds, place)
    if json:
        about = {"hardware": hardware(place), "commit": commit(), "batch_size": batch_size}
        print_json({**about, "steps": steps, "sensors": sensors, "environment": environment})
        return
    say(f"{hardware(place)}; batch {batch_size}; milliseconds: median (quartiles)")
    table = Table("training step", "step", "matrix products", "ratio", "images/s")
    for row in steps:
        table.add_row(
            row["part"],
            _spread(row["step"]),
            _spread(row["floor"]),
            f"{row['ratio']:.2f}",
            f"{row['images_per_second']:,.0f}",
        )
    console.print(table)
    table = Table(
        f"one glimpse, batch {SENSOR_BATCH}", f"{SMALL} px", f"{LARGE} px", "ratio", "preparation"
    )
    for row in sensors:
        prepared = f"{row['prepare_small']:.1f} and {row['prepare_large']:,.0f} once"
        table.add_row(
            row["part"],
            _spread(row["small"]),
            _spread(row["large"]),
            f"{row['ratio']:.2f}",
            prepared,
        )
    console.print(table)
    say(
        f"Catch, {GAMES:,} games at once, screens included, without a network: "
        f"{environment['steps_per_second']:,.0f} steps/s"
    )


def _compare_step(
    side: int, config: RAMConfig, batch_size: int, rounds: int, device: torch.device
) -> dict[str, Any]:
    torch.manual_seed(0)
    model = RecurrentAttention(config).to(device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    images = torch.rand(batch_size, 1, side, side, device=device)
    labels = torch.randint(config.num_classes, (batch_size,), device=device)
    objective = ObjectiveConfig()

    def step() -> None:
        terms = hybrid_loss(model(images), labels, objective)
        optimizer.zero_grad()
        torch.autograd.backward(terms.total)
        optimizer.step()

    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    products = [
        (
            torch.randn(batch_size, layer.in_features, device=device),
            torch.randn(layer.in_features, layer.out_features, device=device),
            torch.randn(batch_size, layer.out_features, device=device),
        )
        for layer in layers
    ]

    def floor() -> None:
        for _ in range(config.num_glimpses):
            for inputs, weights, gradients in products:
                torch.mm(inputs, weights)
                torch.mm(gradients, weights.t())
                torch.mm(inputs.t(), gradients)

    measured, least = _in_turns([step, floor], rounds, device)
    ratio = statistics.median(measured) / statistics.median(least)
    return {
        "step": _quartiles(measured),
        "floor": _quartiles(least),
        "ratio": ratio,
        "images_per_second": 1000 * batch_size / statistics.median(measured),
    }


def _compare_sensor(
    glimpse_size: int, num_scales: int, rounds: int, device: torch.device
) -> dict[str, Any]:
    sensor = GlimpseSensor(glimpse_size, num_scales).to(device)
    looks: list[Callable[[], object]] = []
    preparations = []
    for side in (SMALL, LARGE):
        images = torch.rand(SENSOR_BATCH, 1, side, side, device=device)
        began = time.perf_counter()
        prepared = sensor.prepare(images)
        _wait(device)
        preparations.append(1000 * (time.perf_counter() - began))

        def look(prepared: Any = prepared) -> None:
            sensor(prepared, torch.rand(SENSOR_BATCH, 2, device=device) * 2 - 1)

        looks.append(look)
    # A look takes a fraction of a millisecond: many of them, so that noise has its chance.
    small, large = _in_turns(looks, 20 * rounds, device)
    return {
        "small": _quartiles(small),
        "large": _quartiles(large),
        "ratio": statistics.median(large) / statistics.median(small),
        "prepare_small": preparations[0],
        "prepare_large": preparations[1],
    }


def _play(rounds: int, device: torch.device) -> dict[str, Any]:
    """A whole game of many, with a screen drawn before each decision."""
    games = CatchGames(CatchConfig(), GAMES, device)
    generator = torch.Generator(device).manual_seed(0)
    actions = torch.randint(len(ACTIONS), (GAMES,), device=device)

    def game() -> None:
        games.reset(generator)
        while not games.over:
            games.screens()
            games.step(actions)

    (times,) = _in_turns([game], rounds, device)
    steps = 1000 * GAMES * games.length / statistics.median(times)
    return {"games": GAMES, "game": _quartiles(times), "steps_per_second": steps}


def _in_turns(
    functions: list[Callable[[], object]], rounds: int, device: torch.device
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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _quartiles(times: list[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return statistics.quantiles(times, n=4) if len(times) > 1 else times * 3


def _spread(quartiles: list[float]) -> str:
    low, middle, high = quartiles
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
