"""Defaults for one's own images: what the sizes and the number of the images suggest, and why."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveal.model.context import ConvContextSettings
from foveal.model.glimpse import ConvGlimpseSettings
from foveal.model.map_policy import MapSettings
from foveal.runs.folder import MEMORY, FolderRun
from foveal.runs.recipes import recipe
from foveal.scene.pictures import LARGE_PICTURE
from foveal.tasks.augmentation import AugmentationConfig
from foveal.tasks.folder.config import FolderConfig
from foveal.tasks.folder.splits import split_images
from foveal.tasks.folder.survey import Survey

# Glimpse size by the shorter side of the images; the paper has 8 for 28 pixels, 12 for 60 and 100.
GLIMPSE_SIZES = ((16, 4), (40, 8), (200, 12), (1000, 16))
LARGEST_GLIMPSE = 24
COVERED = 0.75  # of the longer side, by the coarsest patch; the paper: 0.8 of 60, 0.96 of 100
MOST_SCALES = 8
SEEN = 150_000  # images in all, a few minutes on a core for small ones
EPOCHS = (20, 200)
# Of the recipe best: images in all, epochs, batches.
BEST_LENGTH = (72_000, (16, 60), (16, 32))
SHORTER = (42_000, (14, 60), (16, 32))  # of small photographs, of which the thumbnail shows much
SEVERAL_BATCH = 64  # at most, where an image has several answers
SMALL = 64  # pixels; of larger images the thumbnail is smaller by the size of the images
# Pixels a side of the thumbnail, by the longer side of the images (median).
SMALL_THUMBNAIL = 96
THUMBNAILS = ((SMALL, 0), (400, SMALL_THUMBNAIL), (1400, 120))
LARGEST_THUMBNAIL = 240
MAPPED = 5  # pixels of the longer side at least, or a cell of the map sees more than there is
SHIFT = 0.06  # enough that no pixel of a photograph's thumbnail is the same twice
STRENGTH = 10.0  # where the answer to the thumbnail found something, the gaze begins
PASTED = 1.5  # of photographs, it begins where a piece of another might have been pasted
APART = 1.5  # a cell that was looked at, and those beside it, are not looked at again
MUCH = 0.4  # of an image, seen by one look: one more is enough
CELLS = 12  # pixels of the thumbnail that the coarsest patch of its looks covers at least
BATCHES = (16, 128)
STEPS = 10  # an epoch at least, so that few images still make many steps


def glimpse_for(short: int) -> int:
    """The glimpse size for images or screens whose shorter side has so many pixels."""
    return next((g for limit, g in GLIMPSE_SIZES if short <= limit), LARGEST_GLIMPSE)


def scales_for(size: int, reach: float) -> int:
    """How many scales it takes until the coarsest patch has so many pixels a side."""
    scales = 1
    while size * 2 ** (scales - 1) < reach and scales < MOST_SCALES:
        scales += 1
    return scales


class Reason(NamedTuple):
    """Why flags have the defaults that they have, in words."""

    flags: tuple[str, ...]
    words: str


class _Kind(NamedTuple):
    """What of a set of images the defaults follow from."""

    short: int  # sides in pixels, the medians
    long: int
    channels: int
    answers: int  # of an image, at most
    training: int  # images
    # Mirrored, what is read from left to right would be out of order: a list is no photograph.
    photographs: bool


class _Looks(NamedTuple):
    """How the images are looked at."""

    size: int  # of a glimpse
    scales: int
    number: int  # for each answer
    thumbnail: int  # pixels a side; 0: there is none

    @property
    def widest(self) -> int:
        """Pixels a side of the coarsest patch."""
        return self.size << self.scales - 1


def suggest(config: FolderConfig, found: Survey, name: str) -> tuple[FolderRun, list[Reason]]:
    """The configuration of a recipe, fitted to the images, and the reasons in words.

    Raises `ValueError` if there is no such recipe, or the images cannot be split.
    """
    listing, sizes = found.listing, found.listing.sizes
    short, long = (int(np.median(sides)) for sides in (sizes.min(1), sizes.max(1)))
    split = split_images(listing, config.held_out, config.split_seed, config.data)
    kind = _Kind(
        short,
        long,
        1 if found.grey else 3,
        listing.max_answers,
        sum(entry.split == "train" for entry in split.entries),
        not found.grey and short > SMALL and listing.max_answers == 1,
    )
    asked, name = name, "fast" if name == "best" and long < MAPPED else name
    base, best = recipe("cluttered-60", name), name == "best"
    looks = _looks_of_best(kind) if best else _looks(kind)
    epochs, batch, memory = _length(kind, looks, found, best)
    covered = "all" if looks.widest >= long else f"{100 * looks.widest / long:.0f} %"
    extent = f"the coarsest patch, {looks.widest}, covers {covered} of the longer, {long}"
    why = (
        "a map says where"
        if best
        else "as the paper"
        if looks.number == 8
        else "the images are small"
    )
    colour = "grey" if found.grey else "in colour"
    reasons = [
        Reason(
            (),
            f"{len(sizes):,} images, {len(listing.classes)} classes; {colour}; "
            f"{_range(sizes)}{_by_windows(found.large)}"
            + (f"; {listing.passed_over}" if listing.passed_over else ""),
        ),
        Reason(
            ("--glimpse-size", "--num-scales"),
            f"--glimpse-size {looks.size} --num-scales {looks.scales}: the shorter side is {short} "
            f"pixels (median), and {extent}",
        ),
        Reason(
            ("--num-glimpses",),
            f"--num-glimpses {looks.number}: {'for each answer' if kind.answers > 1 else why}",
        ),
        Reason(
            ("--epochs", "--batch-size"),
            f"--epochs {epochs} --batch-size {batch}: {epochs * kind.training:,} images in all"
            f"{memory}",
        ),
    ]
    run = FolderRun(
        task=config, model=base.model, objective=base.objective, training=base.training
    ).altered(
        model={
            "glimpse_size": looks.size,
            "num_scales": looks.scales,
            "num_glimpses": looks.number,
            "num_channels": kind.channels,
            "num_classes": len(listing.classes),
            "max_answers": kind.answers,
            "with_end": listing.with_end,
        },
        training={"epochs": epochs, "batch_size": batch, "validate_every": max(1, epochs // 20)},
    )
    if name != asked:
        words = f"no thumbnail: images under {MAPPED} pixels are smaller than a cell of a map sees"
        reasons.append(Reason(("--context",), words))
    if name == "fast":
        # A photograph's coarse averages have contrast of their own, and need no gain.
        run = run.altered(model={"scale_gain": 1.0}, training={"lr": 1.5e-3})
    if best:
        run, told = _with_context(run, kind, looks.thumbnail, shifted=not all(found.large))
        reasons += told
    return run, reasons


def _looks(kind: _Kind) -> _Looks:
    """Of the recipes of the paper's tasks: scales until the coarsest patch covers most of all."""
    size = min(glimpse_for(kind.short), kind.long)
    number = 2 if kind.answers > 1 else 6 if kind.short <= 40 else 8
    return _Looks(size, scales_for(size, COVERED * kind.long), number, 0)


