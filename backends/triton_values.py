"""Values of a Triton kernel that is being written down: what is done with them becomes its text.

Numbers of the host do not get into the text: they are read from tables, so that the text is the same at every length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from patternc.analysis.elementwise import Plain
from patternc.analysis.enclosures import INT64

TYPES = {"int": "tl.int64", "float": "tl.float64"}
BLOCKS = {**TYPES, "bool": "tl.int1"}
KINDS = {bool: "bool", int: "int", float: "float"}
POSITION = "position"
"""The name of the position of a kernel that makes a list."""


class UntraceableError(Exception):
    """Something that is not computed element by element, or that has no counterpart in Triton."""


@dataclass(frozen=True)
class Pointer:
    """A tensor that the kernel reads: of the run-time tensor `name` with some axes fixed at an index, the elements, or
    the least or greatest elements (`side` 0 or 1) of aligned groups of 2^level along the other axes."""

    name: str
    fixed: tuple[int | None, ...]
    level: int = 0
    side: int = 0


@dataclass(eq=False)
class Kernel:
    """The text of a kernel while it is found out."""

    listing: bool = False
    """Whether it has a position, of which a list has to know whether it holds it; else it has tiles."""
    lines: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    """Functions of triton_words that it calls."""
    integers: list[int] = field(default_factory=list)
    reals: list[float] = field(default_factory=list)
    pointers: dict[Pointer, str] = field(default_factory=dict)
    _known: dict[str, Traced] = field(default_factory=dict)

    def value(self, kind: str, text: str) -> Traced:
        """What the text computes, once."""
        if text not in self._known:
            name = f"x{len(self._known)}"
            self.lines.append(f"{name} = {text}")
            self._known[text] = Traced(self, kind, name)
        return self._known[text]

    def word(self, name: str) -> str:
        self.words.add(name)
        return name

    def text_of(self, a: Any, kind: str) -> str:
        """An operand as the kernel has it, in the kind asked for."""
        if isinstance(a, Traced):
            if a.kind == kind:
                return a.name
            if kind == "bool" or a.kind == "float":
                raise UntraceableError(f"{a.kind} as {kind}")
            return self.value(kind, f"{a.name}.to({TYPES[kind]})").name
        if not isinstance(a, Plain):
            raise UntraceableError(type(a).__name__)
        if kind == "bool":
            return "True" if a else "False"
        return self._number(int(a)) if kind == "int" else self._real(float(a))

    def _number(self, a: int) -> str:
        if not INT64[0] <= a <= INT64[1]:
            raise UntraceableError("an integer of more than 64 bits")
        self.integers.append(a)  # each has a place of its own: at another length two equal ones may differ
        return self.value("int", f"tl.load(integers + {len(self.integers) - 1})").name

    def _real(self, a: float) -> str:
        self.reals.append(a)
        return self.value("float", f"tl.load(reals + {len(self.reals) - 1})").name


def kind_of(*operands: Any) -> str:
    """The kind in which numbers meet."""
    kinds = {a.kind if isinstance(a, Traced) else KINDS.get(type(a), "other") for a in operands}
    if "other" in kinds:
        raise UntraceableError("an array")
    return "float" if "float" in kinds else "int"


class Traced:
    """A value of the kernel; `kind` is `int` (64 bits), `float` (64 bits) or `bool`."""

    __slots__ = ("kernel", "kind", "name")
    shape = (1,)

    def __init__(self, kernel: Kernel, kind: str, name: str) -> None:
        self.kernel, self.kind, self.name = kernel, kind, name

    def __bool__(self) -> bool:
        raise UntraceableError("a condition that the host would have to know")

    def _made(self, op: str, a: Any, b: Any, result: str = "") -> Traced:
        kind = kind_of(a, b)
        x, y = (self.kernel.text_of(operand, kind) for operand in (a, b))
        return self.kernel.value(result or kind, f"{x} {op} {y}")

    def _called(self, word: str, a: Any, b: Any) -> Traced:
        if kind_of(a, b) != "int":
            raise UntraceableError(f"{word} of reals")
        x, y = (self.kernel.text_of(operand, "int") for operand in (a, b))
        if not (isinstance(a, Traced) and isinstance(b, Traced)):  # a number of the host may be a plain one
            x, y = (f"tl.cast({operand}, tl.int64)" for operand in (x, y))
        return self.kernel.value("int", f"{self.kernel.word(word)}({x}, {y})")

    def _bits(self, op: str, a: Any, b: Any) -> Traced:
        if all(isinstance(operand, bool) or getattr(operand, "kind", "") == "bool" for operand in (a, b)):
            x, y = (self.kernel.text_of(operand, "bool") for operand in (a, b))
            return self.kernel.value("bool", f"{x} {op} {y}")
        if kind_of(a, b) != "int":
            raise UntraceableError(f"{op} of reals")
        return self._made(op, a, b)

    def _compared(self, op: str, other: Any) -> Any:
        if self.kind == "bool" and op in ("==", "!=") and getattr(other, "kind", "") == "bool":
            return self.kernel.value("bool", f"{self.name} {op} {other.name}")
        return self._made(op, self, other, "bool")

    def __add__(self, other: Any) -> Traced:
        return self._made("+", self, other)

    def __radd__(self, other: Any) -> Traced:
        return self._made("+", other, self)

    def __sub__(self, other: Any) -> Traced:
        return self._made("-", self, other)

    def __rsub__(self, other: Any) -> Traced:
        return self._made("-", other, self)

    def __mul__(self, other: Any) -> Traced:
        return self._made("*", self, other)

    def __rmul__(self, other: Any) -> Traced:
        return self._made("*", other, self)

    def __floordiv__(self, other: Any) -> Traced:
        return self._called("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Traced:
        return self._called("floor_divide", other, self)

    def __mod__(self, other: Any) -> Traced:
        return self._called("modulo", self, other)

    def __rmod__(self, other: Any) -> Traced:
        return self._called("modulo", other, self)

    def __pow__(self, other: Any) -> Traced:
        return self._called("power", self, other)

    def __rpow__(self, other: Any) -> Traced:
        return self._called("power", other, self)

    def __rshift__(self, other: Any) -> Traced:
        return self._bits(">>", self, other)

    def __lshift__(self, other: Any) -> Traced:
        return self._bits("<<", self, other)

    def __and__(self, other: Any) -> Traced:
        return self._bits("&", self, other)

    def __or__(self, other: Any) -> Traced:
        return self._bits("|", self, other)

    def __xor__(self, other: Any) -> Traced:
        return self._bits("^", self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Traced:
        return self.kernel.value(self.kind, f"{self.name} == 0" if self.kind == "bool" else f"-1 - {self.name}")

    def __neg__(self) -> Traced:
        return self.kernel.value(self.kind, f"-{self.name}")

    def __abs__(self) -> Traced:
        return self.kernel.value(self.kind, f"tl.abs({self.name})")

    def __lt__(self, other: Any) -> Any:
        return self._compared("<", other)

    def __le__(self, other: Any) -> Any:
        return self._compared("<=", other)

    def __gt__(self, other: Any) -> Any:
        return self._compared(">", other)

    def __ge__(self, other: Any) -> Any:
        return self._compared(">=", other)

    def __eq__(self, other: object) -> Any:
        return self._compared("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compared("!=", other)
