"""The size and shape of a recurrent attention model, and which parts it is made of."""

from __future__ import annotations

import typing
from dataclasses import dataclass, replace
from typing import Any

import foveal.model.map_policy  # noqa: F401 (adds its policy)
from foveal.io.files import changed
from foveal.model.context import CONTEXTS, NO_CONTEXT
from foveal.model.core import CORES
from foveal.model.glimpse import GLIMPSE_NETWORKS
from foveal.model.policy import POLICIES
from foveal.model.sensor import check_sensor
from foveal.names import PartSettings, Range, Registry, check_fields, check_value, positive

WIDEST_FINE_PATCH = 256  # pixels; more in the finest patch is a convolution's work
MOST_GLIMPSES = 1000
MOST_CHANNELS = 1024
MOST_CLASSES = 1_000_000
MOST_UNITS = 65_536  # of a layer
MOST_SENSES = 64
OF_A_PART = Range(-4096, 4096)  # the whole numbers among a part's own settings
MOST_WEIGHTS = 2**27  # of a network; half a gigabyte
NO_SETTINGS = PartSettings()
# The fields that choose a part, and those that hold its settings.
PARTS: dict[str, tuple[Registry[Any], str]] = {
    "glimpse_network": (GLIMPSE_NETWORKS, "glimpse_settings"),
    "core": (CORES, "core_settings"),
    "policy": (POLICIES, "policy_settings"),
    "context": (CONTEXTS, "context_settings"),
}


