"""Runs on one's own images."""

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from foveal.model.whole_image import REFERENCE_NETWORKS
from foveal.runs.classifier import ClassifierRun
from foveal.runs.run import Completed
from foveal.tasks import FolderConfig, FolderTask
from foveal.tasks.folder.listing import Listing
from foveal.tasks.folder.splits import SPLIT_FILE, read_split
from foveal.tasks.folder.survey import Count, Survey

MEMORY = 2**31  # bytes that the images of a batch may take, with the box sums made of them


@dataclass(frozen=True)
class FolderRun(ClassifierRun):
    """Everything that decides what a run on one's own images computes."""

    kind = "folder"

    task: FolderConfig = field(default_factory=FolderConfig)

    def completed(self, found: Survey | None, count: Count, device: torch.device, /) -> Completed:
        """See `Run`: the images are read once, and the configuration is fitted to them.

        Raises `ValueError` too if the network sees whole images, and one is never read whole.
        """
        assert found is not None
        if self.network in REFERENCE_NETWORKS and any(found.large):
            path = found.listing.path(found.listing.entries[found.large.index(True)])
            raise ValueError(
                f"a {self.network} network reads all of an image, and {path} is read only where it "
                "is looked at. Pass --network ram, or scale the images down."
            )
        if self.task.separator and found.listing.max_answers == 1:
            raise ValueError(
                f"no label of {self.task.data} has the separator {self.task.separator!r}. Pass the "
                "one that is between its classes, or leave --separator out."
            )
        self._say_memory(found)
        # Absolute, so that the run can be gone on with from anywhere. The images of a manifest lie
        # beside its name, wherever a link by that name leads.
        named = Path(self.task.data).expanduser()
        data = str(named.resolve() if named.is_dir() else named.parent.resolve() / named.name)
        config = replace(self.task, data=data)
        task = FolderTask.examine(config, found, device, count)
        known = {
            "num_channels": task.num_channels,
            "num_classes": len(task.classes),
            "max_answers": task.max_answers,
            "with_end": task.with_end,
            "pixel_mean": self.model.pixel_mean or task.pixel_mean,
            "pixel_std": self.model.pixel_std or task.pixel_std,
        }
        return self.altered(task=config, model=known), task

    def _say_memory(self, found: Survey) -> None:
        """Warn where the images of a batch become floats, whole, and take more than `MEMORY`."""
        sees_all, (height, width) = self.network in REFERENCE_NETWORKS, found.largest
        if self.task.augmentation.cuts_alone and not sees_all:
            return
        copies = 1 if sees_all else self.model.num_scales + 2
        each = max(1, 4 * height * width * (1 if found.grey else 3) * copies)
        batch = self.training.batch_size
        if batch * each > MEMORY:
            why = "a network that sees all" if sees_all else "--rotation, --rescale and --warp"
            warnings.warn(
                f"{batch} images of up to {height:,} x {width:,} pixels at once take about "
                f"{batch * each / 2**30:.1f} GiB, as {why} turn them to floats. Pass --batch-size "
                f"{max(1, MEMORY // each)} for less.",
                stacklevel=2,
            )

    def open(self, directory: Path, device: torch.device, /, **changes: Any) -> FolderTask:
        """See `Run`; split as the directory says. `ValueError` for changes but ``strict``."""
        config = replace(self.task, strict=changes.pop("strict", self.task.strict))
        if changes:
            flags = " and ".join(f"--{name.replace('_', '-')}" for name in changes)
            raise ValueError(f"{flags} is for canvases; for your own images pass --data.")
        return FolderTask.restore(config, directory, self.model.num_channels, device)

    def trained_on(self, directory: Path) -> Listing:
        """See `Run`."""
        kept = directory / SPLIT_FILE
        return read_split(kept, self.task.data, self.task.separator).of("train")
