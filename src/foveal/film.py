"""An agent's games as an animation: the whole screen, where it looked, and what it saw there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from foveal import checkpoint, geometry
from foveal.model import RecurrentAttention
from foveal.playing import Moment
from foveal.scanpath import SCALE_COLORS

SCREEN, GLIMPSE, MARGIN, LINE = 336, 104, 12, 18  # pixels of a frame's parts
FRAME_TIME, LAST_TIME = 160, 1200  # milliseconds; a game's last frame stays longer


class Film:
    """Collects the first game of each of the first environments; `foveal.playing.play` calls it.

    Args:
        agent: who plays.
        games: how many to keep.
    """

    def __init__(self, agent: RecurrentAttention, games: int) -> None:
        self.agent = agent
        self.reels: list[list[Image.Image]] = [[] for _ in range(games)]
        self.ended = [False] * games

    def __call__(self, moment: Moment) -> None:
        """Keep a frame of each game that is still running."""
        for game, reel in enumerate(self.reels[: len(moment.over)]):
            if self.ended[game]:
                continue
            self.ended[game] = bool(moment.over[game])
            reward = float(moment.rewards[game])
            text = f"game {game + 1}, look {len(reel) + 1}, action {int(moment.actions[game])}"
            text += f", reward {reward:g}" if reward or self.ended[game] else ""
            chosen = slice(game, game + 1)
            reel.append(self._frame(moment.images[chosen], moment.locations[chosen], text))

    def save(self, out: Path) -> None:
        """Write the games, one after the other, as a GIF, in one step.

        Raises:
            OSError: if the file cannot be written.
        """
        times = [
            LAST_TIME if frame is reel[-1] else FRAME_TIME for reel in self.reels for frame in reel
        ]
        first, *rest = (frame.quantize(64) for reel in self.reels for frame in reel)
        buffer = io.BytesIO()
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=times, loop=0)
        checkpoint.write_file(out, buffer.getvalue())

    def _frame(self, image: Tensor, location: Tensor, text: str) -> Image.Image:
        sensor = self.agent.sensor
        height, width = image.shape[-2:]
        zoom = max(1, SCREEN // max(height, width))
        shown = (width * zoom, height * zoom)
        glimpses = sensor(image, location)[0]
        columns = 1 + (len(glimpses) - 1) // max(1, (shown[1] + MARGIN) // (GLIMPSE + MARGIN))
        size = (
            shown[0] + 2 * MARGIN + columns * (GLIMPSE + MARGIN),
            max(shown[1], GLIMPSE) + 2 * MARGIN + LINE,
        )
        frame = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(frame)
        # A square may reach out of the screen; drawn on a layer of its own it ends at the edge.
        screen = _picture(image[0]).resize(shown, Image.Resampling.NEAREST)
        lines = ImageDraw.Draw(screen)
        x, y = geometry.to_pixels(location, height, width)[0].tolist()
        rows = max(1, -(-len(glimpses) // columns))
        for scale, box in reversed(list(enumerate(sensor.box_sizes))):
            side, color = sensor.glimpse_size * box, SCALE_COLORS[scale % len(SCALE_COLORS)]
            left, top = (geometry.patch_start(center, side) * zoom for center in (x, y))
            right, bottom = left + side * zoom - 1, top + side * zoom - 1
            lines.rectangle((left, top, right, bottom), outline=color, width=2)
            corner = (
                shown[0] + 2 * MARGIN + (scale // rows) * (GLIMPSE + MARGIN),
                MARGIN + (scale % rows) * (GLIMPSE + MARGIN),
            )
            seen = _picture(glimpses[scale]).resize((GLIMPSE, GLIMPSE), Image.Resampling.NEAREST)
            ImageDraw.Draw(seen).rectangle((0, 0, GLIMPSE - 1, GLIMPSE - 1), outline=color, width=2)
            frame.paste(seen, corner)
        frame.paste(screen, (MARGIN, MARGIN))
        draw.text((MARGIN, size[1] - LINE - 2), text, fill="black")
        return frame


def _picture(image: Tensor) -> Image.Image:
    """``(C, H, W)`` in [0, 1] as a picture; of channels that are no colours, the brightest."""
    pixels = image.float().cpu().numpy()
    if len(pixels) not in (1, 3):
        pixels = pixels.max(0, keepdims=True)
    shown: NDArray[np.uint8] = (255 * pixels.clip(0, 1)).round().astype(np.uint8)
    colours = shown.repeat(3, axis=0) if len(shown) == 1 else shown
    return Image.fromarray(np.ascontiguousarray(colours.transpose(1, 2, 0)))
