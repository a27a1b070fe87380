"""What commands do with flags that all of them have."""

from __future__ import annotations

import numpy as np
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from foveal.commands.flags import set_threads


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