def _looks_of_best(kind: _Kind) -> _Looks:
    """Of the recipe best: larger glimpses, of one scale where images are small, and a thumbnail."""
    short, long, several = kind.short, kind.long, kind.answers > 1
    seen = small_map(long).receptive_field
    side = next((side for most, side in THUMBNAILS if long <= most), LARGEST_THUMBNAIL)
    side = side or max(long // 2, seen)
    # Pixels a side, for what each answer is of.
    room = max(1, math.isqrt(short * long // kind.answers))
    size = min(LARGEST_GLIMPSE, short, room)
    scales = scales_for(size, CELLS * long / side if short > 40 else 0)
    if several:
        return _Looks(size, scales, 1, min(side, max(long // 4, seen)))
    number = 8 if kind.photographs else 2 if size**2 >= MUCH * short * long else 4
    return _Looks(size, scales, number, side)


def _length(kind: _Kind, looks: _Looks, found: Survey, best: bool) -> tuple[int, int, str]:
    """Epochs, images a batch, and words on memory where that limits the batch."""
    shown = kind.photographs and looks.thumbnail <= SMALL_THUMBNAIL
    length = (SHORTER if shown else BEST_LENGTH) if best else (SEEN, EPOCHS, BATCHES)
    seen, (fewest, most), (least, largest) = length
    largest = SEVERAL_BATCH if best and kind.answers > 1 else largest
    # Each answer of several is found only after those before it.
    passes = round(kind.answers * seen / kind.training)
    epochs = int(np.clip(passes, fewest, kind.answers * most))
    wanted = int(np.clip(2 ** int(np.log2(max(1, kind.training / STEPS))), least, largest))
    fits, in_memory = wanted, found.listing.sizes[~np.array(found.large)]
    if len(in_memory):
        whole = math.prod(found.largest) * kind.channels
        stays = best and in_memory.prod(1).mean() >= LARGE_PICTURE  # only windows become floats
        fits = MEMORY // (whole if stays else whole * (looks.scales + 2) * 4)
    # Half of them at most: some may turn out to be damaged once they are decoded.
    batch = max(1, min(wanted, fits, kind.training // 2))
    return epochs, batch, ", as many at once as fit 2 GiB" if batch == fits < wanted else ""


def small_map(side: int) -> ConvContextSettings:
    """The context of the recipe, with fewer convolutions where a cell would see more than all."""
    layers = range(1, ConvContextSettings.context_layers + 1)
    contexts = [ConvContextSettings(context_layers=n, thumbnail_size=SMALL) for n in layers]
    return [c for c in contexts if c.receptive_field <= side][-1]


def _with_context(
    run: FolderRun, kind: _Kind, side: int, *, shifted: bool
) -> tuple[FolderRun, list[Reason]]:
    """The recipe best with a thumbnail of ``side``, of images that may be shifted, and why.

    On a plain ground everything might have been pasted.
    """
    large, photographs = side > SMALL, kind.photographs
    flips: Any = "horizontal" if photographs else "none"
    augmentation = AugmentationConfig(shift=SHIFT if shifted else 0.0, flips=flips)
    context = ConvContextSettings(
        thumbnail_size=side,
        map_stride=4 if large else 1,
        context_layers=5 if large else small_map(side).context_layers,
        thumbnail_gain=1.0,
        map_strength=0.0 if photographs or not large else STRENGTH,
        map_pasted=PASTED if photographs else 0.0,
    )
    filters = ConvGlimpseSettings(glimpse_filters=24)
    run = run.altered(
        task={"augmentation": augmentation},
        model={
            "context_settings": context,
            "glimpse_settings": filters,
            "policy_settings": MapSettings(apart=APART if photographs else 0.0),
        },
        # The answer to the thumbnail alone is what first tells the map where something is. As long
        # as no look tells more than another, advantages divided by their deviation would be noise.
        objective={"context_weight": 1.0, "standardize_advantages": False},
        training={"keep": "best"},
    )
    reasons = _of_context(side, 100 * side**2 / kind.long**2, augmentation)
    return _of_several(run, kind.answers) if kind.answers > 1 else run, reasons


def _of_several(run: FolderRun, answers: int) -> FolderRun:
    """The recipe best where an image has several answers, as for the tasks of several digits.

    No thing is looked at twice; of few cells fewer are closed, or the next thing would be too. A
    few thousand thumbnails are soon known by heart, and then no look adds anything to the answer:
    the thumbnail of every other image says where to look and no more, and each look is credited
    with what it tells alone. Every answer is learned from, also after a wrong one
    (docs/sequence.md).
    """
    context: Any = run.model.context_settings
    cells = context.thumbnail_size // context.map_stride
    return run.altered(
        model={
            "policy_settings": MapSettings(apart=min(2.0, 0.4 * cells / answers), moves=0.0),
            "context_settings": dataclasses.replace(context, map_strength=0.0, map_only=0.5),
        },
        objective={
            "context_weight": 0.0,
            "standardize_advantages": True,
            "look_reward": "alone",
            "cut_after_error": False,
        },
    )


def _of_context(side: int, share: float, augmentation: AugmentationConfig) -> list[Reason]:
    averaged = f", averaged down to {share:.1f} % of its pixels," if share < 100 else ""
    words = f"--thumbnail-size {side}: the whole{averaged} says where to look"
    reasons = [Reason(("--thumbnail-size",), words)]
    if augmentation.flips != "none":
        flags, done = "--flips horizontal", "half of the photographs are mirrored"
        if augmentation.shift:
            flags = f"--shift {SHIFT} {flags}"
            done = "photographs are shifted and half of them mirrored"
        said = f"{flags}: {done}, each time anew; --flips none where left and right differ"
        reasons.append(Reason(("--shift", "--flips"), said))
    elif augmentation.shift:
        said = f"--shift {SHIFT}: images are shifted, each time anew; --shift 0 where places matter"
        reasons.append(Reason(("--shift",), said))
    return reasons


def _range(sizes: NDArray[np.int64]) -> str:
    low, high = (f"{height} x {width}" for height, width in (sizes.min(0), sizes.max(0)))
    return f"{low if low == high else f'{low} to {high}'} pixels (height x width)"


def _by_windows(large: list[bool]) -> str:
    which = "all" if all(large) else f"{sum(large):,} of them"
    words = f"; {which} read where the model looks, never whole, and not shifted"
    return words if any(large) else ""
