"""Several digits on a canvas: where each lies, and what is answered of them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from foveal.names import IGNORED

ATTEMPTS, TRIES = 8, 32  # at a canvas of digits apart, and at the place of each

# Whole numbers of a shape, uniform from 0 up and below a limit, or below one for each.
Draw = Callable[[tuple[int, ...], int | Tensor], Tensor]


def in_a_row(draw: Draw, batch: int, count: int, side: int, digit: int, slope: int) -> Tensor:
    """Places of digits that touch side by side, each as much higher or lower than the last.

    How much is uniform from -slope up to, and without, slope; so is the place of the whole row.

    Args:
        draw: gives random numbers.
        batch: B.
        count: M, digits on each canvas.
        side: pixels a side of the canvas.
        digit: pixels a side of a digit.
        slope: pixels a digit, above 0.

    Returns:
        ``(B, M, 2)`` (y, x) of their top left corners, from left to right.
    """
    step = draw((batch, 1), 2 * slope) - slope
    rise = step * (count - 1)
    top = draw((batch, 1), side - digit - rise.abs() + 1) - rise.clamp(max=0)
    left = draw((batch, 1), side - count * digit + 1)
    which = torch.arange(count, device=step.device)
    return torch.stack([top + which * step, left + which * digit], dim=-1)


def apart(draw: Draw, counts: Tensor, most: int, side: int, digit: int) -> Tensor:
    """Places of digits whose squares do not overlap.

    One after another, each uniformly where it overlaps none before; if one finds no place, all
    begin anew, and after `ATTEMPTS` of that they stand in rows.

    Args:
        draw: gives random numbers.
        counts: ``(B,)``, digits on each canvas.
        most: M, the most of them.
        side: pixels a side of the canvas.
        digit: pixels a side of a digit.

    Returns:
        ``(B, M, 2)`` (y, x) of their top left corners; those behind the counts mean nothing.
    """
    tries = draw((len(counts), ATTEMPTS, most, TRIES, 2), side - digit + 1)
    fits = torch.ones_like(tries[:, :, 0, 0, 0], dtype=torch.bool)
    chosen: list[Tensor] = []
    for number in range(most):
        here = tries[:, :, number]
        free = torch.ones_like(here[..., 0], dtype=torch.bool)
        for before in chosen:
            free &= ((here - before[:, :, None]).abs() >= digit).any(-1)
        first = free.int().argmax(-1)[..., None, None].expand(-1, -1, -1, 2)
        chosen.append(here.gather(2, first).squeeze(2))
        fits &= free.any(-1) | (number >= counts[:, None])
    attempt = fits.int().argmax(1)[:, None, None, None].expand(-1, -1, most, 2)
    places = torch.stack(chosen, dim=2).gather(1, attempt).squeeze(1)
    which, row = torch.arange(most, device=counts.device), side // digit
    rows = torch.stack([which // row, which % row], dim=-1) * digit
    return torch.where(fits.any(1)[:, None, None], places, rows)


def reading_order(places: Tensor, counts: Tensor) -> Tensor:
    """``(B, M)``, which digit comes first, second, ... from left to right, and from above."""
    keys = places[..., 1] * 2**32 + places[..., 0]
    absent = torch.arange(places.shape[1], device=counts.device) >= counts[:, None]
    return keys.masked_fill(absent, 2**62).argsort(dim=1)


def classes_of(answer: str, digits: Sequence[str], with_end: bool) -> tuple[str, ...]:
    """The names of the classes of an answer about digits of these names, by label."""
    if answer == "pair":
        names = enumerate(digits)
        return tuple(f"{one}-{other}" for n, other in names for one in digits[: n + 1])
    if answer == "sum":
        return tuple(str(total) for total in range(2 * len(digits) - 1))
    return (*digits, "end") if with_end else tuple(digits)


def labels_of(answer: str, labels: Tensor, counts: Tensor, end: int | None) -> Tensor:
    """The label of each canvas, ``(B,)``, or its labels, ``(B, M)``, as `Task.batch` has them.

    Args:
        answer: as `TaskConfig` has it.
        labels: ``(B, M)``, of the digits.
        counts: ``(B,)``, how many of them there are.
        end: the class behind the last of fewer than M, if any.
    """
    if answer == "pair":  # in any order, by the larger and then by the smaller
        low, high = labels.sort(dim=1).values.unbind(1)
        return high * (high + 1) // 2 + low
    if answer == "sum":
        return labels.sum(1)
    which = torch.arange(labels.shape[1], device=labels.device)
    told = labels.masked_fill(which >= counts[:, None], IGNORED)
    return told if end is None else told.masked_fill(which == counts[:, None], end)
