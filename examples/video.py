"""Watch a video through the retina: one glimpse a frame, at a cost that no frame size changes.

    python examples/video.py cluttered-60              a digit that drifts over a black scene
    python examples/video.py MODEL VIDEO               any file that PyAV opens

After as many frames as it was trained to take glimpses a model answers, and forgets them.
"""

import sys
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits

from foveal import RecurrentAttention
from foveal.geometry import to_pixels
from foveal.scene.files import ArraySource


@torch.inference_mode()
def watch(model: RecurrentAttention, frames: Iterable[np.ndarray]) -> Iterator[dict]:
    """After each frame, (H, W) or (H, W, 3) bytes: where it looked, and what it believes."""
    location = torch.zeros(1, model.location_size)  # the centre
    for number, frame in enumerate(frames):
        source = ArraySource(frame, model.config.num_channels)  # only the glimpse is read of it
        if number % model.config.num_glimpses == 0:
            _, state = model.begin([source], location=location)
        else:  # a context is told of the new frame
            _, state = model.begin_where(torch.tensor([False]), [source], location, state)
        out = model.step([source], location, state)
        yield {
            "pixels": to_pixels(location[:, :2], source.height, source.width)[0].tolist(),
            "probabilities": out.logits.softmax(-1)[0].tolist(),
            "answers": (number + 1) % model.config.num_glimpses == 0,
        }
        location, state = out.next_location, out.state


def drifting_digit(count: int = 48, height: int = 72, width: int = 96) -> Iterator[np.ndarray]:
    """A 3 of 24 x 24 pixels that drifts from the left to the right."""
    digit = np.kron(load_digits().images[3] * 15, np.ones((3, 3))).astype(np.uint8)
    for left in np.linspace(0, width - 24, count).astype(int):
        yield np.pad(digit, ((24, height - 48), (left, width - 24 - left)))


def frames_of(path: str) -> Iterator[np.ndarray]:
    """The frames of a video file; needs PyAV: pip install "foveal[video]"."""
    import av  # noqa: PLC0415 (an extra)

    with av.open(path) as video:
        yield from (frame.to_ndarray(format="rgb24") for frame in video.decode(video=0))


if __name__ == "__main__":
    model = RecurrentAttention.from_pretrained(*(sys.argv[1:2] or ["cluttered-60"]))
    for look in watch(model, frames_of(sys.argv[2]) if sys.argv[2:] else drifting_digit()):
        answer = f"  answer {np.argmax(look['probabilities'])}" * look["answers"]
        print(f"looked at {look['pixels']}{answer}")
