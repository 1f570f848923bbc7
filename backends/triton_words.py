"""What printed masks are built from, beside Triton's own words: integer arithmetic as the language means it, elements
of run-time tensors, and membership in sets of cells that were computed before the launch.

Operands are blocks or scalars that broadcast.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def nonzero(b):
    """A divisor that does not fault: 1 in place of 0, where the quotient has no value and is not used."""
    return tl.where(b == 0, 1, b)


@triton.jit
def floor_divide(a, b):
    """⌊a / b⌋ of integers, b not 0; Triton's own `//` rounds towards zero."""
    quotient = a // b
    rest = a - quotient * b
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), quotient - 1, quotient)


@triton.jit
def modulo(a, b):
    """a - b · ⌊a / b⌋ of integers, b not 0: it has the sign of b."""
    rest = a % b
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


@triton.jit
def power(a, b):
    """a ** b of integers of one type by repeated squaring; 1 for b < 0, where the power has no value."""
    bits: tl.constexpr = b.dtype.primitive_bitwidth - 1
    exponent = tl.where(b < 0, 0, b)
    result = tl.where(b == b, 1, b)
    for _ in tl.static_range(bits):
        result = tl.where((exponent & 1) != 0, result * a, result)
        a = a * a
        exponent = exponent >> 1
    return result


@triton.jit
def power_of_two(b):
    """2 ** b in the type of b, wrapped; 1 for b < 0, where the power has no value."""
    bits: tl.constexpr = b.dtype.primitive_bitwidth
    one = tl.where(b == b, 1, b)
    return tl.where(b < bits, one << tl.where((b < 0) | (b >= bits), 0, b), 0)


@triton.jit
def ceil_log2(a):
    """The smallest e with 2^e >= a, in the type of a; 0 for a < 1."""
    bits: tl.constexpr = a.dtype.primitive_bitwidth - 1
    result = tl.where(a == a, 0, a)
    for e in tl.static_range(bits):
        result += (a > (1 << e)).to(a.dtype)
    return result


@triton.jit
def smaller(a, b):
    """The minimum of reals; NaN if either is."""
    return tl.where((a < b) | (a != a), a, b)


@triton.jit
def larger(a, b):
    """The maximum of reals; NaN if either is."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def whole(a):
    """An element of a run-time tensor of integers as int32 if its type fits, else as int64."""
    narrow: tl.constexpr = (a.dtype.primitive_bitwidth < 32) or (a.dtype == tl.int32)
    return a.to(tl.int32) if narrow else a.to(tl.int64)


@triton.jit
def belongs(table, at, first, rows, columns, stride, steps, row, column):
    """Whether a set of cells holds (row, column): its table, packed by triton_tables, starts at element `at`. Nothing
    outside the table is read."""
    table += tl.cast(at, tl.int64)
    row = row - first
    inside = (row >= 0) & (row < rows) & (column < columns)
    if steps == 0:
        held = in_bitmap(table, stride, row, column, inside)
    else:
        held = in_runs(table, rows, stride, steps, row, column, inside)
    return held


@triton.jit
def in_bitmap(words, stride, row, column, inside):
    """Whether bit `column` of a row is set; a row has `stride` words of 32 bits."""
    place = tl.cast(row, tl.int64) * stride + (column >> 5)
    word = tl.load(words + place, mask=inside, other=0)
    return ((word >> tl.cast(column & 31, tl.int32)) & 1) != 0


@triton.jit
def in_runs(bounds, rows, stride, steps, row, column, inside):
    """Whether a run of a row holds the column. Row r has the runs bounds[r] up to bounds[r + 1], in order; after the
    bounds lie the first columns of all runs, and `stride` elements later their ends. `steps` halvings find the last
    run that starts at or before the column."""
    starts = bounds + rows + 1
    first = tl.load(bounds + row, mask=inside, other=0)
    low = first
    high = tl.load(bounds + row + 1, mask=inside, other=0)
    for _ in range(steps):
        middle = (low + high) // 2
        begun = (low < high) & (tl.load(starts + middle, mask=low < high, other=0) <= column)
        high = tl.where(begun, high, middle)
        low = tl.where(begun, middle + 1, low)
    end = tl.load(starts + stride + low - 1, mask=low > first, other=0)
    return end > column
