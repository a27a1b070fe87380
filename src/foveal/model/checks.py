"""What a model refuses: of its parts, of a caller, and of images."""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.model.config import PARTS, RAMConfig
from foveal.model.core import State
from foveal.scene import Scene


def named(config: RAMConfig, part: str) -> str:
    """A part, by its field of the configuration, as messages say it: ``the core 'lstm'``."""
    return f"the {PARTS[part][0].kind} {getattr(config, part)!r}"


def check_given(
    config: RAMConfig, part: str, what: str, got: Tensor, width: int, count: int
) -> Tensor:
    """Raise `ValueError` if a part gives another shape than it should of B images, or no floats."""
    if not isinstance(got, Tensor) or not got.is_floating_point():
        given = got.dtype if isinstance(got, Tensor) else f"a {type(got).__name__}"
        raise ValueError(
            f"{named(config, part)} must give {what} as a tensor of floats; got {given}."
        )
    if got.ndim != 2 or got.shape[1] != width or got.shape[0] != count:
        of = "" if got.shape[:1] == (count,) else f", of {count} image(s)"
        raise ValueError(
            f"{named(config, part)} must give {what} of (B, {width}); got {tuple(got.shape)}{of}."
        )
    return got


def check_state_sizes(config: RAMConfig, state: State, wanted: tuple[int, ...], whose: str) -> None:
    """Raise `ValueError` if a core's state has other numbers an image than the ``wanted``."""
    sizes = tuple(part.shape[-1] for part in state)
    if sizes != wanted:
        raise ValueError(
            f"{whose} must be {len(wanted)} tensor(s) of {wanted} numbers an image, as "
            f"{named(config, 'core')} has; got {sizes}."
        )


def check_images(config: RAMConfig, scene: Scene, weights: torch.dtype) -> None:
    """Raise `ValueError` if there are no images, or of other channels, or weights not float32."""
    if not torch.compiler.is_compiling() and not len(scene):
        raise ValueError("images must be at least one; got none. Pass some.")
    if scene.num_channels != config.num_channels:
        raise ValueError(
            f"images must have {config.num_channels} channel(s), as the model was made for; got "
            f"{scene.num_channels}."
        )
    if weights != torch.float32:
        raise ValueError(
            f"the model's weights must be float32; got {str(weights).removeprefix('torch.')}. Call "
            "model.float(), and for speed look within torch.autocast."
        )


def readable(value: object) -> bool:
    """Whether a number can be looked at: not in a graph, and not where a device would wait."""
    if not isinstance(value, Tensor):
        return True
    return value.device.type == "cpu" and not torch.compiler.is_compiling()


def checked_place(location: Tensor) -> Tensor:
    """A caller's first location as float32; `ValueError` if it is not in the image."""
    location = torch.as_tensor(location).float()
    # A graph that is exported cannot ask; it clamps.
    if not torch.compiler.is_exporting() and not bool((location.abs() <= 1).all()):
        raise ValueError(
            "first_location must be in [-1, 1], the edges of the image; got "
            f"{location.flatten().tolist()[:4]}. A place in pixels is 2 * pixels / side - 1."
        )
    return location
