"""Measure and draw what docs/performance.md shows: docs/cost.png, docs/step.png, docs/products.png.

    python tools/performance.py [--threads 2]
    python tools/performance.py --rows cluttered-60-best cluttered-100-best --threads 1

The second prints what a training step of rows takes, as a multiple of the products and convolutions
within it, and images a second of processor time. Takes some minutes on a machine that does nothing
else.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import matplotlib
import torch
from torch.profiler import ProfilerActivity, profile

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.whole_image import make_reference_network
from foveal.runs.bench import in_turns
from foveal.runs.paper.rows import ROWS
from foveal.runs.recipes import RETINAS
from foveal.training.machine import hardware
from foveal.training.objective import ObjectiveConfig, hybrid_loss

CPU = torch.device("cpu")
RETINA = RETINAS["cluttered-100"]
ROUNDS, STEPS = 9, 10
# What an operation of PyTorch is there for, by its name.
KINDS = {
    "matrix products": ("mm", "addmm", "addmm_", "bmm", "linear", "_thnn_fused_lstm_cell"),
    "looks: indices, look-ups": ("gather", "clamp_", "floor_", "_to_copy"),
    "preparation": ("lerp", "lerp_"),
    "optimizer": ("_fused_adam_", "zero_"),
}

PRODUCTS = {
    f"aten::{name}"
    for name in (*KINDS["matrix products"], "mkldnn_convolution", "convolution_backward")
}


def median(function: object, rounds: int = ROUNDS) -> float:
    """Milliseconds."""
    return statistics.median(in_turns([function], rounds, CPU)[0])  # type: ignore[list-item]


@torch.inference_mode()
def rollout_cost(config: RAMConfig, side: int, batch: int) -> tuple[float, float]:
    """Milliseconds of the preparation of a batch, and of the glimpses after it."""
    model = RecurrentAttention(config).eval()
    images = torch.rand(batch, 1, side, side)
    rounds = max(3, min(ROUNDS, int(3e8 / images.numel())))
    prepared = model.sensor.prepare(images)

    def glimpses() -> None:
        location = model.location_policy.first(images, None)
        state = model.initial_state(batch)
        for _ in range(config.num_glimpses):
            _, location, _, _, state = model.step(prepared, location, state)

    return median(lambda: model.sensor.prepare(images), rounds), median(glimpses, rounds)


def draw_cost(pyplot: object) -> None:
    """How a rollout's cost grows with the image, the looks, the scales and the batch."""
    figure, axes = pyplot.subplots(2, 2, figsize=(8, 6), layout="constrained")  # type: ignore[attr-defined]

    def lines(axis: object, xs: list[int], batches: list[int], costs: list[tuple[float, float]]):  # type: ignore[no-untyped-def]
        per_image = [
            [1000 * part / batch for part in cost]
            for cost, batch in zip(costs, batches, strict=True)
        ]
        for index, (label, mark) in enumerate((("preparation", "s"), ("glimpses", "o"))):
            values = [cost[index] for cost in per_image]
            axis.plot(xs, values, marker=mark, label=label)  # type: ignore[attr-defined]
        print(
            [(x, *(round(part, 1) for part in cost)) for x, cost in zip(xs, per_image, strict=True)]
        )

    sides = [28, 60, 100, 200, 500, 1000, 2000]
    lines(axes[0, 0], sides, [16] * 7, [rollout_cost(RETINA, side, 16) for side in sides])
    axes[0, 0].set(xlabel="pixels a side", xscale="log", yscale="log", title="8 looks, 4 scales")
    looks = [1, 2, 4, 8, 16, 32]
    configs = [dataclasses.replace(RETINA, num_glimpses=count) for count in looks]
    lines(axes[0, 1], looks, [64] * 6, [rollout_cost(config, 100, 64) for config in configs])
    axes[0, 1].set(xlabel="looks", title="100 x 100 pixels, 4 scales")
    scales = [1, 2, 3, 4, 5, 6]
    configs = [dataclasses.replace(RETINA, num_scales=count) for count in scales]
    lines(axes[1, 0], scales, [64] * 6, [rollout_cost(config, 100, 64) for config in configs])
    axes[1, 0].set(xlabel="scales", title="100 x 100 pixels, 8 looks")
    batches = [1, 4, 16, 64, 256, 1024]
    lines(axes[1, 1], batches, batches, [rollout_cost(RETINA, 100, size) for size in batches])
    axes[1, 1].set(xlabel="batch", xscale="log", yscale="log", title="100 x 100 pixels")
    for axis in axes.flat:
        axis.set_ylabel("microseconds an image")
        axis.grid(alpha=0.3)
    axes[0, 0].legend(frameon=False)
    figure.savefig("docs/cost.png", dpi=130)


