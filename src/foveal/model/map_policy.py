"""A location policy that reads a map: where to look, of the cells of a context's feature map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.geometry import begins_inside
from foveal.model.policy import POLICIES, Policy, drawn, gaussian_log_prob
from foveal.names import PartSettings, Range, check_fields

UNLIKELY = 1e4  # nats, by which a cell that was looked at is less likely
FAR = 6.0  # standard deviations from its mean, where a Gaussian adds nothing to a density
GATHERED = 16  # times as dear is a cell that is gathered as one that is there with all others
NEAR, LAST = 1, 2  # bits of a mark: cells not to be chosen again, and that of the last look
STEP_FEATURES, STEP_UNITS = 32, 64  # of a way from the last look


@dataclass(frozen=True)
class MapSettings(PartSettings):
    """Of the map policy."""

    choose_first: bool = True  # choose the first look from the map too; else it is uniform
    # cells whose middle is so near a look, in cells across or down, are not chosen again; 0: they
    # may be; 0.5: without replacement; 1.5: nor their neighbours
    apart: float = 0.0
    moves: float = 1.0  # cells that a mean may lie beside the middle of its own, across and down
    steps: bool = False  # how far a cell lies from the last look, and which way, counts too
    one_shot: bool = False  # choose all places from the context, whatever looks show: a control

    def __post_init__(self) -> None:
        check_fields(self, moves=Range(0, 1), apart=Range(0, 1000))


@POLICIES.add("map", settings=MapSettings)
class MapPolicy(Policy):
    """pi(l | h) is a mixture of Gaussians, one for each cell of the context's feature map.

    The weight of a cell is the softmax of query . key / sqrt(M), where the key is the cell's
    features and the query is linear in h; two more queries give its mean's offset from the middle
    of the cell, of up to ``moves`` cells each way. The mean policy takes the likeliest cell's mean.

    With ``steps`` the logarithm of a weight also has a query times what a small network makes of
    the way to the cell from that of the last look: "from here, up and right", wherever here is.

    Args:
        hidden_size: units of h.
        map_channels: M, features of a cell.
        settings: its own.
    """

    reads_map = True

    def __init__(self, hidden_size: int, map_channels: int, settings: MapSettings) -> None:
        super().__init__()
        self.chooses_first, self.channels = settings.choose_first, map_channels
        self.apart, self.one_shot = settings.apart, settings.one_shot
        self.moves = settings.moves
        self.once = settings.apart > 0
        self.marks = self.once or settings.steps
        self.queries = nn.Linear(hidden_size, 3 * map_channels)
        with torch.no_grad():  # it begins with the map's prior, whatever the features grow to
            for parameter in self.queries.parameters():
                parameter[:map_channels].zero_()
        self.steps = nn.Linear(hidden_size, STEP_FEATURES) if settings.steps else None
        if settings.steps:
            layers = nn.Linear(2, STEP_UNITS), nn.ReLU(), nn.Linear(STEP_UNITS, STEP_FEATURES)
            self.ways = nn.Sequential(*layers)

    def forward(  # type: ignore[override]  # its class says that it reads a map
        self,
        hidden: Tensor,
        std: float | Tensor,
        generator: torch.Generator | None,
        feature_map: Tensor,
        seen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.forward`; the mean is that of the chosen cell."""
        middles, sizes, keys, prior = self._cells(feature_map)
        with torch.autocast(hidden.device.type, enabled=False):
            weighing, *moving = self._queries(hidden[:, None]).unbind(2)
            seen = None if seen is None else seen[:, None]
            weighed = weighing @ keys
            if self.steps is not None:
                weighed = weighed + self._stepped(hidden[:, None], middles, sizes, seen)
            weights = self._weights(weighed, prior, seen).squeeze(1)
            cell = drawn(weights, generator) if self.training else weights.argmax(-1, keepdim=True)
            # Where the others would be is left out.
            key = keys.gather(2, cell[:, None].expand(-1, keys.shape[1], -1))
            moved = torch.stack([query @ key for query in moving], dim=-1).view(-1, 2)
        middle = middles.gather(1, cell[..., None].expand(-1, -1, 2)).squeeze(1)
        mean = middle + self.moves * moved.tanh() * sizes
        return mean, self.around(mean, std, generator)

    def score(  # type: ignore[override]
        self,
        hidden: Tensor,
        choice: Tensor,
        std: float | Tensor,
        feature_map: Tensor,
        seen: Tensor | None = None,
    ) -> Tensor:
        """See `Policy.score`."""
        # Image by image in memory, as the maps lie.
        hidden, choice = hidden.movedim(-2, 0), choice.movedim(-2, 0)
        flat = choice.reshape(choice.shape[0], -1, 1, 2)
        if seen is not None:
            seen = seen.movedim(-3, 0).reshape(*flat.shape[:2], *seen.shape[-2:])
        near = self._near(flat.squeeze(2), std, feature_map)
        weights, means = self.mixture(hidden.reshape(*flat.shape[:2], -1), feature_map, seen, near)
        densities = (weights + gaussian_log_prob(flat, means, std)).logsumexp(-1)
        return densities.view(choice.shape[:-1]).movedim(0, -1)

    def cell_weights(self, hidden: Tensor, feature_map: Tensor) -> Tensor | None:
        """See `Policy.cell_weights`."""
        if self.steps is not None:
            return None
        weights = self.mixture(hidden, feature_map)[0].exp()
        return weights.view(*hidden.shape[:2], *feature_map.shape[-2:])

    def mark(self, location: Tensor, feature_map: Tensor, seen: Tensor) -> Tensor:
        """See `Policy.mark`."""
        columns, rows, sizes = self._grid(feature_map)
        across = (columns - location[:, :1]).abs() / sizes[:, :1]
        down = (rows - location[:, 1:2]).abs() / sizes[:, 1:]
        if self.apart:
            near = (down <= self.apart)[:, :, None] & (across <= self.apart)[:, None]
            seen = (seen | near) & NEAR
        if self.steps is not None:
            last = [
                nn.functional.one_hot(off.argmin(1), off.shape[1]).to(seen.dtype)
                for off in (down, across)
            ]
            seen = seen & NEAR | LAST * last[0][:, :, None] * last[1][:, None]
        return seen

    def _near(self, choice: Tensor, std: float | Tensor, feature_map: Tensor) -> Tensor | None:
        """``(B, N, n)``, the cells whose Gaussians reach ``(B, N, 2)`` choices; None: all may."""
        down, across = feature_map.shape[-2:]
        if isinstance(std, Tensor):  # on a device, which is not waited for
            return None
        reach = 1.5 + FAR * std * max(down, across) / 2  # a mean is up to a cell off its middle
        side = 2 * math.ceil(reach) + 1
        if side > min(down, across) or GATHERED * side**2 > down * across:
            return None
        _, _, sizes = self._grid(feature_map)
        first = ((choice + 1) / sizes[:, None]).floor().long() - side // 2
        step = torch.arange(side, device=choice.device)
        x, y = (
            first[..., n, None].clamp(0, most - side) + step for n, most in ((0, across), (1, down))
        )
        return (y[..., :, None] * across + x[..., None, :]).flatten(2)

    def mixture(
        self,
        hidden: Tensor,
        feature_map: Tensor,
        seen: Tensor | None = None,
        near: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The mixtures that N times h and a map make.

        Args:
            hidden: ``(B, N, hidden_size)``.
            feature_map: ``(B, 2 + M, h, w)``, or with the prior as one channel more.
            seen: ``(B, N, h, w)`` uint8, as `mark` makes it; nothing was seen if None.
            near: ``(B, N, n)``, the cells that are asked for; all h w if None.

        Returns:
            ``(B, N, n)`` logarithms of the cells' weights, -inf of a cell that lies beyond the
            image, and ``(B, N, n, 2)`` means.
        """
        places, sizes, keys, prior = self._cells(feature_map)
        # In bfloat16 a location would have too few digits to name a pixel.
        with torch.autocast(hidden.device.type, enabled=False):
            queries = self._queries(hidden)
            if near is None:
                # One product, whose gradient is one piece of memory.
                products = (queries.flatten(1, 2) @ keys).view(*queries.shape[:3], -1)
                weighed, moved = products[:, :, 0], products[:, :, 1:].movedim(2, 3)
                middles = places[:, None]
            else:
                weighed = queries[:, :, 0] @ keys
                image = torch.arange(len(near), device=near.device)[:, None, None]
                moved = keys.transpose(1, 2)[image, near] @ queries[:, :, 1:].transpose(2, 3)
                middles = places[image, near]
            if self.steps is not None:
                weighed = weighed + self._stepped(hidden, places, sizes, seen)
        weights = self._weights(weighed, prior, seen)
        weights = weights if near is None else weights.gather(2, near)
        return weights, middles + self.moves * moved.tanh() * sizes[:, None, None]

    @staticmethod
    def _grid(feature_map: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The x of columns ``(B, w)``, y of rows ``(B, h)``, sizes across and down ``(B, 2)``."""
        places = feature_map[:, :2].detach().float()
        # The first cell begins with the image, at -1.
        return places[:, 0, 0], places[:, 1, :, 0], 2 * (places[:, :, 0, 0] + 1)

    def _cells(self, feature_map: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the cells: middles ``(B, h w, 2)``, sizes across and down ``(B, 2)``, keys, priors.

        A prior, ``(B, h w)``, adds to the logarithm of a weight; -inf where the image has ended.
        """
        sizes = self._grid(feature_map)[-1]
        beyond = ~begins_inside(feature_map[:, :2].detach().float()).flatten(1)
        # Split at once, the map has one gradient in memory, where slices have one each.
        parts = [2, self.channels, 1][: feature_map.shape[1] - self.channels]
        places, keys, *priors = torch.split(feature_map.flatten(2).float(), parts, 1)
        prior = priors[0].squeeze(1) if priors else torch.zeros_like(places[:, 0])
        return places.detach().transpose(1, 2), sizes, keys, prior.masked_fill(beyond, -torch.inf)

    def _queries(self, hidden: Tensor) -> Tensor:
        """``(B, N, 3, M)``: for weights, and for means across and down."""
        queries: Tensor = self.queries(self._told(hidden)) / math.sqrt(self.channels)
        return queries.view(*queries.shape[:-1], 3, -1)

    def _stepped(
        self, hidden: Tensor, middles: Tensor, sizes: Tensor, marks: Tensor | None
    ) -> Tensor:
        """``(B, N, h w)``, what ways from the last look add to logarithms of weights, if any."""
        if self.steps is None or marks is None:
            return hidden.new_zeros((), dtype=torch.float32)
        last = (marks & LAST).flatten(2).bool().float()
        # In cells, those nearby told apart the best; none before the first look.
        ways = (middles[:, None] - (last @ middles)[:, :, None]) / sizes[:, None, None]
        ways = ways * last.amax(-1)[..., None, None]
        ways = self.ways(ways.sign() * ways.abs().log1p())
        added: Tensor = (ways @ self.steps(self._told(hidden))[..., None]).squeeze(-1)
        return added

    def _told(self, hidden: Tensor) -> Tensor:
        return torch.zeros_like(hidden.float()) if self.one_shot else hidden.float()

    @staticmethod
    def _weights(weighed: Tensor, prior: Tensor, seen: Tensor | None) -> Tensor:
        """``(B, N, h w)`` logarithms of weights, from what the keys say of each cell."""
        # A number for each look and cell is much to write: no more often than it has to be.
        weighed = weighed + prior[:, None]
        if seen is not None:  # little, not nothing: there may be no other cell
            weighed = weighed.sub_((seen & NEAR).flatten(2), alpha=UNLIKELY)
        return weighed.log_softmax(-1)
