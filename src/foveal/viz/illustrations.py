"""What TensorBoard shows of a model in training: the same images, or the same game, each time."""

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray

from foveal.envs import EnvConfig
from foveal.evaluation.agent import play
from foveal.evaluation.classifier import rollouts
from foveal.model.attention import RecurrentAttention
from foveal.tasks.task import Task
from foveal.training.agent import VALIDATION_SEED
from foveal.viz.drawing import as_pixels, draw_sheet
from foveal.viz.film import Film, contact_sheet
from foveal.viz.scanpath import label_of, scanpath_of

DRAWN_IMAGES, DRAWN_LOOKS = 6, 24  # of a classifier, or of an agent's game


def draw_looks(network: RecurrentAttention, task: Task) -> NDArray[np.uint8] | None:
    """A sheet of the first validation images, from the first locations that validation draws.

    None if they are too large to be drawn whole.
    """
    with contextlib.closing(rollouts(network, task, "validation")) as batches:
        scene, labels, rollout = next(batches)
    paths = [
        scanpath_of(
            network,
            scene,
            rollout,
            row,
            classes=task.classes,
            label=label_of(labels[row], network.config.end),
            name=f"validation image {row}",
        )
        for row in range(min(DRAWN_IMAGES, len(labels)))
    ]
    return as_pixels(draw_sheet(paths))


def draw_game(agent: RecurrentAttention, env: EnvConfig, device: torch.device) -> NDArray[np.uint8]:
    """Looks of one game, the same one each time."""
    film = Film(agent, 1, DRAWN_LOOKS)
    play(agent, env, 1, VALIDATION_SEED, device, watch=film)
    return contact_sheet(film.reels[0])
