"""Draw where a pretrained model looks.

One sees a digit among pieces of others, the numbered places where the model looked, every glimpse
as it saw it (sharp in the middle, coarse round it), and what it believed after each look.
"""

import argparse
from pathlib import Path

import torch

from foveal import RecurrentAttention
from foveal.tasks import CanvasTask, TaskConfig
from foveal.viz.drawing import draw, save_picture
from foveal.viz.scanpath import follow


def main(out: Path, index: int) -> None:
    model = RecurrentAttention.from_pretrained("cluttered-60")
    # It learned on MNIST; scikit-learn's digits are others, and need no download.
    task = CanvasTask(TaskConfig(digits="uci", canvas_size=60, num_clutter=4))
    images, labels = next(iter(task.fixed_batches("test")))
    path = follow(
        model,
        images[index],
        classes=task.classes,
        label=int(labels[index]),
        generator=torch.Generator().manual_seed(0),  # of the first place looked at
    )
    save_picture(draw(path), out)
    for look, (place, belief) in enumerate(zip(path.centers, path.probabilities, strict=True)):
        x, y = place
        print(f"look {look + 1} at ({x}, {y}): {belief.argmax()} with {belief.max():.0%}")
    print(f"{out}: it is a {path.classes[int(labels[index])]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("look-example.png"))
    parser.add_argument("--index", type=int, default=0, choices=range(299), metavar="0-298")
    main(**vars(parser.parse_args()))
