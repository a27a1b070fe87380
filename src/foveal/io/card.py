"""What a saved model says of itself: its card, as the Hub reads it, and what was measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.io.files import read_json, read_tensors, write_file, write_json
from foveal.io.models import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    of_the_model,
    read_config,
    save_model,
)
from foveal.names import in_markdown

CARD_FILE = "README.md"
LIBRARY = "library_name: foveal"  # in the metadata of every card that is ours
OF_THE_IMAGES = ("classes", "image_size", "ground")  # what training on does not change


def save_with_card(
    directory: Path, model: nn.Module, config: Mapping[str, Any], loaded_from: Path | None
) -> None:
    """Write a model, what is known of its weights, and a card.

    A README.md that is not a card of ours is left as it is. All that the directory ``loaded_from``
    says goes along if the weights are the same still, and otherwise only what it says of the
    images. Raises `OSError` if they cannot be written, or the directory holds a run.
    """
    if any((directory / name).exists() for name in (CHECKPOINT_FILE, METRICS_FILE)):
        raise FileExistsError(
            f"{directory} holds a run, which the model would be written over. Choose another."
        )
    known: dict[str, Any] = {}
    result: dict[str, Any] = {}
    card = None
    if loaded_from is not None and (loaded_from / CONFIG_FILE).is_file():
        known = read_config(loaded_from)
        if _holds(loaded_from, model):
            if (loaded_from / RESULT_FILE).is_file():
                result = read_json(loaded_from / RESULT_FILE)
                result.pop("validation_curve", None)
            if (loaded_from / CARD_FILE).is_file():
                card = (loaded_from / CARD_FILE).read_text(encoding="utf-8")
        else:
            known = {name: known[name] for name in OF_THE_IMAGES if name in known}
    content = known | {"model": dict(config)}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if (directory / CONFIG_FILE).is_file() and not result:
        (directory / RESULT_FILE).unlink(missing_ok=True)  # of the model that is replaced
    save_model(directory, model, content)
    if result:
        write_json(directory / RESULT_FILE, result)
    place = directory / CARD_FILE
    if not place.exists() or LIBRARY in place.read_text(encoding="utf-8", errors="replace"):
        text = card or model_card(content, result, parameters)
        write_file(place, with_metadata(text, agent=content.get("kind") == "agent").encode())


def _holds(directory: Path, model: nn.Module) -> bool:
    """Tell whether the weights in a directory are the model's."""
    try:
        saved, _ = read_tensors(directory / WEIGHTS_FILE)
    except (OSError, ValueError):
        return False
    ours = model.state_dict()
    saved = of_the_model(saved)
    return saved.keys() == ours.keys() and all(
        torch.equal(saved[name], ours[name].cpu()) for name in ours
    )


def model_card(
    content: Mapping[str, Any],
    result: Mapping[str, Any],
    parameters: int,
    *,
    more: Mapping[str, str] | None = None,
    name: str = "...",
    note: str = "",
) -> str:
    """Write a card in Markdown, without metadata, of what ``config.json`` and ``result.json`` hold.

    The result is empty where nothing was measured of these weights. There are ``more`` rows to add
    to the table, or to replace there, by name; the ``name`` is what the model is loaded by, and the
    ``note`` is said last.
    """
    model = content["model"]
    agent = content.get("kind") == "agent"
    does = "chooses actions in games" if agent else "classifies images"
    rows = {
        "task": content["env"]["env"] if agent else content.get("name"),
        "classes": ", ".join(map(str, content.get("classes") or ())) or model["num_classes"],
        "test error": _measure(result, "error"),
        "success": _measure(result, "success_rate"),
        "protocol": result.get("protocol"),
        "retina": f"{model['glimpse_size']} x {model['glimpse_size']}, "
        f"{'one of ' if model.get('zoom') else ''}{model['num_scales']} scale(s), "
        f"{model['num_channels']} channel(s)",
        "context": _context(model),
        "glimpses": None if agent else model["num_glimpses"],
        "core": f"{model['core']}, {model['core_size']} units",
        "parameters": f"{parameters:,}",
        "made by": result.get("command"),
    }
    table = "\n".join(
        f"| {row} | {in_markdown(str(said))} |"
        for row, said in (rows | dict(more or {})).items()
        if said is not None
    )
    return f"""\
# {in_markdown(str(content.get("name") or "A recurrent attention model"))}

A recurrent attention model (Mnih et al. 2014, [arXiv 1406.6247](https://arxiv.org/abs/1406.6247))
that {does}: it looks at an image through a small retina, decides where to look next, and answers
after a few looks.

| | |
|---|---|
{table}

```python
from foveal import RecurrentAttention

model = RecurrentAttention.from_pretrained("{name}")  # or a directory, or a Hub name
```
{note}"""


def _context(model: Mapping[str, Any]) -> str | None:
    """What a model reads of the whole first, with its settings; None if it does not."""
    if model.get("context", "none") == "none":
        return None
    settings = model.get("context_settings", {}).items()
    return ", ".join(
        [model["context"], *(f"{name.replace('_', ' ')} {value}" for name, value in settings)]
    )


def with_metadata(card: str, *, agent: bool) -> str:
    """Put the Hub's metadata at the head of a card, unless it has some."""
    if card.startswith("---\n"):
        return card
    task = "reinforcement-learning" if agent else "image-classification"
    tags = ("foveal", "visual-attention", "hard-attention", "recurrent-attention-model")
    lines = [LIBRARY, f"pipeline_tag: {task}", "tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(["---", *lines, "---", "", card])


def _measure(result: Mapping[str, Any], name: str) -> str | None:
    if name not in result:
        return None
    low, high = result["interval"]
    return f"{result[name]:.2f} % (95 % interval {low:.2f} to {high:.2f})"
