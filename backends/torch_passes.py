"""The three passes over a schedule: outputs by query tiles, dq by query tiles, dk and dv by key tiles.

Every query head and row belongs to one piece of one part, so outputs and dq are written once; dk and dv add up over
parts in a fixed order. No pass adds by atomics: same inputs, same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from patternc.backends.torch_dropout import kept
from patternc.backends.torch_masks import Mask, Masks
from patternc.backends.torch_pieces import BUDGET, OTHER_BUDGET, Gather, Piece, pieces, tokens
from patternc.backends.torch_schedule import Bucket, Part, Schedule

_tallies: list[dict[str, int]] = []


@contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Counts the tiles executed inside, times heads and batch rows, by pass: `forward`, `dq`, `dkv`."""
    tally = {"forward": 0, "dq": 0, "dkv": 0}
    _tallies.append(tally)
    try:
        yield tally
    finally:
        _tallies[:] = [other for other in _tallies if other is not tally]


@dataclass(frozen=True, eq=False)
class Call:
    """What all passes of one call share."""

    schedule: Schedule
    masks: Masks
    scale: float
    dropout_p: float
    seed: int
    dtype: torch.dtype
    """The dtype of the computation."""

    def work(self, name: str, device: torch.device, by_query: bool) -> Iterator[Work]:
        """The pieces of a pass, in order."""
        s = self.schedule
        budget = BUDGET.get(device.type, OTHER_BUDGET) // (4 if self.dropout_p else 1)
        for part in s.parts:
            for bucket in part.by_query if by_query else part.by_key:
                for rows, shares in pieces(part, bucket, s.tile_q * s.tile_k, budget):
                    mask = self.masks.of(s, part, bucket, rows, by_query, self.dtype) if bucket.masked else None
                    for piece in shares:
                        work = Work(self, Gather(s, part, piece, self.dtype), bucket, mask, by_query)
                        for tally in _tallies:
                            tally[name] += work.tiles
                        yield work


