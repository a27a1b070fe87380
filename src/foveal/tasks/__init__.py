"""What can be learned: the tasks of the paper, by name, and one's own images."""

from foveal.tasks.canvases.canvases import CanvasTask, TaskConfig
from foveal.tasks.folder.task import FolderConfig, FolderTask

TASKS = {
    "mnist-28": TaskConfig(),
    "translated-60": TaskConfig(canvas_size=60),
    "cluttered-60": TaskConfig(canvas_size=60, num_clutter=4),
    "cluttered-100": TaskConfig(canvas_size=100, num_clutter=8),
}
DESCRIPTIONS = {
    "mnist-28": "centred digits, 28 x 28",
    "translated-60": "digits anywhere on a black 60 x 60 canvas",
    "cluttered-60": "digits anywhere on 60 x 60, among 4 pieces of other digits",
    "cluttered-100": "digits anywhere on 100 x 100, among 8 pieces of other digits",
}
FOLDER_TASKS = {"folder": "your own images: --data with a subfolder a class, or a manifest"}

__all__ = [
    "DESCRIPTIONS", "FOLDER_TASKS", "TASKS", "CanvasTask", "FolderConfig", "FolderTask",
    "TaskConfig",
]  # fmt: skip
