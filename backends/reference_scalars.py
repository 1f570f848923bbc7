"""Numbers and conditions of the IR on all cells of an index space at once: the reference's own evaluator.

A scalar becomes an int64, float64 or bool tensor that broadcasts to (rows, n). A truth tensor `live` goes along: the
cells whose value is wanted. What `and`, `or` and `if` guard is computed on dead cells too, on harmless stand-ins, but
only a live cell can raise an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

import torch

from patternc import ir
from patternc.errors import Code, Diagnostic, SpatError

MAX_ITEMS = 4096
"""The most values that `any`, `all`, `union` or `sum` may run over (language.md §5)."""

_COMPARE = {"<": torch.lt, "<=": torch.le, ">": torch.gt, ">=": torch.ge, "==": torch.eq, "!=": torch.ne}


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows `first` … n - 1 of the innermost index space, for one head and one batch row."""

    head: int
    heads: int
    sizes: tuple[int, ...]
    """n of every space, from tokens to the innermost one."""
    first: int = 0
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Run-time tensors without their batch axis."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bound: Mapping[str, int] = field(default_factory=dict)
    """The values of quantified variables."""

    @property
    def n(self) -> int:
        return self.sizes[-1]

    def queries(self) -> torch.Tensor:
        return torch.arange(self.first, self.n, device=self.device)[:, None]

    def keys(self) -> torch.Tensor:
        return torch.arange(self.n, device=self.device)[None, :]

    def each(self, node: ir.Quantified | ir.Family) -> Iterator[Cells]:
        """These cells once for every value of the node's variable, which is bound to it."""
        lo, hi = int(self.uniform(node.lo)), int(self.uniform(node.hi))
        if hi - lo > MAX_ITEMS:
            message = f"`{node.kind}` runs over {hi - lo:,} values; at most {MAX_ITEMS:,} are allowed"
            raise SpatError(Diagnostic(Code.TOO_MANY_ITEMS, message, node.span, notes=(self._lengths(),)))
        return (replace(self, bound={**self.bound, node.variable: value}) for value in range(lo, hi))

    # -------------------------------------------------------------- values

    def uniform(self, node: ir.Scalar) -> int | float | bool:
        """A scalar that is the same on all cells."""
        return self.scalar(node, torch.tensor(True, device=self.device)).item()

    def scalar(self, node: ir.Scalar, live: torch.Tensor) -> torch.Tensor:
        """The value on every cell; SpatError if a live cell has none."""
        match node:
            case ir.Const(value):
                return self._constant(value)
            case ir.Var():
                return self._variable(node)
            case ir.Unary():
                return self._unary(node, live)
            case ir.Binary():
                return self._binary(node, live)
            case ir.Compare(op, a, b):
                return _COMPARE[op](self.scalar(a, live), self.scalar(b, live))
            case ir.And(args):
                return self._all(args, live)
            case ir.Or(args):
                return self._any(args, live)
            case ir.If(condition, then, orelse):
                chosen = self.scalar(condition, live)
                return torch.where(chosen, self.scalar(then, live & chosen), self.scalar(orelse, live & ~chosen))
            case ir.Pick():
                return self._pick(node, live)
            case ir.Read():
                return self._read(node, live)
            case ir.Quantified():
                return self._quantified(node, live)
        raise AssertionError(f"a program given to a backend has no {type(node).__name__}")

    def _constant(self, value: int | float | bool) -> torch.Tensor:
        kind = torch.bool if isinstance(value, bool) else torch.int64 if isinstance(value, int) else torch.float64
        return torch.tensor(value, dtype=kind, device=self.device)

    def _variable(self, node: ir.Var) -> torch.Tensor:
        if node.name in ("q", "k"):
            assert node.depth == len(self.sizes) - 1, "q and k are those of the innermost space"
            return self.queries() if node.name == "q" else self.keys()
        if node.name in self.bound:
            return self._constant(self.bound[node.name])
        known = {"n": self.sizes[min(node.depth, len(self.sizes) - 1)], "h": self.head, "heads": self.heads}
        assert node.name in known, f"{node.name} has no value in a closed program"
        return self._constant(known[node.name])

    def _unary(self, node: ir.Unary, live: torch.Tensor) -> torch.Tensor:
        a = self.scalar(node.a, live)
        match node.op:
            case "-":
                return -a
            case "abs":
                return a.abs()
            case "not":
                return ~a
        assert node.op == "log2"
        self._demand(a > 0, live, node, Code.LOG_OF_NONPOSITIVE, "log2 of {} has no value", "not positive", a)
        return sum((a > 2**e).to(torch.int64) for e in range(63))  # the smallest e with a <= 2**e

    def _binary(self, node: ir.Binary, live: torch.Tensor) -> torch.Tensor:
        a, b = self.scalar(node.a, live), self.scalar(node.b, live)
        match node.op:
            case "+":
                return a + b
            case "-":
                return a - b
            case "*":
                return a * b
            case "//" | "%":
                self._demand(b != 0, live, node, Code.DIVISION_BY_ZERO, "`" + node.op + "` by {}", "divisor is 0", b)
                b = torch.where(b == 0, 1, b)
                return torch.div(a, b, rounding_mode="floor") if node.op == "//" else torch.remainder(a, b)
            case "**":
                self._demand(b >= 0, live, node, Code.NEGATIVE_EXPONENT, "the exponent is {}", "negative", b)
                return torch.pow(a, torch.where(b < 0, 0, b))
            case "^":
                return torch.bitwise_xor(a, b)
        assert node.op in ("min", "max")
        return torch.minimum(a, b) if node.op == "min" else torch.maximum(a, b)

    def _all(self, args: tuple[ir.Scalar, ...], live: torch.Tensor) -> torch.Tensor:
        result = self._constant(True)
        for arg in args:
            result = result & self.scalar(arg, live & result)
        return result

    def _any(self, args: tuple[ir.Scalar, ...], live: torch.Tensor) -> torch.Tensor:
        result = self._constant(False)
        for arg in args:
            result = result | self.scalar(arg, live & ~result)
        return result

    def _quantified(self, node: ir.Quantified, live: torch.Tensor) -> torch.Tensor:
        result = self._constant(node.kind == "all")
        for inner in self.each(node):
            found = inner.scalar(node.body, live & (result if node.kind == "all" else ~result))
            result = result & found if node.kind == "all" else result | found
        return result

    def _pick(self, node: ir.Pick, live: torch.Tensor) -> torch.Tensor:
        index = self.scalar(node.index, live)
        message = f"index {{}} is out of range for a list of length {len(node.items)}"
        inside = (index >= 0) & (index < len(node.items))
        self._demand(inside, live, node, Code.INDEX_OUT_OF_RANGE, message, "out of range", index)
        result = self._constant(0)
        for i, item in enumerate(node.items):
            value = self.scalar(item, live & (index == i))
            result = torch.where(index == i, value, result.to(value.dtype) if i == 0 else result)
        return result

    def _read(self, node: ir.Read, live: torch.Tensor) -> torch.Tensor:
        tensor = self.tensors[node.tensor]
        places = []
        for axis, (argument, length) in enumerate(zip(node.indices, tensor.shape, strict=True)):
            index = self.scalar(argument, live)
            message = f"index {{}} is out of range for axis {axis} of `{node.tensor}`, which has length {length}"
            inside = (index >= 0) & (index < length)
            self._demand(inside, live, node, Code.INDEX_OUT_OF_RANGE, message, "out of range", index)
            places.append(torch.where(inside, index, 0))
        if 0 in tensor.shape:  # then no index is in range and no cell is live
            return torch.zeros((), dtype=tensor.dtype, device=self.device)
        return tensor[tuple(torch.broadcast_tensors(*places))] if places else tensor

    # -------------------------------------------------------------- errors

    def _demand(
        self, good: torch.Tensor, live: torch.Tensor, node: ir.Scalar, code: Code, message: str, label: str,
        value: torch.Tensor,
    ) -> None:  # fmt: skip
        """Raise for the first live cell that is not good; `{}` in the message is the value there."""
        bad = live & ~good
        if bad.any():
            self._fail(bad, node, code, message, label, value)

    def _fail(
        self, bad: torch.Tensor, node: ir.Scalar, code: Code, message: str, label: str, value: torch.Tensor
    ) -> NoReturn:
        shape = (self.n - self.first, self.n)
        row, key = bad.expand(shape).nonzero()[0].tolist()
        shown = value.expand(shape)[row, key].item()
        space = "" if len(self.sizes) == 1 else "block "
        note = f"{self._lengths()}, head {self.head}, query {space}{self.first + row}, key {space}{key}"
        raise SpatError(Diagnostic(code, message.format(shown), node.span, label=label, notes=(note,)))

    def _lengths(self) -> str:
        return f"at n = {self.sizes[0]}"
