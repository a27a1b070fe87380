"""A rollout as ordered fixations: where a model looked, what it saw, what it then believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal import geometry
from foveal.evaluation.classifier import judging
from foveal.evaluation.stopping import Rule, looks_taken
from foveal.model.attention import RecurrentAttention
from foveal.model.drawn import viewable
from foveal.model.rollout import Rollout
from foveal.names import IGNORED, joined
from foveal.scene import PatchSource, Scene, scene_of

Label = int | tuple[int, ...]  # a class, or those of a sequence without its end
OVERVIEW = 1024  # pixels a side, at most, of the picture of a source


@dataclass(frozen=True)
class Scanpath:
    """What a model looked at in one image, in order."""

    image: NDArray[np.float32]  # (H, W) or (H, W, 3) float in [0, 1]; a smaller copy will do
    image_size: tuple[int, int]  # (height, width) of what was looked at, in pixels
    centers: NDArray[np.int64]  # (T, 2) int, (x, y) pixels of the fixations, the first included
    patch_sizes: tuple[int, ...]  # pixels a side of each scale's square, finest first
    glimpses: NDArray[np.float32]  # (T, S, G, G[, 3]), as seen; NaN at a scale not read
    probabilities: NDArray[np.float32]  # (T, K), its belief after each look
    classes: tuple[str, ...]  # K names
    label: Label | None = None  # the right class, or None if it is not known
    name: str = ""  # of the image, for people
    cells: NDArray[np.float32] | None = None  # (h, w), chance of each cell of a map at first
    cells_size: tuple[float, float] = (0, 0)  # (height, width) of that map in the image's pixels
    looks_an_answer: int = 0  # of a sequence, N; 0 where all looks are for one answer
    end: int | None = None  # the class that closes a sequence

    @property
    def num_looks(self) -> int:
        """T, the number of looks."""
        return len(self.centers)

    @property
    def answer(self) -> int:
        """The class believed in after the last look."""
        return int(self.probabilities[-1].argmax())

    @property
    def answers(self) -> tuple[int, ...]:
        """The classes of a sequence, without its end; or the one answer."""
        each = self.looks_an_answer or self.num_looks
        told = self.probabilities[each - 1 :: each].argmax(1).tolist()
        return tuple(answer for answer in told if answer != self.end)

    @property
    def right(self) -> bool | None:
        """Whether all answers are right; None where that is not known."""
        return None if self.label is None else self.answers == _several(self.label)

    def names(self, labels: Label) -> str:
        """The names of a class, or of a sequence of them."""
        return joined((self.classes[label] for label in _several(labels)), self.classes)

    def answer_at(self, look: int) -> int:
        """Which answer, from 0, a look is for."""
        return look // self.looks_an_answer if self.looks_an_answer else 0

    def wanted(self, look: int) -> int | None:
        """The right class of the answer that a look is for; None where it is not known."""
        labels, answer = _several(self.label), self.answer_at(look)
        return labels[answer] if answer < len(labels) else self.end if labels else None

    def known(self, look: int) -> int:
        """The right class at a look, or else the one that is answered."""
        label = self.wanted(look)
        if label is not None:
            return label
        last = (self.answer_at(look) + 1) * self.looks_an_answer or self.num_looks
        return int(self.probabilities[min(last, self.num_looks) - 1].argmax())

    def square(self, look: int, scale: int) -> tuple[int, int, int]:
        """Left and top edge of what a glimpse's scale covers, and its side, in pixels."""
        size = self.patch_sizes[scale]
        x, y = (geometry.patch_start(int(center), size) for center in self.centers[look])
        return x, y, size

    def scales(self, look: int) -> list[int]:
        """The scales that a look read, finest first."""
        read = ~np.isnan(self.glimpses[look]).reshape(len(self.patch_sizes), -1)
        return np.flatnonzero(read.all(1)).tolist()

    @property
    def sizes(self) -> list[int]:
        """Pixels a side of the widest square that each look read."""
        return [self.patch_sizes[self.scales(look)[-1]] for look in range(self.num_looks)]

    @property
    def chance(self) -> float:
        """The belief in the answer; of a sequence in all of it, its end included."""
        each = self.looks_an_answer or self.num_looks
        return float(self.probabilities[each - 1 :: each].max(1).prod())

    def verdict(self) -> str:
        """The answer in words, and whether it is right."""
        said = f"answer {self.names(self.answers) or 'nothing'}, probability {self.chance:.2f}"
        if self.label is None:
            return said
        right = "right" if self.right else f"wrong: it is {self.names(self.label) or 'nothing'}"
        return f"{said}, {right}"


def _several(label: Label | None) -> tuple[int, ...]:
    return () if label is None else (label,) if isinstance(label, int) else label


def label_of(labels: Tensor, end: int | None) -> Label:
    """What `Scanpath.label` is, of one image's label or labels, as a task gives them."""
    if not labels.ndim:
        return int(labels)
    return tuple(label for label in labels.tolist() if label not in (IGNORED, end))


