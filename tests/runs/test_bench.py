from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from foveal.model.sensor import GlimpseSensor
from foveal.runs import bench as benchmark
from foveal.runs.bench import in_turns, obvious_sensor, training_step


def test_functions_take_turns_and_the_first_two_rounds_are_not_counted() -> None:
    calls: list[str] = []
    times = in_turns([lambda: calls.append("a"), lambda: calls.append("b")], 3, torch.device("cpu"))
    assert calls == ["a", "b"] * 5
    assert [len(kept) for kept in times] == [3, 3]


def test_the_obvious_sensor_sees_what_ours_sees() -> None:
    make_obvious = obvious_sensor()
    assert make_obvious is not None
    images, locations = torch.rand(6, 2, 31, 40), torch.rand(6, 2) * 2 - 1
    locations[:4] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])
    ours, obvious = (kind(5, 3)(images, locations) for kind in (GlimpseSensor, make_obvious))
    torch.testing.assert_close(ours, obvious)


class CountedReplays:
    """A graph that records nothing: it calls what it was given, and counts."""

    device = torch.device("cpu")
    replays = 0

    def warm_up(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        return function()

    def record(self, function: Callable[[], torch.Tensor]) -> None:
        self.function = function

    def replay(self) -> torch.Tensor:
        self.replays += 1
        return self.function()


def test_where_steps_are_graphs_replays_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = CountedReplays()
    monkeypatch.setattr(benchmark, "make_graph", lambda *_: graph)
    row = training_step("mnist-28", "rnn", 4, 1, torch.device("cpu"), obvious_sensor())
    first, warm_up, rounds = 1, 2, 1
    assert graph.replays == first + warm_up + rounds, "and none of the obvious sensor"
    assert row["speedup"] > 0


def test_the_floor_has_the_products_of_every_layer() -> None:
    """By the paper's widths, without looking at the model: layers of 128, 256 and their heads."""
    counted: list[tuple[int, int, int]] = []
    real = torch.mm

    def counting(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        counted.append((one.shape[0], one.shape[1], other.shape[1]))
        return real(one, other)

    torch.mm = counting
    try:
        training_step("mnist-28", "rnn", 4, 1, torch.device("cpu"))
    finally:
        torch.mm = real
    layers = [(64, 128), (2, 128), (128, 256), (128, 256), (256, 256), (256, 256)]
    heads = [(256, 2), (256, 10), (256, 1)]
    wanted = sum(4 * inputs * outputs for inputs, outputs in layers + heads)
    rounds, glimpses, factors = 3, 7, 3
    assert sum(a * b * c for a, b, c in counted) == wanted * rounds * glimpses * factors
