"""Keys and values of the tokens that were decoded: in one tensor, or in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from patternc.compiler import Compiled
from patternc.nn.held import attend
from patternc.nn.pages import attend_paged


class KVCache:
    """Keys and values of a batch whose sequences are equally long, in tensors that are allocated once.

    keys (B, H_kv, capacity, D), values (B, H_kv, capacity, D_v). No gradient flows into a cache.
    """

    def __init__(
        self, batch: int, kv_heads: int, capacity: int, head_dim: int, *, value_dim: int | None = None,
        device: Any = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        options = {"device": device, "dtype": dtype}
        self.keys = torch.zeros(batch, kv_heads, capacity, head_dim, **options)
        self.values = torch.zeros(batch, kv_heads, capacity, value_dim or head_dim, **options)
        self.length = 0
        """Tokens that are there."""

    def append(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds k (B, H_kv, N_new, D) and v (B, H_kv, N_new, D_v); returns views of all that is there, (B, H_kv, length,
        …). ValueError if there is no room."""
        stop = self.length + k.shape[2]
        if stop > self.keys.shape[2]:
            raise ValueError(f"the cache holds {self.keys.shape[2]} tokens; found {self.length} and {k.shape[2]} more")
        with torch.no_grad():
            self.keys[:, :, self.length : stop] = k
            self.values[:, :, self.length : stop] = v
        self.length = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def attend(self, compiled: Compiled, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
        """Appends k and v, those of the queries q (B, H, N_new, D), and attends; `options` are those of a call."""
        return attend(compiled, q, *self.append(k, v), **options)


class PagedCache:
    """Keys and values of a batch of sequences of different lengths, in pages of one pool.

    key_pages (pages, page_size, H_kv, D), value_pages (pages, page_size, H_kv, D_v), page_table (B, pages) int64 and
    lengths, a list of B ints, are as `attend_paged` takes them. No gradient flows into a cache.
    """

    def __init__(
        self, batch: int, pages: int, page_size: int, kv_heads: int, head_dim: int, *, value_dim: int | None = None,
        device: Any = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        options = {"device": device, "dtype": dtype}
        self.key_pages = torch.zeros(pages, page_size, kv_heads, head_dim, **options)
        self.value_pages = torch.zeros(pages, page_size, kv_heads, value_dim or head_dim, **options)
        self.page_table = torch.full((batch, pages), -1, device=device)
        self.lengths = [0] * batch
        self._owned: list[list[int]] = [[] for _ in range(batch)]
        self._free = list(reversed(range(pages)))

    @property
    def page_size(self) -> int:
        return self.key_pages.shape[1]

    def append(self, k: torch.Tensor, v: torch.Tensor, counts: Sequence[int] | None = None) -> None:
        """Adds to sequence b the last counts[b] (all, unless given) of k (B, H_kv, N_new, D) and v (B, H_kv, N_new,
        D_v). ValueError, and nothing is added, if the pool has too few pages left."""
        batch, new = len(self.lengths), k.shape[2]
        counts = [new] * batch if counts is None else [int(count) for count in counts]
        if len(counts) != batch or any(not 0 <= count <= new for count in counts):
            raise ValueError(f"counts must be {batch} integers of 0 to {new}; found {counts}")
        wanted = [self._missing(b, count) for b, count in enumerate(counts)]
        if sum(wanted) > len(self._free):
            raise ValueError(f"{sum(wanted)} more pages are needed; the pool has {len(self._free)} left")
        for b, (count, pages) in enumerate(zip(counts, wanted, strict=True)):
            self._extend(b, pages)
            self._write(b, k[b, :, new - count :], v[b, :, new - count :])

    def clear(self, row: int) -> None:
        """Ends a sequence: its pages go back to the pool."""
        self._free += reversed(self._owned[row])
        self._owned[row] = []
        self.lengths[row] = 0
        self.page_table[row] = -1

    def attend(
        self, compiled: Compiled, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
        counts: Sequence[int] | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Appends k and v, and attends from q (B, H, N_new, D), of which sequence b has the last counts[b] rows;
        `options` are those of `attend_paged`."""
        self.append(k, v, counts)
        pages = self.key_pages, self.value_pages, self.page_table, self.lengths
        return attend_paged(compiled, q, *pages, query_lengths=counts, **options)

    def _missing(self, b: int, count: int) -> int:
        """Pages that so many more tokens of a sequence need."""
        return -(-(self.lengths[b] + count) // self.page_size) - len(self._owned[b])

    def _extend(self, b: int, pages: int) -> None:
        for _ in range(pages):
            page = self._free.pop()
            self.page_table[b, len(self._owned[b])] = page
            self._owned[b].append(page)

    def _write(self, b: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """k and v (H_kv, count, D) behind what a sequence has."""
        token = torch.arange(self.lengths[b], self.lengths[b] + k.shape[1], device=k.device)
        page, slot = self.page_table[b, token // self.page_size], token % self.page_size
        with torch.no_grad():
            self.key_pages[page, slot] = k.transpose(0, 1)
            self.value_pages[page, slot] = v.transpose(0, 1)
        self.lengths[b] += k.shape[1]