def follow(
    model: RecurrentAttention,
    image: Scene | Tensor | PatchSource,
    *,
    classes: tuple[str, ...],
    label: Label | None = None,
    name: str = "",
    num_glimpses: int | None = None,
    first_location: Tensor | None = None,
    sampled: bool = False,
    location_std: float | None = None,
    generator: torch.Generator | None = None,
    rule: Rule | None = None,
) -> Scanpath:
    """Let a model look at one image.

    Args:
        model: in any mode, and left in it.
        image: ``(C, H, W)`` float in [0, 1], on the model's device; or a source; or a scene of one.
        classes: names of the model's classes.
        label: the right class, if it is known.
        name: of the image, for people.
        num_glimpses: the model's own if None.
        first_location: ``(2,)`` in [-1, 1]; the policy's if None.
        sampled: locations are drawn from the policy, as in training, instead of its mean.
        location_std: of the samples; the configuration's if None.
        generator: of the first location and the samples, on the image's device.
        rule: when it stops looking; it does not if None.
    """
    scene = scene_of(image)
    with judging(model, sampled=sampled):
        rollout = model(
            scene,
            num_glimpses=num_glimpses,
            first_location=None if first_location is None else first_location[None],
            location_std=location_std,
            generator=generator,
        )
    about: dict[str, Any] = {"classes": classes, "label": label, "name": name, "rule": rule}
    return scanpath_of(model, scene, rollout, 0, **about)


def scanpath_of(
    model: RecurrentAttention,
    scene: Scene,
    rollout: Rollout,
    row: int,
    *,
    classes: tuple[str, ...],
    label: Label | None = None,
    name: str = "",
    rule: Rule | None = None,
) -> Scanpath:
    """The scanpath of the image in one row of a rollout of the scene; see `follow`."""
    with torch.inference_mode():
        looks, end = rollout.step_logits.shape[1], model.config.end
        told = rollout.answers[row].tolist()
        if end in told:  # nothing is said behind it
            looks = (told.index(end) + 1) * rollout.looks_an_answer
        if rule is not None:
            looks = int(looks_taken(rollout, rule)[row])
        places = rollout.locations[row, :looks]
        glimpses = model.sensor(scene.only(row, len(places)), places)
        if model.config.zoom:  # the others were not read
            shape = (len(places), len(model.sensor.box_sizes), *glimpses.shape[2:])
            chosen = model.sensor.chosen(places)
            glimpses = glimpses.new_full(shape, torch.nan).index_put(
                (torch.arange(len(places), device=places.device), chosen), glimpses[:, 0]
            )
        beliefs = rollout.step_logits[row, :looks].float().softmax(-1)
        height, width = scene.sizes[row].tolist()
        cells, cells_size = None, (0.0, 0.0)
        if model.reads_map and rollout.hidden.shape[1]:
            feature_map = model.maps(rollout.state)[0][row : row + 1]
            hidden = rollout.hidden[row : row + 1, :1]
            weights = model.location_policy.cell_weights(hidden, feature_map)
            cells = None if weights is None else weights[0, 0].float().cpu().numpy()
            # The first cell begins with the image, at -1, and its middle is half of it away.
            x, y = feature_map[0, :2, 0, 0].tolist()
            down, across = feature_map.shape[-2:]
            cells_size = (down * (y + 1) * height, across * (x + 1) * width)
    return Scanpath(
        image=viewable(overview(scene, row)),
        image_size=(height, width),
        centers=geometry.to_pixels(places, height, width).cpu().numpy(),
        patch_sizes=model.sensor.patch_sizes,
        glimpses=viewable(glimpses),
        probabilities=beliefs.cpu().numpy(),
        classes=classes,
        label=label,
        name=name,
        cells=cells,
        cells_size=cells_size,
        looks_an_answer=rollout.looks_an_answer if rollout.num_answers > 1 else 0,
        end=end,
    )


def overview(scene: Scene, row: int = 0) -> Tensor:
    """The whole of an image, averaged down to at most 1,024 pixels a side; ``(C, H, W)``."""
    height, width = scene.sizes[row].tolist()
    box = geometry.thumbnail_box(height, width, OVERVIEW)
    down, across = -(-height // box), -(-width // box)
    thumbnail = scene.only(row).thumbnail(max(down, across))
    return thumbnail[0, :, :down, :across]


def reconstruct(path: Scanpath, looks: int | None = None) -> NDArray[np.float32]:
    """The foveated image: all that the model has seen of it after some looks, and no more.

    Each pixel has the finest resolution at which it was seen; of looks of equal resolution, that of
    the latest. Of all looks, or the first so many; of the shape of ``path.image``, and NaN where
    nothing was seen.
    """
    height, width = path.image.shape[:2]
    seen = np.full_like(path.image, np.nan)
    # Where the middle of each pixel lies in the image that was looked at.
    rows = (np.arange(height) + 0.5) * (path.image_size[0] / height)
    columns = (np.arange(width) + 0.5) * (path.image_size[1] / width)
    side = path.glimpses.shape[2]
    for scale in reversed(range(len(path.patch_sizes))):
        for look in range(path.num_looks if looks is None else looks):
            if scale not in path.scales(look):
                continue
            left, top, size = path.square(look, scale)
            x, y = (
                np.floor((places - start) * side / size).astype(int)
                for places, start in ((columns, left), (rows, top))
            )
            inside_x, inside_y = (x >= 0) & (x < side), (y >= 0) & (y < side)
            patch = path.glimpses[look, scale][np.ix_(y[inside_y], x[inside_x])]
            seen[np.ix_(inside_y, inside_x)] = patch
    return seen


def leading_classes(path: Scanpath, look: int, count: int) -> Sequence[int]:
    """The classes most believed in after a look, the most likely first."""
    order: list[int] = np.argsort(-path.probabilities[look], kind="stable")[:count].tolist()
    return order
