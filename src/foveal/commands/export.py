"""``foveal export``: a model for another runtime."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro

from foveal.commands.console import FAILED, Stop, print_json, say, working
from foveal.commands.shown import load_model
from foveal.runs.export import ExportMismatch, check_place, export_model
from foveal.scene.preparation import Door


def export(
    model: tyro.conf.Positional[str],
    out: Path,
    num_glimpses: int | None = None,
    one_step: bool = False,
    uint8: bool = False,
    fit: bool = False,
    invert: bool = False,
    json: bool = False,
) -> None:
    """Write a model as one file for another runtime, checked against PyTorch first.

    The file's ending decides: .onnx for ONNX (needs foveal[onnx]), .pt2 for a torch.export program.
    Inputs: images (batch, channels, height, width), of any batch and size, and first_location, an
    (x, y) in [-1, 1] for all images or for each; in ONNX it is optional, and the image's centre by
    default. Outputs: logits, probabilities after each glimpse, and the locations looked at. What
    --uint8, --fit and --invert do to the images is part of the file.

    An agent is exported as one step: images, location and state in; logits, next location and
    state out. One with a context also takes fresh: which games begin with their image.

    Args:
        model: a run directory, a saved model, or the name of a pretrained one (foveal models).
        out: the file to write, .onnx or .pt2.
        num_glimpses: looks at each image, fixed in the file; as in training if not given.
        one_step: one glimpse with its state as inputs and outputs, for streams; agents always are.
        uint8: images are bytes from 0 to 255, as files have them, instead of floats in [0, 1].
        fit: scale larger images down to the size of those that the model was trained on.
        invert: make dark light, for ink on paper.
        json: print one JSON object.
    """
    check_place(out)
    saved = load_model(model, torch.device("cpu"), "export")
    network, content = saved.looking, saved.content
    plays = saved.kind is not None and saved.kind.plays
    if one_step and not plays and network.context is not None:
        raise ValueError(
            f"the context {network.config.context!r} reads each image once, before the first of "
            "its looks, and one step does not tell which that is. Export all looks: leave out "
            "--one-step."
        )
    one_step = one_step or plays
    if one_step and num_glimpses is not None:
        raise ValueError("--num-glimpses is for images; what is exported here is one step.")
    prepare = replace(Door(content, fit, invert, model=model).preparation, uint8=uint8)
    about: dict[str, Any] = {name: content[name] for name in ("name", "classes") if name in content}
    looks: dict[str, Any] = {"num_glimpses": num_glimpses, "one_step": one_step}
    try:
        with working("exporting and checking", quiet=json):
            made = export_model(network, out, prepare=prepare, about=about, **looks)
    except ExportMismatch as mismatch:
        raise Stop(str(mismatch), FAILED) from None
    except ImportError as missing:
        raise ValueError(
            f"foveal export to ONNX needs {missing.name}. Install it: pip install 'foveal[onnx]'"
        ) from None
    if json:
        print_json(
            out=str(made.path),
            bytes=made.bytes,
            inputs=made.inputs,
            outputs=made.outputs,
            num_glimpses=1 if one_step else num_glimpses or network.config.num_glimpses,
            logit_difference=made.logit_difference,
            location_difference=made.location_difference,
            checked=made.checked,
            milliseconds=made.milliseconds,
        )
        return
    sizes = ", ".join(f"{batch} of {height} x {width}" for batch, height, width in made.checked)
    ours, exported = made.milliseconds["pytorch"], made.milliseconds["exported"]
    say(f"{out}: {made.bytes / 1e6:.1f} MB; {', '.join(made.inputs)} to {', '.join(made.outputs)}")
    say(
        f"checked against PyTorch on {sizes}: logits within {made.logit_difference:.0e}, "
        f"locations within {made.location_difference:.0e}"
    )
    say(
        f"one image of 100 x 100, one thread: {exported:.2f} ms; in PyTorch {ours:.2f} ms "
        "(fastest of 100)"
    )
