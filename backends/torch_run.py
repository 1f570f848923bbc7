"""From arguments to results: checks, the plan of the length (kept for the next call), and the passes.

This is the same for a program in memory and for a saved module, which carries this file; they differ in the `Pattern`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from patternc.analysis.launches import tiled_plan
from patternc.analysis.numbers import Cells
from patternc.backends.inputs import Declared, check_heads, check_options, check_qkv, check_tensors, draw_seed
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.torch_function import attention, computed_in
from patternc.backends.torch_masks import CellValues, Masks
from patternc.backends.torch_passes import Call
from patternc.backends.torch_schedule import Schedule, schedule
from patternc.plan import Plan

TILE_SIZES = {"cpu": (128, 64)}
"""Tokens on each side of a tile, by device type; of several, the one whose plan costs least is taken."""
OTHER_TILE_SIZES = (128,)
TIME_PER_SCORE = {128: 1.0, 64: 1.2}
"""By tile size, in units of the first; measured on one CPU core with head dimension 64 and n = 8192, where causal
attention took 1.25 and a window of 1024 keys 1.05 times as long per score with tiles of 64."""
KEPT_PLANS = 8
"""Lengths whose plans are kept; with their masks they hold some 64 MiB each, at most."""


class Meanings(Protocol):
    """The multiplicities of a program at one length."""

    @property
    def classes(self) -> Sequence[tuple[int, ...]]:
        """Heads that have the same multiplicities."""

    def rows_of(self, h: int) -> int | None:
        """The number of batch rows, if the head's multiplicities depend on them."""

    def of(self, h: int, b: int | None = None) -> Any:
        """M of a head and batch row: a function of numbers (analysis/numbers.py) for query and key."""


class Pattern(Protocol):
    """What a `Runner` runs."""

    @property
    def heads(self) -> int:
        """Query heads."""

    @property
    def bag(self) -> bool:
        """Whether M may exceed 1."""

    @property
    def reads_tensors(self) -> bool:
        """Whether it has run-time tensors."""

    def declared(self, n: int) -> list[Declared]:
        """Its run-time tensors at a length; an error if there is no such length."""

    def meanings(self, n: int, n_q: int, tensors: Mapping[str, torch.Tensor], xp: TorchArrays) -> Meanings:
        """Its multiplicities at a length."""


def _cost(plan: Plan) -> float:
    """The time of a plan of square tiles for one batch row, in scores."""
    tiles = sum(len(launch.heads) * int(launch.by_query.count.sum()) for launch in plan.launches)
    return tiles * plan.tile_q * plan.tile_k * TIME_PER_SCORE[plan.tile_q]


def cells_of(meanings: Meanings, xp: TorchArrays) -> CellValues:
    """M of cells, as the masks ask for it."""

    def multiplicity(q: torch.Tensor, k: torch.Tensor, head: int, row: int) -> torch.Tensor:
        m = meanings.of(head, row)(Cells(q, True, xp), Cells(k, True, xp))
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
        heads = self.pattern.heads
        meanings = self.pattern.meanings(n, n_q, tensors, xp)
        sizes = TILE_SIZES.get(device.type, OTHER_TILE_SIZES)
        if self.pattern.reads_tensors:  # then every call makes its plan
            sizes = sizes[:1]
        lengths: dict[str, Any] = {"heads": heads, "n": n, "n_q": n_q}
        plans = (tiled_plan(meanings, **lengths, tile_q=size, tile_k=size, xp=xp) for size in sizes)
        plan = min(plans, key=_cost)
        by_row = any(meanings.rows_of(members[0]) is not None for members in meanings.classes)
        masks = Masks(
            cells_of(meanings, xp),
            head_class=_class_of_head(meanings, heads),
            batch_class=list(range(batch)) if by_row else [0] * batch,
            bag=self.pattern.bag,
            keep=not self.pattern.reads_tensors,
            home=xp.device,
        )
        return Ready(plan, schedule(plan, self.kv_heads, batch, device), masks)


def _class_of_head(meanings: Meanings, heads: int) -> list[int]:
    numbers = {h: i for i, members in enumerate(meanings.classes) for h in members}
    return [numbers[h] for h in range(heads)]
