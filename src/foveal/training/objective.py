"""The hybrid objective (Mnih et al. 2014, §3.2), of each answer, as pure functions.

Three terms: cross-entropy trains the action head, core and glimpse network by backpropagation;
REINFORCE with a baseline trains the location policy; regression to the return trains the
baseline. With ``RAMConfig.detach_policy`` the three reach disjoint parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from foveal.model.rollout import Rollout
from foveal.names import Range, check_fields, choose
from foveal.training.control_objective import generalized_advantages
from foveal.training.parallel import spread
from foveal.training.rewards import (
    LOOK_REWARDS,
    NO_GLIMPSE_LOGITS,
    OF_A_GLIMPSE,
    REWARDS,
    WORST_LOG_LIKELIHOOD,
    chosen_looks,
    log_likelihoods,
    reward_of,
)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is rewarded, and how credit for it reaches each decision.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    reward: str = "correct"  # correct: 0 or 1, as in the paper; log_likelihood: log p(label)
    reinforce_weight: float = 1.0  # of the REINFORCE term
    baseline_weight: float = 1.0  # of the baseline's regression
    detach_baseline: bool = True  # stop the baseline's gradient at h
    privileged_baseline: bool = False  # b_t may also see the label: all but the action is allowed
    glimpse_weight: float = 0.0  # of the cross-entropy of what each glimpse answers alone
    step_weight: float = 0.0  # of the mean cross-entropy of the answers before the last look's
    context_weight: float = 0.0  # of the cross-entropy of the answer before any look, of a context
    # of each look: alone: what it tells alone; found: likewise, where the first class is that
    # nothing is there, which no look shows; gain: what it adds
    look_reward: str = "alone"
    look_weight: float = 0.0  # of the REINFORCE term of each look's own reward
    stop_cost: float = 0.03  # of a look, in nats, to a model that decides when to stop (--stop)
    cut_after_error: bool = True  # of a sequence, learn nothing from answers after a wrong one
    credit_decay: float = 1.0  # lambda: 1 credits a look with all that follows, 0 with the next
    standardize_advantages: bool = False  # divide them by their standard deviation in the batch

    def __post_init__(self) -> None:
        REWARDS.check(self.reward)
        choose(self.look_reward, LOOK_REWARDS, "look_reward")
        weights = ("reinforce", "baseline", "glimpse", "step", "context", "look")
        ranges = {f"{name}_weight": Range(0, 1e6) for name in weights}
        check_fields(self, credit_decay=Range(0, 1), stop_cost=Range(0, 1e6), **ranges)

    @property
    def glimpse_head(self) -> bool:
        """Whether a trainer needs what each glimpse answers alone."""
        told = self.look_weight > 0 and self.look_reward in OF_A_GLIMPSE
        return self.glimpse_weight > 0 or told

    def rewards_at_chance(self, num_classes: int) -> tuple[float, float]:
        """What an even belief in all classes earns, and what a look does that leaves it so.

        0 for a reward of one's own.
        """
        belief = max(-math.log(num_classes), WORST_LOG_LIKELIHOOD)
        rewards = {"correct": 1 / num_classes, "log_likelihood": belief}
        return rewards.get(self.reward, 0.0), belief if self.look_reward in OF_A_GLIMPSE else 0.0


class LossTerms(NamedTuple):
    """Scalars of a batch.

    Attributes:
        total: what is minimized.
        supervised: cross-entropy of the last step's answer, in nats.
        reinforce: the surrogate whose gradient is the REINFORCE estimate; its value means nothing.
        baseline: mean squared error of the baseline.
        reward: mean reward.
        error: share of wrong answers; of sequences, of those with any.
        reward_square: mean of the squared reward.
        gaze: ``(3,)``, means of x, y and x² + y² over the locations that the policy chose.
    """

    total: Tensor
    supervised: Tensor
    reinforce: Tensor
    baseline: Tensor
    reward: Tensor
    error: Tensor
    reward_square: Tensor
    gaze: Tensor


def advantages(reward: Tensor, baselines: Tensor, credit_decay: float = 1.0) -> Tensor:
    """How much better each decision turned out than the baseline expected.

    With ``credit_decay`` 1 this is ``R - b_t`` of the paper. Below 1 it is the generalized
    advantage estimate (Schulman et al. 2016, eq. 16; reward at the end alone, no discount): a
    decision is credited with what the next baselines already saw of its effect, which has less
    variance, and a bias as far as the baseline is wrong.

    Args:
        reward: ``(B,)``, R.
        baselines: ``(B, D)``, b_t of D decisions.
        credit_decay: lambda, in [0, 1].

    Returns:
        ``(B, D)``, without gradient.
    """
    baselines = baselines.detach()
    if credit_decay == 1.0:
        return reward[:, None] - baselines
    # After the last decision the reward itself is known.
    expected = torch.cat([baselines, reward[:, None]], dim=1).t()
    nothing = torch.zeros_like(expected[1:])
    never = nothing.bool()
    found = generalized_advantages(nothing, expected, never, never, 1.0, credit_decay)
    return found.t().contiguous()


def reinforce_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """A scalar whose gradient is minus the REINFORCE estimate (Williams 1992; the paper's eq. 2).

    Args:
        log_probs: ``(B, D)`` of the D decisions, with gradient.
        advantages: ``(B, D)``; no gradient flows into them.
    """
    return -(log_probs * advantages.detach()).sum(1).mean()


def baseline_loss(baselines: Tensor, reward: Tensor) -> Tensor:
    """Mean squared error of ``(B, D)`` baselines against ``(B,)`` or ``(B, D)`` returns."""
    if baselines.shape[1] == 0:
        return baselines.sum()
    expected = reward[:, None] if reward.ndim == 1 else reward
    return (baselines - expected).square().mean()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of answers, in nats: of the last, or of each of D; 0 of none.

    Of what glimpses give alone it asks the gaze for views that can be recognized by themselves.
    Without it a recognizer that adds up looks learns to cope with a gaze that is off by some
    pixels, and then little is gained by aiming better. A first glimpse that nobody chose is left
    out there.

    Args:
        logits: ``(B, K)`` or ``(B, D, K)``.
        labels: ``(B,)`` int64.
        weights: ``(B,)``, what each image counts; all 1 if None.
    """
    each = logits.float() if logits.ndim == 3 else logits.float()[:, None]
    looks = each.shape[1]
    if looks == 0:
        return each.sum()
    wanted = labels.repeat_interleave(looks)
    if weights is None:
        return functional.cross_entropy(each.flatten(0, 1), wanted)
    losses = functional.cross_entropy(each.flatten(0, 1), wanted, reduction="none")
    return (losses * weights.repeat_interleave(looks)).mean()


def stop_loss(
    stop_logits: Tensor,
    step_logits: Tensor,
    labels: Tensor,
    cost: float,
    weights: Tensor | None = None,
) -> Tensor:
    """The expected loss of a stop: of the answer where it stops, and of the looks until then.

    It stops after look t with probability q_t = s_t prod_{i<t} (1 - s_i), and after the last in any
    case, so that sum_t q_t (-log p_t(label) + cost t) is exact and nothing has to be drawn. Its
    gradient reaches the stop alone: through the answers it would ask of the recognizer, against
    its own objective, to be right early.

    Args:
        stop_logits: ``(B, T)``, the log-odds of s_t; the last does not matter.
        step_logits: ``(B, T, K)``, the answer after each look; log p is bounded at -3.
        labels: ``(B,)`` int64.
        cost: of a look, in nats.
        weights: as for `cross_entropy`.
    """
    stops, goes_on = (functional.logsigmoid(sign * stop_logits[:, :-1]) for sign in (1, -1))
    reached = functional.pad(goes_on.cumsum(1), (1, 0))
    chances = (functional.pad(stops, (0, 1)) + reached).exp()
    looks = torch.arange(1, stop_logits.shape[1] + 1, device=stop_logits.device)
    expected = (chances * (cost * looks - log_likelihoods(step_logits, labels))).sum(1)
    return (expected if weights is None else expected * weights).mean()


def hybrid_loss(
    rollout: Rollout,
    labels: Tensor,
    config: ObjectiveConfig | None = None,
    weights: Tensor | None = None,
) -> LossTerms:
    """The hybrid objective of the paper's §3.2, for a rollout in training mode.

    Of a sequence each answer has an objective of its own, which credits the looks that were taken
    for it, and the mean over the answers is minimized. What follows a wrong answer is left out with
    ``cut_after_error`` (as Ba et al. 2015, §4), as is what follows the end.

    Args:
        rollout: of B images.
        labels: ``(B,)`` int64; ``(B, A)`` where there are several answers (`foveal.model.rollout`).
        config: the paper's if None.
        weights: as the labels, what each counts in what trains answer and gaze; or ``(B,)``, what
            each image does; all 1 if None.

    Raises:
        ValueError: if a term needs what only a `Learner` adds to a rollout, and it is not there.
    """
    config = ObjectiveConfig() if config is None else config
    if rollout.pasted_loss is not None:
        terms = hybrid_loss(rollout._replace(pasted_loss=None), labels, config, weights)
        return terms._replace(total=terms.total + rollout.pasted_loss)
    if labels.ndim == 1:
        return _one_answer(rollout, labels, config, weights)
    wrong = (rollout.answers != labels) & (labels >= 0)
    counted = labels >= 0
    if config.cut_after_error:
        counted &= wrong.cumsum(1) <= wrong.long()  # none before it
    parts = []
    for answer, counts in enumerate(counted.float().unbind(1)):
        part = rollout.part(answer)
        part = part._replace(baselines=part.baselines * counts[:, None])
        if part.look_baselines is not None:
            part = part._replace(look_baselines=part.look_baselines * counts[:, None])
        own = weights[:, answer] if weights is not None and weights.ndim > 1 else weights
        own = counts if own is None else own * counts
        parts.append(_one_answer(part, labels[:, answer].clamp(min=0), config, own, counts))
    terms = LossTerms(*(torch.stack(values).mean(0) for values in zip(*parts, strict=True)))
    error = wrong.any(1).float().mean()
    return terms._replace(error=error, gaze=gaze_moments(chosen_looks(rollout, rollout.locations)))


def _one_answer(
    rollout: Rollout,
    labels: Tensor,
    config: ObjectiveConfig,
    weights: Tensor | None,
    counts: Tensor | None = None,
) -> LossTerms:
    """`hybrid_loss` of ``(B,)`` labels; rewards count ``(B,)`` times, 1 if None."""
    reward = reward_of(rollout, labels, config.reward)
    if counts is not None:
        reward = reward * counts
    advantage = advantages(reward, rollout.baselines, config.credit_decay)
    advantage = _credit(advantage, config, weights)
    supervised = cross_entropy(rollout.logits, labels, weights)
    reinforce = reinforce_loss(rollout.log_probs, advantage)
    baseline = baseline_loss(rollout.baselines, reward)
    total = supervised + config.reinforce_weight * reinforce + config.baseline_weight * baseline
    if config.look_weight and rollout.features:
        if rollout.look_baselines is None:
            raise ValueError(
                f"look_weight {config.look_weight} needs a rollout with look_baselines, as a "
                "Learner with a look_critic makes it. Pass look_weight=0."
            )
        told = LOOK_REWARDS[config.look_reward](rollout, labels)
        told = told if counts is None else told * counts[:, None]
        surplus = _credit(told - rollout.look_baselines.detach(), config, weights)
        total = total + config.look_weight * reinforce_loss(rollout.log_probs, surplus)
        regression = baseline_loss(rollout.look_baselines, told)
        total = total + config.baseline_weight * regression
    if config.glimpse_weight and rollout.features:
        if rollout.glimpse_logits is None:
            raise ValueError(NO_GLIMPSE_LOGITS)
        alone = chosen_looks(rollout, rollout.glimpse_logits)
        total = total + config.glimpse_weight * cross_entropy(alone, labels, weights)
    if config.step_weight and rollout.features:
        earlier = cross_entropy(rollout.prior_logits, labels, weights)
        total = total + config.step_weight * earlier
    if config.context_weight and rollout.features:
        first = rollout.prior_logits[:, : rollout.log_probs.shape[1] + 1 - len(rollout.features)]
        total = total + config.context_weight * cross_entropy(first, labels, weights)
    if rollout.stop_logits is not None:
        both = (rollout.stop_logits, rollout.step_logits)
        total = total + stop_loss(*both, labels, config.stop_cost, weights)
    error = (rollout.logits.detach().argmax(-1) != labels).float().mean()
    return LossTerms(
        total,
        supervised,
        reinforce,
        baseline,
        reward.mean(),
        error,
        reward.square().mean(),
        gaze_moments(chosen_looks(rollout, rollout.locations)),
    )


def _credit(advantage: Tensor, config: ObjectiveConfig, weights: Tensor | None) -> Tensor:
    """``(B, D)`` advantages, standardized where that is wanted, times what each image counts."""
    if config.standardize_advantages and advantage.numel() > 1:
        advantage = advantage / (spread(advantage) + 1e-6)
    return advantage if weights is None else advantage * weights[:, None]


def gaze_moments(locations: Tensor) -> Tensor:
    """Means of x, y and x² + y² over ``(..., 2 or 3)`` locations: what their spread is made of."""
    places = locations.detach()[..., :2].flatten(0, -2)
    if not len(places):
        return places.new_zeros(3)
    return torch.cat([places.mean(0), places.square().sum(1).mean()[None]])
