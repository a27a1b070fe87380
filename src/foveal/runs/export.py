"""Models for other runtimes: ONNX files and ``torch.export`` programs, checked when made."""

import contextlib
import copy
import inspect
import io
import json
import logging
import math
import time
import timeit
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal.io.files import check_writable, write_file
from foveal.model.attention import RecurrentAttention
from foveal.model.config import check_looks
from foveal.runs.graphs import MEANINGS, OPEN_SIZES, Exportable, OneGlimpse, UnrolledGlimpses
from foveal.scene.preparation import AS_IT_IS, Preparation

SUFFIXES = (".onnx", ".pt2")
LOGIT_TOLERANCE, LOCATION_TOLERANCE = 1e-4, 1e-5
SIZES = ((1, 100, 100), (2, 28, 60), (5, 61, 47), (3, 300, 200))  # (B, H, W) of the check
TIMED_RUNS = 100

Runner = Callable[[Sequence[Tensor]], Sequence[Tensor]]  # of an exported model


class ExportMismatch(RuntimeError):
    """An exported model computes something else than PyTorch; it was not written."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with PyTorch."""

    path: Path  # of the file
    bytes: int  # its size
    inputs: tuple[str, ...]  # names
    outputs: tuple[str, ...]  # names
    logit_difference: float  # the largest of any output but a location, over all sizes
    location_difference: float  # the largest of a location, in normalized coordinates
    checked: tuple[tuple[int, int, int], ...]  # (B, H, W) of the images that it was checked on
    milliseconds: dict[str, float]  # of one image, "pytorch" and "exported": see `_time`


def export_model(
    model: RecurrentAttention,
    out: Path,
    *,
    num_glimpses: int | None = None,
    one_step: bool = False,
    prepare: Preparation = AS_IT_IS,
    about: dict[str, Any] | None = None,
) -> Exported:
    """Write a model as one file for another runtime, after comparing the two.

    Args:
        model: on the CPU; it is left as it is. `ValueError` if its policy is random.
        out: ``.onnx`` for ONNX, which ONNX Runtime checks (`ImportError` without ``foveal[onnx]``),
            or ``.pt2`` for a ``torch.export`` program, which PyTorch loads again.
        num_glimpses: T, unrolled; the model's own if None.
        one_step: export one glimpse with its state as inputs and outputs instead: for agents, and
            streams. A context is told of each image as of a new one.
        prepare: what the graph does to the images.
        about: what else an ONNX file should say of itself (its metadata), as JSON.

    Raises:
        OSError, ValueError: see `check_place`.
        ExportMismatch: if the two differ by more than 1e-4 (logits) or 1e-5 (locations).
    """
    check_place(out)
    if model.config.policy == "random":
        raise ValueError(
            "the model's policy is random, and an exported model has no source of random numbers. "
            "Export one whose policy is learned or center."
        )
    if one_step and model.config.max_answers > 1:
        raise ValueError(
            f"the model gives {model.config.max_answers} answers one after another, which one step "
            "does not take. Export all looks: leave out --one-step."
        )
    looks = model.config.num_glimpses if num_glimpses is None else num_glimpses
    check_looks(looks, model.config.max_answers)
    still = copy.deepcopy(model).requires_grad_(False).eval()
    module = OneGlimpse(still, prepare) if one_step else UnrolledGlimpses(still, prepare, looks)
    if out.suffix.lower() == ".onnx":
        content = _onnx_file(module, about or {})
        run = _onnx_runner(content, module.inputs)
    else:
        content = _program_file(module)
        run = _program_runner(content)
    logit_difference, location_difference = _compare(module, run, out)
    milliseconds = _time(module, run)
    write_file(out, content)
    return Exported(
        path=out,
        bytes=len(content),
        inputs=tuple(module.inputs),
        outputs=tuple(module.outputs),
        logit_difference=logit_difference,
        location_difference=location_difference,
        checked=SIZES,
        milliseconds=milliseconds,
    )


