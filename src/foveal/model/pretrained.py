"""A model as files, on this machine or on the Hugging Face Hub, and on images of one's own."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

from foveal.io import hub
from foveal.io.card import save_with_card
from foveal.io.files import config_from_dict
from foveal.io.models import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    check_finished,
    check_looks_at,
    loaded,
    locate_model,
    read_config,
)
from foveal.model.config import RAMConfig
from foveal.model.cost import Network


class Pretrained(Network):
    """A network that is written to files and read from them.

    Attributes:
        config, about: see `foveal.model.cost.Network`.
        loaded_from: the directory that `from_pretrained` read, or None.
    """

    config: RAMConfig
    config_class: ClassVar[type[RAMConfig]] = RAMConfig

    def __init__(self, config: RAMConfig) -> None:
        super().__init__(config)
        self.loaded_from: Path | None = None  # a directory, by `from_pretrained`

    def predict(self, images: Any, **options: Any) -> Any:
        """What it answers on image files, arrays or PIL images: see `foveal.predict`."""
        return importlib.import_module("foveal").predict(self, images, **options)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and a model card, each in one step.

        Where the weights are still those that `from_pretrained` loaded, what was known of them
        goes along: how they were made, what was measured, their card. Of trained ones only the
        names of the classes do.

        Raises:
            OSError: if they cannot be written, or the directory holds a run.
        """
        save_with_card(Path(directory), self, asdict(self.config), self.loaded_from)

    def push_to_hub(self, model_id: str, **options: Any) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub.

        Args:
            model_id: as in "someone/name"; made if it is not there.
            options: of `huggingface_hub.ModelHubMixin.push_to_hub`: ``private``, ``token``,
                ``branch``, ``commit_message``, ``create_pr`` and others.

        Returns:
            The address of the commit.

        Raises:
            OSError: if the Hub refuses it or cannot be reached.
        """
        return hub.push(self.save_pretrained, model_id, **options)

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None) -> Self:
        """Load a model in eval mode, on the CPU. Runs no code of its files.

        Args:
            model: a directory that `save_pretrained` or a finished run wrote; the name of a
                pretrained model (``foveal models`` lists them), as in
                ``RecurrentAttention.from_pretrained("cluttered-60")``; or that of a model on the
                Hugging Face Hub, as in "someone/name", which is downloaded once.
            revision: a branch, a tag or a commit of a model on the Hub.

        Raises:
            FileNotFoundError: if there is no such directory or name, or a file is missing.
            OSError: if the Hub has no such model, or cannot be reached.
            ValueError: if a file is damaged, another program's, or of another network; or a part of
                it is not known here.
        """
        directory = locate_model(model, revision)
        content = read_config(directory)
        check_finished(directory)
        check_looks_at(content, directory)
        where = str(directory / CONFIG_FILE)
        config = config_from_dict(cls.config_class, content.get("model"), where)
        network = loaded(lambda: cls(config), directory / WEIGHTS_FILE)
        network.loaded_from, network.about = directory, content
        return network
