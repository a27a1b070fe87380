"""Models on the Hugging Face Hub, by its own library, which is imported only when it is used."""

import contextlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveal.io.files import read_json, write_file, write_json
from foveal.names import in_markdown

FILES = ("config.json", "model.safetensors", "README.md", "result.json")  # none that runs


def is_model_id(model: str) -> bool:
    """Whether this may name a model on the Hub, as "someone/name", rather than a directory."""
    owner = model.partition("/")[0]
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model)) and not Path(owner).is_dir()


def fetch(model_id: str, revision: str | None = None) -> Path:
    """Download a model ("someone/name") into the Hub's cache, or find it there; its directory.

    The revision is a branch, a tag or a commit, the main branch if None. Raises `OSError` if there
    is no such model, it may not be read, or the Hub cannot be reached and the cache does not have
    it.
    """
    from huggingface_hub import errors, snapshot_download  # noqa: PLC0415 (slow to import)

    at = f"{model_id!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=list(FILES)))
    except errors.GatedRepoError:
        problem = "asks for consent first. Give it on the model's page, then: hf auth login"
    except errors.RepositoryNotFoundError:
        problem = "is not there, or private. Check the name; for a private one: hf auth login"
    except errors.RevisionNotFoundError:
        problem = "is not there. Check the branch, tag or commit"
    except OSError as trouble:
        reason = type(trouble.__cause__ or trouble).__name__
        problem = (
            f"cannot be reached ({reason}), and is not in the cache. Check the network, or pass a "
            "directory"
        )
    raise OSError(
        f"there is no directory {model_id!r}, and the model {at} on the Hugging Face Hub {problem}."
    )


def push(save: Callable[[Path], None], model_id: str, **options: Any) -> str:
    """Upload what ``save`` writes into a directory, by the Hub's own mixin.

    Of places on this machine, in the configuration and the card, only their last names are told.
    The other arguments and the answer are those of `RecurrentAttention.push_to_hub`. Raises
    `OSError` if the Hub refuses it or cannot be reached.
    """
    from huggingface_hub import ModelHubMixin, errors  # noqa: PLC0415 (slow to import)

    class Files(ModelHubMixin):
        def _save_pretrained(self, save_directory: Path) -> None:
            save(save_directory)
            forget_places(save_directory)

    try:
        commit: str = Files().push_to_hub(model_id, **options)
    except errors.HfHubHTTPError as refusal:
        raise OSError(
            f"the Hugging Face Hub refused {model_id!r} ({refusal.server_message or refusal}). "
            "Log in with a token that may write: hf auth login"
        ) from refusal
    except (errors.HTTPError, ConnectionError) as trouble:  # type: ignore[attr-defined]
        raise OSError(
            f"{model_id!r} was not uploaded: the Hugging Face Hub cannot be reached "
            f"({type(trouble).__name__}). Check the network."
        ) from trouble
    return commit


def forget_places(directory: Path) -> None:
    """Of what a saved model says, leave of each place on this machine its last name alone."""
    config, _, card, result = (directory / name for name in FILES)
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    for file in (result, config):
        if not file.is_file():
            continue
        content = read_json(file)
        told = _without_places(content)
        if told != content:
            write_json(file, told)
        command = content.get("command")
        if isinstance(command, str):
            for form in (str, in_markdown):
                text = text.replace(form(command), form(told["command"]))
    if text:
        write_file(card, text.encode())


def _without_places(said: Any, name: str = "") -> Any:
    if isinstance(said, dict):
        return {key: _without_places(value, key) for key, value in said.items()}
    if isinstance(said, list):
        return [_without_places(value, name) for value in said]
    if not isinstance(said, str) or name == "classes":
        return said
    if name == "command":
        with contextlib.suppress(ValueError):  # an open quote
            return shlex.join(map(_without_places, shlex.split(said)))
    flag, sign, value = said.partition("=")
    if sign and _is_place(value):
        return flag + sign + _last_name(value)
    return _last_name(said) if _is_place(said) else said


def _is_place(text: str) -> bool:
    """Tell whether text says where something lies; "someone/name" may be a model or a game."""
    parts = re.split(r"[\\/]", text)
    return len(parts) > 2 or text.startswith(("/", "~")) or ".." in parts or parts[0][1:] == ":"


def _last_name(place: str) -> str:
    return re.split(r"[\\/]", place.rstrip("\\/"))[-1]
