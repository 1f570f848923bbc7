"""What a module attends by: a compiled pattern, and how to compile it anew with other parameters."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from patternc import ir
from patternc.compiler import Compiled, compile
from patternc.library import Pattern
from patternc.nn.restricted import Limit, Restricted, restricted


@dataclass(frozen=True, eq=False)
class Held:
    """A compiled pattern and the parameters given for it; None if it was given compiled.

    Copies of a module share it, and with it the plans that are made when attention is called.
    """

    compiled: Compiled
    params: Mapping[str, Any] | None
    _restricted: dict[frozenset[Limit], Restricted] = field(default_factory=dict, repr=False)

    def changed(self, params: Mapping[str, Any]) -> Held:
        """The pattern with other values for some of its parameters."""
        old = self.compiled
        if self.params is None:
            raise ValueError(f"{old.name} was given compiled: its parameters are fixed; found {', '.join(params)}")
        given = {**self.params, **params}
        new = compile(
            old.pattern, heads=old.heads, kv_heads=old.kv_heads, layer=old.layer, backend=old.backend, **given
        )
        return Held(new, given)

    def restricted(self, limits: frozenset[Limit]) -> Restricted:
        """The pattern within limits, made once."""
        if limits not in self._restricted:
            self._restricted[limits] = restricted(self.compiled, limits)
        return self._restricted[limits]

    def __deepcopy__(self, memo: dict[int, Any]) -> Held:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        c = self.compiled
        return _rebuilt, (c.pattern, c.program, c.heads, c.kv_heads, c.layer, c.backend, self.params)


def _rebuilt(
    pattern: Pattern, program: ir.Program, heads: int, kv_heads: int, layer: int, backend: str, params: Any
) -> Held:
    return Held(Compiled(pattern, program, heads, kv_heads, layer, backend), params)


def hold(
    source: str | Path | Pattern | Compiled,
    *,
    heads: int,
    kv_heads: int | None = None,
    layer: int = 0,
    backend: str = "auto",
    params: Mapping[str, Any],
) -> Held:
    """Compiles the source; one that is compiled must have these heads, and takes no parameters."""
    if not isinstance(source, Compiled):
        new = compile(source, heads=heads, kv_heads=kv_heads, layer=layer, backend=backend, **params)
        return Held(new, dict(params))
    if params:
        raise ValueError(f"{source.name} is compiled: it takes no parameters; found {', '.join(params)}")
    found, wanted = (source.heads, source.kv_heads), (heads, source.kv_heads if kv_heads is None else kv_heads)
    if found != wanted:
        raise ValueError(f"expected (heads, kv_heads) = {wanted}; {source.name} was compiled for {found}")
    return Held(source, None)


@torch.compiler.disable
def attend(compiled: Compiled, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
    """A call of the compiled pattern. torch.compile breaks its graph here: plans are made in Python and NumPy."""
    return compiled(q, k, v, **options)


class Patterned:
    """Of modules that attend under one pattern, whose parameters may be changed in training."""

    _held: Held

    @property
    def compiled(self) -> Compiled:
        """The compiled pattern: `.mask(n)`, `.stats(n)`, `.explain(n)`."""
        return self._held.compiled

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that were given; what is not given has the pattern's default."""
        return dict(self._held.params or {})

    def extra_repr(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.compiled!r}" + (f", {given}" if given else "")

    def set_params(self, **params: Any) -> None:
        """Compiles the pattern anew with these values; the others stay. Errors are those of `patternc.compile`."""
        if any(not _same(self.params.get(name), value) for name, value in params.items()):
            self._held = self._held.changed(params)


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(operator.eq(old, new))
