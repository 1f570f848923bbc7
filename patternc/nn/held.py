"""What a module attends by: a compiled pattern, and how to compile it anew with other parameters."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from patternc import ir
from patternc.compiler import Compiled, compile, constant
from patternc.library import Pattern
from patternc.nn.masks import kept_keys
from patternc.nn.module_stats import ModuleStats, module_stats
from patternc.nn.restricted import Limit, Restricted, restricted

_OPERATORS = ("torch", "triton")
"""Backends whose call is one operator of a graph of torch.compile."""
_CAST = (torch.float16, torch.bfloat16, torch.float32)


HEAD_DIM = 64
"""Channels of a head, where a module does not know them."""


@dataclass(frozen=True, eq=False)
class Held:
    """A compiled pattern and the parameters given for it; None if it was given compiled.

    Copies of a module share it, and with it the plans that are made when attention is called.
    """

    compiled: Compiled
    params: Mapping[str, Any] | None
    _restricted: dict[frozenset[Limit], Restricted] = field(default_factory=dict, repr=False)
    _named: dict[str, Restricted] = field(default_factory=dict, repr=False)

    def changed(self, params: Mapping[str, Any]) -> Held:
        """The pattern with other values for some of its parameters."""
        old = self.compiled
        if self.params is None:
            raise ValueError(f"{old.name} was given compiled: its parameters are fixed; found {', '.join(params)}")
        given = {**self.params, **params}
        new = compile(
            old.pattern, heads=old.heads, kv_heads=old.kv_heads, layer=old.layer, backend=old.backend, **given
        )
        held = Held(new, given)
        new.follow(old)
        for limits, before in self._restricted.items():
            held.restricted(limits).compiled.follow(before.compiled)
        return held

    def restricted(self, limits: frozenset[Limit]) -> Restricted:
        """The pattern within limits, made once."""
        return self._named[self._restrict(tuple(limits))]

    @constant
    def _restrict(self, limits: tuple[Limit, ...]) -> str:
        """Makes it, and a name for it: torch.compile looks nothing up by sets."""
        found, name = frozenset(limits), " ".join(sorted(limit.name for limit in limits))
        if found not in self._restricted:
            self._restricted[found] = self._named[name] = restricted(self.compiled, found)
        return name

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


def attend(compiled: Compiled, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
    """A call of the compiled pattern. torch.compile breaks its graph here for backends whose call is not one operator:
    they make their plans in Python and NumPy. Under torch.autocast inputs are cast as those of
    scaled_dot_product_attention are."""
    q, k, v = _automatically_cast(q, k, v)
    if compiled.backend_for(q) in _OPERATORS:
        return compiled(q, k, v, **options)
    return _attend_apart(compiled, q, k, v, **options)


def _automatically_cast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """float16, bfloat16 and float32 in the dtype of torch.autocast, if it is on; what is no tensor is left as it is."""
    kind = getattr(getattr(tensors[0], "device", None), "type", "cpu")
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(t.to(dtype) if getattr(t, "dtype", None) in _CAST else t for t in tensors)


@torch.compiler.disable
def _attend_apart(compiled: Compiled, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
    return compiled(q, k, v, **options)


def attend_unpadded(
    held: Held,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    key_padding_mask: torch.Tensor | None,
    **options: Any,
) -> Any:
    """A call of a held pattern in which the keys of a mask (B, N), true for padding, are left out; positions stay what
    they are."""
    if key_padding_mask is None:
        return attend(held.compiled, q, k, v, **options)
    kept = kept_keys(key_padding_mask, k.shape[0], k.shape[2])
    limited = held.restricted(frozenset({Limit.KEYS}))
    return attend(limited.compiled, q, k, v, **options, **{limited.names[Limit.KEYS]: kept})


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

    def stats(
        self,
        n: int,
        n_q: int | None = None,
        *,
        head_dim: int | None = None,
        dtype: torch.dtype | None = None,
        **runtime_tensors: Any,
    ) -> ModuleStats:
        """Exact counts for the last n_q (all, unless given) of n positions of one sequence: density, FLOPs, bytes and
        tiles, per head and together. It looks at every cell of the partial tiles.

        `head_dim` is the module's own, or 64 where that is not known; `dtype` that of its weights, or torch's default.
        """
        weight: Any = next(iter(getattr(self, "parameters", tuple)()), None)
        dtype = dtype or (torch.get_default_dtype() if weight is None else weight.dtype)
        channels = getattr(self, "head_dim", HEAD_DIM) if head_dim is None else head_dim
        name = f"{type(self).__name__} {self.compiled.name}"
        return module_stats(name, self.compiled, n, n_q, channels, dtype.itemsize, runtime_tensors)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return import_module("patternc.show.notebook").of_compiled(self.compiled, type(self).__name__, self.params)

    def set_params(self, **params: Any) -> None:
        """Compiles the pattern anew with these values; the others stay. Errors are those of `patternc.compile`."""
        if any(not _same(self.params.get(name), value) for name, value in params.items()):
            self._held = self._held.changed(params)


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(operator.eq(old, new))
