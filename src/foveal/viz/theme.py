"""The colours of all pictures: told apart in every common form of colour blindness."""

from dataclasses import dataclass
from typing import Literal

# Of Okabe and Ito's palette (2008), as those of scales are (`foveal.model.drawn`).
PATH_COLOR = "#D55E00"
# Of the looks of each answer of a sequence, which repeat; one answer has the first.
ANSWER_COLORS = (PATH_COLOR, "#0072B2", "#CC79A7", "#009E73", "#F0E442", "#56B4E9")
DENSITY_MAP = "cividis"  # Nunez, Anderton and Renslow 2018


@dataclass(frozen=True)
class Theme:
    """What surrounds the images."""

    background: str  # of the page
    text: str  # on it
    faint: str  # lines and marks that should not be looked at first
    unseen: str  # where the model has not looked
    right: str  # the right class, or the answer where the right class is not known
    wrong: str  # any other class


THEMES: dict[Literal["light", "dark"], Theme] = {
    "light": Theme("#ffffff", "#1a1a1a", "#8a8a8a", "#d9dde3", "#56B4E9", "#E69F00"),
    "dark": Theme("#0d1117", "#f0f6fc", "#8b949e", "#2b3442", "#0072B2", "#B35000"),
}
LIGHT, DARK = THEMES["light"], THEMES["dark"]


def answer_color(answer: int) -> str:
    """The colour of the path of an answer, from 0; they repeat after six."""
    return ANSWER_COLORS[answer % len(ANSWER_COLORS)]
