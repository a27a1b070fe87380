"""One's own images as a task: from a folder or a manifest, of any sizes, split once and for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal.names import IGNORED
from foveal.randomness import random_rows
from foveal.scene import Images
from foveal.scene.files import Source
from foveal.scene.memory import Budget, Kept, available
from foveal.scene.photographs import Photograph, PhotographScene
from foveal.scene.pictures import (
    Picture,
    as_batch,
    as_sources,
    close_sources,
    grouped,
    height_and_width,
    stay_bytes,
)
from foveal.scene.preparation import AS_IT_IS, Door
from foveal.scene.sources import GuardedSource, MirroredSource
from foveal.tasks.augmentation import AS_THEY_ARE, AugmentationConfig, augment, tinted
from foveal.tasks.folder.config import FolderConfig
from foveal.tasks.folder.decoding import Decoder, Large, PictureStore, with_sources
from foveal.tasks.folder.listing import Listing, class_name
from foveal.tasks.folder.moments import mean_and_std, sums_of
from foveal.tasks.folder.splits import SPLIT_FILE, read_split, split_images, write_split
from foveal.tasks.folder.survey import Count, Survey, survey
from foveal.tasks.task import SPLITS, Task

SHARE = 0.5  # of the memory that is available, for decoded images at most


class FolderTask(Task):
    """Batches of one's own images, on a device; images of different sizes are padded.

    A batch with a large file in it is one of sources, which are read where they are looked at. What
    of a source cannot be read is black, and its image counts as damaged (`foveal.scene.sources`).
    What is decoded stays in the host's memory.

    Args:
        listing: every image with its split and its size.
        config: how they are read.
        num_channels: 1 for grey, 3 for RGB.
        device: where the batches go.
        classes: names, by label; the listing's own if None. `ValueError` if an image is of another.
        answers: most labels of an image, and whether there is an end; likewise.
        store: with what is decoded already; empty if None.
        door: prepares the images of `fixed_batches`; nothing does if None.
    """

    def __init__(
        self,
        listing: Listing,
        config: FolderConfig,
        num_channels: int,
        device: torch.device | str = "cpu",
        *,
        classes: tuple[str, ...] | None = None,
        answers: tuple[int, bool] | None = None,
        store: PictureStore | None = None,
        door: Door | None = None,
    ) -> None:
        self.listing, self.config, self.num_channels = listing, config, num_channels
        self.device = torch.device(device)
        self.classes, self.ordered = classes or listing.classes, config.ordered
        self.problems: list[str] = listing.problems
        self._left_out: set[str] = set()  # the names of files that went bad since
        self._door = door
        prepare = AS_IT_IS if door is None else door.preparation
        sizes = {prepare.size(*size) for size in listing.sizes.tolist()}
        self.image_size = (max(high for high, _ in sizes), max(wide for _, wide in sizes))
        self.one_size = len(sizes) == 1
        self.pixel_mean: tuple[float, ...] = ()  # of each channel over the training split
        self.pixel_std: tuple[float, ...] = ()  # likewise
        self.max_answers, self.with_end = answers or (listing.max_answers, listing.with_end)
        self.labels = self._labels_of(listing)
        splits = [entry.split for entry in listing.entries]
        self._places = {
            name: torch.tensor([i for i, split in enumerate(splits) if split == name]).long()
            for name in SPLITS
        }
        self._store = store or _store_of(listing, config, num_channels)
        # By place, and whether it is mirrored down and across.
        self._thumbnails: dict[tuple[int, bool, bool], Kept] = {}
        self._budget = Budget()

    def _labels_of(self, listing: Listing) -> Tensor:
        """``(N,)``, or ``(N, A)`` of sequences; `ValueError` if the model has no answer such."""
        known = self.classes[:-1] if self.with_end else self.classes
        labels = {class_name(name): label for label, name in enumerate(known)}
        if divided := [name for name in known if listing.separator and listing.separator in name]:
            raise ValueError(
                f"--separator {listing.separator!r} is in the name of the class {divided[0]!r}. "
                "Choose another, or rename the class."
            )
        told = torch.full((len(listing.entries), self.max_answers), IGNORED)
        self.repeats = False
        for entry, row in zip(listing.entries, told, strict=True):
            names = listing.names(entry)
            self.repeats |= len(set(names)) < len(names)
            if strangers := [name for name in names if name not in labels]:
                advice = ""
                if self.max_answers > 1:
                    now = f"; it is {listing.separator!r} now" if listing.separator else ""
                    advice = f", or pass the --separator of the labels{now}"
                raise ValueError(
                    f"{listing.path(entry)} is of class {strangers[0]!r}, which the model "
                    f"does not know; it knows {', '.join(known)}. Rename the class, or leave "
                    f"it out{advice}."
                )
            short = len(names) < self.max_answers
            if len(names) > self.max_answers or (short and not self.with_end):
                most = f"{'at most ' * self.with_end}{self.max_answers}"
                raise ValueError(
                    f"{listing.path(entry)} has {len(names)} label(s), {entry.label!r}; the model "
                    f"gives {most}. Leave the image out, or choose another model."
                )
            row[: len(names)] = torch.tensor([labels[name] for name in names])
            if short:
                row[len(names)] = len(known)
        return told if self.max_answers > 1 else told[:, 0]

    @classmethod
    def examine(
        cls,
        config: FolderConfig,
        found: Survey,
        device: torch.device | str = "cpu",
        on_progress: Count | None = None,
    ) -> FolderTask:
        """Read every image once, leave out the damaged ones, split, and measure the pixels.

        Of a large file only what its mean and deviation are estimated from. Raises `OSError` or
        `ValueError` if the images make no task; with ``strict``, at the first bad file.
        """
        if config.strict and found.listing.problems:
            raise ValueError(f"{found.listing.problems[0]} (--strict)")
        if any(found.large) and not config.augmentation.cuts_alone:
            path = found.listing.path(found.listing.entries[found.large.index(True)])
            raise ValueError(
                f"{path} is read where it is looked at, never whole, and can be mirrored, but not "
                "turned, rescaled or warped. Leave --rotation, --rescale and --warp out, or scale "
                "the images down."
            )
        grey = found.grey if config.colour == "auto" else config.colour == "grey"
        channels = 1 if grey else 3
        store = _store_of(found.listing, config, channels)
        total = len(store.paths)
        sums, good, problems = [], [], []
        entries = list(found.listing.entries)
        for index, picture in enumerate(with_sources(store.stream(range(total)), channels)):
            try:
                if isinstance(picture, Exception):
                    raise picture
                sums.append(sums_of(picture))
            except (OSError, ValueError) as problem:
                if config.strict:
                    raise ValueError(f"{problem} (--strict)") from None
                problems.append(str(problem))
            else:
                good.append(index)
                entries[index] = replace(entries[index], size=height_and_width(picture))
                close_sources([picture])
            if on_progress:
                on_progress(index + 1, total)
        if not good:
            raise ValueError(f"{config.data} holds no readable image; the first: {problems[0]}")
        decoded = replace(
            found.listing,
            entries=[entries[index] for index in good],
            problems=[*found.listing.problems, *problems],
        )
        listing = split_images(decoded, config.held_out, config.split_seed, config.data)
        kept = {new: store.kept[old] for new, old in enumerate(good) if old in store.kept}
        store.paths, store.kept = [store.paths[index] for index in good], kept
        task = cls(listing, config, channels, device, store=store)
        training = task._places["train"].tolist()
        store.keep_first(training)
        chosen = [sums[place] for place in training]
        task.pixel_mean, task.pixel_std = mean_and_std(chosen)
        return task

    @classmethod
    def restore(
        cls,
        config: FolderConfig,
        directory: Path,
        num_channels: int,
        device: torch.device | str = "cpu",
    ) -> FolderTask:
        """The task of a run, with the splits that its directory keeps.

        Raises `OSError` or `ValueError` if they are missing or damaged, or the images are gone.
        """
        if not Path(config.data).exists():
            raise FileNotFoundError(
                f"the images of the run are missing: there is no {config.data!r}. "
                "Put them back, or a link to them; evaluate and look take others by --data."
            )
        listing = read_split(directory / SPLIT_FILE, config.data, config.separator)
        return cls(listing, config, num_channels, device)

    @classmethod
    def judge(
        cls,
        data: str,
        classes: tuple[str, ...],
        num_channels: int,
        device: torch.device | str = "cpu",
        *,
        answers: tuple[int, bool] = (1, False),
        ordered: bool = True,
        separator: str = "",
        door: Door | None = None,
        strict: bool = False,
        on_progress: Count | None = None,
        trained_on: Listing | None = None,
        say: Callable[[str], None] = print,
    ) -> FolderTask:
        """Other images for a trained model, in their own splits; all judge it if they have none.

        Images that it was ``trained_on`` are left out, and how many is said. Raises `OSError` or
        `ValueError` if none are left, all are for training, or one is of a class that the model
        does not know.
        """
        found = survey(data, on_progress, separator)
        listing = found.listing if trained_on is None else found.listing.without(trained_on)
        left_out = len(found.listing.entries) - len(listing.entries)
        if not listing.entries:
            raise ValueError(f"the model was trained on all images of {data}. Name others.")
        if left_out:
            say(f"{left_out:,} of the images are left out: the model was trained on them")
        if strict and found.listing.problems:
            raise ValueError(f"{found.listing.problems[0]} (--strict)")
        config = FolderConfig(data=data, separator=separator, any_order=not ordered, strict=strict)
        known: Any = {"classes": classes, "answers": answers, "door": door}
        task = cls(listing, config, num_channels, device, **known)
        places = task._places
        if not any(entry.split for entry in listing.entries):
            places["test"] = places["validation"] = torch.arange(len(task.labels))
        if not task.size("test") and not task.size("validation"):
            raise ValueError(
                f"{data} holds training images alone, which do not judge a model. Give some to a "
                "split called test or val, or name a directory without splits."
            )
        return task

    def save(self, directory: Path) -> None:
        """Write which image is in which split into a run directory, in one step."""
        write_split(self.listing, directory / SPLIT_FILE)

    @property
    def class_weights(self) -> Tensor | None:
        """``(K,)``: what an image of each class counts in training, 1 on average; None: all 1."""
        if self.config.class_weights == "none":
            return None
        labels = self.labels[self._places["train"]]
        counts = labels[labels != IGNORED].bincount(minlength=len(self.classes))
        return (counts.sum() / (len(self.classes) * counts)).to(self.device)

    @property
    def wanted_gb(self) -> float:
        """GiB that all training images take decoded, but for those that are read by windows."""
        kept, pixels = self._store.kept, self.listing.sizes.prod(1)
        whole = [i for i in self._places["train"].tolist() if not isinstance(kept.get(i), Large)]
        return float(pixels[whole].sum()) * self.num_channels / 2**30

    @property
    def cache_gb(self) -> float:
        """GiB for decoded images: what is asked for, or less, where memory has no room."""
        return self._store.size / 2**30

    @property
    def short_of_memory(self) -> bool:
        """Whether fewer decoded images are kept than `FolderConfig.cache_gb` says."""
        return self._store.gave_way

    def size(self, split: str) -> int:
        """Number of images in a split."""
        return len(self._places[split])

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Images, Tensor]:
        """The images ``indices`` of a split; those of the training split augmented.

        Float32 images in [0, 1], sources where one of the files is large, and ``(B,)`` int64
        labels (see `Task.batch`), on the task's device. A file that has become unreadable is left
        out and added to ``problems``. Raises `OSError` or `ValueError` if all have, or ``strict``.
        """
        found = list(self._readable(self._places[split][indices.cpu()].tolist()))
        if not found:
            raise ValueError(f"no image of a batch can be read. {self.problems[-1]}")
        change = self.config.augmentation if split == "train" else AS_THEY_ARE
        return self._shown(found, change, generator)

    def ahead(self, split: str, indices: Tensor) -> None:
        """See `Task.ahead`: workers decode what does not stay in memory."""
        self._store.ahead(self._places[split][indices.cpu()].tolist())

    def fixed_batches(self, split: str) -> Iterator[tuple[Images, Tensor]]:
        """A split's images in order, as `batch` returns them, without augmentation.

        Sources are open until the next batch is asked for. A file that cannot be read is left out
        and added to ``problems``, unless ``strict``.
        """
        places = self._places[split].tolist()
        for group in grouped(self._readable(places), lambda item: item[1]):
            yield self._shown(group)
            close_sources(picture for _, picture in group)

    def _shown(
        self,
        found: list[tuple[int, Picture]],
        change: AugmentationConfig = AS_THEY_ARE,
        generator: torch.Generator | None = None,
    ) -> tuple[Images, Tensor]:
        """The pictures at some places, changed, and their labels."""
        places, pictures = [place for place, _ in found], [picture for _, picture in found]
        labels = self.labels[places].to(self.device)
        images: Any
        by_windows = any(isinstance(picture, Source) for picture in pictures)
        if not by_windows and (self._door or not (change.cuts_alone and stay_bytes(pictures))):
            images = as_batch(pictures, self.device)
            return augment(images, change, generator), labels
        chances = torch.ones(len(places), 4)
        if change != AS_THEY_ARE:
            chances = random_rows(torch.rand, (len(places), 4), generator, self.device)
        if by_windows:
            # Not shifted, or a thumbnail would be made of the file each time.
            mirrors = [change.mirrors(chance[2:]) for chance in chances.tolist()]
            images = [
                GuardedSource(
                    MirroredSource(source, down=down, across=across),
                    partial(self._report, source.name),
                    {} if self._door else self._kept(place, down, across),
                )
                for place, source, (down, across) in zip(
                    places, as_sources(pictures), mirrors, strict=True
                )
            ]
        else:
            images = self._photographs(places, pictures, change, chances)
        return tinted(images, change, generator), labels

    def _photographs(
        self,
        places: list[int],
        pictures: Sequence[Any],
        change: AugmentationConfig,
        chances: Tensor,
    ) -> PhotographScene:
        """Pictures as bytes of which only windows are read."""
        photographs = []
        for place, picture, chance in zip(places, pictures, chances.tolist(), strict=True):
            view, mirrored, margins = change.cut(picture, chance)
            whole = view.shape == picture.shape  # and its thumbnail is worth keeping
            kept = self._kept(place, *mirrored) if whole else {}
            photographs.append(Photograph(view, kept, margins))
        return PhotographScene(photographs, self.device)

    def _kept(self, place: int, down: bool = False, across: bool = False) -> Kept:
        """The thumbnails of an image, as it is or mirrored, by their side."""
        return self._thumbnails.setdefault((place, down, across), Kept(self._budget))

    def _readable(self, places: list[int]) -> Iterator[tuple[int, Picture]]:
        pictures = with_sources(self._store.stream(places), self.num_channels)
        for place, picture in zip(places, pictures, strict=True):
            name = str(self._store.paths[place])
            try:
                if isinstance(picture, Exception):
                    raise picture
                yield place, self._door(picture, name) if self._door else picture
            except (OSError, ValueError) as problem:
                self._report(name, str(problem))

    def _report(self, name: str, problem: str) -> None:
        """Take note of a file that is left out, once, whatever else is wrong with it."""
        if self.config.strict:
            raise ValueError(f"{problem} (--strict)")
        if name not in self._left_out:
            self._left_out.add(name)
            self.problems.append(problem)
            self.on_problem(problem)


def _store_of(listing: Listing, config: FolderConfig, num_channels: int) -> PictureStore:
    paths = [listing.path(entry) for entry in listing.entries]
    decoder = Decoder(num_channels, config.workers)
    return PictureStore(paths, decoder, int(min(config.cache_gb * 2**30, SHARE * available())))
