"""Give the model a memory of one's own: a gated recurrent unit.

One sees such a model train, be saved and come back. From the command line it is a word:
`foveal --import custom_core train mnist-28 --core gru`, in this directory.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.core import CORES, Core, State
from foveal.tasks import CanvasTask, TaskConfig
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.objective import ObjectiveConfig


@CORES.add("gru")
class GRUCore(Core):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(input_size, hidden_size)

    def initial(self, batch_size: int) -> State:
        return (self.cell.bias_hh.new_zeros(batch_size, self.cell.hidden_size),)

    def forward(self, features: Tensor, state: State) -> State:
        return (self.cell(features, state[0]),)


def main(out: Path, quick: bool) -> None:
    task = CanvasTask(TaskConfig(digits="uci"))
    torch.manual_seed(0)
    sizes = {"num_glimpses": 2, "core_size": 32} if quick else {"num_glimpses": 5, "core_size": 128}
    model = RecurrentAttention(RAMConfig(core="gru", **sizes))
    training = TrainConfig(optimizer="adam", lr=2e-3, epochs=1 if quick else 30, batch_size=64)
    objective = ObjectiveConfig(reward="log_likelihood")
    outcome = Trainer(model, task, training, objective, out).run()
    print(f"validation error {outcome.validation['validation_error']:.1f} %")
    model.save_pretrained(out / "model")
    again = RecurrentAttention.from_pretrained(out / "model")
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
