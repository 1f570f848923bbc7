"""The torch backend inside graphs: calls that torch.compile, torch.export or a dispatch mode looks at go through the
operator `patternc::attention`, and appear as one node."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from patternc import ir
from patternc.backends.inputs import check_tensors
from patternc.backends.torch_function import computed_in
from patternc.backends.torch_passes import Call, backward, saved
from patternc.backends.torch_run import Pattern, Ready
from patternc.backends.triton_eager import is_plain
from patternc.backends.triton_op import as_tensor, attention, known
from patternc.printer import text

__all__ = ["Tiles", "TilesExecutor", "executor", "in_graph", "is_plain"]


class Tiles(Protocol):
    """What the operators run."""

    kv_heads: int
    pattern: Pattern

    @property
    def eager(self) -> Callable[..., Any]:
        """A call outside any graph; see `base.Artifact`."""

    @property
    def ready(self) -> Callable[..., Ready]:
        """The plan of a length; see `torch_run.Runner`."""


class TilesExecutor:
    """One program for so many heads, as the operators know it; see `triton_op.Executor`."""

    def __init__(self, key: str, program: ir.Program, runner: Tiles) -> None:
        self.key, self.runner, self.handle = key, runner, as_tensor(key)
        self.names = tuple(tensor.name for tensor in program.tensors)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """The output and lse of a call outside any graph."""
        options: dict[str, Any] = {"scale": scale, "dropout_p": dropout_p, "seed": seed, "return_lse": True}
        out, lse = self.runner.eager(q, k, v, tensors=self._by_name(tensors), **options)
        return out.contiguous(), lse.contiguous()

    def backward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
        d_out: torch.Tensor, d_lse: torch.Tensor | None, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int, queries: bool, keys: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        """All three gradients are computed, whatever is asked for."""
        ready = self.runner.ready(k.shape[2], q.shape[2], q.shape[0], q.device, self._by_name(tensors))
        call = Call(ready.schedule, ready.masks, scale, dropout_p, seed, computed_in(q.dtype))
        with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
            gradients = backward(call, saved(call, q, k, v, out, lse, d_out, d_lse))
        dq, dk, dv = (g.to(t.dtype).view(t.shape) for g, t in zip(gradients, (q, k, v), strict=True))
        return (dq if queries else None), (dk if keys else None), (dv if keys else None)

    def _by_name(self, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        return dict(zip(self.names, tensors, strict=True))


def executor(program: ir.Program, runner: Tiles) -> TilesExecutor:
    """The one for this program and the runner's heads, of the same key in every process."""
    heads = f"{runner.pattern.heads} {runner.kv_heads}"
    digest = hashlib.sha256(f"{heads}\n{text(program)}".encode()).hexdigest()
    made = known(TilesExecutor(f"torch {program.name} {digest[:32]}", program, runner))
    assert isinstance(made, TilesExecutor)
    return made


def in_graph(
    found: TilesExecutor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, dropout_p: float,
    seed: int | None, tensors: Mapping[str, Any], changing: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """The output and lse, by the operator; q, k and v and the options are checked. The graph of a pattern that is
    `changing` serves those that follow it."""
    if tensors.keys() != set(found.names) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        declared = found.runner.pattern.declared(k.shape[2])
        tensors = check_tensors(declared, tensors, q.device, q.shape[0])
    given = [tensors[name] for name in found.names]
    key = "" if changing else found.key
    given = [*given, found.handle] if changing else given
    drawn = None
    if dropout_p > 0:  # a tensor, so that a draw breaks no graph
        drawn = torch.randint(2**31, ()) if seed is None else torch.tensor(seed)
    out, lse = attention(q, k, v, given, key, scale, float(dropout_p), drawn)
    return out, lse
