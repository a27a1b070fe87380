"""Give the model a memory of one's own: a gated recurrent unit.

One sees such a model train, be saved and come back. A core is any module that maps what a glimpse
gave and the last state to the next state; `make_core` is the place for it. Everything else, the
retina, the policy, the training, stays as it is.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from foveal import RAMConfig, RecurrentAttention
from foveal.model.layers import CoreState
from foveal.tasks import CanvasTask, TaskConfig
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.objective import ObjectiveConfig


class GRUCore(nn.Module):
    def __init__(self, config: RAMConfig) -> None:
        super().__init__()
        self.cell = nn.GRUCell(config.glimpse_features, config.core_size)

    def forward(self, features: Tensor, state: CoreState) -> CoreState:
        return CoreState(self.cell(features, state.hidden))


class GRUAttention(RecurrentAttention):
    def make_core(self) -> nn.Module:
        return GRUCore(self.config)


def main(out: Path, quick: bool) -> None:
    task = CanvasTask(TaskConfig(digits="uci"))
    torch.manual_seed(0)
    model = GRUAttention(RAMConfig(num_glimpses=2 if quick else 5, core_size=32 if quick else 128))
    training = TrainConfig(optimizer="adam", lr=2e-3, epochs=1 if quick else 30, batch_size=64)
    objective = ObjectiveConfig(reward="log_likelihood")
    outcome = Trainer(model, task, training, objective, out).run()
    print(f"validation error {outcome.validation['validation_error']:.1f} %")
    model.save_pretrained(out / "model")
    again = GRUAttention.from_pretrained(out / "model")  # the class knows its core
    images, _ = next(iter(task.fixed_batches("test")))
    first = torch.zeros(len(images), 2)
    with torch.inference_mode():
        ours = model.eval()(images, first_location=first).logits
        theirs = again(images, first_location=first).logits
    print("what was saved answers the same:", torch.equal(ours, theirs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/core-example"))
    parser.add_argument("--quick", action="store_true")
    main(**vars(parser.parse_args()))