@dataclass(frozen=True)
class RAMConfig:
    """The size and shape of a `RecurrentAttention`; the paper's widths by default.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    glimpse_size: int = 8  # pixels a side of the finest patch; 12 for the 60 x 60 tasks
    num_scales: int = 1  # patches in a glimpse, each scale_factor times as wide as the last
    scale_factor: int = 2  # ratio between neighbouring scales
    glimpse_gain: float = 1.0  # a glimpse enters the first layer times this; 1 as published
    scale_gain: float = 1.0  # scale i also times this to the i; 1 as published
    num_glimpses: int = 7  # looks at an image before the answer, or before each of several
    max_answers: int = 1  # classes that are answered one after another
    with_end: bool = False  # whether the last class says that there are no more
    distinct: bool = False  # whether no answer repeats one before it, as of a set of classes
    stop: bool = False  # whether it also decides after each look whether to stop looking
    num_channels: int = 1  # of the images
    pixel_mean: tuple[float, ...] = ()  # of each channel, taken off glimpses; () for nothing
    pixel_std: tuple[float, ...] = ()  # of each channel, which glimpses are divided by; () for 1
    num_classes: int = 10  # of the answer
    glimpse_network: str = "mlp"  # from a glimpse to features: mlp (the paper's); conv
    glimpse_hidden: int = 128  # units of h_g, from the pixels
    location_hidden: int = 128  # units of h_l, from the location
    glimpse_features: int = 256  # units of g, the glimpse network's output
    # rnn: the rectifier RNN (classification); lstm; sum: adds up all features; attention: their
    # mean, by learned weights
    core: str = "rnn"
    core_size: int = 256  # units of h
    # learned: the paper's; map: reads a context's feature map; random and center are controls
    policy: str = "learned"
    location_std: float = 0.1  # of the Gaussian location policy, in normalized coordinates
    zoom: bool = False  # each look reads one of the scales, which the policy chooses
    detach_policy: bool = True  # stop the location head's gradient at h, as in the paper's hybrid
    location_gradient: float = 0.0  # most that the answer pulls at a look, nats a unit; 0: nothing
    senses: tuple[tuple[str, int], ...] = ()  # beside the image: the name and the width of each
    sense_features: int = 32  # units of each sense's network, which enter the core
    context: str = NO_CONTEXT  # a first, coarse look at the whole: none as published; conv
    glimpse_settings: PartSettings = NO_SETTINGS  # the glimpse network's own
    core_settings: PartSettings = NO_SETTINGS  # the core's own
    policy_settings: PartSettings = NO_SETTINGS  # the policy's own
    context_settings: PartSettings = NO_SETTINGS  # the context's own

    def __post_init__(self) -> None:
        sizes = Range(1, MOST_UNITS)
        gains = positive(1e6, "Plain averages: pass 1.")
        check_fields(
            self,
            glimpse_size=Range(1, WIDEST_FINE_PATCH, "To see more of the image raise num_scales."),
            glimpse_gain=gains,
            scale_gain=gains,
            num_glimpses=Range(1, MOST_GLIMPSES),
            max_answers=Range(1, MOST_GLIMPSES),
            num_channels=Range(1, MOST_CHANNELS),
            pixel_mean=Range(-1e6, 1e6),
            pixel_std=positive(1e6),
            num_classes=Range(1, MOST_CLASSES),
            glimpse_hidden=sizes,
            location_hidden=sizes,
            glimpse_features=sizes,
            core_size=sizes,
            location_std=positive(1e3, "For a policy without noise call the model in eval mode."),
            location_gradient=Range(0, 1e6),
            senses=sizes,
            sense_features=sizes,
        )
        check_sensor(self.glimpse_size, self.num_scales, self.scale_factor)
        if self.zoom and self.num_scales < 2:
            raise ValueError(
                f"zoom needs 2 scales or more to choose from; got num_scales {self.num_scales}. "
                "Pass --num-scales 3, say, or leave out --zoom."
            )
        if self.max_answers * self.num_glimpses > MOST_GLIMPSES:
            left = MOST_GLIMPSES // self.max_answers
            raise ValueError(
                f"num_glimpses must be at most {left} for each of max_answers {self.max_answers}, "
                f"as a model looks at most {MOST_GLIMPSES:,} times; got {self.num_glimpses}."
            )
        if self.with_end and (self.max_answers < 2 or self.num_classes < 2):
            raise ValueError(
                f"with_end is for sequences that differ in length, of 2 classes or more with the "
                f"end; got max_answers {self.max_answers} and num_classes {self.num_classes}. "
                "Pass --no-with-end."
            )
        if self.distinct and not 2 <= self.max_answers <= self.num_classes:
            raise ValueError(
                "distinct is for several answers, at most as many as there are classes; got "
                f"max_answers {self.max_answers} and num_classes {self.num_classes}. Pass "
                "--no-distinct."
            )
        if self.stop and self.max_answers > 1:
            raise ValueError(
                f"a stop is for a single answer; got max_answers {self.max_answers}. Leave out "
                "--stop."
            )
        for name in ("pixel_mean", "pixel_std"):
            value = getattr(self, name)
            if len(value) not in (0, self.num_channels):
                raise ValueError(
                    f"{name} must have a number for each of the {self.num_channels} channel(s), "
                    f"or none; got {len(value)}."
                )
        names = [name for name, _ in self.senses]
        if len(set(names)) < len(names) or len(names) > MOST_SENSES:
            raise ValueError(
                f"senses must have names of their own, and be at most {MOST_SENSES}; got {names}."
            )
        check_weights(self._weights())
        for field, (parts, settings) in PARTS.items():
            word = getattr(self, field)
            kind = parts.settings_of(word)
            given = getattr(self, settings)
            if type(given) is kind:
                whole = [name for name, value in vars(given).items() if isinstance(value, int)]
                check_fields(given, **dict.fromkeys(whole, OF_A_PART))
                continue
            # Those that were not given, or that say nothing, are the defaults.
            if given != NO_SETTINGS and changed(given):
                raise ValueError(
                    f"{settings} are those of another {parts.kind} than {word!r}: got {given}. "
                    "Leave them out."
                )
            object.__setattr__(self, settings, kind())

    def _weights(self) -> int:
        """About how many weights an LSTM and the paper's glimpse network of these sizes have."""
        pixels = self.scales_read * self.num_channels * self.glimpse_size**2
        features = self.glimpse_features + self.sense_features * len(self.senses)
        return (
            self.glimpse_hidden * pixels
            + self.sense_features * sum(width for _, width in self.senses)
            + self.glimpse_features * (self.glimpse_hidden + self.location_hidden)
            + self.core_size * (4 * (self.core_size + features) + self.num_classes)
        )

    @property
    def end(self) -> int | None:
        """The class that says that there are no more answers; None where their number is one."""
        return self.num_classes - 1 if self.with_end else None

    @property
    def scales_read(self) -> int:
        """How many scales a look reads: one where it zooms."""
        return 1 if self.zoom else self.num_scales

    def with_parts(self, **words: str) -> RAMConfig:
        """The same with other parts, by field; a part that changes gets its default settings.

        Raises:
            ValueError: if there is no such part.
        """
        new = {PARTS[name][1]: NO_SETTINGS for name in words if words[name] != getattr(self, name)}
        return replace(self, **words, **new)  # type: ignore[arg-type]

    @staticmethod
    def field_types(values: dict[str, Any]) -> dict[str, Any]:
        """The types of the fields, those of the settings by the parts that ``values`` choose.

        Raises:
            ValueError: if there is no such part.
        """
        types = typing.get_type_hints(RAMConfig)
        for field, (parts, settings) in PARTS.items():
            if field in values:
                types[settings] = parts.settings_of(values[field])
        return types


def check_looks(num_glimpses: int | None, answers: int = 1) -> None:
    """Refuse a number of glimpses an answer that no model may take; None is the model's own.

    Raises:
        ValueError: saying how many it may be.
    """
    most = MOST_GLIMPSES // answers
    check_value("num_glimpses", num_glimpses, int | None, Range(1, most))


def check_weights(count: int) -> None:
    """Refuse sizes that make more weights than a network may have, before any are made.

    Raises:
        ValueError: saying so.
    """
    if count > MOST_WEIGHTS:
        raise ValueError(
            f"these sizes make a network of about {count:,} weights; it may have {MOST_WEIGHTS:,}. "
            "Lower the sizes."
        )
