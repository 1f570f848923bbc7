"""One call of attention under a pattern and masks: by a backend where the masks are limits, densely where they are
more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad

from patternc import ir
from patternc.backends.reference_mask import mask
from patternc.nn import dense
from patternc.nn.block_weights import block_weights
from patternc.nn.held import Held, attend
from patternc.nn.masks import Masks, Sizes
from patternc.nn.restricted import Limit

_DENSE = ("auto", "reference")
"""Backends under which a call may be computed densely."""


@dataclass(frozen=True, eq=False)
class Masked:
    """A pattern, and the masks and run-time tensors of a call. ValueError for what cannot be computed."""

    held: Held
    masks: Masks
    tensors: Mapping[str, Any]
    sizes: Sizes
    scale: float | None = None
    """1/√D unless given."""

    def __post_init__(self) -> None:
        s, pattern = self.sizes, self.held.compiled
        if s.n_q > s.n and (self.masks.causal or pattern.program.pattern != ir.Where(ir.Const(True))):
            where = "is_causal" if self.masks.causal else f"pattern {pattern.name}"
            raise ValueError(
                f"the queries are the last L of S positions, so {where} needs L <= S; found L = {s.n_q}, S = {s.n}"
            )
        reasons = self._reasons()
        if reasons and pattern.backend not in _DENSE:
            wanted = " or ".join(map(repr, _DENSE))
            raise ValueError(
                f"{' and '.join(reasons)} only densely; expected backend {wanted}, found {pattern.backend!r}"
            )

    def _reasons(self) -> list[str]:
        """Why the call is computed densely."""
        reasons = [] if self.masks.bias is None else ["a mask of floats is added to scores"]
        return reasons + (["more queries than keys are computed"] if self.sizes.n_q > self.sizes.n else [])

    def attention(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The output (B, H, L, D) and the log-sum-exp (B, H, L)."""
        if self._reasons():
            return dense.attention(self.logits(q, k), v, dropout_p)
        limited, tensors = self._limited()
        options: dict[str, Any] = {"scale": self.scale, "dropout_p": dropout_p, "return_lse": True}
        out, lse = attend(limited, q, k, v, **options, **tensors)
        return out, lse

    def logits(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Every score, and −inf for pairs that do not attend: (B, H, L, S)."""
        return dense.logits(q, k, self._multiplicities(q.device), self.masks.bias, self.scale)

    def block_weights(
        self, q: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, block: int, average: bool
    ) -> torch.Tensor:
        """The weights in the blocks that hold some; see `block_weights`. ValueError where they need every score."""
        if self._reasons():
            raise ValueError(f"{' and '.join(self._reasons())} densely; its weights are not block-sparse")
        limited, tensors = self._limited()
        return block_weights(limited, q, k, lse, block=block, average=average, scale=self.scale, **tensors)

    @torch.compiler.disable
    def _multiplicities(self, device: torch.device) -> torch.Tensor:
        s = self.sizes
        if s.n_q <= s.n:
            limited, tensors = self._limited()
            return mask(limited.program, s.heads, s.n, s.n_q, tensors, device, s.batch)
        m = torch.ones(1, 1, s.n_q, s.n, dtype=torch.int64, device=device)
        m = m if self.masks.keys is None else m * self.masks.keys[:, None, None, :]
        return m if self.masks.pairs is None else m * self.masks.pairs

    def _limited(self) -> tuple[Any, dict[str, Any]]:
        """The pattern within the masks, and all run-time tensors."""
        found: dict[Limit, torch.Tensor | None] = {Limit.CAUSAL: None} if self.masks.causal else {}
        if self.masks.keys is not None:
            found[Limit.KEYS] = self.masks.keys
        if self.masks.pairs is not None:
            rows = self.sizes.n - self.sizes.n_q  # positions before the first query, of which there are no rows
            limit = Limit.PAIRS if self.masks.pairs.ndim == 2 else Limit.PAIRS_OF_HEADS
            found[limit] = pad(self.masks.pairs, (0, 0, rows, 0))
        restricted = self.held.restricted(frozenset(found))
        return restricted.compiled, {**self.tensors, **{name: found[limit] for limit, name in restricted.names.items()}}
