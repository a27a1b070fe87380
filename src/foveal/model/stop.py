"""Whether to stop looking: a decision after each look, learned at a cost a look."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LOOKS_ON = -2.0  # the bias at first: an untrained stop goes on looking
SUREST = 1e-6  # away from 0 and 1; in float32 beliefs beyond that are noise


class StopHead(nn.Module):
    """s_t: the probability of stopping after look t, one linear unit on h_t and its belief.

    The belief is the log-odds of the likeliest class, which no linear unit can read from h. No
    gradient reaches h: a stop is learned beside the recognizer and does not change it.

    Args:
        hidden_size: units of h.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.unit = nn.Linear(hidden_size + 1, 1)
        nn.init.zeros_(self.unit.weight)
        nn.init.constant_(self.unit.bias, LOOKS_ON)

    def forward(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """The log-odds of stopping.

        Args:
            hidden: ``(..., H)``, h after a look.
            logits: ``(..., K)``, the answer that it would give.

        Returns:
            ``(...)`` float32.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            belief = logits.detach().float().softmax(-1).amax(-1, keepdim=True)
            read = torch.cat([hidden.detach().float(), belief.logit(eps=SUREST)], dim=-1)
            odds: Tensor = self.unit(read).squeeze(-1)
        return odds