@dataclass(frozen=True, eq=False)
class Work:
    """One piece. Its scores are (Z, ·, ·) with queries down and keys across if `by_query`, else the other way round;
    of the side that runs across, several tiles come side by side."""

    call: Call
    gather: Gather
    bucket: Bucket
    mask: Mask | None
    by_query: bool

    @property
    def piece(self) -> Piece:
        return self.gather.piece

    @property
    def part(self) -> Part:
        return self.gather.part

    @property
    def tiles(self) -> int:
        b, u, r = self.gather.shape
        return b * u * r * self.part.group * self.bucket.starts.shape[1]

    @property
    def rows(self) -> torch.Tensor:
        return self.bucket.rows[self.piece.rows]

    def down(self) -> torch.Tensor:
        """The tokens of the tile rows."""
        s = self.call.schedule
        tile, length = (s.tile_q, s.n_q) if self.by_query else (s.tile_k, s.n)
        return tokens(self.rows[:, None] * tile, tile, length)

    def across(self, columns: slice) -> torch.Tensor:
        """The tokens of some tiles of each row."""
        s = self.call.schedule
        tile, length = (s.tile_k, s.n) if self.by_query else (s.tile_q, s.n_q)
        return tokens(self.bucket.starts[self.piece.rows, columns], tile, length)

    # -------------------------------------------------------------- masks

    def local(self, columns: slice) -> Mask | None:
        """The mask of those of the columns that need one; they come first."""
        count = min(self.bucket.masked, columns.stop) - columns.start
        if self.mask is None or count <= 0:
            return None
        tile = self.call.schedule.tile_k if self.by_query else self.call.schedule.tile_q
        start = columns.start * tile
        return self.mask.part(self.piece.batch, self.piece.kv, slice(start, start + count * tile))

    def heads_apart(self, score: torch.Tensor) -> torch.Tensor:
        """A view (B', U', R, G, down, across) of scores."""
        b, u, r = self.gather.shape
        group = self.part.group
        if self.by_query:
            return score.view(b, u, r, group, -1, score.shape[2])
        return score.view(b, u, r, score.shape[1], group, -1).transpose(3, 4)

    def weigh(self, score: torch.Tensor, columns: slice, local: Mask | None) -> torch.Tensor:
        """Add log M to scores, in place; where M is 0 nothing is added."""
        if self.bucket.log_weights is not None:
            logs = self.bucket.log_weights[self.piece.rows, columns]
            across = self.heads_apart(score).unflatten(-1, (logs.shape[1], -1))
            across.add_(logs[:, None, None, :, None])
        if local is not None and local.log_m is not None:
            self._masked(score, local).add_(local.log_m)
        return score

    def hide(self, score: torch.Tensor, local: Mask | None, value: float) -> torch.Tensor:
        """Put a value where M is 0, in place."""
        if local is not None:
            self._masked(score, local).masked_fill_(local.dead, value)
        return score

    def _masked(self, score: torch.Tensor, local: Mask) -> torch.Tensor:
        return self.heads_apart(score)[..., : local.dead.shape[-1]]

    def without_unread(self, gathered: torch.Tensor, local: Mask | None) -> torch.Tensor:
        """Zero the tokens across that no row of their tiles reads, in place: 0 · NaN would be NaN."""
        if local is None:
            return gathered
        b, u, r = self.gather.shape
        dead = local.dead_columns.squeeze(4)[..., None]
        if self.by_query:  # all heads of the group read the same keys
            dead = dead.all(dim=3)
            gathered.view(b, u, r, -1, gathered.shape[2])[..., : dead.shape[-2], :].masked_fill_(dead, 0)
        else:
            apart = gathered.view(b, u, r, self.part.group, -1, gathered.shape[2])
            apart[..., : dead.shape[-2], :].masked_fill_(dead, 0)
        return gathered

    # -------------------------------------------------------------- dropout

    def drop(self, probability: torch.Tensor, columns: slice, *, in_place: bool) -> torch.Tensor:
        """Probabilities (or their gradients) after dropout; the very same tensor without dropout."""
        if self.call.dropout_p == 0:
            return probability
        _, u, r = self.gather.shape
        shift = self.call.schedule.n - self.call.schedule.n_q
        down, across = (t.view(r, -1) for t in (self.down(), self.across(columns)))
        q, k = (down[:, :, None] + shift, across[:, None, :])
        if not self.by_query:
            q, k = (across[:, None, :] + shift, down[:, :, None])
        batch = torch.tensor(self.gather.batch, device=down.device)[:, None, None, None, None, None]
        heads = torch.tensor(self.gather.heads, device=down.device).view(u, 1, -1, 1, 1)
        keep = kept(self.call.seed, self.call.dropout_p, batch, heads, q[:, None], k[:, None], self.call.dtype)
        result = probability if in_place else probability.clone()
        self.heads_apart(result).mul_(keep)
        return result


# ------------------------------------------------------------------ forward


