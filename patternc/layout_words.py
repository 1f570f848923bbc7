"""Layouts in words, for those who read explanations and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from patternc.passes.estimate import Way
from patternc.plan import Layout


def layout_words(layout: Layout) -> str:
    """`every 16th token`."""
    if layout.listed:
        return "listed tokens"
    if layout.stride == 1:
        return "consecutive tokens"
    if layout.width == 1:
        return f"every {ordinal(layout.stride)} token"
    return f"{layout.width} columns of lines of {layout.stride:,} tokens"


def layouts_words(queries: Layout, keys: Layout) -> str:
    """`every 16th token` where both sides have one layout, else both sides by name."""
    if queries == keys:
        return layout_words(queries)
    return f"queries: {layout_words(queries)}, keys: {layout_words(keys)}"


def ways_words(ways: Sequence[Way]) -> str:
    """The layouts of several terms, each said once, by their queries."""
    groups: dict[Layout, dict[Layout, None]] = {}
    for way in ways:
        groups.setdefault(way.queries.layout, {})[way.keys.layout] = None
    return " + ".join(_side_words(queries, list(keys)) for queries, keys in groups.items())


def _side_words(queries: Layout, keys: list[Layout]) -> str:
    if keys == [queries]:
        return layout_words(queries)
    *most, last = map(layout_words, keys)
    return f"queries: {layout_words(queries)}, keys: {', '.join(most)}{' and ' * bool(most)}{last}"


def ordinal(number: int) -> str:
    """`2nd`, `128th`."""
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def ranges(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 as `0-2, 5`; an even step as `0, 2, … 14`."""
    steps = {b - a for a, b in pairwise(numbers)}
    if len(numbers) > 3 and len(steps) == 1 and steps != {1}:
        return f"{numbers[0]}, {numbers[1]}, … {numbers[-1]}"
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def amount(number: float) -> str:
    """Three digits, or the whole number."""
    if number >= 100 or number == 0:
        return f"{number:,.0f}"
    return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f}"
