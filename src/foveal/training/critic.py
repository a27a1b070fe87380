"""What only training needs: a critic, and a head that answers from each glimpse alone."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from foveal.model.attention import RecurrentAttention
from foveal.model.rollout import Rollout, right_answers
from foveal.scene import Images, as_scene
from foveal.training.pasting import pasted_loss


class Critic(nn.Module):
    """b_t: the return expected before the next decision, from h_t.

    Linear in h_t, as in the paper. A privileged critic is a small network that is also told the
    label: a baseline leaves REINFORCE unbiased as long as it does not depend on the action, and one
    that knows how well the label is already recognized explains far more of the return.

    Args:
        hidden_size: units of h.
        num_classes: K.
        detached: whether its gradient stops at h_t, where a supervised term shapes the core; an
            agent that has nothing but reward learns what to remember from it.
        privileged: whether it is told the label.
        start: what it expects at first, whatever it is told. If that is far from the returns, all
            that is chosen at first is discouraged, and what a policy begins with is lost.
    """

    HIDDEN = 128

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        *,
        detached: bool,
        privileged: bool,
        start: float = 0.0,
    ) -> None:
        super().__init__()
        self.detached, self.privileged, self.num_classes = detached, privileged, num_classes
        if self.privileged:
            last = nn.Linear(self.HIDDEN, 1)
            self.network: nn.Module = nn.Sequential(
                nn.Linear(hidden_size + num_classes + 1, self.HIDDEN), nn.ReLU(), last
            )
        else:
            self.network = last = nn.Linear(hidden_size, 1)
        if start:
            nn.init.constant_(last.bias, start)

    def forward(self, hidden: Tensor, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """Expected return.

        Args:
            hidden: ``(..., B, hidden_size)``, h_t.
            logits: ``(..., B, K)``, the answer that h_t would give.
            labels: ``(B,)`` or as h, int64; the model's own belief takes their place if None.

        Returns:
            ``(..., B)`` float32.
        """
        inputs = hidden.detach() if self.detached else hidden
        if self.privileged:
            log_beliefs = logits.detach().float().log_softmax(-1)
            if labels is None:
                belief = log_beliefs.exp()
            else:
                belief = nn.functional.one_hot(labels, self.num_classes).to(log_beliefs)
                belief = belief.expand_as(log_beliefs)
            # Far below -3 the answer is hopeless, and how far does not matter.
            known = (belief * log_beliefs).sum(-1, keepdim=True).clamp(min=-3)
            inputs = torch.cat([inputs, belief.to(inputs), known.to(inputs)], dim=-1)
        expected: Tensor = self.network(inputs).squeeze(-1).float()
        return expected


class Learner(nn.Module):
    """A model and what it is trained with: the unit that steps run and checkpoints keep.

    Args:
        model: a `RecurrentAttention`, or a network from whole images to logits.
        detach_baseline: see `Critic`.
        privileged_baseline: see `Critic`.
        glimpse_head: whether each glimpse alone also gives an answer.
        look_critic: whether what each look alone tells has a baseline too.
        ordered: whether several labels are wanted in their order; see `right_answers`.
        only_stop: whether nothing but the model's stop is trained, on what its mean policy sees.
        starts: what the critic of the reward expects at first, and that of each look.

    Attributes:
        location_std: of the policy, in this step; the configuration's if None. It is no argument of
            `forward`: what wraps this for bfloat16 would round it.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        detach_baseline: bool = True,
        privileged_baseline: bool = False,
        glimpse_head: bool = False,
        look_critic: bool = False,
        ordered: bool = True,
        only_stop: bool = False,
        starts: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        self.model, self.ordered, self.only_stop = model, ordered, only_stop
        self.location_std: float | Tensor | None = None
        self.end: int | None = None
        self.critic: Critic | None = None
        self.look_critic: Critic | None = None
        self.glimpse_head: nn.Linear | None = None
        if self.looks is not None:
            config = self.looks.config
            self.end = config.end
            how = {"detached": detach_baseline, "privileged": privileged_baseline}
            sizes = config.core_size, config.num_classes
            self.critic = Critic(*sizes, **how, start=starts[0])
            if glimpse_head:
                self.glimpse_head = nn.Linear(config.glimpse_features, config.num_classes)
            if look_critic:
                self.look_critic = Critic(*sizes, **how, start=starts[1])
        if only_stop:
            if self.looks is None or self.looks.stop_head is None:
                raise ValueError("--only-stop is for a model that can stop. Pass --stop with it.")
            self.requires_grad_(False)
            self.looks.stop_head.requires_grad_(True)

    @property
    def looks(self) -> RecurrentAttention | None:
        """The model, if it looks; None of one that sees the whole image."""
        return self.model if isinstance(self.model, RecurrentAttention) else None

    def train(self, mode: bool = True) -> Self:
        """See `torch.nn.Module.train`; with ``only_stop`` the model takes its mean policy."""
        super().train(mode)
        if self.only_stop:
            self.model.eval()
        return self

    def forward(
        self,
        images: Images,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """A rollout with baselines and, if wanted, with what each glimpse answers alone.

        Args:
            images: B images.
            labels: ``(B,)`` int64, or ``(B, A)``, read by a privileged critic alone.
            generator: source of all randomness.

        Returns:
            The rollout; of a network that sees the whole image, one without looks.
        """
        model = self.looks
        if model is None or self.critic is None:
            return answered(self.model(as_scene(images).whole()))
        std = self.location_std
        rollout: Rollout = model(images, location_std=std, generator=generator)
        hidden, prior = rollout.hidden.transpose(0, 1), rollout.prior_logits.transpose(0, 1)
        if labels is not None and labels.ndim > 1:  # of the answer that each look was for
            labels = self.targets(rollout, labels).clamp(min=0)
            labels = labels.repeat_interleave(rollout.looks_an_answer, 1)[:, -len(hidden) :].t()
        rollout = rollout._replace(baselines=self.critic(hidden, prior, labels).t())
        if self.look_critic is not None:
            rollout = rollout._replace(look_baselines=self.look_critic(hidden, prior, labels).t())
        if self.glimpse_head is not None:
            alone = self.glimpse_head(torch.stack(list(rollout.features)))
            rollout = rollout._replace(glimpse_logits=alone.transpose(0, 1))
        context = model.context
        if context is not None and context.finds_pasted and model.training:
            thumbnails = model.thumbnail(images)
            assert thumbnails is not None
            cost = pasted_loss(context.find_pasted, thumbnails[::2], generator)  # half do
            rollout = rollout._replace(pasted_loss=cost)
        return rollout

    def targets(self, rollout: Rollout, labels: Tensor) -> Tensor:
        """The labels, in the order of the answers where any order is right."""
        return right_answers(labels, rollout.answer_logits, self.end, ordered=self.ordered)


def answered(logits: Tensor) -> Rollout:
    """``(B, K)`` answers to whole images as a rollout that looked nowhere and decided nothing."""
    nothing = logits.new_zeros((len(logits), 0), dtype=torch.float32)
    return Rollout(
        logits=logits,
        step_logits=logits[:, None],
        locations=nothing[..., None].expand(-1, -1, 2),
        log_probs=nothing,
        baselines=nothing,
        state=(),
        hidden=nothing[..., None],
        features=(),
        prior_logits=logits[:, None][:, :0],
    )
