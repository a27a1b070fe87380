"""Look at an image that is larger than one wants to read: a file mapped into memory.

One sees a model answer after eight looks at an image of 16,384 x 16,384 pixels, in the same few
milliseconds as at one of 256 x 256, because `model.step` reads nothing but the windows looked at.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from foveal import RecurrentAttention
from foveal.tasks import CanvasTask, TaskConfig


def image_file(path: Path, side: int) -> torch.Tensor:
    """A black image with a digit in its middle: (1, 1, side, side), on disk and not in memory."""
    digits = CanvasTask(TaskConfig(digits="uci"))
    digit = digits.batch("test", torch.tensor([1]))[0][0, 0].numpy()
    pixels = np.memmap(path, np.float32, "w+", shape=(side, side))  # a sparse file: only the digit
    top = side // 2 - 14
    pixels[top : top + 28, top : top + 28] = digit
    return torch.from_numpy(pixels)[None, None]


@torch.inference_mode()
def look(model: RecurrentAttention, image: torch.Tensor) -> tuple[int, torch.Tensor]:
    location, state = torch.tensor([[0.0, 0.0]]), model.initial_state(1)
    for _ in range(model.config.num_glimpses):
        step = model.step(image, location, state)
        location, state = step.next_location, step.state
    return int(step.logits.argmax()), location


def main(side: int) -> None:
    model = RecurrentAttention.from_pretrained("cluttered-60")
    with TemporaryDirectory() as directory:
        for size in (256, side):
            image = image_file(Path(directory) / f"{size}.raw", size)
            look(model, image)  # the first time allocates
            begun = time.perf_counter()
            answer, _ = look(model, image)
            taken = 1000 * (time.perf_counter() - begun)
            share = model.count_pixels_read() / size**2
            print(f"{size:,} x {size:,}: answer {answer}, {taken:.1f} ms, {share:.5%} of it read")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16_384, help="pixels a side")
    main(**vars(parser.parse_args()))
