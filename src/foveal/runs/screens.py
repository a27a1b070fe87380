"""Defaults for an environment: what its screens suggest, and why."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal.envs import EnvConfig, Games
from foveal.model.config import RAMConfig
from foveal.model.context import FIRST_KERNEL, NO_CONTEXT, ConvContextSettings
from foveal.runs.folder_recipe import Reason, glimpse_for, scales_for, small_map

SCREENS = 64  # that are looked at, each after an action at random
CONTRAST = 0.25  # root mean square of what a photograph, or a game in colour, shows at least
MOST_GAIN = 50.0
REACH = 0.25  # of the longer side, by the coarsest patch beside a thumbnail
SCREEN_THUMBNAIL, FINE_CELLS = 48, 16  # pixels a side; of larger ones a cell of the map is of 2 x 2


def suggest_for_screens(
    env: EnvConfig, context: str = NO_CONTEXT
) -> tuple[dict[str, Any], list[Reason]]:
    """What of `RAMConfig` follows from the screens of an environment, and the reasons in words.

    With the context "conv" its settings are among it; the thumbnail then stands for coarse scales.

    Raises `ValueError` if there is no such environment, or its screens are no images.
    """
    screens = _screens(env)
    _, channels, height, width = screens.shape
    size = glimpse_for(min(height, width))
    long = max(height, width)
    scales = scales_for(size, long * (REACH if context == "conv" else 1))
    power = float(screens.square().mean())
    gain = float(np.clip(CONTRAST / power**0.5, 1, MOST_GAIN)) if power else 1.0
    gain = float(f"{gain:.2g}")
    coarse, coarser = dimmed(screens, 2)
    widest = size * RAMConfig.scale_factor ** (scales - 1)
    reasons = [
        Reason(
            ("--glimpse-size", "--num-scales"),
            f"--glimpse-size {size} --num-scales {scales}: screens of {height} x {width} pixels "
            f"({channels} channel{'s' if channels > 1 else ''}); the coarsest patch has {widest}",
        ),
        Reason(
            ("--glimpse-gain", "--scale-gain"),
            f"--glimpse-gain {gain:g} --scale-gain {coarser:g}: of black 0 to white 1, pixels are "
            f"at {power**0.5:.2g} (root mean square), and averages of 2 x 2 at {coarse:.2g}",
        ),
    ]
    fitted: dict[str, Any] = {"glimpse_size": size, "num_scales": scales}
    fitted |= {"glimpse_gain": gain, "scale_gain": coarser}
    if context == "conv":
        side = max(FIRST_KERNEL, min(long // 2, SCREEN_THUMBNAIL))
        settings = context_for(side, gain * dimmed(screens, -(-long // side))[1])
        fitted["context_settings"] = settings
        cell = settings.map_stride
        words = f"--thumbnail-size {side} --thumbnail-gain {settings.thumbnail_gain:g}: the whole "
        words += f"screen, averaged and as bright, says where to look, by cells of {cell} pixels"
        reasons.append(Reason(("--thumbnail-size", "--thumbnail-gain", "--map-stride"), words))
    return fitted, reasons


def dimmed(screens: Tensor, box: int) -> tuple[float, float]:
    """The root mean square of averages of so many pixels a side, and the gain that they ask for.

    A pixel that is lit alone is a quarter as bright in the average of 2 x 2, and all of them have a
    quarter of the power; where neighbours are alike both are as before.
    """
    power = float(screens.square().mean())
    coarse = float(nn.functional.avg_pool2d(screens, box, ceil_mode=True).square().mean())
    gain = float(np.clip(power / coarse, 1, box**2)) if coarse else 1.0
    return coarse**0.5, float(f"{gain:.2g}")


def context_for(side: int, gain: float) -> ConvContextSettings:
    """A context with a thumbnail of so many pixels a side, which are made brighter."""
    return replace(
        small_map(side),
        thumbnail_size=side,
        map_stride=1 if side <= FINE_CELLS else 2,
        map_features=16,
        thumbnail_gain=float(f"{gain:.2g}"),
        context_pool="none",  # a game is played by where things are
    )


def _screens(env: EnvConfig) -> Tensor:
    """``(64, C, H, W)`` screens of one game after another, whose actions are drawn."""
    games = Games(env, 1)
    try:
        generator = torch.Generator().manual_seed(0)
        seen = [games.reset(0)[0]]
        for _ in range(SCREENS - 1):
            action = torch.randint(games.num_actions, (1,), generator=generator)
            seen.append(games.step(action).images)
    finally:
        games.close()
    return torch.cat(seen)
