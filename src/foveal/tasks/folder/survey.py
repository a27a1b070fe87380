"""What is known of one's own images before one is decoded."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foveal.tasks.folder.listing import Listing, list_images
from foveal.tasks.folder.pictures import probe

Count = Callable[[int, int], None]  # how many of how many are done


@dataclass(frozen=True)
class Survey:
    """What the headers of the image files say."""

    listing: Listing  # the files that seem sound, with sizes; what is wrong with the others
    grey: bool  # whether none is in colour
    large: list[bool]  # of each file, whether it is read by windows
    classes: tuple[str, ...] = ()  # those of all files, sound or not

    @property
    def largest(self) -> tuple[int, int]:
        """The most rows and columns of any file that is read whole; zeros if none is."""
        sizes = self.listing.sizes[~np.array(self.large)]
        height, width = sizes.max(0).tolist() if len(sizes) else (0, 0)
        return height, width


def survey(data: str, on_progress: Count | None = None, separator: str = "") -> Survey:
    """Find the images of a data set and read their headers.

    Raises `OSError` or `ValueError` as `list_images`; also if no file is sound.
    """
    if not data:
        raise ValueError(
            "which images? Pass --data with a directory that has a subfolder a class, or with a "
            "manifest, as in: foveal train folder --data photos"
        )
    listing = list_images(Path(data).expanduser(), separator)
    good, problems, grey, large = [], [], True, []
    for index, entry in enumerate(listing.entries):
        try:
            header = probe(listing.path(entry))
        except (OSError, ValueError) as problem:
            problems.append(str(problem))
        else:
            good.append(replace(entry, size=header.size))
            grey &= header.grey
            large.append(header.large)
        if on_progress:
            on_progress(index + 1, len(listing.entries))
    if not good:
        raise ValueError(f"{data} holds no readable image; the first: {problems[0]}")
    sound = replace(listing, entries=good, problems=[*listing.problems, *problems])
    return Survey(sound, grey, large, listing.classes)
