"""Attention and its gradients by the definition, row by row in float64 and NumPy; it shares no code with a backend."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Results(NamedTuple):
    """What a call gives and sends back."""

    out: np.ndarray
    lse: np.ndarray
    dq: np.ndarray
    dk: np.ndarray
    dv: np.ndarray


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, m: np.ndarray, scale: float, d_out: np.ndarray, d_lse: np.ndarray,
    kept: np.ndarray | None = None,
) -> Results:  # fmt: skip
    """softmax(scale · q·k + log M) · v with the gradients of Σ out · d_out + Σ lse · d_lse.

    q (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v), m (B, H, N_q, N); `kept`, of that shape, has what dropout
    multiplies probabilities by. Of a row only the keys with M > 0 are looked at, and nothing of a row without keys.
    """
    found = Results(
        np.zeros((*q.shape[:3], v.shape[3])), np.full(q.shape[:3], -np.inf), *(np.zeros(x.shape) for x in (q, k, v))
    )
    group = q.shape[1] // k.shape[1]
    for b, h, i in np.ndindex(*q.shape[:3]):
        at = np.flatnonzero(m[b, h, i])
        if len(at):
            keys, values, own = k[b, h // group][at], v[b, h // group][at], (b, h, i)
            score = scale * (keys @ q[own]) + np.log(m[own][at])
            weight = np.exp(score - score.max())
            share = weight / weight.sum()
            factor = np.ones(len(at)) if kept is None else kept[own][at]
            found.lse[own] = score.max() + math.log(weight.sum())
            found.out[own] = (share * factor) @ values
            d_share = factor * (values @ d_out[own])
            d_score = share * (d_share - d_out[own] @ found.out[own] + d_lse[own])
            found.dq[own] = scale * d_score @ keys
            found.dk[b, h // group, at] += scale * np.outer(d_score, q[own])
            found.dv[b, h // group, at] += np.outer(share * factor, d_out[own])
    return found


def kept(seed: int, p: float, shape: tuple[int, int, int, int]) -> np.ndarray:
    """1 / (1 - p) where dropout keeps a probability, else 0: (B, H, N_q, N). A cell is dropped by a hash of its token
    numbers, whatever the tiles; the mixer is that of the language's `sample`."""
    batch, heads, n_q, n = shape
    x = _mix(np.uint32((seed + 0x9E3779B9) % 2**32))
    for numbers in np.ix_(np.arange(batch), np.arange(heads), np.arange(n - n_q, n), np.arange(n)):
        x = _mix(x ^ numbers.astype(np.uint32))
    return np.where(x >= int(p * 2**32), 1 / (1 - p), 0.0)


def _mix(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
