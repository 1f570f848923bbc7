"""Patterns within limits that a caller sets: causality, and masks that come with a call.

A limit is one more factor of the pattern, a mask a run-time tensor that the factor reads. Every backend thus sees an
ordinary program, and computes the tiles that are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from patternc import ir
from patternc.compiler import Compiled


class Limit(Enum):
    """Which pairs of the pattern stay."""

    CAUSAL = "causal"
    """Keys up to the query."""
    KEYS = "kept_keys"
    """Keys that a tensor bool[batch, n] keeps."""
    PAIRS = "kept_pairs"
    """Pairs that a tensor bool[n, n] keeps."""
    PAIRS_OF_HEADS = "kept_pairs_of_heads"
    """Pairs that a tensor bool[batch, heads, n, n] keeps."""


@dataclass(frozen=True, eq=False)
class Restricted:
    """A pattern within limits, and the names of the run-time tensors that these read."""

    compiled: Compiled
    names: Mapping[Limit, str]


def restricted(compiled: Compiled, limits: frozenset[Limit]) -> Restricted:
    """The pattern within limits, as another compiled pattern for the same heads and backend."""
    if not limits:
        return Restricted(compiled, {})
    program, ordered = compiled.program, [limit for limit in Limit if limit in limits]
    taken = {tensor.name for tensor in program.tensors}
    names: dict[Limit, str] = {limit: _free(limit.value, taken) for limit in ordered if limit is not Limit.CAUSAL}
    factors = [_factor(limit, names.get(limit, "")) for limit in ordered]
    tensors = [_tensor(limit, name, compiled.heads) for limit, name in names.items()]
    inner = ir.Program(
        program.name,
        ir.Product((*factors, program.pattern), span=program.pattern.span),
        (*program.tensors, *tensors),
        program.grids,
        span=program.span,
    )
    heads = compiled.heads, compiled.kv_heads
    return Restricted(Compiled(compiled.pattern, inner, *heads, compiled.layer, compiled.backend), names)


def _free(name: str, taken: set[str]) -> str:
    """The name, or one like it that no tensor of the program has."""
    while name in taken:
        name += "_"
    return name


def _factor(limit: Limit, name: str) -> ir.Pattern:
    q, k, h = (ir.Var(variable) for variable in "qkh")
    match limit:
        case Limit.CAUSAL:
            return ir.Where(ir.Compare("<=", k, q))
        case Limit.KEYS:
            return ir.Where(ir.Read(name, (k,)))
        case Limit.PAIRS:
            return ir.Where(ir.Read(name, (q, k)))
        case Limit.PAIRS_OF_HEADS:
            return ir.Where(ir.Read(name, (h, q, k)))


def _tensor(limit: Limit, name: str, heads: int) -> ir.Tensor:
    n = ir.Var("n")
    match limit:
        case Limit.KEYS:
            return ir.Tensor(name, "bool", (n,), batched=True)
        case Limit.PAIRS:
            return ir.Tensor(name, "bool", (n, n), batched=False)
        case _:
            return ir.Tensor(name, "bool", (ir.Const(heads), n, n), batched=True)
