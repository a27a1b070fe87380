"""What a step and a rollout give, and answers that are sequences.

Shapes: B images, C channels, S scales, G pixels a side of a patch, A answers an image, N glimpses
an answer, T = A N glimpses, K classes.

A sequence of labels is ``(B, A)`` int64, `IGNORED` where no further answer is wanted; where they
differ in length the last class says that one has ended, in the place behind its last label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from foveal.model.core import State
from foveal.names import IGNORED

UNLIKELY = 1e4  # nats, by which a class is less likely that was answered before


class Look(NamedTuple):
    """What one glimpse brings, and what is then remembered.

    Attributes:
        glimpses: ``(B, S, C, G, G)``, as the sensor gives them.
        features: ``(B, F)``, what the glimpse network makes of them.
        state: the core's, after it.
    """

    glimpses: Tensor
    features: Tensor
    state: State


class Decision(NamedTuple):
    """Where to look next.

    Attributes:
        location: ``(B, 2)`` in [-1, 1]; carries no gradient but a ``location_gradient``.
        choice: ``(B, 2)``, the same before it was clamped into the image.
    """

    location: Tensor
    choice: Tensor


class Step(NamedTuple):
    """What one glimpse gives.

    Attributes:
        logits: ``(B, K)``, the answer if this were the last glimpse.
        next_location: ``(B, 2)`` in [-1, 1], where to look next: a sample in training mode, the
            policy's mean in eval mode.
        log_prob: ``(B,)``, of the sample *before* it was clamped into the image.
        state: the core's, for the next step.
        choice: ``(B, 2)``, `next_location` before it was clamped.
        glimpses: ``(B, S, C, G, G)``, what the sensor brought.
        stop: ``(B,)``, the probability of stopping here; None of a model that does not decide it.
    """

    logits: Tensor
    next_location: Tensor
    log_prob: Tensor
    state: State
    choice: Tensor
    glimpses: Tensor
    stop: Tensor | None = None


class Rollout(NamedTuple):
    """T glimpses at each of a batch of images.

    Of them D are chosen by the policy: the last T - 1, or all where it also chooses the first. Of A
    answers each is given after its own N glimpses; a plain classifier gives one.

    Attributes:
        logits: ``(B, K)``, after the last glimpse.
        step_logits: ``(B, T, K)``, after each glimpse.
        locations: ``(B, T, 2)``, the places looked at, the first included.
        log_probs: ``(B, D)``, of the chosen locations, taken before clamping.
        baselines: ``(B, D)``, the return expected when each of them was chosen: by the critic of
            a trainer (`foveal.training.critic`); zeros without one.
        state: the core's, after the last glimpse.
        hidden: ``(B, D, H)``, h when each of them was chosen.
        features: T times ``(B, F)``, what the glimpse network made of each glimpse.
        prior_logits: ``(B, D, K)``, the answer that h would have given then.
        glimpse_logits: ``(B, T, K)``, the answer of each glimpse alone, without memory, where a
            trainer asks for it; otherwise None.
        look_baselines: ``(B, D)``, what each chosen look alone was expected to tell, likewise.
        num_answers: A.
        stop_logits: ``(B, T)``, the log-odds of stopping after each look (`foveal.model.stop`);
            None of a model that does not decide it.
        pasted_loss: ``()``, what finding pasted pieces cost the context, in nats
            (`foveal.training.pasting`); None where it does not learn that.
    """

    logits: Tensor
    step_logits: Tensor
    locations: Tensor
    log_probs: Tensor
    baselines: Tensor
    state: State
    hidden: Tensor
    features: Sequence[Tensor]
    prior_logits: Tensor
    glimpse_logits: Tensor | None = None
    look_baselines: Tensor | None = None
    num_answers: int = 1
    stop_logits: Tensor | None = None
    pasted_loss: Tensor | None = None

    @property
    def looks_an_answer(self) -> int:
        """N, the glimpses of each answer."""
        return self.step_logits.shape[1] // self.num_answers

    @property
    def answered_at(self) -> range:
        """The glimpse after which each of the A answers was given, from 0."""
        return range(self.looks_an_answer - 1, self.step_logits.shape[1], self.looks_an_answer)

    @property
    def answer_logits(self) -> Tensor:
        """``(B, A, K)``, of each answer, after the last of its glimpses."""
        return self.step_logits[:, self.looks_an_answer - 1 :: self.looks_an_answer]

    @property
    def answers(self) -> Tensor:
        """``(B, A)`` int64, the likeliest classes."""
        return self.answer_logits.argmax(-1)

    def part(self, answer: int) -> Rollout:
        """What concerns one answer, from 0, as a rollout that gives no other."""
        if self.num_answers == 1:
            return self
        begin, end = answer * self.looks_an_answer, (answer + 1) * self.looks_an_answer
        late = self.step_logits.shape[1] - self.log_probs.shape[1]
        of_looks = ("step_logits", "locations", "glimpse_logits")
        parts = dict.fromkeys(of_looks, (begin, end))
        names = ("log_probs", "baselines", "hidden", "prior_logits", "look_baselines")
        parts |= {name: (max(0, begin - late), end - late) for name in names}
        cut = {
            name: value[:, slice(*place)]
            for name, place in parts.items()
            if (value := getattr(self, name)) is not None
        }
        return self._replace(
            logits=self.step_logits[:, end - 1],
            features=self.features[begin:end],
            num_answers=1,
            **cut,
        )


def repeats(step_logits: Tensor, looks: int) -> Tensor:
    """What is taken off logits so that no answer repeats one before it.

    Args:
        step_logits: ``(T, B, K)``, after each look.
        looks: N, of each answer.

    Returns:
        ``(T, B, K)``, `UNLIKELY` of the classes that were answered before, else 0.
    """
    given, taken = torch.zeros_like(step_logits[0]), []
    for part in torch.split(step_logits.detach(), looks):
        taken.append(given.expand_as(part))
        answer = (part[-1] - given).argmax(-1, keepdim=True)
        given = given.scatter(-1, answer, UNLIKELY)
    return torch.cat(taken)


def matched(labels: Tensor, logits: Tensor, end: int | None = None) -> Tensor:
    """The labels of a set, in the order in which a model tells them.

    An answer that names a label has it. Of those that no answer names, a wrong answer's label is
    the one in which the model believes most. The end stays behind them all.

    Args:
        labels: ``(B, A)``, in any order.
        logits: ``(B, A, K)`` of the answers.
        end: the class that says that there are no more, or None.

    Returns:
        ``(B, A)``, a permutation of each row of the labels.
    """
    left = labels if end is None else labels.masked_fill(labels == end, IGNORED)
    beliefs, wanted = logits.detach().float(), (left >= 0).sum(1)
    told = torch.where(left < 0, labels, IGNORED)
    for named in (True, False):
        for answer in range(labels.shape[1]):
            own = beliefs[:, answer].gather(1, left.clamp(min=0)).masked_fill(left < 0, -torch.inf)
            place = own.argmax(1, keepdim=True)
            label = left.gather(1, place).squeeze(1)
            takes = (answer < wanted) & (told[:, answer] < 0)
            if named:
                takes &= label == beliefs[:, answer].argmax(1)
            told[:, answer] = torch.where(takes, label, told[:, answer])
            used = left.scatter(1, place, IGNORED)
            left = torch.where(takes[:, None], used, left)
    return told


def right_answers(labels: Tensor, logits: Tensor, end: int | None, *, ordered: bool) -> Tensor:
    """``(B,)`` or ``(B, A)`` labels, `matched` if there are several and any order is right."""
    return labels if ordered or labels.ndim == 1 else matched(labels, logits, end)


def ended(answers: Tensor, end: int | None) -> Tensor:
    """``(B, A)`` answers, `IGNORED` behind the end of each sequence."""
    if end is None:
        return answers
    over = (answers == end).long()
    return answers.masked_fill(over.cumsum(1) > over, IGNORED)
