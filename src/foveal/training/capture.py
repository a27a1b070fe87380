"""A training step as a CUDA graph: recorded once, then repeated by a single launch.

A step is hundreds of small kernels. A GPU runs most of them in less time than the host takes to
launch them; a graph of them all is launched at once, and Python does not run at all.

What is recorded reads and writes the same places of memory every time. So whatever changes from
step to step lies in tensors that stay where they are; random numbers come from a generator that
the graph moves on; and nothing may be read on the host in between.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)
WARM_UP = 3  # steps before the recording: optimizers make their state, libraries their workspaces

Input = Tensor | float | None


class Graph(Protocol):
    """Records what a function computes, to repeat it; `CudaGraph` does."""

    device: torch.device

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """Call the function as it is before a recording."""

    def record(self, function: Callable[[], Tensor]) -> None:
        """Record a call; nothing is computed.

        Raises:
            RuntimeError: if it cannot be recorded; what the function draws from is as before.
        """

    def replay(self) -> Tensor:
        """Compute what was recorded, from what lies in memory now; the same tensor every time."""


class CapturedStep:
    """A function that is recorded at its fourth call and repeated from there on.

    Where it cannot be recorded, which is logged in one line, and where there is no graph, it is
    called as it is.

    Args:
        function: from tensors and numbers to a tensor, with all its work on the device. Numbers
            reach it as ``()`` tensors if there is a graph, so that it may record them.
        graph: records; None for calls as they are.
    """

    def __init__(self, function: Callable[..., Tensor], graph: Graph | None) -> None:
        self.function, self.graph = function, graph
        self.calls = 0
        self.inputs: list[Tensor | None] = []

    def __call__(self, *inputs: Input) -> Tensor:
        """The function's result; the next call may write over it.

        Args:
            inputs: tensors of the same shapes and types at every call, numbers, or None.
        """
        if self.graph is None:
            return self.function(*inputs)
        self._place(inputs, self.graph.device)
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.graph.warm_up(self._call)
        if self.calls == WARM_UP + 1:
            try:
                self.graph.record(self._call)
            except RuntimeError as problem:
                log.warning("steps are not captured as a CUDA graph: %s", _cause(problem))
                self.graph, self.inputs = None, []
            # Only now: the error held on to all that was computed in the recording.
            if self.graph is None:
                return self.function(*inputs)
        return self.graph.replay()

    def _call(self) -> Tensor:
        return self.function(*self.inputs)

    def _place(self, inputs: tuple[Input, ...], device: torch.device) -> None:
        """Put the inputs where the recording reads them, without waiting for the device."""
        if not self.inputs:
            self.inputs = [_place_for(value, device) for value in inputs]
        for place, value in zip(self.inputs, inputs, strict=True):
            if place is not None and value is not None:
                place.copy_(value) if isinstance(value, Tensor) else place.fill_(value)


class CudaGraph:
    """Records on a GPU; see `Graph`.

    Args:
        device: the GPU.
        generator: of all random numbers that the function draws.
    """

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.device, self.generator = device, generator
        # The graph of an earlier run of this process, and its memory, may be part of a cycle: they
        # go now, to make room for this one, and not in the middle of its recording.
        gc.collect()
        # Kernels can only be recorded away from the default stream, and what autograd and cuBLAS
        # keep for each stream should be there before.
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """See `Graph.warm_up`."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], Tensor]) -> None:
        """See `Graph.record`."""
        # A graph registers the device's own generator too.
        index = self.stream.device.index
        generators = (self.generator, torch.cuda.default_generators[index])
        states = [generator.clone_state() for generator in generators]
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.generator)
        try:
            # The outer `stream` puts the stream back where the inner one, failing, does not.
            with (
                torch.cuda.stream(self.stream),
                torch.cuda.graph(self.graph, stream=self.stream),
            ):
                self.result = function()
        except RuntimeError:
            # A generator whose recording broke off refuses to draw: it gets a state of before.
            for generator, state in zip(generators, states, strict=True):
                generator.graphsafe_set_state(state)
            del self.graph
            raise

    def replay(self) -> Tensor:
        """See `Graph.replay`."""
        self.graph.replay()
        return self.result


def make_graph(device: torch.device, generator: torch.Generator) -> Graph | None:
    """What records on a device; None where nothing does."""
    return CudaGraph(device, generator) if device.type == "cuda" else None


def _place_for(value: Input, device: torch.device) -> Tensor | None:
    if isinstance(value, Tensor):
        return torch.empty_like(value)
    return None if value is None else torch.empty((), device=device)


def _cause(problem: BaseException) -> str:
    """The first line of what went wrong first: the rest are its consequences."""
    while problem.__context__ is not None:
        problem = problem.__context__
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
