"""From arguments to results: checks, the plan of the length (kept for the next call), and the passes.

This is the same for a program in memory and for a saved module, which carries this file; they differ in the `Pattern`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from patternc.analysis.numbers import Cells
from patternc.backends.inputs import Declared, check_heads, check_options, check_qkv, check_tensors, draw_seed
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.torch_function import attention, computed_in
from patternc.backends.torch_masks import CellValues, Masks
from patternc.backends.torch_passes import Call
from patternc.backends.torch_schedule import Schedule, schedule
from patternc.backends.torch_strips import scores
from patternc.passes.merge import merge
from patternc.passes.tiles import forms, tiles
from patternc.plan import TILE_K, TILE_Q, Layout, Plan

TILES = {"cpu": ((128, 128), (64, 64), (32, 32))}
"""Queries and keys of a tile, by device type; of several, those are taken with which a length costs least."""
OTHER_TILES = ((TILE_Q, TILE_K),)
TIME_PER_SCORE = {128: 1.0, 64: 1.15, 32: 1.25}
"""By the queries of a tile, in units of the first; measured on a CPU core with AVX-512, head dimension 64 and n = 4096,
over forward and backward passes of causal attention."""
PER_ROW = 40
"""The time of one more strip of a query, in scores: it is read, merged and written. Measured on two CPU cores with
AVX-512 and head dimension 64."""
KEPT_PLANS = 8
"""Lengths whose plans are kept; with their masks they hold some 64 MiB each, at most."""


class Meanings(Protocol):
    """The multiplicities of a program at one length."""

    @property
    def classes(self) -> Sequence[tuple[int, ...]]:
        """Heads that have the same terms."""

    def rows_of(self, h: int) -> int | None:
        """The number of batch rows, if the head's multiplicities depend on them."""

    def terms(self, h: int) -> Sequence[tuple[Layout, Layout]]:
        """The layouts of queries and keys of each term of a head."""

    def term(self, h: int, b: int | None, i: int) -> Any:
        """M of a term of a head in a batch row: a function of numbers (analysis/numbers.py) for query and key."""

    def listed(self, h: int, b: int | None, i: int) -> tuple[Any, Any]:
        """The positions of queries and keys that a term's listed layouts hold; None for other layouts."""


class Pattern(Protocol):
    """What a `Runner` runs."""

    @property
    def heads(self) -> int:
        """Query heads."""

    @property
    def reads_tensors(self) -> bool:
        """Whether it has run-time tensors."""

    def declared(self, n: int) -> list[Declared]:
        """Its run-time tensors at a length; an error if there is no such length."""

    def meanings(self, n: int, n_q: int, tensors: Mapping[str, torch.Tensor], xp: TorchArrays) -> Meanings:
        """Its multiplicities at a length."""

    def whole(self) -> Pattern:
        """The same with one term for every head, in consecutive tokens; itself, if it is so already."""


def tiled_plan(meanings: Meanings, tile_q: int, tile_k: int, xp: TorchArrays) -> Plan:
    """The plan of multiplicities, for an executor that balances nothing."""
    return merge(tiles(meanings, tile_q, tile_k), xp)


def _cost(plan: Plan, s: Schedule) -> float:
    """The time of the forward pass, in scores."""
    per_score = TIME_PER_SCORE[plan.tile_q]
    return sum(
        streams.count * (scores(strip) * per_score + PER_ROW * strip.queries.rows * strip.queries.slots)
        for part in s.parts
        for streams in part.streams
        for strip in part.by_query
    )


def cells_of(meanings: Meanings, xp: TorchArrays) -> CellValues:
    """M of cells, as the masks ask for it."""

    def multiplicity(term: int, q: torch.Tensor, k: torch.Tensor, head: int, row: int) -> torch.Tensor:
        m = meanings.term(head, row, term)(Cells(q, True, xp), Cells(k, True, xp))
        value = m.value if isinstance(m, Cells) else m
        shape = torch.broadcast_shapes(q.shape, k.shape)
        return torch.as_tensor(value, device=q.device).expand(shape)

    return multiplicity


@dataclass(frozen=True, eq=False)
class Ready:
    """All that a call needs beside q, k and v."""

    plan: Plan
    schedule: Schedule
    masks: Masks


class Runner:
    """One pattern on tensors."""

    def __init__(self, pattern: Pattern, kv_heads: int) -> None:
        check_heads(pattern.heads, kv_heads)
        self.pattern, self.kv_heads = pattern, kv_heads
        self._kept: OrderedDict[tuple[Any, ...], Ready] = OrderedDict()

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        scale: float | None = None,
        dropout_p: float = 0.0,
        return_lse: bool = False,
        seed: int | None = None,
        tensors: Mapping[str, Any] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention of q (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v); see `base.Artifact`."""
        sizes = check_qkv(q, k, v, self.pattern.heads, self.kv_heads)
        scale = check_options(scale, dropout_p, sizes.dim)
        ready = self.ready(sizes.n, sizes.n_q, sizes.batch, q.device, tensors or {})
        seed = draw_seed(seed, dropout_p)
        call = Call(ready.schedule, ready.masks, scale, dropout_p, seed, computed_in(q.dtype))
        out, lse = attention(call, q, k, v)
        return (out, lse) if return_lse else out

    def ready(self, n: int, n_q: int, batch: int, device: torch.device, tensors: Mapping[str, Any]) -> Ready:
        """The plan of a length with its schedule; kept unless run-time tensors have a say in it."""
        key = (n, n_q, batch, device)
        if key in self._kept and not tensors:
            self._kept.move_to_end(key)
            return self._kept[key]
        home = device if device.type in ("cpu", "cuda") else torch.device("cpu")  # elsewhere float64 may be missing
        given = check_tensors(self.pattern.declared(n), tensors, device, batch, home)
        made = self._make(n, n_q, batch, device, given, TorchArrays(home))
        if not self.pattern.reads_tensors:
            self._kept[key] = made
            while len(self._kept) > KEPT_PLANS:
                self._kept.popitem(last=False)
        return made

    def _make(
        self,
        n: int,
        n_q: int,
        batch: int,
        device: torch.device,
        tensors: Mapping[str, torch.Tensor],
        xp: TorchArrays,
    ) -> Ready:
        sizes = TILES.get(device.type, OTHER_TILES)
        if self.pattern.reads_tensors:  # then every call makes its plan
            sizes = sizes[:1]
        made: list[tuple[Plan, Schedule, Meanings]] = []
        for form in forms(n, self.pattern, self.pattern.whole):
            meanings = form.meanings(n, n_q, tensors, xp)
            plans = (tiled_plan(meanings, *size, xp) for size in sizes)
            class_of = _classes(meanings)
            made += [(plan, schedule(plan, self.kv_heads, batch, class_of, device), meanings) for plan in plans]
        plan, best, meanings = min(made, key=lambda one: _cost(*one[:2])) if len(made) > 1 else made[0]
        masks = Masks(cells_of(meanings, xp), keep=not self.pattern.reads_tensors, home=xp.device, first=n - n_q)
        return Ready(plan, best, masks)


def _classes(meanings: Meanings) -> Callable[[int, int], Hashable]:
    """(head, batch row) -> what is equal where multiplicities are."""
    numbers = {h: i for i, members in enumerate(meanings.classes) for h in members}
    by_row = [meanings.rows_of(members[0]) is not None for members in meanings.classes]
    return lambda h, b: (numbers[h], b if by_row[numbers[h]] else None)
