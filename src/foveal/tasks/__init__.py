"""What can be learned: the tasks of the paper, by name, and one's own images."""

import dataclasses

from foveal.tasks.canvases.canvases import CanvasTask
from foveal.tasks.canvases.config import TaskConfig
from foveal.tasks.folder.config import FolderConfig
from foveal.tasks.folder.task import FolderTask
from foveal.tasks.haystacks.config import HaystackConfig
from foveal.tasks.haystacks.task import HaystackTask

# Datasets 1 and 2 of Cheung, Weiss and Olshausen 2016 (arXiv 1611.09430). The paper states neither
# the size of a piece nor how scales are distributed: here 8 x 8, as in the paper of the model, and
# evenly.
CHEUNG = TaskConfig(canvas_size=100, num_clutter=20, vary_clutter=True, clutter_from="others")
TASKS = {
    "mnist-28": TaskConfig(),
    "translated-60": TaskConfig(canvas_size=60),
    "cluttered-60": TaskConfig(canvas_size=60, num_clutter=4),
    "cluttered-100": TaskConfig(canvas_size=100, num_clutter=8),
    "cheung-1": CHEUNG,
    "cheung-2": dataclasses.replace(CHEUNG, digit_scales=(0.33, 3.0)),
}
# Several digits. The first two are those of Ba, Mnih and Kavukcuoglu 2015 (DRAM), the third that of
# Sonderby et al. 2015 (arXiv 1509.05329).
PAIRS = TaskConfig(canvas_size=100, num_digits=(2, 2), answer="pair")
TASKS |= {
    "pairs": PAIRS,
    "addition": dataclasses.replace(PAIRS, answer="sum"),
    "row-3": TaskConfig(
        canvas_size=100,
        num_digits=(3, 3),
        arrangement="row",
        answer="sequence",
        num_clutter=8,
        clutter_size=9,
    ),
    "digits-5": TaskConfig(
        canvas_size=100, num_digits=(1, 5), arrangement="apart", answer="sequence"
    ),
    # Of 24 digits 5 are the trail; of its last and the other 19 there are two of each class.
    "trail": TaskConfig(
        canvas_size=200, num_digits=(24, 24), arrangement="trail", answer="sequence"
    ),
}
HAYSTACKS = {
    "megapixel": HaystackConfig(),
    "needle": HaystackConfig("needle", canvas_size=512, composition="add", train_images=11_276),
}
DESCRIPTIONS = {
    "mnist-28": "centred digits, 28 x 28",
    "translated-60": "digits anywhere on a black 60 x 60 canvas",
    "cluttered-60": "digits anywhere on 60 x 60, among 4 pieces of other digits",
    "cluttered-100": "digits anywhere on 100 x 100, among 8 pieces of other digits",
    "cheung-1": "digits anywhere on 100 x 100, among 0 to 20 pieces of other classes",
    "cheung-2": "the same, with digits of 0.33 to 3 times their size",
    "pairs": "two digits anywhere on 100 x 100: which two, in any order",
    "addition": "two digits anywhere on 100 x 100: their sum",
    "row-3": "three digits in a slanted row on 100 x 100, among 8 pieces: one after another",
    "digits-5": "one to five digits apart on 100 x 100, from left to right, and their end",
    "trail": "24 digits on 200 x 200: from the marked one, each of 5 says where the next lies",
    "megapixel": "Megapixel MNIST: which digit is there three times, on 1,500 x 1,500 pixels",
    "needle": "is there a 3 among 100 other digits, on 512 x 512 pixels",
}
FOLDER_TASKS = {"folder": "your own images: --data with a subfolder a class, or a manifest"}

__all__ = [
    "DESCRIPTIONS", "FOLDER_TASKS", "HAYSTACKS", "TASKS", "CanvasTask", "FolderConfig",
    "FolderTask", "HaystackConfig", "HaystackTask", "TaskConfig",
]  # fmt: skip
