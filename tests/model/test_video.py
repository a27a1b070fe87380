"""The example of a video loop, as a module and as a command."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from foveal import RecurrentAttention
from tests.conftest import TINY

EXAMPLE = Path(__file__).parents[2] / "examples" / "video.py"


@pytest.fixture
def video() -> ModuleType:
    spec = importlib.util.spec_from_file_location("video", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_glimpse_a_frame_is_a_rollout_on_a_still_scene(video: ModuleType) -> None:
    """T frames of one scene, watched twice: the second rollout begins where the first would go."""
    torch.manual_seed(0)
    model = RecurrentAttention(TINY).eval()
    frame = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    looks = list(video.watch(model, [frame] * (2 * TINY.num_glimpses)))
    image = torch.from_numpy(frame)[None, None] / 255
    with torch.inference_mode():
        rollout = model(image, first_location=torch.zeros(1, 2))
    for look, logits in zip(looks, rollout.step_logits[0], strict=False):
        np.testing.assert_allclose(look["probabilities"], logits.softmax(-1), atol=1e-5)
    assert looks[0]["pixels"] == [20, 15]
    assert [look["answers"] for look in looks] == [False, False, True] * 2


def test_a_context_is_told_of_each_frame(video: ModuleType) -> None:
    model = RecurrentAttention.from_pretrained("cluttered-60-best")
    looks = list(video.watch(model, video.drifting_digit(4)))
    assert [look["answers"] for look in looks] == [False, True] * 2
    # The second frame differs where only a thumbnail sees it, far from both looks.
    first, second = list(video.drifting_digit(4))[:2]
    changed = second.copy()
    far = max(60, looks[1]["pixels"][0] + 20)
    assert far < changed.shape[1]
    changed[:, far:] = 255
    here, there = (list(video.watch(model, [first, last]))[1] for last in (second, changed))
    assert here["pixels"] == there["pixels"]
    assert here["probabilities"] != there["probabilities"]


def test_frames_come_from_a_video_file(video: ModuleType, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    frames = list(video.drifting_digit(5))
    with av.open(tmp_path / "digit.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=10)  # loses nothing
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "gray"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        file.mux(stream.encode())
    decoded = list(video.frames_of(str(tmp_path / "digit.mkv")))
    for frame, wanted in zip(decoded, frames, strict=True):
        np.testing.assert_allclose(frame, np.stack([wanted] * 3, -1), atol=2)


def test_the_command_prints_a_line_a_frame() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 48
    assert lines[0].startswith("looked at [48, 36]")
    assert sum("answer" in line for line in lines) == 6
