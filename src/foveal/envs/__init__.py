"""Catch, any environment of Gymnasium as tensors, and an eye for those of others."""

from __future__ import annotations

from foveal.envs.catch import CatchConfig, CatchEnv, CatchGames, CatchVectorEnv
from foveal.envs.eye import FoveaConfig
from foveal.envs.fovea import Fovea, FoveaVector
from foveal.envs.games import EnvConfig, Games, Turn, read_options

CATCH_ID = "foveal/Catch-v0"  # registered by foveal itself

__all__ = [
    "CATCH_ID",
    "CatchConfig",
    "CatchEnv",
    "CatchGames",
    "CatchVectorEnv",
    "EnvConfig",
    "Fovea",
    "FoveaConfig",
    "FoveaVector",
    "Games",
    "Turn",
    "read_options",
]
