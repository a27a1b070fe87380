"""Named configurations: what is trained on which task, and how.

``paper`` is the published optimizer, reward and schedule; ``fast`` the best that we found on
the validation split (docs/reproducing.md says what was tried). Both train the published network.
``best`` trains another, which first takes a coarse look at the whole (docs/beyond.md).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from foveal.model.config import RAMConfig
from foveal.model.context import ConvContextSettings
from foveal.model.glimpse import ConvGlimpseSettings
from foveal.model.map_policy import MapSettings
from foveal.names import choose
from foveal.runs.agent_recipes import AGENT_TASKS
from foveal.runs.classifier import CanvasRun
from foveal.runs.haystacks import HaystackRun
from foveal.tasks import HAYSTACKS, TASKS, HaystackConfig, TaskConfig
from foveal.tasks.augmentation import AS_THEY_ARE, AugmentationConfig
from foveal.tasks.canvases.several import classes_of
from foveal.training.classifier import TrainConfig
from foveal.training.objective import ObjectiveConfig

# Glimpse size, scales and glimpses of each task (Mnih et al. 2014, §4.1 and tables 1 to 3).
RETINAS = {
    "mnist-28": RAMConfig(glimpse_size=8, num_scales=1, num_glimpses=7),
    "translated-60": RAMConfig(glimpse_size=12, num_scales=3, num_glimpses=8),
    "cluttered-60": RAMConfig(glimpse_size=12, num_scales=3, num_glimpses=8),
    "cluttered-100": RAMConfig(glimpse_size=12, num_scales=4, num_glimpses=8),
    # 4 looks of 144 samples (Cheung et al. 2016, table 2).
    "cheung-1": RAMConfig(glimpse_size=12, num_scales=4, num_glimpses=4, zoom=True),
    "cheung-2": RAMConfig(glimpse_size=12, num_scales=4, num_glimpses=4, zoom=True),
    # 4 looks at two digits (Ba et al. 2015), 2 looks for each of three, 1 for each of up to five.
    "pairs": RAMConfig(glimpse_size=12, num_scales=4, num_glimpses=4, num_classes=55),
    "addition": RAMConfig(glimpse_size=12, num_scales=4, num_glimpses=4, num_classes=19),
    "row-3": RAMConfig(glimpse_size=12, num_scales=4, num_glimpses=2, max_answers=3),
    "digits-5": RAMConfig(
        glimpse_size=12,
        num_scales=4,
        num_glimpses=1,
        max_answers=5,
        with_end=True,
        num_classes=11,
    ),
    # A look at each digit of a trail.
    "trail": RAMConfig(glimpse_size=12, num_scales=4, num_glimpses=1, max_answers=5),
}

# Of the recipe best, for an image: looks, and filters of the first convolution. Where four looks
# fall on one digit, two of half again as many filters tell more, for as much time; it is not tried
# yet where (4, 32) stands. Of Cheung's four looks the first is the thumbnail.
LOOKS = {
    **dict.fromkeys(("translated-60", "cluttered-60"), (2, 48)),
    **dict.fromkeys(("cheung-1", "cheung-2"), (3, 48)),
    "pairs": (4, 48),
    "addition": (2, 48),
    "row-3": (2, 48),
}

FAST_OBJECTIVE = ObjectiveConfig(
    reward="log_likelihood", privileged_baseline=True, credit_decay=0.9, standardize_advantages=True
)


def _paper(task: str) -> CanvasRun:
    """§4.1: SGD with momentum 0.9, minibatches of 20, a rate falling linearly to 0, reward 0 or 1.

    The paper picked the rate and the location's standard deviation by random search and states
    neither.
    """
    return CanvasRun(
        task=TASKS[task],
        model=dataclasses.replace(RETINAS[task], location_std=0.11),
        objective=ObjectiveConfig(reward="correct"),
        training=TrainConfig(epochs=200, batch_size=20, optimizer="sgd", lr=0.01, momentum=0.9),
    )


# Without clutter a network knows the training digits by heart within 200 passes
# (docs/reproducing.md): there they are turned, rescaled and warped anew each time.
TURNED = AugmentationConfig(rotation=10.0, rescale=0.1, warp=0.02)


def _task(task: str) -> TaskConfig:
    plain = TASKS[task]
    return plain if plain.num_clutter else dataclasses.replace(plain, augmentation=TURNED)


FAST_TRAINING = TrainConfig(
    epochs=200,
    batch_size=512,
    optimizer="muon",
    lr=3e-3,
    weight_decay=0.02,
    final_location_std=0.05,
    gradient_clip=5.0,
    precision="auto",
    validate_every=4,
)


def _fast(task: str) -> CanvasRun:
    """Muon, log-likelihood as the reward, a privileged baseline, exploration that narrows.

    For several scales also an LSTM core, a gain on the coarse ones, and a gaze shaped twice over:
    REINFORCE reaches the core too, the answer's own gradient, bounded, moves the gaze through the
    sensor (`GlimpseSensor.slopes`), and each glimpse should be recognizable alone
    (`foveal.training.objective.cross_entropy`). docs/reproducing.md has what each of these is
    worth.
    """
    fine = CanvasRun(
        task=_task(task),
        model=dataclasses.replace(RETINAS[task], location_std=0.15),
        objective=FAST_OBJECTIVE,
        training=FAST_TRAINING,
    )
    if RETINAS[task].num_scales == 1:
        return fine
    return fine.altered(
        model={
            "core": "lstm",
            "scale_gain": 3.0,
            "location_std": 0.1,
            "detach_policy": False,
            "location_gradient": 1.0,
        },
        objective={"reinforce_weight": 0.1, "glimpse_weight": 0.5},
        training={
            "epochs": 400 if TASKS[task].num_clutter else 200,
            "lr": 1.5e-3,
            "final_location_std": 0.03,
        },
    )


def _best(task: str) -> CanvasRun:
    """Beyond the paper: a coarse look at the whole, and two or four where a map says.

    The thumbnail has at most 1/16 of the pixels (of mnist-28, as many as its map needs). Each look
    is credited with what it adds, and the answer after each is trained. docs/beyond.md has what
    each of these is worth. Of 4 looks of 144 samples the thumbnail is the first, and each of the
    others is at the scale that the policy chooses.
    """
    canvas, retina = TASKS[task].canvas_size, RETINAS[task]
    sees = ConvContextSettings().receptive_field
    context = ConvContextSettings(thumbnail_size=max(canvas // 4, sees))
    looks, filters = LOOKS.get(task, (4, 32))
    best = CanvasRun(
        task=_task(task),
        model=RAMConfig(
            glimpse_size=12 if task == "mnist-28" else 24,
            num_glimpses=looks if retina.max_answers == 1 else retina.num_glimpses,
            max_answers=retina.max_answers,
            with_end=retina.with_end,
            num_classes=retina.num_classes,
            glimpse_network="conv",
            glimpse_settings=ConvGlimpseSettings(glimpse_filters=filters),
            glimpse_features=192,
            core="lstm",
            core_size=192,
            policy="map",
            context="conv",
            context_settings=context,
            location_std=0.08,
            detach_policy=False,
        ),
        objective=dataclasses.replace(
            FAST_OBJECTIVE,
            reinforce_weight=0.1,
            glimpse_weight=0.5,
            step_weight=0.25,
            look_weight=1.0,
            look_reward="gain",
        ),
        training=dataclasses.replace(
            FAST_TRAINING,
            optimizer="muon-conv",
            epochs={1: 30, 2: 32}.get(TASKS[task].num_digits[1], 24),
            batch_size=256,
            final_location_std=0.03,
            validate_every=2,
        ),
    )
    if best.task.arrangement == "trail":
        return _follower(best)
    if best.task.num_digits[1] > 1 and best.task.arrangement != "row":
        # One digit alone says little of a sum, and the thumbnail most of what is told of digits
        # apart: a gaze that began anywhere had nothing to learn from, and left the digits. It
        # begins with what is lit, and looks at no place twice. Digits on one another are most of
        # what is wrong of two: more of the training canvases have them.
        sums = best.task.answer == "sum"
        narrow: Any = {"map_features": 16} if sums else {}
        return best.altered(
            task={"overlapping": 0.3 if best.task.arrangement == "anywhere" else 0.0},
            model={
                "policy_settings": MapSettings(apart=2.0, moves=0.0),
                "context_settings": dataclasses.replace(context, map_light=30.0, **narrow),
            },
            training={"epochs": 64} if sums else {},
        )
    if not retina.zoom:
        return best
    model = dataclasses.replace(
        best.model,
        glimpse_size=retina.glimpse_size,
        num_scales=retina.num_scales,
        zoom=True,
        context_settings=ConvContextSettings(thumbnail_size=retina.glimpse_size),
    )
    return dataclasses.replace(best, model=model)


def _follower(best: CanvasRun) -> CanvasRun:
    """The recipe best for trails: a cell of the map is a site, too coarse to tell what lies there.

    It begins with the brightest, the marked one. A look is said from where the last one was
    (`MapSettings.steps`). Many training canvases have few digits, down to the first two: where
    nearly all looks fall on another digit than the label's, what they show is not learned. An
    answer earns 0 or 1, and looks are at the middles of cells: while a digit is mostly not the
    label's, log p(label) is higher of a look at nothing, and there the gaze would stay. Two dozen
    digits a canvas cost more to turn and warp than all else, and 8 passes do not need it.
    """
    context = ConvContextSettings(
        thumbnail_size=2 * best.task.sites, map_stride=2, context_layers=2, map_light=30.0
    )
    settings = MapSettings(apart=0.5, steps=True, moves=0.0)
    return best.altered(
        task={"fewest_digits": 2, "augmentation": AS_THEY_ARE},
        model={
            "glimpse_size": 32,
            "location_std": 0.05,
            "policy_settings": settings,
            "context_settings": context,
        },
        objective={"reward": "correct", "reinforce_weight": 1.0, "look_weight": 0.0},
        training={"final_location_std": 0.02, "epochs": 8},
    )


def answering(run: CanvasRun, task: TaskConfig) -> CanvasRun:
    """A recipe for another question about its canvases, with as many looks in all."""
    kinds = [(asked.answer, asked.max_answers, asked.with_end) for asked in (run.task, task)]
    if kinds[0] == kinds[1]:
        return run
    looks = max(1, run.model.num_glimpses * run.model.max_answers // task.max_answers)
    model: Any = {
        "num_glimpses": looks,
        "max_answers": task.max_answers,
        "with_end": task.with_end,
        "num_classes": len(classes_of(task.answer, tuple(map(str, range(10))), task.with_end)),
    }
    return run.altered(model=model)


# Of the networks that see the whole image. Adam took the fully connected ones to the paper's
# figures, but not the convolutional ones.
_FULLY_CONNECTED = TrainConfig(epochs=300, batch_size=128, lr=1e-3, validate_every=4)
_CONVOLUTIONAL = dataclasses.replace(
    _FULLY_CONNECTED, optimizer="muon", batch_size=512, lr=3e-3, weight_decay=0.1
)


def reference_training(network: str) -> TrainConfig:
    """How one of `REFERENCE_NETWORKS` is trained in the rows of the paper's tables."""
    return _FULLY_CONNECTED if network.startswith("fc-") else _CONVOLUTIONAL


