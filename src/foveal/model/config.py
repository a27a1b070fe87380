"""The size and shape of a recurrent attention model, and which parts it is made of."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

from foveal.model.context import CONTEXTS, NO_CONTEXT
from foveal.model.core import CORES
from foveal.model.glimpse import GLIMPSE_NETWORKS
from foveal.model.policy import POLICIES
from foveal.model.sensor import check_sensor
from foveal.names import PartSettings, Registry

WIDEST_FINE_PATCH = 256  # pixels; more in the finest patch is a convolution's work
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
    num_glimpses: int = 7  # looks at an image before the answer
    num_channels: int = 1  # of the images
    pixel_mean: tuple[float, ...] = ()  # of each channel, taken off glimpses; () for nothing
    pixel_std: tuple[float, ...] = ()  # of each channel, which glimpses are divided by; () for 1
    num_classes: int = 10  # of the answer
    glimpse_network: str = "mlp"  # from a glimpse to features: mlp (the paper's)
    glimpse_hidden: int = 128  # units of h_g, from the pixels
    location_hidden: int = 128  # units of h_l, from the location
    glimpse_features: int = 256  # units of g, the glimpse network's output
    core: str = "rnn"  # rnn: the rectifier RNN (classification); lstm
    core_size: int = 256  # units of h
    policy: str = "learned"  # learned; random and center are controls
    location_std: float = 0.1  # of the Gaussian location policy, in normalized coordinates
    detach_policy: bool = True  # stop the location head's gradient at h, as in the paper's hybrid
    location_gradient: float = 0.0  # most that the answer pulls at a look, nats a unit; 0: nothing
    context: str = NO_CONTEXT  # a first, coarse look at the whole; none as published
    glimpse_settings: PartSettings = NO_SETTINGS  # the glimpse network's own
    core_settings: PartSettings = NO_SETTINGS  # the core's own
    policy_settings: PartSettings = NO_SETTINGS  # the policy's own
    context_settings: PartSettings = NO_SETTINGS  # the context's own

    def __post_init__(self) -> None:
        check_sensor(self.glimpse_size, self.num_scales, self.scale_factor)
        if self.glimpse_size > WIDEST_FINE_PATCH:
            raise ValueError(
                f"glimpse_size must be at most {WIDEST_FINE_PATCH} pixels; got "
                f"{self.glimpse_size}. To see more of the image raise num_scales."
            )
        for name in (
            "num_glimpses",
            "num_channels",
            "num_classes",
            "glimpse_hidden",
            "location_hidden",
            "glimpse_features",
            "core_size",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
        for name in ("pixel_mean", "pixel_std"):
            value = getattr(self, name)
            if len(value) not in (0, self.num_channels):
                raise ValueError(
                    f"{name} must have a number for each of the {self.num_channels} channel(s), "
                    f"or none; got {len(value)}."
                )
        if not all(std > 0 for std in self.pixel_std):
            raise ValueError(f"pixel_std must be above 0; got {self.pixel_std}.")
        for name in ("glimpse_gain", "scale_gain"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} must be above 0; got {getattr(self, name)!r}. Plain averages: pass 1."
                )
        if not self.location_gradient >= 0:
            raise ValueError(
                f"location_gradient must be at least 0; got {self.location_gradient!r}."
            )
        if not self.location_std > 0:
            raise ValueError(
                f"location_std must be above 0; got {self.location_std!r}. "
                "For a policy without noise call the model in eval mode."
            )
        for field, (parts, settings) in PARTS.items():
            word = getattr(self, field)
            kind = parts.settings_of(word)
            # Settings that were not given, or are those of a part chosen before, are the defaults.
            if type(getattr(self, settings)) is not kind:
                object.__setattr__(self, settings, kind())

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
