"""The passes over a schedule: outputs by strips of queries; dq, dk and dv by strips of keys.

Results of several strips of one query are merged by their log-sum-exp; gradients add up. Both go in the order of the
schedule, and nothing is added by atomics: same inputs, same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from patternc.backends.torch_dropout import kept
from patternc.backends.torch_fused import fused_backward, fused_forward, fused_works
from patternc.backends.torch_masks import Mask, Masks
from patternc.backends.torch_pieces import OTHER_SCORES, SCORES, Piece, scored, unscored
from patternc.backends.torch_places import Affine, Places, write
from patternc.backends.torch_products import plain_backward, plain_forward
from patternc.backends.torch_schedule import Part, Schedule, Streams
from patternc.backends.torch_strips import Strip
from patternc.backends.torch_unread import bounded, reads

FUSED_FROM = 1024
"""Keys from which on PyTorch's fused kernel is used: its exponentials err by some units in the last place, which shows
beside the rounding of short sums only, and short sequences gain nothing from it."""

_tallies: list[dict[str, int]] = []


@contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Counts the tiles executed inside, times heads and batch rows, by pass: `forward`, `backward`."""
    tally = {"forward": 0, "backward": 0}
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

    def flat(self, t: torch.Tensor) -> torch.Tensor:
        """(B, H, N, …) -> (B · H, N, …), contiguous, in the dtype of the computation."""
        return t.to(self.dtype).contiguous().flatten(0, 1)

    def cleaned(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Of tensors (B · H, N_q, D), (B · H_kv, N, D), (B · H_kv, N, D_v) and further ones like the first, 0 in place
        of what nobody reads, if it might do harm."""
        if bounded(*tensors):
            return list(tensors)
        s = self.schedule
        queries, keys = reads(s, self.masks, len(tensors[0]) // s.heads, tensors[0].device)
        alive = (queries, keys, keys, *(queries for _ in tensors[3:]))
        return [torch.where(a[..., None], t, 0) for a, t in zip(alive, tensors, strict=True)]


@dataclass(frozen=True, eq=False)
class Work:
    """One piece."""

    call: Call
    part: Part
    strip: Strip
    piece: Piece
    streams: Streams
    mask: Mask | None

    @property
    def queries(self) -> Places:
        return self.strip.queries.cut(self.piece.rows, self.piece.queries)

    @property
    def keys(self) -> Places:
        return self.strip.keys.cut(self.piece.rows, self.piece.keys)

    @property
    def bias(self) -> torch.Tensor | None:
        return None if self.mask is None else self.mask.bias

    def read_queries(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Of tensors (B · H, N_q, …), (S, R, queries, …)."""
        places = self.queries
        return [places.read(self.streams.queries(t)) for t in tensors]

    def read_keys(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Of tensors (B · H_kv, N, …), (S, R, keys, …)."""
        places = self.keys
        return [places.read(self.streams.keys(t)) for t in tensors]

    def keep(self, device: torch.device) -> torch.Tensor | None:
        """What dropout multiplies probabilities by: (S, R, queries, keys)."""
        if self.call.dropout_p == 0:
            return None
        s = self.call.schedule
        stream = self.streams.numbers(device)[:, None, None, None]
        q = self.queries.tokens(device)[:, :, None] + (s.n - s.n_q)
        k = self.keys.tokens(device)[:, None, :]
        b, h = stream // s.heads, stream % s.heads
        return kept(self.call.seed, self.call.dropout_p, b, h, q, k, self.call.dtype)


def _work(call: Call, name: str, device: torch.device, dim: int, fused: bool) -> Iterator[tuple[Work, bool]]:
    """The pieces of a pass, in order, and of each whether its queries have no result yet. `dim` is that of heads."""
    budget = SCORES.get(device.type, OTHER_SCORES) // (4 if call.dropout_p else 1)
    for part in call.schedule.parts:
        strips = zip(part.by_query, part.fresh, strict=True) if name == "forward" else ((s, False) for s in part.by_key)
        for strip, first in strips:
            for group in part.streams:
                for tally in _tallies:
                    tally[name] += strip.tiles * group.count
                cut = unscored(strip, group.count, dim) if fused else scored(strip, group.count, budget)
                for piece in cut:
                    mask = None
                    if strip.masked:
                        mask = call.masks.of(part, strip, piece.rows, call.dtype, device).cut(piece.queries, piece.keys)
                    yield (
                        Work(call, part, strip, piece, group.cut(piece.streams), mask),
                        first and piece.keys.start == 0,
                    )


def _is_fused(call: Call, q: torch.Tensor, v: torch.Tensor) -> bool:
    alike = q.shape[2] == v.shape[2] and call.dropout_p == 0
    return alike and call.schedule.n >= FUSED_FROM and q.device.type == "cpu" and fused_works(q.dtype)


# ------------------------------------------------------------------ forward


def forward(call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, in q's dtype, and lse (B, H, N_q), in the dtype of the computation."""
    dtype, (batch, heads, n_q, dim), dim_v = q.dtype, q.shape, v.shape[3]
    q, k, v = call.cleaned(call.flat(q), call.flat(k), call.flat(v))
    out, lse = q.new_empty(batch * heads, n_q, dim_v), q.new_empty(batch * heads, n_q)
    if not call.schedule.complete:
        out.zero_()
        lse.fill_(-torch.inf)
    fused = _is_fused(call, q, v)
    for work, fresh in _work(call, "forward", q.device, dim, fused):
        values, logs = _forward_piece(work, q, k, v, fused)
        own = work.streams.queries(out), work.streams.queries(lse)
        _merge(work.queries, *own, values, logs, fresh)
    return out.to(dtype).unflatten(0, (batch, heads)), lse.unflatten(0, (batch, heads))


def _forward_piece(
    work: Work, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, fused: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    (query,), (key, value) = work.read_queries(q), work.read_keys(k, v)
    scale = work.call.scale
    if fused:
        empty = None if work.mask is None else work.mask.empty
        out, lse = fused_forward(query, key, value, scale, work.bias, empty)
    else:
        out, lse = plain_forward(query, key, value, scale, work.bias, work.keep(q.device))
    return out, lse + work.strip.log_weight if work.strip.log_weight else lse


def _merge(
    places: Places, out: torch.Tensor, lse: torch.Tensor, values: torch.Tensor, logs: torch.Tensor, fresh: bool
) -> None:
    """Merges results (S, R, queries, D_v) and their lse into those that are there, in place."""
    if not fresh:
        own, before = places.read(out), places.read(lse)
        share = torch.sigmoid(logs - before).nan_to_num_(0.0)  # -inf - -inf: neither reads anything
        values, logs = own.lerp_(values, share[..., None]), torch.logaddexp(before, logs)
    write(places, lse, logs)
    if fresh or not isinstance(places, Affine):  # else the outputs were merged in place
        write(places, out, values)


# ------------------------------------------------------------------ backward


@dataclass(frozen=True, eq=False)
class Saved:
    """The inputs, and what the backward pass needs of the forward pass, as (B · H, N, …)."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    d_out: torch.Tensor
    out: torch.Tensor
    lse: torch.Tensor
    """Finite: 0 of queries that read nothing."""
    delta: torch.Tensor | None
    """Per row, d_out · out - d_lse; None if it is d_out · out."""


def saved(
    call: Call,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
) -> Saved:
    """Prepares the backward pass, from tensors (B, H, N, …)."""
    q, k, v, d_out = call.cleaned(*(call.flat(t) for t in (q, k, v, d_out)))
    out, lse = call.flat(out), lse.flatten(0, 1)
    delta = None
    if d_lse is not None or not _is_fused(call, q, v):
        delta = (d_out * out).sum(-1)
        delta = delta if d_lse is None else delta.sub_(torch.where(lse == -torch.inf, 0, d_lse.flatten(0, 1)))
    return Saved(q, k, v, d_out, out, torch.where(lse == -torch.inf, 0, lse), delta)


def backward(call: Call, s: Saved) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dq, dk, dv as (B · H, N, …), in the dtype of the computation."""
    dq, dk, dv = (torch.zeros_like(t) for t in (s.q, s.k, s.v))
    for work, _ in _work(call, "backward", s.q.device, s.q.shape[2], s.delta is None):
        dq_piece, dk_piece, dv_piece = _backward_piece(work, s)
        work.queries.add(work.streams.queries(dq), dq_piece)
        work.keys.add(*work.streams.add_keys(dk, dk_piece))
        work.keys.add(*work.streams.add_keys(dv, dv_piece))
    return dq, dk, dv


def _backward_piece(work: Work, s: Saved) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    key, value = work.read_keys(s.k, s.v)
    scale, bias = work.call.scale, work.bias
    query, d_out, lse = work.read_queries(s.q, s.d_out, s.lse)
    if work.strip.log_weight:
        lse = lse - work.strip.log_weight
    if s.delta is None:
        (out,) = work.read_queries(s.out)
        return fused_backward(d_out, query, key, value, out, lse, scale, bias)
    (delta,) = work.read_queries(s.delta)
    return plain_backward(d_out, query, key, value, lse, delta, scale, bias, work.keep(s.q.device))
