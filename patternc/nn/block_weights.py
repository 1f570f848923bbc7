"""Attention weights of the blocks that a pattern keeps, without those between."""

from __future__ import annotations

from typing import Any

import torch

from patternc.analysis.strips import spread_out
from patternc.analysis.tiles import Counter, classify, consecutive_area, tile_cells, tile_positions
from patternc.backends.inputs import check_options, check_qkv, check_tensors
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.torch_function import computed_in
from patternc.backends.torch_program import IrPattern
from patternc.compiler import MOST_TILE, Compiled


@torch.compiler.disable
def block_weights(
    compiled: Compiled,
    q: torch.Tensor,
    k: torch.Tensor,
    lse: torch.Tensor,
    *,
    block: int = 64,
    average: bool = False,
    scale: float | None = None,
    **runtime_tensors: Any,
) -> torch.Tensor:
    """The weights exp(scale · q·k + log M − lse) of a call, in the blocks that hold some.

    q (B, H, N_q, D) and k (B, H_kv, N, D) are those of the call, lse (B, H, N_q) is what it returned. The result is a
    sparse tensor (B, H, ⌈N_q / block⌉, ⌈N / block⌉, block, block), of four sparse dimensions and two dense ones, or
    with `average` (B, ⌈N_q / block⌉, …), the mean over the heads. Blocks count from the first query and the first key;
    slots beyond the last have weight 0. It is differentiable, and its memory is that of the blocks. ValueError or
    TypeError for arguments that do not fit.
    """
    if isinstance(block, bool) or not isinstance(block, int) or not 1 <= block <= MOST_TILE:
        raise ValueError(f"block is the side of a block in tokens, 1 to {MOST_TILE}; found {block!r}")
    sizes = check_qkv(q, k, k, compiled.heads, compiled.kv_heads)
    if lse.shape != q.shape[:3]:
        raise ValueError(f"lse must be that of q, {tuple(q.shape[:3])}; found {tuple(lse.shape)}")
    scale = check_options(scale, 0.0, sizes.dim)
    pattern = IrPattern(compiled.program, compiled.heads)
    given = check_tensors(pattern.declared(sizes.n), runtime_tensors, q.device, sizes.batch)
    call = _Call(compiled, q, k, lse, scale, block, pattern.meanings(sizes.n, sizes.n_q, given, TorchArrays(q.device)))
    return call.average() if average else call.each()


class _Call:
    """A call whose weights are wanted: q (B, H, N_q, D), k (B, H, N, D) and lse (B, H, N_q) in the dtype of the
    computation, and what the pattern means at this length."""

    def __init__(
        self, compiled: Compiled, q: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, scale: float, block: int,
        meanings: Any,
    ) -> None:  # fmt: skip
        dtype, served = computed_in(q.dtype), compiled.heads // compiled.kv_heads
        self._q, self._k = q.to(dtype), k.to(dtype).repeat_interleave(served, dim=1)
        self._lse = torch.where(lse == -torch.inf, 0, lse).to(dtype)
        self._dtype, self._scale, self._block, self._meanings = q.dtype, scale, block, meanings
        self._first = meanings.n - meanings.n_q
        self._area = consecutive_area(self._first, meanings.n_q, meanings.n, block, block)

    def each(self) -> torch.Tensor:
        """(B, H, rows, columns, block, block)"""
        at, values = self._found()
        return self._sparse(at, values, (self._q.shape[1],))

    def average(self) -> torch.Tensor:
        """(B, rows, columns, block, block)"""
        at, values = self._found()
        return self._sparse(at[[0, 2, 3]], values / self._q.shape[1], ())

    def _sparse(self, at: torch.Tensor, values: torch.Tensor, heads: tuple[int, ...]) -> torch.Tensor:
        """Blocks at their places; those at one place are added."""
        shape = (self._q.shape[0], *heads, self._area.rows, self._area.columns, self._block, self._block)
        return torch.sparse_coo_tensor(at, values, shape, check_invariants=False).coalesce()

    def _found(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch row, head, row, column) of all blocks, (4, blocks), and their weights (blocks, block, block)."""
        parts = []
        for heads in self._meanings.classes:
            count = self._meanings.rows_of(heads[0])
            for b in [None] if count is None else range(count):
                parts.append(self._alike(tuple(heads), b))
        return torch.cat([at for at, _ in parts], dim=1), torch.cat([values for _, values in parts])

    def _alike(self, heads: tuple[int, ...], b: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The blocks of heads of one class, in one batch row or in all, which then are the same."""
        row, column, q_at, k_at, m = self._kept(heads[0], b)
        rows = torch.arange(self._q.shape[0], device=m.device) if b is None else torch.tensor([b], device=m.device)
        own = rows[:, None], torch.tensor(heads, device=m.device)
        query, lse = q_at - self._first, self._lse[own]
        q, lse = self._q[own][:, :, query], lse[:, :, query]
        k = torch.where((m > 0).any(dim=1)[..., None], self._k[own][:, :, k_at], 0)  # what nobody reads may be NaN
        score = torch.where(m > 0, (q @ k.mT) * self._scale - lse[..., None], 0)
        weight = (score.exp() * m).to(self._dtype)
        places = torch.broadcast_tensors(rows[:, None, None], own[1][:, None], row, column)
        return torch.stack([place.flatten() for place in places]), weight.flatten(0, 2)

    def _kept(self, head: int, b: int | None) -> tuple[torch.Tensor, ...]:
        """The blocks that hold a cell: their rows and columns, queries and keys (blocks, block), and M (blocks, block,
        block), which is 0 in slots without a token."""
        meaning, xp, area = self._meanings.of(head, b), self._meanings.xp, self._area
        runs = classify(meaning, area, xp).by_query
        of_run, within = spread_out(runs.count, xp)
        row = xp.repeat(xp.arange(0, area.rows), runs.rows[1:] - runs.rows[:-1])[of_run]
        column = runs.first[of_run] + within
        q, k = tile_positions(area, row, column, xp)
        m = xp.broadcast_to(tile_cells(meaning, q, k, xp, Counter()), (*row.shape, self._block, self._block))
        slots = xp.arange(0, self._block)
        there = [
            axis.tokens(number[:, None], slots) < axis.stop
            for axis, number in ((area.queries, row), (area.keys, column))
        ]
        return row, column, q[..., 0], k[:, 0], m * (there[0][:, :, None] & there[1][:, None, :])
