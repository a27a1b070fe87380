"""foveal: hard visual attention. Importing it registers ``foveal/Catch-v0`` with Gymnasium.

What one trains and evaluates with in Python is here, by name, and imported when it is first used.
"""

import importlib
import signal
import sys
from typing import TYPE_CHECKING, Any

_is_command = "".join(sys.argv[:1]).endswith(("-m", "/foveal", "\\foveal.exe"))
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C ends the imports at once and without a word; what follows hears it (`foveal.cli`).
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import gymnasium  # noqa: E402 (slow)

if TYPE_CHECKING:
    from foveal.evaluation.classifier import evaluate
    from foveal.evaluation.prediction import Prediction, predict
    from foveal.model.attention import RecurrentAttention
    from foveal.model.config import RAMConfig
    from foveal.model.context import CONTEXTS, Context, ContextOutput
    from foveal.model.core import CORES, Core
    from foveal.model.glimpse import GLIMPSE_NETWORKS
    from foveal.model.policy import POLICIES, Policy
    from foveal.model.rollout import Rollout
    from foveal.model.sensor import GlimpseSensor
    from foveal.names import PartSettings
    from foveal.scene import Scene, as_scene
    from foveal.tasks import CanvasTask, FolderTask, TaskConfig
    from foveal.tasks.task import Task
    from foveal.training.classifier import TrainConfig, Trainer
    from foveal.training.objective import ObjectiveConfig, hybrid_loss
    from foveal.training.rewards import REWARDS

__version__ = "0.1.0"

_HOMES = {
    "evaluation.classifier": "evaluate",
    "evaluation.prediction": "Prediction predict",
    "model.attention": "RecurrentAttention",
    "model.config": "RAMConfig",
    "model.context": "CONTEXTS Context ContextOutput",
    "model.core": "CORES Core",
    "model.glimpse": "GLIMPSE_NETWORKS",
    "model.policy": "POLICIES Policy",
    "model.rollout": "Rollout",
    "model.sensor": "GlimpseSensor",
    "names": "PartSettings",
    "scene": "Scene as_scene",
    "tasks": "CanvasTask FolderTask TaskConfig",
    "tasks.task": "Task",
    "training.classifier": "TrainConfig Trainer",
    "training.objective": "ObjectiveConfig hybrid_loss",
    "training.rewards": "REWARDS",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

gymnasium.register(
    "foveal/Catch-v0",
    entry_point="foveal.envs.catch:CatchEnv",
    vector_entry_point="foveal.envs.catch:CatchVectorEnv",
)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'foveal' has no attribute {name!r}")
    return getattr(importlib.import_module(f"foveal.{_HOME[name]}"), name)


__all__ = [
    "CONTEXTS", "CORES", "GLIMPSE_NETWORKS", "POLICIES", "REWARDS", "CanvasTask", "Context",
    "ContextOutput", "Core", "FolderTask", "GlimpseSensor", "ObjectiveConfig", "PartSettings",
    "Policy", "Prediction", "RAMConfig", "RecurrentAttention", "Rollout", "Scene", "Task",
    "TaskConfig", "TrainConfig", "Trainer", "__version__", "as_scene", "evaluate", "hybrid_loss",
    "predict",
]  # fmt: skip
