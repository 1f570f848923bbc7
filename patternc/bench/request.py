"""A measurement as a user asks for it: what is left open depends on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from patternc.bench.bench import bench
from patternc.bench.contenders import Size, known, resolved
from patternc.bench.measure import Effort
from patternc.bench.rows import Row
from patternc.compiler import Compiled

if TYPE_CHECKING:
    from patternc.bench.tuning import Outcome


@dataclass(frozen=True)
class Defaults:
    """What is measured on a kind of device unless something else is asked for."""

    length: int
    dim: int
    dtype: torch.dtype
    peers: tuple[str, ...]
    effort: Effort


GPU = Defaults(16_384, 128, torch.bfloat16, ("dense", "flex", "flash"), Effort(50, 60.0))
CPU = Defaults(2_048, 64, torch.float32, ("dense",), Effort(50, 5.0))


@dataclass(frozen=True)
class Request:
    """How patterns are measured."""

    device: torch.device
    length: int
    """Tokens, for programs that say nothing about them."""
    dim: int
    dtype: torch.dtype
    peers: tuple[str, ...]
    effort: Effort

    @classmethod
    def of(
        cls,
        device: torch.device,
        *,
        dim: int | None = None,
        dtype: torch.dtype | None = None,
        peers: Sequence[str] | None = None,
        repeats: int | None = None,
    ) -> Request:
        """What is asked for, and the device's defaults; ValueError for a peer that does not exist."""
        usual = GPU if device.type == "cuda" else CPU
        effort = usual.effort if repeats is None else Effort(repeats, usual.effort.seconds)
        chosen = usual.peers if peers is None else known(peers)
        return cls(device, usual.length, dim or usual.dim, dtype or usual.dtype, chosen, effort)

    def row(self, compiled: Compiled, n: int, arrays: Mapping[str, Any]) -> Row:
        """Measures a pattern at n tokens; `arrays` are its run-time tensors. Raises as `bench` does."""
        torch.compiler.reset()  # another pattern has no say in how FlexAttention is compiled for this one
        size, tensors = self._case(compiled, n, arrays)
        there, missing = resolved(self.peers, compiled, size, tensors)
        return bench(compiled, size, tensors, there, self.effort, missing=missing)

    def tune(self, compiled: Compiled, n: int, arrays: Mapping[str, Any]) -> Outcome:
        """Searches for the best form of a pattern's kernels at n tokens; see `tuning.tune`."""
        tuning = import_module("patternc.bench.tuning")  # needs Triton
        outcome: Outcome = tuning.tune(compiled, *self._case(compiled, n, arrays))
        return outcome

    def _case(self, compiled: Compiled, n: int, arrays: Mapping[str, Any]) -> tuple[Size, dict[str, torch.Tensor]]:
        tensors = {name: torch.as_tensor(array, device=self.device) for name, array in arrays.items()}
        rows = [tensors[t.name].shape[0] for t in compiled.program.tensors if t.batched]
        return Size(n, self.dim, self.dtype, self.device, batch=max(rows, default=1)), tensors
