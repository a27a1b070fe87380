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
    location = torch.zeros(1, 2)  # the centre
    for number, frame in enumerate(frames):
        if number % model.config.num_glimpses == 0:
            state = model.initial_state(1)
        source = ArraySource(frame, model.config.num_channels)  # only the glimpse is read of it
        out = model.step([source], location, state)
        yield {
            "pixels": to_pixels(location, source.height, source.width)[0].tolist(),
            "probabilities": out.logits.softmax(-1)[0].tolist(),
            "answers": (number + 1) % model.config.num_glimpses == 0,
        }
        location, state = out.next_location, out.state


def drifting_digit(count: int = 48, height: int = 72, width: int = 96) -> Iterator[np.ndarray]:
    """A 3 of 24 x 24 pixels that drifts from the left to the right."""
    digit = np.kron(load_digits().images[3] * 15, np.ones((3, 3))).astype(np.uint8)
    for left in np.linspace(0, width - 24, count).astype(int):
        frame = np.zeros((height, width), np.uint8)
        frame[24:48, left : left + 24] = digit
        yield frame


def frames_of(path: str) -> Iterator[np.ndarray]:
    """The frames of a video file; needs PyAV: pip install "foveal[video]"."""
    import av  # noqa: PLC0415 (an extra)

    with av.open(path) as video:
        yield from (frame.to_ndarray(format="rgb24") for frame in video.decode(video=0))


if __name__ == "__main__":
    model = RecurrentAttention.from_pretrained(sys.argv[1] if len(sys.argv) > 1 else "cluttered-60")
    for look in watch(model, frames_of(sys.argv[2]) if sys.argv[2:] else drifting_digit()):
        answer = f"  answer {np.argmax(look['probabilities'])}" if look["answers"] else ""
        print(f"looked at {look['pixels']}{answer}")