def check_place(out: Path) -> None:
    """Refuse a file that cannot be written, before minutes are spent on it.

    Raises:
        ValueError: if its name has another ending than the formats have.
        OSError: if there is no place for it.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"--out must be a .onnx file (ONNX) or a .pt2 file (torch.export); got {str(out)!r}."
        )
    check_writable(out)


def _compare(module: Exportable, run: Runner, out: Path) -> tuple[float, float]:
    """The largest differences, of locations and of the rest, over images of several sizes."""
    largest = {True: 0.0, False: 0.0}
    for size in SIZES:
        inputs = module.example(*size)
        got = run(inputs)
        with torch.inference_mode():
            expected = module.expected(inputs, got)
        for name, ours, theirs in zip(module.outputs, expected, got, strict=True):
            place = "location" in name
            same_shape = ours.shape == theirs.shape
            difference = float((ours - theirs).abs().max()) if same_shape else math.inf
            largest[place] = max(largest[place], difference)
            if not difference <= (LOCATION_TOLERANCE if place else LOGIT_TOLERANCE):
                raise ExportMismatch(
                    f"{out} was not written: on {size[0]} image(s) of {size[1]} x {size[2]} its "
                    f"{name} differ from PyTorch's by {difference:.1g}. Please report this."
                )
    return largest[False], largest[True]


def _time(module: Exportable, run: Runner) -> dict[str, float]:
    """Milliseconds for one image of 100 x 100 on one thread, in PyTorch and exported.

    Of processor time, which other programs do not add to; the fastest of 100 runs.
    """
    inputs = module.example(*SIZES[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            ours = _fastest(lambda: module(*inputs))
        return {"pytorch": ours, "exported": _fastest(lambda: run(inputs))}
    finally:
        torch.set_num_threads(threads)


def _fastest(call: Callable[[], object]) -> float:
    return 1000 * min(timeit.repeat(call, number=1, repeat=TIMED_RUNS, timer=time.process_time))


def _onnx_file(module: Exportable, about: dict[str, Any]) -> bytes:
    import onnx  # noqa: PLC0415 (an extra)

    images, *others = module.example(2, 61, 47)
    open_sizes = _shapes(module, OPEN_SIZES, {0: "batch"})
    optional = "first_location" if "first_location" in module.inputs else None
    if optional:
        # One row, which the graph expands to the batch: so one location may do for all images.
        others[0], open_sizes[1] = torch.zeros(1, 2), ({}, *open_sizes[1][1:])
    with _quietly():
        program = torch.onnx.export(
            module,
            (images, *others),
            input_names=list(module.inputs),
            output_names=list(module.outputs),
            dynamic_shapes=tuple(open_sizes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    file = program.model_proto
    if optional:
        # A value under an input's name is that input's default.
        given = next(value for value in file.graph.input if value.name == optional)
        given.type.tensor_type.shape.dim[0].dim_param = "one_or_batch"
        file.graph.initializer.append(onnx.numpy_helper.from_array(others[0].numpy(), optional))
    for node in file.graph.node:
        del node.metadata_props[:]  # where on this machine it comes from
    meanings = MEANINGS | {"images": module.prepare.said()}
    for value in (*file.graph.input, *file.graph.output):
        meaning = meanings.get(value.name) or meanings.get(value.name.removeprefix("next_"))
        if value.name in module.sensed:
            meaning = "what is known beside the image: its numbers, a class as one-hot"
        part = value.name.removeprefix("next_")
        first = "what first_state says" if part in module.first_state else "zeros"
        value.doc_string = meaning or f"the core's state: {first} at first, then next_{part}"
    for key, said in (module.about() | about).items():
        file.metadata_props.add(key=key, value=json.dumps(said))
    onnx.checker.check_model(file)
    content: bytes = file.SerializeToString()
    return content


def _onnx_runner(content: bytes, names: Sequence[str]) -> Runner:
    import onnxruntime  # noqa: PLC0415 (an extra)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns of inputs with defaults
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, fed)]

    return run


def _program_file(module: Exportable) -> bytes:
    inputs = module.example(2, 61, 47)
    free = torch.export.Dim.DYNAMIC
    shapes = _shapes(module, dict.fromkeys(OPEN_SIZES, free), {0: free})
    with _quietly():
        program = torch.export.export(module, inputs, dynamic_shapes=tuple(shapes))
        for part in program.graph_module.modules():
            for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
                node.meta.pop("stack_trace", None)  # where on this machine it comes from
        file = io.BytesIO()
        torch.export.save(program, file)
    return file.getvalue()


def _shapes(module: Exportable, images: Any, others: Any) -> list[Any]:
    """What is left open of each input, as its ``forward`` takes them: some of them one by one."""
    named = len(inspect.signature(module.forward).parameters) - 1
    parts = (others,) * (len(module.inputs) - named)
    return [images, *[others] * (named - 1), *([parts] if parts else [])]


def _program_runner(content: bytes) -> Runner:
    with _quietly():
        module = torch.export.load(io.BytesIO(content)).module()

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.inference_mode():
            outputs: Sequence[Tensor] = module(*inputs)
        return outputs

    return run


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without gradients, and what exporters say of themselves: deprecations, missing packages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
