"""Constructors of IR that compute what is already known.

Everything that can go wrong with a value is found here, with the place that wrote it: division by zero, an index out
of range, a misused `inf`, a result outside 64 bits. A condition that is known to fail guards what stands behind it:
its right-hand side is dropped, with the errors in it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable

from patternc import ir
from patternc.errors import Code, Diagnostic, SpatError
from patternc.rewrite import walk
from patternc.source import Span

Value = int | float | bool

INT64 = range(-(2**63), 2**63)
MAX_ITEMS = 4096
"""Most items of a comprehension."""
MAX_NODES = 100_000
"""Most nodes of a program once its calls and comprehensions are expanded."""

_COMPARE: dict[str, Callable[..., bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_FINITE: dict[str, Callable[..., Value]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod,
    "^": operator.xor, "min": min, "max": max,
}  # fmt: skip


def fail(code: Code, message: str, span: Span, label: str = "", *hints: str) -> SpatError:
    """The exception for one mistake in a value."""
    return SpatError(Diagnostic(code, message, span, label, hints=hints))


def too_large(span: Span) -> SpatError:
    return fail(
        Code.PROGRAM_TOO_LARGE,
        f"the program expands to more than {MAX_NODES:,} nodes",
        span,
        "expanding this went too far",
    )


def items(lo: ir.Const, hi: ir.Const, span: Span) -> range:
    """The values of `lo..hi`, if there are not too many."""
    if math.isinf(lo.value) or math.isinf(hi.value):
        raise fail(Code.BAD_INF, "a range cannot be infinite", span, "this never ends")
    if hi.value - lo.value > MAX_ITEMS:
        count = hi.value - lo.value
        raise fail(Code.TOO_MANY_ITEMS, f"{count:,} items are more than the {MAX_ITEMS:,} allowed", span, "too many")
    return range(int(lo.value), int(hi.value))


# ------------------------------------------------------------------ values


def _infinite(op: str, a: Value, b: Value, span: Span) -> Value:
    """Arithmetic in which at least one side is infinite: what language.md allows, and nothing else."""
    if op == "min":
        return min(a, b)
    if op == "max":
        return max(a, b)
    if op == "+" and not (math.isinf(a) and math.isinf(b)):
        return a + b
    if op == "-" and not (math.isinf(a) and math.isinf(b)):
        return a - b
    if op == "*" and not (math.isinf(a) and math.isinf(b)) and min(a, b, key=math.isinf) > 0:
        return a * b
    if op == "//" and math.isinf(a) and not math.isinf(b) and b > 0:
        return a
    raise fail(
        Code.BAD_INF,
        f"`{op}` has no value with `inf` here",
        span,
        "this is not a number",
        "inf goes with + - and a finite number, with * // and a positive one, with min max abs clamp and comparisons",
    )


def show(value: Value) -> str:
    """A value as the language writes it."""
    if isinstance(value, bool):
        return str(value)
    return str(value) if not math.isinf(value) else "inf" if value > 0 else "-inf"


def arithmetic(op: str, a: Value, b: Value, span: Span) -> Value:
    """`a op b` on known numbers, exact; SpatError where it has no value or leaves 64 bits."""
    if math.isinf(a) or math.isinf(b):
        return _infinite(op, a, b, span)
    if op in ("//", "%") and b == 0:
        raise fail(Code.DIVISION_BY_ZERO, f"`{op}` by zero has no value", span, "the right-hand side is 0")
    if op == "**":
        return _power(a, b, span)
    return _in_range(_FINITE[op](a, b), span)


def _power(a: Value, b: Value, span: Span) -> Value:
    if b < 0:
        raise fail(Code.NEGATIVE_EXPONENT, f"the exponent {show(b)} is negative", span, "this is not an integer")
    if abs(a) >= 2 and b >= 64:
        raise _overflow(f"{show(a)} ** {show(b)}", span)
    return _in_range(a**b, span)


def _in_range(value: Value, span: Span) -> Value:
    if isinstance(value, int) and value not in INT64:
        raise _overflow("the value" if abs(value) >= 2**80 else show(value), span)
    return value


def _overflow(what: str, span: Span) -> SpatError:
    return fail(Code.INTEGER_OVERFLOW, f"{what} does not fit in 64 bits", span, "too large")


def ceil_log2(a: int, span: Span) -> int:
    if a <= 0:
        raise fail(Code.LOG_OF_NONPOSITIVE, f"log2({show(a)}) has no value", span, "needs a positive number")
    return (a - 1).bit_length()


# ------------------------------------------------------------------ scalars


def const(value: Value, span: Span) -> ir.Const:
    return ir.Const(value, span=span)


def _is(node: ir.Scalar, value: Value) -> bool:
    return isinstance(node, ir.Const) and node.value is value


def _is_infinite(node: ir.Scalar) -> bool:
    return isinstance(node, ir.Const) and math.isinf(node.value)


def _known_finite(node: ir.Scalar) -> bool:
    """Neither a parameter without a value nor a run-time tensor, which might hold `inf` or NaN, occurs in it."""
    return not any(isinstance(x, ir.Param | ir.Unknown | ir.Read) for x in walk(node))


def unary(op: str, a: ir.Scalar, span: Span) -> ir.Scalar:
    """`-`, `abs`, `log2`, `not`"""
    match op, a:
        case "not", ir.Const(value):
            return const(not value, span)
        case "not", ir.Unary("not", inner):
            return inner
        case "-", ir.Const(value):
            return const(_in_range(-value, span), span)
        case "abs", ir.Const(value):
            return const(_in_range(abs(value), span), span)
        case "log2", ir.Const(value):
            if math.isinf(value):
                raise fail(Code.BAD_INF, "log2(inf) has no value", span, "this is not a number")
            return const(ceil_log2(int(value), span), span)
    return ir.Unary(op, a, span=span)


def binary(op: str, a: ir.Scalar, b: ir.Scalar, span: Span) -> ir.Scalar:
    """`+ - * // % ** ^ min max`"""
    match a, b:
        case ir.Const(x), ir.Const(y):
            return const(arithmetic(op, x, y, span), span)
        case (ir.Pick(index, items), other) if _is_infinite(other):
            return pick(index, tuple(binary(op, item, other, span) for item in items), span)
        case (other, ir.Pick(index, items)) if _is_infinite(other):
            return pick(index, tuple(binary(op, other, item, span) for item in items), span)
        case (ir.If(c, x, y), other) if _is_infinite(other):
            return choice(c, binary(op, x, other, span), binary(op, y, other, span), span)
        case (other, ir.If(c, x, y)) if _is_infinite(other):
            return choice(c, binary(op, other, x, span), binary(op, other, y, span), span)
    if _is_infinite(a) or _is_infinite(b):
        return _half_infinite(op, a, b, span)
    if op in ("//", "%") and isinstance(b, ir.Const) and b.value == 0:
        arithmetic(op, 1, 0, span)
    match op, a, b:
        case ("+" | "-" | "^", _, ir.Const(0)) | ("*" | "//" | "**", _, ir.Const(1)):
            return a
        case ("+" | "^", ir.Const(0), _) | ("*", ir.Const(1), _):
            return b
        case "%", ir.Var(), ir.Const(1):
            return const(0, span)
    return ir.Binary(op, a, b, span=span)


def _half_infinite(op: str, a: ir.Scalar, b: ir.Scalar, span: Span) -> ir.Scalar:
    """One side is a constant infinity, the other one not known yet."""
    other = b if _is_infinite(a) else a
    if not _known_finite(other):
        return ir.Binary(op, a, b, span=span)
    if op in ("min", "max"):
        infinity = a if other is b else b
        return infinity if (infinity.value > 0) == (op == "max") else other
    # Counts of keys, heads and levels are positive; any other unknown number might be 0 or negative.
    positive = isinstance(other, ir.Var) and other.name in ("n", "heads")
    stand_in = 1 if positive or op in ("+", "-") else 0
    left, right = (a.value, stand_in) if other is b else (stand_in, b.value)
    return const(_infinite(op, left, right, span), span)


def compare(op: str, a: ir.Scalar, b: ir.Scalar, span: Span) -> ir.Scalar:
    match a, b:
        case ir.Const(x), ir.Const(y):
            return const(_COMPARE[op](x, y), span)
        case (ir.Pick(index, items), other) if _is_infinite(other):
            return pick(index, tuple(compare(op, item, other, span) for item in items), span)
        case (other, ir.Pick(index, items)) if _is_infinite(other):
            return pick(index, tuple(compare(op, other, item, span) for item in items), span)
    if _is_infinite(a) and _known_finite(b):
        return const(_COMPARE[op](a.value, 0), span)
    if _is_infinite(b) and _known_finite(a):
        return const(_COMPARE[op](0, b.value), span)
    return ir.Compare(op, a, b, span=span)


def _has_value(node: ir.Node) -> bool:
    """Whether it surely has a value in every cell."""
    for x in walk(node):
        match x:
            case ir.Read() | ir.Pick() | ir.Unary("log2") | ir.Binary("**"):
                return False
            case ir.Binary("//" | "%", _, divisor) if not isinstance(divisor, ir.Const):
                return False
    return True


def _settled(kind: type[ir.And] | type[ir.Or], before: list[ir.Scalar], last: ir.Scalar, span: Span) -> ir.Scalar:
    """`and` or `or` whose last argument decides it; those before it that may have no value are still read."""
    before = [arg for arg in before if not _has_value(arg)]
    return kind((*before, last), span=span) if before else const(last.value, span)


def conjunction(args: Iterable[ir.Scalar], span: Span) -> ir.Scalar:
    """`and`, flattened; `args` is consumed no further than the first that is known to fail."""
    kept: list[ir.Scalar] = []
    for arg in args:
        if _is(arg, False):
            return _settled(ir.And, kept, arg, span)
        kept += arg.args if isinstance(arg, ir.And) else () if _is(arg, True) else (arg,)
    if not kept:
        return const(True, span)
    return kept[0] if len(kept) == 1 else ir.And(tuple(kept), span=span)


def disjunction(args: Iterable[ir.Scalar], span: Span) -> ir.Scalar:
    """`or`, flattened; `args` is consumed no further than the first that is known to hold."""
    kept: list[ir.Scalar] = []
    for arg in args:
        if _is(arg, True):
            return _settled(ir.Or, kept, arg, span)
        kept += arg.args if isinstance(arg, ir.Or) else () if _is(arg, False) else (arg,)
    if not kept:
        return const(False, span)
    return kept[0] if len(kept) == 1 else ir.Or(tuple(kept), span=span)


def choice(condition: ir.Scalar, then: ir.Scalar, orelse: ir.Scalar, span: Span) -> ir.Scalar:
    if isinstance(condition, ir.Const):
        return then if condition.value else orelse
    return ir.If(condition, then, orelse, span=span)


def pick(index: ir.Scalar, items: tuple[ir.Scalar, ...], span: Span) -> ir.Scalar:
    """`items[index]`; a constant index out of range is an error, nothing wraps."""
    if isinstance(index, ir.Const):
        if not 0 <= index.value < len(items):
            raise fail(
                Code.INDEX_OUT_OF_RANGE,
                f"index {show(index.value)} is out of range for a list of {len(items)}",
                span,
                f"the indices are 0..{len(items)}",
                "an index does not wrap: write `% len(…)` where it should",
            )
        return items[int(index.value)]
    return ir.Pick(index, items, span=span)


# ------------------------------------------------------------------ patterns


def where(condition: ir.Scalar, span: Span) -> ir.Where:
    return ir.Where(condition, span=span)


def is_empty(pattern: ir.Pattern) -> bool:
    return isinstance(pattern, ir.Where) and _is(pattern.condition, False)


def _is_full(pattern: ir.Pattern) -> bool:
    return isinstance(pattern, ir.Where) and _is(pattern.condition, True)


def union(args: Iterable[ir.Pattern], span: Span) -> ir.Pattern:
    return _gather(ir.Union, args, span)


def total(args: Iterable[ir.Pattern], span: Span) -> ir.Pattern:
    """The sum of multiplicities."""
    return _gather(ir.Sum, args, span)


def _gather(kind: type[ir.Union] | type[ir.Sum], args: Iterable[ir.Pattern], span: Span) -> ir.Pattern:
    kept: list[ir.Pattern] = []
    for arg in args:
        kept += arg.args if isinstance(arg, kind) else () if is_empty(arg) else (arg,)
    if not kept:
        return where(const(False, span), span)
    return kept[0] if len(kept) == 1 else kind(tuple(kept), span=span)


def product(args: Iterable[ir.Pattern], span: Span) -> ir.Pattern:
    kept: list[ir.Pattern] = []
    for arg in args:
        kept += arg.args if isinstance(arg, ir.Product) else () if _is_full(arg) else (arg,)
    if any(map(is_empty, kept)) and all(map(_has_value, kept)):
        return where(const(False, span), span)
    if not kept:
        return where(const(True, span), span)
    return kept[0] if len(kept) == 1 else ir.Product(tuple(kept), span=span)


def complement(a: ir.Pattern, span: Span) -> ir.Pattern:
    match a:
        case ir.Where(ir.Const(value)):
            return where(const(not value, span), span)
        case ir.Complement(inner):
            return inner
    return ir.Complement(a, span=span)


def choose(condition: ir.Scalar, then: ir.Pattern, orelse: ir.Pattern, span: Span) -> ir.Pattern:
    if isinstance(condition, ir.Const):
        return then if condition.value else orelse
    return ir.Choose(condition, then, orelse, span=span)


def block_size(size: ir.Scalar, word: str) -> ir.Scalar:
    """The size, if it can be one."""
    if isinstance(size, ir.Const) and (math.isinf(size.value) or size.value < 1):
        raise fail(
            Code.BAD_BLOCK_SIZE,
            f"{word}({show(size.value)}): a block has a finite size of at least 1",
            size.span,
            f"this is {show(size.value)}",
        )
    return size


def selection_count(count: ir.Scalar) -> ir.Scalar:
    """The count of `top` or `sample`, if it can be one."""
    if isinstance(count, ir.Const):
        value = count.value
        good = 0 < value <= 1 if isinstance(value, float) else value >= 0
        if not good:
            raise fail(
                Code.BAD_COUNT,
                f"{show(value)} keys cannot be selected",
                count.span,
                "a count is an integer of at least 0, a share of the mass a float in (0, 1]",
            )
    return count
