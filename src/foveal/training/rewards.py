"""What is rewarded: an answer as a whole, or what one look tells of it."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from foveal.model.rollout import Rollout
from foveal.names import Registry

WORST_LOG_LIKELIHOOD = -3.0  # a floor, so that a few hopeless images do not rule the gradient
NO_GLIMPSE_LOGITS = (
    "glimpse_weight, and look_weight with look_reward 'alone' or 'found', need a rollout with "
    "glimpse_logits, as a Learner with a glimpse_head makes it. Pass glimpse_weight=0 and "
    "look_weight=0."
)
OF_A_GLIMPSE = ("alone", "found")  # look rewards by what one glimpse answers

# From a rollout of B images and their labels to the reward of each, ``(B,)``. No gradient flows
# through it.
Reward = Callable[[Rollout, Tensor], Tensor]
REWARDS: Registry[Reward] = Registry("reward")


@REWARDS.add("correct")
def correct(rollout: Rollout, labels: Tensor) -> Tensor:
    """1 for the right class and 0 otherwise: the paper's; ``(B,)``."""
    return (rollout.logits.argmax(-1) == labels).float()


@REWARDS.add("log_likelihood")
def log_likelihood(rollout: Rollout, labels: Tensor) -> Tensor:
    """Log p(label), in [-3, 0] nats, which also tells a hesitant answer from a firm one; (B,)."""
    logits = rollout.logits.detach().float()
    return -functional.cross_entropy(logits, labels, reduction="none").clamp(
        max=-WORST_LOG_LIKELIHOOD
    )


def reward_of(rollout: Rollout, labels: Tensor, reward: str = "correct") -> Tensor:
    """The reward of each answer by the name of a reward; ``(B,)``, without gradient.

    Raises:
        ValueError: if there is no such reward, or what it gives has another shape.
    """
    rewards = REWARDS[REWARDS.check(reward)](rollout, labels)
    if not isinstance(rewards, Tensor) or rewards.shape != labels.shape:
        given = tuple(rewards.shape) if isinstance(rewards, Tensor) else type(rewards).__name__
        raise ValueError(
            f"the reward {reward!r} must be ({len(labels)},), a number for each image; got {given}."
        )
    return rewards.detach().float()


def look_alone(rollout: Rollout, labels: Tensor) -> Tensor:
    """Log p(label) by each chosen look alone, at least that of an even belief, in nats; ``(B, D)``.

    Were it less for a wrong answer, a gaze whose looks cannot be told apart yet would learn to look
    at nothing, where no answer is ever far off.

    Raises:
        ValueError: if the rollout has no ``glimpse_logits``.
    """
    if rollout.glimpse_logits is None:
        raise ValueError(NO_GLIMPSE_LOGITS)
    even = -math.log(rollout.glimpse_logits.shape[-1])
    return log_likelihoods(chosen_looks(rollout, rollout.glimpse_logits), labels).clamp(min=even)


def look_found(rollout: Rollout, labels: Tensor) -> Tensor:
    """As `look_alone`, but the same for every look at an image of the first class; ``(B, D)``.

    That class says that nothing is there, which no place shows. Rewarded for it, a gaze would learn
    to look at nothing where the map finds nothing, and the recognizer what that means.

    Raises:
        ValueError: if the rollout has no ``glimpse_logits``.
    """
    told = look_alone(rollout, labels)
    assert rollout.glimpse_logits is not None
    even = -math.log(rollout.glimpse_logits.shape[-1])
    return told.where(labels[:, None] > 0, max(even, WORST_LOG_LIKELIHOOD))


def look_gain(rollout: Rollout, labels: Tensor) -> Tensor:
    """What each chosen look adds to log p(label), of which each is in [-3, 0]; ``(B, D)``."""
    after = log_likelihoods(chosen_looks(rollout, rollout.step_logits), labels)
    return after - log_likelihoods(rollout.prior_logits, labels)


# What each look that the policy chose is rewarded with by itself, ``(B, D)``.
LOOK_REWARDS: dict[str, Reward] = {"alone": look_alone, "found": look_found, "gain": look_gain}


def chosen_looks(rollout: Rollout, per_look: Tensor) -> Tensor:
    """``(B, T, ...)`` of those D looks that the policy chose."""
    return per_look[:, per_look.shape[1] - rollout.log_probs.shape[1] :]


def log_likelihoods(logits: Tensor, labels: Tensor) -> Tensor:
    """``(B, D)`` log p(label), at least -3, without gradient."""
    beliefs = logits.detach().float().log_softmax(-1)
    known = beliefs.gather(-1, labels[:, None, None].expand(-1, beliefs.shape[1], 1)).squeeze(-1)
    return known.clamp(min=WORST_LOG_LIKELIHOOD)
