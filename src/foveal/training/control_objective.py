"""What an agent is trained for (Mnih et al. 2014, §3.2, reward alone), as pure functions.

With ``ControlObjective(clip=0, credit_decay=1)`` and one pass over each batch this is the paper's
REINFORCE with a baseline, for both kinds of action; otherwise proximal policy optimization
(Schulman et al. 2017, arXiv 1707.06347) with the generalized advantage estimate (Schulman et al.
2016, arXiv 1506.02438).

Shapes: N decisions in a row, of B games.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from foveal.names import Range, check_fields


@dataclass(frozen=True)
class ControlObjective:
    """How credit for the reward reaches each decision, and how far one batch may move the policy.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    discount: float = 1.0  # gamma: what the next decision's reward is worth now
    credit_decay: float = 0.95  # lambda: 1 credits a decision with all that follows, 0 with a step
    clip: float = 0.2  # how far a probability may move in a batch, as a ratio less 1; 0: no limit
    baseline_weight: float = 0.5  # of the baseline's regression to the return
    detach_baseline: bool = True  # stop the baseline's gradient at h; not where reward is all
    entropy_weight: float = 0.005  # of the entropy of the actions, at the start; it falls to 0
    # of the entropy of the locations, throughout: a gaze that is soon sure keeps an agent from
    # learning what to do elsewhere; for policies that can be more or less sure, as map, since a
    # Gaussian's entropy is as wide as location_std
    location_entropy_weight: float = 0.0
    standardize_advantages: bool = True  # divide them by their standard deviation in the batch
    clip_rewards: bool = False  # learn from rewards within [-1, 1]; returns shown are the game's

    def __post_init__(self) -> None:
        share, weight = Range(0, 1), Range(0, 1e6)
        check_fields(
            self,
            discount=share,
            credit_decay=share,
            clip=weight,
            baseline_weight=weight,
            entropy_weight=weight,
            location_entropy_weight=weight,
        )


class ControlTerms(NamedTuple):
    """Scalars of a batch.

    Attributes:
        total: what is minimized.
        policy: the surrogate of both kinds of action.
        baseline: mean squared error of the baseline.
        entropy: mean entropy of the actions, in nats.
    """

    total: Tensor
    policy: Tensor
    baseline: Tensor
    entropy: Tensor


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    over: Tensor,
    discount: float,
    credit_decay: float,
) -> Tensor:
    """How much better each decision turned out than the baseline expected.

    Args:
        rewards: ``(N, B)``, what followed each decision.
        values: ``(N + 1, B)``, b_t before each decision, and after the last.
        terminated: ``(N, B)`` bool, whether the game ended by its own rules: nothing follows.
        over: ``(N, B)`` bool, whether the game ended, by its rules or cut short: what follows in
            the row belongs to another. Cut short, the baseline stands for the rest.
        discount: gamma.
        credit_decay: lambda.

    Returns:
        ``(N, B)``, without gradient; with the baselines added, the return they are regressed to.
    """
    values = values.detach()
    surprises = rewards + discount * values[1:] * ~terminated - values[:-1]
    result = torch.empty_like(surprises)
    total = torch.zeros_like(values[0])
    for t in reversed(range(len(surprises))):
        total = surprises[t] + discount * credit_decay * total * ~over[t]
        result[t] = total
    return result


def policy_loss(log_probs: Tensor, before: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """The surrogate of each decision, whose gradient is minus the policy gradient.

    Args:
        log_probs: of the decisions under the policy as it is, with gradient; any shape.
        before: under the policy that made them.
        advantages: of the decisions.
        clip: a decision whose probability moved by more than this factor, less 1, in the direction
            that its advantage asks for no longer counts (arXiv 1707.06347, eq. 7); 0 for no limit.
    """
    ratios = (log_probs - before).exp()
    loss = -ratios * advantages
    if clip:
        loss = torch.maximum(loss, -ratios.clamp(1 - clip, 1 + clip) * advantages)
    return loss


def control_loss(
    logits: Tensor,
    actions: Tensor,
    location_log_probs: Tensor,
    before: tuple[Tensor, Tensor],
    baselines: Tensor,
    advantages: Tensor,
    returns: Tensor,
    counts: tuple[Tensor, Tensor],
    objective: ControlObjective,
    entropy_weight: float,
) -> ControlTerms:
    """The objective of an agent over N decisions of B games.

    Actions and locations are two decisions from one state, independent of each other; each has its
    own ratio, so that a wide move of the gaze does not stop the action from being learned.

    Args:
        logits: ``(N, B, A)`` of the actions.
        actions: ``(N, B)`` int64, taken.
        location_log_probs: ``(N, B)`` of the locations chosen.
        before: ``(N, B)`` each: log-probabilities of actions and locations when they were chosen.
        baselines: ``(N, B)``.
        advantages: ``(N, B)``.
        returns: ``(N, B)``, what the baselines are regressed to.
        counts: ``(N, B)`` bool each: which actions were played, and which locations were looked at;
            no other is scored.
        objective: the configuration.
        entropy_weight: at this point of the run.
    """
    all_log_probs = logits.float().log_softmax(-1)
    action_log_probs = all_log_probs.gather(-1, actions[..., None]).squeeze(-1)
    played, looked = (count.float() for count in counts)
    number = played.sum().clamp(min=1)
    terms = [
        (policy_loss(log_probs, then, advantages, objective.clip) * count).sum() / number
        for log_probs, then, count in (
            (action_log_probs, before[0], played),
            (location_log_probs, before[1], looked),
        )
    ]
    policy = terms[0] + terms[1]
    baseline = ((baselines - returns).square() * played).sum() / number
    entropies = -(all_log_probs.exp() * all_log_probs).sum(-1)
    entropy = (entropies * played).sum() / number
    total = policy + objective.baseline_weight * baseline - entropy_weight * entropy
    if objective.location_entropy_weight:
        # Of a density no policy gives the entropy; its gradient is that of these, in expectation.
        surprise = location_log_probs.detach()
        surprise = surprise - (surprise * looked).sum() / looked.sum().clamp(min=1)
        gaze = (surprise * location_log_probs * looked).sum() / number
        total = total + objective.location_entropy_weight * gaze
    return ControlTerms(total, policy, baseline, entropy)
