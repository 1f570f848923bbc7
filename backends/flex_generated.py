"""The functions for FlexAttention that are generated for one program at one length."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from patternc import ir
from patternc.analysis.evaluate import Sharing, shared
from patternc.backends import flex_words
from patternc.backends.flex_cells import Source
from patternc.backends.flex_printer import print_mods
from patternc.backends.flex_tables import tables_of
from patternc.backends.inputs import Declared
from patternc.rewrite import walk
from patternc.specialise import bind, specialise

MaskMod = Callable[..., torch.Tensor]


class Generated:
    """Source, and what it makes. `bits` are 32 for run-time tensors of integers that fit in so many, else 64."""

    def __init__(
        self, program: ir.Program, heads: int, n: int, n_q: int, declared: Sequence[Declared], bits: Mapping[str, int]
    ) -> None:
        self._bits, self._batched = bits, frozenset(d.name for d in declared if d.batched)
        sources = {d.name: Source(d.element, d.dims, d.batched, bits.get(d.name, 64)) for d in declared}
        title = f"{program.name} for {heads} heads, the last {n_q} of {n} positions."
        classes = _classes(bind(program, n).pattern, heads)
        self._printed = print_mods(classes, n=n, n_q=n_q, sources=sources, title=title)
        self._name = f"<patternc flex {hashlib.sha256(self.source.encode()).hexdigest()[:16]}>"
        self._make: Callable[..., tuple[MaskMod, MaskMod | None]] = _executed(self.source, self._name)

    @property
    def source(self) -> str:
        return self._printed.text

    def mods(self, tensors: Mapping[str, torch.Tensor], device: torch.device) -> tuple[MaskMod, MaskMod | None]:
        """mask_mod and score_mod with these run-time tensors; ValueError if a table that they need were too large."""
        tables = tables_of(self._printed, tensors, self._batched, device)
        return self._make({name: self._narrow(name, t) for name, t in tensors.items()}, tables)

    def _narrow(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.int() if tensor.dtype == torch.int64 and self._bits.get(name) == 32 else tensor


def _executed(source: str, name: str) -> Any:
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for tracebacks
    # torch.compile looks globals up in the module of that name, so it is one that has all that the text imports.
    namespace: dict[str, Any] = {"__name__": flex_words.__name__}
    exec(compile(source, name, "exec"), namespace)
    return namespace["make"]


def _classes(pattern: ir.Pattern, heads: int) -> list[tuple[tuple[int, ...], ir.Pattern]]:
    """Heads and their pattern: one of all heads, in which `h` is free, unless a size or count hangs on it."""
    if _sizes_known(pattern):
        return [(tuple(range(heads)), shared(pattern))]
    sharing = Sharing()
    members: dict[int, list[int]] = {}
    patterns: dict[int, ir.Pattern] = {}
    for h in range(heads):
        own = shared(specialise(pattern, {"h": h}), sharing)
        members.setdefault(id(own), []).append(h)
        patterns[id(own)] = own
    return [(tuple(members[key]), own) for key, own in patterns.items()]


def _sizes_known(pattern: ir.Pattern) -> bool:
    for node in walk(pattern):
        match node:
            case ir.Family() | ir.Quantified() | ir.Var("n"):
                return False
            case ir.Blocks(size, _) | ir.Cover(size, _) if not isinstance(size, ir.Const):
                return False
            case ir.Top(count, _, _) if not isinstance(count, ir.Const):
                return False
            case ir.Sample(count, _, seed) if not (isinstance(count, ir.Const) and isinstance(seed, ir.Const)):
                return False
    return True
