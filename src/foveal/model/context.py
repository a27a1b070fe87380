"""Contexts: what a first, coarse look at the whole image tells before the first glimpse.

As in Ba, Mnih and Kavukcuoglu 2015 (arXiv 1412.7755, §3). The paper's model has none.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from foveal.model.core import State
from foveal.names import Registry


class Context(nn.Module):
    """A network over the scene's thumbnail that makes the core's first state.

    A context is made as ``Context(num_channels, state_sizes)``: the channels of the images, and the
    widths of the tensors of the core's state. It may also give the first location.

    Attributes:
        side: pixels a side of the thumbnail that it reads (`foveal.scene.Scene.thumbnail`). They
            count as pixels read.
    """

    side: int

    def forward(self, thumbnail: Tensor) -> tuple[State, Tensor | None]:
        """From ``(B, C, side, side)`` to the core's first state, and to the first location.

        Returns:
            The state, a tuple of ``(B, size)`` tensors; and ``(B, 2)`` locations as in
            `foveal.geometry`, or None where the policy chooses the first.
        """
        raise NotImplementedError


NO_CONTEXT = "none"
CONTEXTS: Registry[Callable[..., Context | None]] = Registry("context")


@CONTEXTS.add(NO_CONTEXT)
def no_context(_num_channels: int, _state_sizes: tuple[int, ...]) -> None:
    """The paper's: the core begins with nothing, and the policy chooses the first location."""