def shares(task: str, core: str) -> Counter[str]:
    """Milliseconds of a training step by what they go to, batch 512."""
    config = dataclasses.replace(RETINAS[task], core=core)
    model = RecurrentAttention(config)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    side = 28 if task == "mnist-28" else int(task.split("-")[1])
    images, labels = torch.rand(512, 1, side, side), torch.randint(10, (512,))

    def step() -> None:
        terms = hybrid_loss(model(images), labels, ObjectiveConfig())
        optimizer.zero_grad()
        torch.autograd.backward(terms.total)
        optimizer.step()

    whole = median(step)
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for _ in range(STEPS):
            step()
    kinds = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
    spent: Counter[str] = Counter()
    for event in trace.key_averages():
        spent[kinds.get(event.key, "all else")] += event.self_cpu_time_total / 1000 / STEPS
    scale = whole / sum(spent.values())  # the profiler's own time is everywhere alike
    return Counter({kind: scale * time for kind, time in spent.items()})


def of_row(name: str) -> tuple[float, int]:
    """A row's training step, as a multiple of the products and convolutions within it.

    And how many images it is trained on in a second of the processor's time.
    """
    run = ROWS[name].config
    with tempfile.TemporaryDirectory() as directory:
        where = {"directory": Path(directory), "device": "cpu"}
        trainer = run.trainer(run.open(Path(directory), CPU), drawn=False, capture=False, **where)
        learner, *optimizers = trainer.fabric.setup(trainer.learner, *trainer.optimizers)
        trainer.wrapped, trainer.stepped = learner.train(), optimizers
        for _ in range(STEPS // 3):
            trainer._train_step()
        began = time.process_time()
        for _ in range(STEPS):
            trainer._train_step()
        rate = STEPS * trainer.seen_per_step / (time.process_time() - began)
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            for _ in range(STEPS):
                trainer._train_step()
    spent = {event.key: event.self_cpu_time_total for event in trace.key_averages()}
    products = sum(one for key, one in spent.items() if key in PRODUCTS)
    return round(sum(spent.values()) / products, 2), round(rate)


def draw_step(pyplot: object) -> None:
    """Where the time of a training step goes."""
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")  # type: ignore[attr-defined]
    names = [
        f"{task}, {core}"
        for task in ("mnist-28", "cluttered-60", "cluttered-100")
        for core in ("rnn", "lstm")
    ]
    found = [shares(*name.split(", ")) for name in names]
    left = [0.0] * len(names)
    for kind in [*KINDS, "all else"]:
        widths = [spent[kind] for spent in found]
        axes.barh(names, widths, left=left, label=kind)
        left = [start + width for start, width in zip(left, widths, strict=True)]
        print(kind, [round(width, 1) for width in widths])
    axes.invert_yaxis()
    axes.set(xlabel="milliseconds a step, batch 512")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig("docs/step.png", dpi=130)


def draw_products(pyplot: object) -> None:
    """Multiply-adds of an answer: eight looks, and the paper's convolutional network."""
    figure, axes = pyplot.subplots(figsize=(5.5, 3.6), layout="constrained")  # type: ignore[attr-defined]
    sides = [28, 60, 100, 200, 400, 1000, 2000, 4096]
    with torch.device("meta"):
        convolutions = [
            make_reference_network("conv", (side, side), 10).count_multiply_adds() for side in sides
        ]
    looks = 8 * RecurrentAttention(RETINA).count_multiply_adds()
    axes.plot(sides, convolutions, marker="s", label="convolutional network of the paper")
    axes.plot(sides, [looks] * len(sides), marker="o", label="8 looks, 12 x 12, 4 scales")
    print("products", dict(zip(sides, convolutions, strict=True)), looks)
    axes.set(xlabel="pixels a side", ylabel="multiply-adds an image", xscale="log", yscale="log")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig("docs/products.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="ROW")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if options.rows:
        print(hardware(CPU), {name: of_row(name) for name in options.rows})
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415 (after the choice of backend)

    Path("docs").mkdir(exist_ok=True)
    print(hardware(CPU))
    draw_products(pyplot)
    draw_step(pyplot)
    draw_cost(pyplot)


if __name__ == "__main__":
    main()
