"""What commands do with flags that all of them have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from foveal.commands.flags import choose_device, set_threads


def test_threads_are_those_of_every_library_that_multiplies_matrices() -> None:
    before = torch.get_num_threads()
    assert np.ones((2, 2)).sum() == 4, "NumPy's library is loaded"
    with threadpool_limits():  # puts back what is changed within
        set_threads(1)
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert blas
        assert set(blas) == {1}
        assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_each_process_of_several_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    for name in ("auto", "cuda", "cuda:1"):
        assert choose_device(name) == torch.device("cuda:1")
    with pytest.raises(ValueError, match="'cuda:0', but torchrun gives each .* Use --device cuda"):
        choose_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"there are 2 GPU\(s\)"):
        choose_device("cuda")
