"""An array namespace whose arrays are values of a Triton kernel: what the planner computes with them, element by
element, is written down as the kernel's text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from patternc.analysis.enclosures import INT64
from patternc.analysis.tables import Table
from patternc.backends.triton_values import (
    BLOCKS,
    KINDS,
    POSITION,
    TYPES,
    Kernel,
    Pointer,
    Traced,
    UntraceableError,
    kind_of,
)


class TracedArrays:
    """The namespace (analysis/arrays.py): what is not here cannot be traced."""

    chunk = 1 << 62

    def __init__(self) -> None:
        self.kernel = Kernel()
        """The one that is being found out."""

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError(f"`{name}` is not computed element by element")

    def asarray(self, values: Any) -> Any:
        if isinstance(values, TracedTensor | TracedTable):
            return values
        raise UntraceableError("a list of the host")

    def integer(self, a: Any) -> Traced:
        return self.kernel.value("int", self.kernel.text_of(a, "int")) if a.kind != "int" else a

    def real(self, a: Any) -> Traced:
        return self.kernel.value("float", self.kernel.text_of(a, "float")) if a.kind != "float" else a

    def is_real(self, a: Any) -> bool:
        return bool(a.kind == "float")

    def is_truth(self, a: Any) -> bool:
        return bool(a.kind == "bool")

    def full(self, shape: tuple[int, ...], value: float | bool) -> Traced:
        kind = KINDS[type(value)]
        text = self.kernel.text_of(value, kind)
        return self.kernel.value(kind, f"tl.full([1], {text}, {BLOCKS[kind]})")

    def arange(self, start: int, stop: int) -> Traced:
        """The positions of the program, of which lists are made."""
        if not self.kernel.listing:
            raise UntraceableError("a table of the host")
        return Traced(self.kernel, "int", POSITION)

    def concatenate(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        (one,) = arrays
        return one

    def flatnonzero(self, mask: Traced) -> TracedList:
        return TracedList(mask)

    def searchsorted(self, ascending: Any, values: Any, *, right: bool = False) -> Any:
        """How many tokens a list holds: nothing else is asked for."""
        if not isinstance(ascending, TracedIndex):
            raise UntraceableError("a search")
        return ascending.length

    def broadcast_to(self, a: Any, shape: tuple[int, ...]) -> Any:
        return a

    def quiet(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        if isinstance(condition, bool):
            return a if condition else b
        kinds = [x.kind if isinstance(x, Traced) else KINDS[type(x)] for x in (a, b)]
        kind = "bool" if kinds == ["bool", "bool"] else kind_of(a, b)
        x, y = (self.kernel.text_of(operand, kind) for operand in (a, b))
        if kind == "bool":
            return (condition & a) | (~condition & b)
        return self.kernel.value(kind, f"tl.where({condition.name}, {x}, {y})")

    def minimum(self, a: Any, b: Any) -> Any:
        return self._extremum("minimum", "smaller", a, b)

    def maximum(self, a: Any, b: Any) -> Any:
        return self._extremum("maximum", "larger", a, b)

    def _extremum(self, of_integers: str, of_reals: str, a: Any, b: Any) -> Any:
        if isinstance(a, Traced) and a.kind == "bool":
            return a & b if of_integers == "minimum" else a | b
        kind = kind_of(a, b)
        x, y = (self.kernel.text_of(operand, kind) for operand in (a, b))
        if kind == "float":
            return self.kernel.value(kind, f"{self.kernel.word(of_reals)}({x}, {y})")
        return self.kernel.value(kind, f"tl.{of_integers}({x}, {y})")

    def plain(self, a: Any) -> Any:
        return a

    def bounds(self, low: Any, high: Any) -> tuple[Any, Any]:
        return INT64 if low.kind == "int" else (-math.inf, math.inf)

    def largest(self, a: Any, bound: int) -> int:
        return a if isinstance(a, int) else bound


@dataclass(frozen=True)
class TracedTensor:
    """A run-time tensor with its batch axis, of which a kernel sees the row of its program."""

    xp: TracedArrays
    name: str
    kind: str
    shape: tuple[int, ...]
    batched: bool
    extent: tuple[int, int] = INT64
    """The integers that its type holds."""

    def __getitem__(self, row: int) -> TracedTable:
        return TracedTable(self)

    def table(self) -> TracedTensor | TracedTable:
        """What stands for it among the tensors of a program."""
        return self if self.batched else TracedTable(self)


class TracedTable(Table):
    """A run-time tensor, or that of the program's batch row, with some axes fixed."""

    def __init__(self, of: TracedTensor, fixed: tuple[int | None, ...] | None = None) -> None:
        dims = of.shape[1:] if of.batched else of.shape
        self.of, self.fixed = of, (None,) * len(dims) if fixed is None else fixed
        self.shape = tuple(extent for extent, index in zip(dims, self.fixed, strict=True) if index is None)
        self.array, self.xp, self.kind = self, of.xp, of.kind

    def part(self, fixed: tuple[int | None, ...]) -> Table:
        left = iter(fixed)
        return TracedTable(self.of, tuple(next(left) if index is None else index for index in self.fixed))

    def level(self, number: int) -> tuple[Any, Any]:
        sides = (0, 1) if number else (0, 0)
        low, high = (Pointer(self.of.name, self.fixed, number, side) for side in sides)
        return low, high

    def at(self, array: Any, indices: tuple[Any, ...]) -> Any:
        """An element of the tensor, or of its least or greatest ones."""
        pointer = array if isinstance(array, Pointer) else Pointer(self.of.name, self.fixed)
        kernel = self.of.xp.kernel
        name = kernel.pointers.setdefault(pointer, f"p{len(kernel.pointers)}")
        strides = [f"tl.load(strides + {STRIDES * int(name[1:]) + i})" for i in range(len(indices) + 1)]
        steps = [kernel.value("int", stride).name for stride in strides]
        place = " + ".join(f"{kernel.text_of(i, 'int')} * {step}" for i, step in zip(indices, steps[1:], strict=True))
        address = f"{name} + batch * {steps[0]}{' + ' if place else ''}{place}"
        kind = self.of.kind
        found = f"tl.load({address})"
        return kernel.value(kind, f"{found} != 0" if kind == "bool" else f"{found}.to({TYPES[kind]})")

    def extent(self) -> tuple[Any, Any]:
        return self.of.extent


@dataclass(frozen=True, eq=False)
class TracedList:
    """The ascending positions of which a condition holds."""

    chosen: Traced

    def __add__(self, first: int) -> TracedList:
        """Positions are not counted from anywhere but 0."""
        return self


@dataclass(frozen=True, eq=False)
class TracedIndex:
    """A list of the call in the order of slots, from some place in `lists` on for each batch row; `number` is its
    place in `lengths`."""

    xp: TracedArrays
    shape: tuple[int]
    first: int
    number: int
    batched: bool

    def __getitem__(self, place: Any) -> Traced:
        kernel = self.xp.kernel
        first, rows = (kernel.text_of(a, "int") for a in (self.first, self.shape[0] if self.batched else 0))
        text = f"tl.load(lists + {first} + batch * {rows} + {kernel.text_of(place, 'int')})"
        return kernel.value("int", f"{text}.to(tl.int64)")

    @property
    def length(self) -> Traced:
        kernel = self.xp.kernel
        row = " + batch" if self.batched else ""
        return kernel.value("int", f"tl.load(lengths + {kernel.text_of(self.number, 'int')}{row}).to(tl.int64)")


STRIDES = 5
"""Numbers of a pointer in the table of strides: of the batch axis and of up to four others."""
