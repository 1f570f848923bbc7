"""The types of expressions, their units, and how they combine.

Positions and widths are counted in `tokens`, inside `blocks(…)` in `blocks`; a plain number fits both. The one rule of
units is that the two never meet: adding, dividing or comparing tokens with blocks is a mistake, everything else is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from patternc.source import Span

TOKENS, BLOCKS = "tokens", "blocks"


@dataclass(frozen=True, slots=True)
class Wrong:
    """The type of what a message has been written about; it fits everywhere, so that no second one follows."""


@dataclass(frozen=True, slots=True)
class Number:
    """An integer, of tokens or blocks if it has a unit, or a float (which has none)."""

    float: bool = False
    unit: str | None = None
    infinite: bool = False
    """`inf` was written here; a `tokens` parameter may also be infinite, which only its value tells."""


@dataclass(frozen=True, slots=True)
class Condition:
    """True or False."""


@dataclass(frozen=True, slots=True)
class List:
    item: Type


@dataclass(frozen=True, slots=True)
class Tuple:
    items: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A run-time tensor before it is indexed; `units` has one entry for each dimension, the batch axis left out."""

    element: Type
    units: tuple[str | None, ...]
    batched: bool = False

    @property
    def rank(self) -> int:
        return len(self.units)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A set, or a bag; `bag` is the place that made it one."""

    bag: Span | None = field(default=None, compare=False)


Type = Wrong | Number | Condition | List | Tuple | Tensor | Pattern

WRONG = Wrong()
INT = Number()
FLOAT = Number(float=True)
INFINITE = Number(infinite=True)
CONDITION = Condition()
SET = Pattern()


def in_units(unit: str | None) -> Number:
    """An integer counted in `unit`."""
    return Number(unit=unit)


# ------------------------------------------------------------------ in words


def show(type: Type) -> str:
    """The type as a program writes it."""
    match type:
        case Number(is_float, unit, infinite):
            return "inf" if infinite else "float" if is_float else unit or "int"
        case Condition():
            return "bool"
        case List(item):
            return f"[{show(item)}]"
        case Tuple(items):
            return f"({', '.join([show(item) for item in items])})"
        case Tensor(element, units, batched):
            dims = (["batch"] if batched else []) + ["…"] * len(units)
            return f"{show(element)}[{', '.join(dims)}]"
        case Pattern(bag):
            return "bag" if bag else "pattern"
    return "…"


def describe(type: Type) -> str:
    """The type as a sentence names it: `a condition`, `a list [int]`."""
    match type:
        case Number(infinite=True):
            return "`inf`"
        case Number(float=True):
            return "a float"
        case Number(unit=None):
            return "an int"
        case Number(unit=unit):
            return f"a number of {unit}"
        case Condition():
            return "a condition"
        case List():
            return f"a list `{show(type)}`"
        case Tuple():
            return f"a tuple `{show(type)}`"
        case Tensor():
            return f"a tensor `{show(type)}`"
        case Pattern(bag):
            return "a bag" if bag else "a pattern"
    return show(type)


# ------------------------------------------------------------------ rules


def unit_of(type: Type) -> str | None:
    """The unit of a number; None for a plain one, and for what is no number."""
    return type.unit if isinstance(type, Number) else None


def mixes(a: Type, b: Type) -> bool:
    """Whether tokens would meet blocks."""
    return None not in (unit_of(a), unit_of(b)) and unit_of(a) != unit_of(b)


def arithmetic(op: str, a: Number, b: Number) -> Number:
    """The type of `a op b` for `+ - * // % ** ^`, whose units do not mix and whose operands `op` accepts."""
    is_float = a.float or b.float
    unit = None if is_float else _unit(op, a.unit, b.unit)
    return Number(is_float, unit, a.infinite or (b.infinite and op != "//"))


def _unit(op: str, a: str | None, b: str | None) -> str | None:
    match op:
        case "//":
            return None if b else a
        case "%" | "**":
            return a
    return a or b


def common(a: Type, b: Type) -> Type | None:
    """The type of a value that is either an `a` or a `b`; None if there is none. Mixed units give no unit."""
    match a, b:
        case (Wrong(), other) | (other, Wrong()):
            return other
        case Number(), Number():
            is_float = a.float or b.float
            unit = None if is_float or mixes(a, b) else a.unit or b.unit
            return Number(is_float, unit, a.infinite or b.infinite)
        case Pattern(), Pattern():
            return a if a.bag else b
        case List(x), List(y):
            item = common(x, y)
            return None if item is None else List(item)
        case Tuple(xs), Tuple(ys) if len(xs) == len(ys):
            items = [common(x, y) for x, y in zip(xs, ys, strict=True)]
            return None if None in items else Tuple(tuple([item for item in items if item is not None]))
    return a if a == b else None


def fits(found: Type, declared: Type) -> bool:
    """Whether a value can be given where `declared` stands, units and `inf` aside."""
    match found, declared:
        case (Wrong(), _) | (_, Wrong()):
            return True
        case Number(float=is_float), Number():
            return declared.float or not is_float
        case List(x), List(y):
            return fits(x, y)
        case Tuple(xs), Tuple(ys):
            return len(xs) == len(ys) and all(fits(x, y) for x, y in zip(xs, ys, strict=True))
        case Tensor(x, xs), Tensor(y, ys):
            return x == y and len(xs) == len(ys)
        case Pattern(), Pattern():
            return True
    return found == declared


def leaves(found: Type, declared: Type) -> list[tuple[Number, Number]]:
    """The pairs of numbers of two types that fit each other."""
    match found, declared:
        case Number(), Number():
            return [(found, declared)]
        case List(x), List(y):
            return leaves(x, y)
        case Tuple(xs), Tuple(ys):
            return [pair for x, y in zip(xs, ys, strict=True) for pair in leaves(x, y)]
    return []


def counted_in(type: Type, unit: str | None) -> Type:
    """The type with its tokens counted in `unit`: what a function of tokens gives when it is called in blocks."""
    match type:
        case Number(unit="tokens"):
            return Number(type.float, unit, type.infinite)
        case List(item):
            return List(counted_in(item, unit))
        case Tuple(items):
            return Tuple(tuple([counted_in(item, unit) for item in items]))
    return type
