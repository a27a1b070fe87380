"""Several digits on a canvas: where each lies, and what is answered of them all."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.names import END, IGNORED
from foveal.randomness import random_rows

ATTEMPTS, TRIES = 8, 32  # at a canvas of digits apart or a trail, and at the place of each
DIRECTIONS = 8  # by the class of a digit, where the next lies: 0 up, 1 up and right, 2 right, ...

# Whole numbers of a shape, uniform from 0 up and below a limit, or below one for each.
Draw = Callable[[tuple[int, ...], int | Tensor], Tensor]


@dataclass(frozen=True)
class Draws:
    """Random numbers of a generator for a batch of canvases, on their device; itself a `Draw`."""

    generator: torch.Generator | None
    device: torch.device

    def __call__(self, shape: tuple[int, ...], limit: int | Tensor) -> Tensor:
        """See `Draw`."""
        if isinstance(limit, int):
            draw = functools.partial(torch.randint, limit)
            return random_rows(draw, shape, self.generator, self.device)
        limits = limit.view(len(limit), -1)
        return (self.share(shape) * limits).long().minimum(limits - 1)  # may be rounded up

    def share(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform in [0, 1)."""
        return random_rows(torch.rand, shape, self.generator, self.device)

    def places(self, shape: tuple[int, ...], rows: int | Tensor, columns: int | Tensor) -> Tensor:
        """Uniform ``(y, x)`` with y below ``rows`` and x below ``columns``; ``(*shape, 2)``."""
        return torch.stack([self(shape, limit) for limit in (rows, columns)], dim=-1)


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


def trails(
    draw: Draw, last: Tensor, hops: int, digits: int, sites: int, classes: int
) -> tuple[Tensor, Tensor]:
    """Which sites of a lattice a trail visits, and what lies on them and on others.

    From each digit of a trail but the last, the next lies on one of the eight sites around,
    clockwise from above by the digit's class. It is drawn backwards, so that it ends on any site:
    each digit lies before the next on any site of the lattice that is off the trail. Where no walk
    of `ATTEMPTS` goes on to the first digit, it goes along the rows.

    The last digit is of any class, whatever the trail. It and those beside the trail are as many of
    each class, as far as numbers allow, and lie anywhere: neither what is on one place, nor how
    many there are of a class, tells which is the last.

    Args:
        draw: gives random numbers.
        last: ``(B,)``, the class of each trail's last digit.
        hops: H, to it from the first.
        digits: M, on each canvas.
        sites: of the lattice, across and down.
        classes: K, of digits.

    Returns:
        ``(B, M)`` sites, row by row, and ``(B, M)`` classes: first H + 1 of the trail, in order.
    """
    batch, device = len(last), last.device
    angle = torch.arange(DIRECTIONS, device=device) * (2 * math.pi / DIRECTIONS)
    step = torch.stack([-angle.cos(), angle.sin()], dim=-1).round().long()  # (down, across)
    here = draw((batch, ATTEMPTS), sites**2)
    free = torch.ones(batch, ATTEMPTS, sites**2, dtype=torch.bool, device=device)
    fits, path, turns = torch.ones_like(here, dtype=torch.bool), [here], []
    for _ in range(hops):
        free = free.scatter(2, here[..., None], value=False)
        around = torch.stack([here // sites, here % sites], dim=-1)[:, :, None] - step
        inside = ((around >= 0) & (around < sites)).all(-1)
        flat = around[..., 0] * sites + around[..., 1]
        open_ = inside & free.gather(2, flat.clamp(0, sites**2 - 1))
        turn = (draw((batch, ATTEMPTS, DIRECTIONS), 2**30) + 1).where(open_, 0).argmax(2)
        fits = fits & open_.any(2)
        here = flat.gather(2, turn[..., None]).squeeze(2).clamp(0, sites**2 - 1)
        path.append(here)
        turns.append(turn)
    attempt = fits.int().argmax(1)[:, None, None]
    walked, told = (
        torch.stack(parts[::-1], dim=2).gather(1, attempt.expand(-1, -1, len(parts))).squeeze(1)
        for parts in (path, turns)
    )
    along = torch.arange(hops + 1, device=device)
    row, column = along // sites, along % sites
    snake = row * sites + column.where(row % 2 == 0, sites - 1 - column)
    down = (column == sites - 1)[:-1]
    straight = torch.full_like(snake, 2).where(row % 2 == 0, 6)[:-1].masked_fill(down, 4)
    any_ = fits.any(1, keepdim=True)
    walked, told = torch.where(any_, walked, snake), torch.where(any_, told, straight)
    # The others, in any order: sites that are free, and classes that make up for the last one's.
    keys = draw((batch, sites**2), 2**30).scatter(1, walked, 2**31)
    elsewhere = keys.argsort(1)[:, : digits - hops - 1]
    others = torch.arange(digits - hops - 1, device=device).expand_as(elsewhere)
    shuffled = draw((batch, classes - 1), 2**30).argsort(1)
    shuffled = torch.cat([shuffled, torch.full_like(last, classes - 1)[:, None]], dim=1)
    others = (last[:, None] + 1 + shuffled.gather(1, others % classes)) % classes
    return torch.cat([walked, elsewhere], dim=1), torch.cat([told, last[:, None], others], dim=1)


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
    return (*digits, END) if with_end else tuple(digits)


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
