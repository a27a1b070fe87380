"""foveal: hard visual attention, complete, fast and honest."""

from __future__ import annotations

import foveal.envs  # noqa: F401 (registers foveal/Catch-v0)
from foveal.model.attention import RecurrentAttention, Rollout
from foveal.model.config import RAMConfig
from foveal.model.sensor import GlimpseSensor

__version__ = "0.1.0"

__all__ = ["GlimpseSensor", "RAMConfig", "RecurrentAttention", "Rollout", "__version__"]