def demo_run() -> CanvasRun:
    """Two minutes on two cores: the paper's cluttered canvas, with scikit-learn's digits."""
    return _fast("cluttered-60").altered(
        task={"digits": "uci"},
        model={"num_glimpses": 5},
        training={"epochs": 280, "batch_size": 256, "lr": 4e-3, "validate_every": 20},
    )


RECIPES: dict[str, Callable[[str], CanvasRun]] = {"paper": _paper, "fast": _fast, "best": _best}
HAYSTACK_RECIPE = "best"  # the only one for what is hidden on a large canvas

LARGE_THUMBNAIL = 512  # pixels a side; of larger ones 32 at once take many gigabytes
MOVED = AugmentationConfig(rotation=10.0, rescale=0.1)  # of each look
# Where a digit has to be told from others that overlap it.
BENT = AugmentationConfig(rotation=15.0, rescale=0.15, warp=0.02)


def haystack(task: HaystackConfig) -> HaystackRun:
    """The recipe best for digits hidden on a large canvas.

    The map begins with what is lit; no place is looked at twice, and what looks tell adds up. Noise
    can be told from digits on a thumbnail with a 64th of the pixels. Digits among digits cannot:
    there it has a quarter, and says where to look and no more, since the answers of 11,276
    thumbnails are soon known by heart (docs/haystacks.md).
    """
    side, seeks = task.canvas_size, task.question == "needle"
    # Which of five digits is the topmost is told by their places, and one outweighs all others.
    one = task.question == "top"
    context = ConvContextSettings(
        thumbnail_size=-(-side // (2 if seeks else 8)),
        map_stride=4 if seeks else 2,
        map_features=32 if seeks else 16,
        context_layers=4 if seeks else 3,
        map_light=30.0 if seeks else 60.0,
        map_only=float(seeks),
    )
    base = _best("cluttered-60")
    return HaystackRun(
        task=dataclasses.replace(task, augmentation=BENT if seeks or one else MOVED),
        model=dataclasses.replace(
            base.model,
            glimpse_size=32 if seeks else 44,
            glimpse_gain=1.0 if seeks else 4.0,
            num_glimpses=8 if seeks else 16,
            glimpse_settings=ConvGlimpseSettings(glimpse_filters=32 if seeks else 16),
            glimpse_features=128,
            num_classes=2 if seeks else 10,
            core="attention" if one else "sum",
            location_std=(16 if seeks else 8) / side,
            # The sum of what was seen says nothing of where more is: a query that asks it learns
            # noise, and the looks leave what is lit.
            policy_settings=MapSettings(apart=2.0, moves=float(seeks), one_shot=True),
            context_settings=context,
        ),
        # What all looks earn together is noise to each: the map learns by what one shows alone. As
        # long as none tells more than another, advantages divided by their deviation would be
        # noise too, and the map would forget what is lit. No place shows that there is no needle.
        objective=dataclasses.replace(
            base.objective,
            look_reward="found" if seeks else "alone",
            reinforce_weight=0.0,
            standardize_advantages=False,
        ),
        training=dataclasses.replace(
            base.training,
            lr=2e-3,
            epochs=24,
            batch_size=32 if context.thumbnail_size <= LARGE_THUMBNAIL else 8,
            final_location_std=(8 if seeks else 3) / side,
            validate_every=1,
        ),
    )


def usual_recipe(task: str) -> str:
    """The name of the recipe where none is named.

    "fast" is for the paper's tasks and for games: digits hidden on a canvas, several digits and
    one's own images are found by a coarse look at the whole first.
    """
    one_digit = task in TASKS and TASKS[task].num_digits[1] == 1
    return "fast" if one_digit or task in AGENT_TASKS else "best"


def recipe(task: str, name: str) -> CanvasRun | HaystackRun:
    """The configuration of a recipe for a task of images; `ValueError` if there is none such."""
    if task in HAYSTACKS:
        choose(name, (HAYSTACK_RECIPE,), "recipe")
        return haystack(HAYSTACKS[task])
    return RECIPES[choose(name, RECIPES, "recipe")](choose(task, (*TASKS, *HAYSTACKS), "task"))
