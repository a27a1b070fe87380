from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from foveal.model.attention import RecurrentAttention
from foveal.training.start import begin_with
from tests.conftest import TINY


def test_a_model_of_more_scales_begins_with_what_the_saved_one_answers(tmp_path: Path) -> None:
    saved = RecurrentAttention(dataclasses.replace(TINY, num_scales=2, num_channels=3)).eval()
    saved.save_pretrained(tmp_path)
    model = RecurrentAttention(dataclasses.replace(saved.config, num_scales=5)).eval()
    begin_with(tmp_path, model)
    images, first = torch.rand(4, 3, 40, 50), torch.rand(4, 2) * 2 - 1
    got, wanted = (network(images, first_location=first) for network in (model, saved))
    torch.testing.assert_close(got.logits, wanted.logits)
    torch.testing.assert_close(got.locations, wanted.locations)


@pytest.mark.parametrize("change", [{"num_scales": 1}, {"glimpse_size": 8}, {"core_size": 17}])
def test_other_differences_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    config = dataclasses.replace(TINY, num_scales=2)
    RecurrentAttention(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="belongs to another configuration"):
        begin_with(tmp_path, RecurrentAttention(dataclasses.replace(config, **change)))
