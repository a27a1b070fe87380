"""Draw how the error falls with the number of looks at test time: docs/looks.png.

    python tools/looks.py [MODEL...]

Every pretrained model, or those named, on the validation split; one rollout, mean policy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import torch

from foveal.evaluation.classifier import evaluate
from foveal.io.models import locate_model, pretrained_models, read_config
from foveal.runs.run import load_network, run_config
from foveal.tasks import CanvasTask

MOST = 12
MARKS = "osD^v"


def main(names: list[str]) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415 (after the choice of backend)

    figure, axes = pyplot.subplots(figsize=(5.5, 3.6), layout="constrained")
    looks = range(1, MOST + 1)
    for name, mark in zip(names, MARKS, strict=False):
        network, content = load_network(name, torch.device("cpu"))
        task = CanvasTask(run_config(content, Path(name)).task)
        errors = [evaluate(network, task, "validation", num_glimpses=n).error for n in looks]
        print(name, " ".join(f"{error:.2f}" for error in errors))
        trained = content["model"]["num_glimpses"]
        (line,) = axes.plot(looks, errors, marker=mark, markersize=4, label=name)
        axes.plot(trained, errors[trained - 1], marker=mark, markersize=9, color=line.get_color())
    axes.set(xlabel="looks at test time", ylabel="validation error, %", yscale="log")
    axes.set_yticks([1, 2, 5, 10, 20, 50], labels=["1", "2", "5", "10", "20", "50"])
    axes.set_title("Large marks: the number of looks in training", fontsize=9)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig("docs/looks.png", dpi=150)


if __name__ == "__main__":
    models = pretrained_models()
    configs = {name: read_config(locate_model(name)) for name in models}
    main(sys.argv[1:] or [name for name in models if "task" in configs[name]])
