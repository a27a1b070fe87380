"""How one's own images are read."""

from dataclasses import dataclass, field
from typing import Literal

from foveal.names import DECODERS, SEEDS, Range, check_fields
from foveal.tasks.augmentation import AugmentationConfig


@dataclass(frozen=True)
class FolderConfig:
    """One's own images: where they are and how they are read."""

    data: str = ""  # directory with a subfolder a class, or a manifest (.csv or .parquet)
    separator: str = ""  # between the classes of a manifest's labels, as " " in "3 1 4"
    any_order: bool = False  # labels are sets: answers are right in whatever order they come
    colour: Literal["auto", "grey", "rgb"] = "auto"  # auto: grey where every image is
    held_out: float = 0.15  # share for validation, and for test, where the data has no splits
    split_seed: int = 0  # of the images that are held out
    class_weights: Literal["none", "balanced"] = "none"  # balanced: rare classes weigh more
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    cache_gb: float = 1.5  # memory for decoded images; the rest is decoded again each time
    workers: int = -1  # processes that decode; -1 for one a core, at most 8
    strict: bool = False  # stop at the first bad file, rather than leave it out

    @property
    def ordered(self) -> bool:
        """Whether the answers have to be in the labels' order."""
        return not self.any_order

    def __post_init__(self) -> None:
        check_fields(
            self,
            held_out=Range(0, 0.5, above=True, below=True),
            split_seed=SEEDS,
            cache_gb=Range(0, 1e6),
            workers=DECODERS,
        )
