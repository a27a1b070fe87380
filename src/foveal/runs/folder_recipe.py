"""Defaults for one's own images: what the sizes and the number of the images suggest, and why."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveal.runs.folder import FolderRun
from foveal.runs.recipes import recipe
from foveal.tasks.folder.listing import split_images
from foveal.tasks.folder.task import FolderConfig, Survey

# Glimpse size by the shorter side of the images; the paper has 8 for 28 pixels, 12 for 60 and 100.
GLIMPSE_SIZES = ((16, 4), (40, 8), (200, 12), (1000, 16))
LARGEST_GLIMPSE = 24
COVERED = 0.75  # of the longer side, by the coarsest patch; the paper: 0.8 of 60, 0.96 of 100
MOST_SCALES = 8
SEEN = 150_000  # images in all, a few minutes on a core for small ones
EPOCHS = (20, 200)
BATCHES = (16, 128)
STEPS = 10  # an epoch at least, so that few images still make many steps
MEMORY = 2**31  # bytes that the box sums of a batch may take, with what is made of them


class Reason(NamedTuple):
    """Why flags have the defaults that they have, in words."""

    flags: tuple[str, ...]
    words: str


def suggest(config: FolderConfig, found: Survey, name: str) -> tuple[FolderRun, list[Reason]]:
    """The configuration of a recipe, fitted to the images, and the reasons in words.

    Raises `ValueError` if there is no such recipe, or the images cannot be split.
    """
    base = recipe("cluttered-60", name)
    sizes = found.listing.sizes
    short, long = (int(np.median(sides)) for sides in (sizes.min(1), sizes.max(1)))
    size = next((g for limit, g in GLIMPSE_SIZES if short <= limit), LARGEST_GLIMPSE)
    scales = 1
    while size * 2 ** (scales - 1) < COVERED * long and scales < MOST_SCALES:
        scales += 1
    looks = 6 if short <= 40 else 8
    channels = 1 if found.grey else 3
    split = split_images(found.listing, config.held_out, config.split_seed, config.data)
    images = sum(entry.split == "train" for entry in split.entries)
    epochs = int(np.clip(round(SEEN / images), *EPOCHS))
    wanted = int(np.clip(2 ** int(np.log2(max(1, images / STEPS))), *BATCHES))
    fits = wanted
    in_memory = sizes[~np.array(found.large)]
    if len(in_memory):
        fits = MEMORY // int(in_memory.max(0).prod() * channels * (scales + 2) * 4)
    # Half of them at most: some may turn out to be damaged once they are decoded.
    batch = max(1, min(wanted, fits, images // 2))
    widest = size * 2 ** (scales - 1)
    covered = "all" if widest >= long else f"{100 * widest / long:.0f} %"
    colour = "grey" if found.grey else "in colour"
    memory = ", as many at once as fit 2 GiB" if batch == fits < wanted else ""
    reasons = [
        Reason(
            (),
            f"{len(sizes):,} images, {len(found.listing.classes)} classes; {colour}; "
            f"{_range(sizes)}{_by_windows(found.large)}"
            + (f"; {found.listing.passed_over}" if found.listing.passed_over else ""),
        ),
        Reason(
            ("--glimpse-size", "--num-scales"),
            f"--glimpse-size {size} --num-scales {scales}: the shorter side is {short} pixels "
            f"(median), and the coarsest patch, {widest}, covers {covered} of the "
            f"longer, {long}",
        ),
        Reason(
            ("--num-glimpses",),
            f"--num-glimpses {looks}: {'the images are small' if looks < 8 else 'as the paper'}",
        ),
        Reason(
            ("--epochs", "--batch-size"),
            f"--epochs {epochs} --batch-size {batch}: {epochs * images:,} images in all{memory}",
        ),
    ]
    sizes_of_model = {
        "glimpse_size": size,
        "num_scales": scales,
        "num_glimpses": looks,
        "num_channels": channels,
        "num_classes": len(found.listing.classes),
    }
    length = {"epochs": epochs, "batch_size": batch, "validate_every": max(1, epochs // 20)}
    run = FolderRun(
        task=config, model=base.model, objective=base.objective, training=base.training
    ).altered(model=sizes_of_model, training=length)
    if name == "fast":
        # A photograph's coarse averages have contrast of their own, and need no gain.
        run = run.altered(model={"scale_gain": 1.0}, training={"lr": 1.5e-3})
    return run, reasons


def _range(sizes: NDArray[np.int64]) -> str:
    low, high = (f"{height} x {width}" for height, width in (sizes.min(0), sizes.max(0)))
    return f"{low if low == high else f'{low} to {high}'} pixels (height x width)"


def _by_windows(large: list[bool]) -> str:
    which = "all" if all(large) else f"{sum(large):,} of them"
    return f"; {which} read where the model looks, never whole" if any(large) else ""
