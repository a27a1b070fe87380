"""Environments for Gymnasium; importing this registers ``foveal/Catch-v0``."""

from __future__ import annotations

import gymnasium

from foveal.envs.catch import CatchConfig, CatchEnv, CatchGames, CatchVectorEnv
from foveal.envs.games import EnvConfig, Games, Turn, read_options

CATCH_ID = "foveal/Catch-v0"

gymnasium.register(
    CATCH_ID,
    entry_point="foveal.envs.catch:CatchEnv",
    vector_entry_point="foveal.envs.catch:CatchVectorEnv",
)

__all__ = [
    "CATCH_ID",
    "CatchConfig",
    "CatchEnv",
    "CatchGames",
    "CatchVectorEnv",
    "EnvConfig",
    "Games",
    "Turn",
    "read_options",
]
