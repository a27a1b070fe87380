"""Train a model that looks, on handwritten digits that ship with scikit-learn.

One sees the validation error fall while the model learns where to look on 48 x 48 canvases, and at
the end its test error, with a 95 % interval. A few minutes on one core; `--quick` takes seconds,
and learns nothing. It stops and goes on where it was: run it again.
"""

import argparse
from pathlib import Path

import torch

from foveal import RAMConfig, RecurrentAttention
from foveal.evaluation.classifier import evaluate
from foveal.tasks import CanvasTask, TaskConfig
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.objective import ObjectiveConfig
from foveal.training.progress import Progress, TrainingStopped


def show(progress: Progress) -> None:
    if progress.validated:
        print(f"step {progress.step}: {progress.validation['validation_error']:.1f} % wrong")


def main(out: Path, quick: bool) -> None:
    task = CanvasTask(TaskConfig(digits="uci", canvas_size=48))  # a new canvas for every batch
    torch.manual_seed(0)
    model = RecurrentAttention(
        RAMConfig(
            glimpse_size=8,  # sharp in the middle,
            num_scales=3,  # and two coarser patches round it, twice and four times as wide
            num_glimpses=3 if quick else 6,
            core_size=32 if quick else 256,
            location_std=0.15,
            location_gradient=1.0,  # the answer's gradient helps REINFORCE to move the gaze
        )
    )
    training = TrainConfig(
        optimizer="muon",
        lr=3e-3,
        epochs=1 if quick else 60,
        batch_size=64,
        validate_every=1 if quick else 5,
    )
    objective = ObjectiveConfig(reward="log_likelihood", credit_decay=0.9)
    trainer = Trainer(model, task, training, objective, out, listener=show)
    trainer.restore()  # what was learned before, if it was stopped
    try:
        trainer.run()
    except TrainingStopped as stopped:
        raise SystemExit(f"{stopped}; run it again to go on") from None
    model.save_pretrained(out / "model")
    test = evaluate(model, task, "test")
    low, high = test.interval
    print(f"test error {test.error:.1f} % (95 % interval {low:.1f} to {high:.1f})")
    print(f"each answer read {model.count_pixels_read():,} numbers of {48 * 48:,} pixels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/train-example"))
    parser.add_argument("--quick", action="store_true")
    main(**vars(parser.parse_args()))