def forward(call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, in q's dtype, and lse (B, H, N_q), in the dtype of the computation."""
    s = call.schedule
    batch, heads, n_q, _ = q.shape
    tiles = -(-n_q // s.tile_q)
    out = q.new_zeros(batch, heads, tiles, s.tile_q, v.shape[3])
    lse = torch.full((batch, heads, tiles, s.tile_q, 1), -torch.inf, dtype=call.dtype, device=q.device)
    for work in call.work("forward", q.device, by_query=True):
        values, logs = _forward_piece(work, q, k, v)
        work.gather.store_queries(out, work.rows, values)
        work.gather.store_queries(lse, work.rows, logs)
    return _joined(out, n_q), _joined(lse, n_q).squeeze(-1)


def _joined(t: torch.Tensor, length: int) -> torch.Tensor:
    """(B, H, T, tile, D) -> (B, H, length, D), contiguous."""
    return t.flatten(2, 3)[:, :, :length].contiguous()


def _forward_piece(work: Work, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    gather = work.gather
    query = gather.queries(q, work.down()).mul_(work.call.scale)
    lowest = torch.finfo(work.call.dtype).min  # instead of -inf, so that empty rows have no inf - inf
    top = query.new_full((*query.shape[:2], 1), lowest)
    total, acc = torch.zeros_like(top), query.new_zeros(*query.shape[:2], v.shape[3])
    for columns in work.piece.columns:
        at, local = work.across(columns), work.local(columns)
        key = work.without_unread(gather.keys(k, at), local)
        value = work.without_unread(gather.keys(v, at), local)
        score = work.hide(work.weigh(query @ key.mT, columns, local), local, -torch.inf)
        before, top = top, torch.maximum(top, score.amax(dim=-1, keepdim=True))
        weight = score.sub_(top).exp_()
        fade = (before - top).exp_()
        total = total * fade + weight.sum(dim=-1, keepdim=True)
        acc = torch.baddbmm(acc * fade, work.drop(weight, columns, in_place=True), value)
    return acc / total.clamp(min=0.5), top + total.log()  # the best key weighs 1, so only empty rows are below


# ------------------------------------------------------------------ backward


@dataclass(frozen=True, eq=False)
class Saved:
    """The inputs, and what the backward passes need of the forward pass."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    d_out: torch.Tensor
    lse: torch.Tensor
    """(B, H, N_q, 1); 0 for empty rows."""
    delta: torch.Tensor
    """(B, H, N_q, 1): Σ dO · O - dlse."""


def saved(
    call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
    d_out: torch.Tensor, d_lse: torch.Tensor | None,
) -> Saved:  # fmt: skip
    delta = (d_out.to(call.dtype) * out).sum(dim=-1, keepdim=True)
    if d_lse is not None:
        delta = delta - d_lse[..., None]
    lse = torch.where(lse == -torch.inf, 0, lse)
    return Saved(q, k, v, d_out, lse[..., None], delta)


def backward_queries(call: Call, s: Saved) -> torch.Tensor:
    """dq, in q's dtype."""
    batch, heads, n_q, dim = s.q.shape
    tile = call.schedule.tile_q
    dq = s.q.new_zeros(batch, heads, -(-n_q // tile), tile, dim)
    for work in call.work("dq", s.q.device, by_query=True):
        work.gather.store_queries(dq, work.rows, _dq_piece(work, s))
    return _joined(dq, n_q)


def _dq_piece(work: Work, s: Saved) -> torch.Tensor:
    gather, at = work.gather, work.down()
    query = gather.queries(s.q, at).mul_(work.call.scale)
    d_out, lse, delta = (gather.queries(t, at) for t in (s.d_out, s.lse, s.delta))
    dq = torch.zeros_like(query)
    for columns in work.piece.columns:
        at, local = work.across(columns), work.local(columns)
        key, value = work.without_unread(gather.keys(s.k, at), local), gather.keys(s.v, at)
        probability = work.weigh(query @ key.mT, columns, local).sub_(lse).exp_()
        d_score = work.drop(d_out @ value.mT, columns, in_place=True).sub_(delta).mul_(probability)
        dq.baddbmm_(work.hide(d_score, local, 0.0), key)
    return dq.mul_(work.call.scale)


def backward_keys(call: Call, s: Saved) -> tuple[torch.Tensor, torch.Tensor]:
    """dk and dv, in the inputs' dtype."""
    batch, kv_heads, n, dim = s.k.shape
    tile = call.schedule.tile_k
    shape = (batch, kv_heads, -(-n // tile), tile)
    dk = torch.zeros(*shape, dim, dtype=call.dtype, device=s.k.device)
    dv = torch.zeros(*shape, s.v.shape[3], dtype=call.dtype, device=s.k.device)
    for work in call.work("dkv", s.q.device, by_query=False):
        dk_piece, dv_piece = _dkv_piece(work, s)
        work.gather.add_keys(dk, work.rows, dk_piece)
        work.gather.add_keys(dv, work.rows, dv_piece)
    return _joined(dk, n).to(s.k.dtype), _joined(dv, n).to(s.k.dtype)


def _dkv_piece(work: Work, s: Saved) -> tuple[torch.Tensor, torch.Tensor]:
    gather, at = work.gather, work.down()
    key, value = gather.keys(s.k, at), gather.keys(s.v, at)
    dk, dv = torch.zeros_like(key), torch.zeros_like(value)
    for columns in work.piece.columns:
        at, local = work.across(columns), work.local(columns)
        query = work.without_unread(gather.queries(s.q, at), local).mul_(work.call.scale)
        d_out = work.without_unread(gather.queries(s.d_out, at), local)
        lse, delta = (gather.queries(t, at).mT for t in (s.lse, s.delta))
        probability = work.weigh(key @ query.mT, columns, local).sub_(lse).exp_()
        probability = work.hide(probability, local, 0.0)
        d_score = work.drop(value @ d_out.mT, columns, in_place=True).sub_(delta).mul_(probability)
        dk.baddbmm_(work.hide(d_score, local, 0.0), query)
        dv.baddbmm_(work.drop(probability, columns, in_place=False), d_out)
    return dk, dv
