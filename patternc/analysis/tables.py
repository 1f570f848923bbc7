"""Run-time tensors as expressions read them: element by element, and as bounds of groups of elements."""

from __future__ import annotations

from typing import Any

from patternc.analysis.elementwise import Array, ceil_log2


class Table:
    """A run-time tensor of one batch row, ready for `read`: an array of shape `dims` of any integer, bool or real type.

    For boxes it holds, for each power of two, the least and greatest element of aligned groups of so many elements
    along one or two axes (built when first asked for, 2 (or 4/3) times the tensor's size).
    """

    def __init__(self, xp: Any, array: Array) -> None:
        self.xp, self.array = xp, array
        self._parts: dict[tuple[Any, ...], Table] = {}
        self._levels: list[tuple[Array, Array]] = []

    def at(self, array: Array, indices: tuple[Any, ...]) -> Any:
        """Elements of an array of the table's type as bool, int64 or float64; one element as a plain value."""
        values = array[indices]
        if values.shape == ():
            return self.xp.plain(values)
        if self.xp.is_truth(values):
            return values
        return self.xp.real(values) if self.xp.is_real(values) else self.xp.integer(values)

    def part(self, fixed: tuple[int | None, ...]) -> Table:
        """The table with some axes fixed at an index (None: the axis stays)."""
        if fixed not in self._parts:
            where = tuple(slice(None) if index is None else index for index in fixed)
            self._parts[fixed] = Table(self.xp, self.array[where])
        return self._parts[fixed]

    def level(self, number: int) -> tuple[Array, Array]:
        """Least and greatest elements of the aligned groups of 2^number elements along every axis."""
        if not self._levels:
            self._levels.append((self.array, self.array))
        while len(self._levels) <= number:
            low, high = self._levels[-1]
            for axis in range(len(low.shape)):
                low = self.xp.minimum(*self._pairs(low, axis))
                high = self.xp.maximum(*self._pairs(high, axis))
            self._levels.append((low, high))
        return self._levels[number]

    def extent(self) -> tuple[Any, Any]:
        """The least and the greatest element, or bounds on them, as plain numbers."""
        low, high = self.level(ceil_log2(None, max(self.array.shape, default=1)))
        return self.xp.bounds(low.reshape(-1)[0], high.reshape(-1)[0])

    def _pairs(self, a: Array, axis: int) -> tuple[Array, Array]:
        """The even and the odd elements along an axis; an even one without a neighbour is its own."""
        before = (slice(None),) * axis
        even, odd = a[(*before, slice(0, None, 2))], a[(*before, slice(1, None, 2))]
        if even.shape[axis] == odd.shape[axis]:
            return even, odd
        return even, self.xp.concatenate([odd, even[(*before, slice(-1, None))]], axis)


def as_table(xp: Any, array: Any) -> Table:
    """The tensor of a batch row as a table; one that is a table already, whatever it is made of, as it is."""
    return array if isinstance(array, Table) else Table(xp, array)
