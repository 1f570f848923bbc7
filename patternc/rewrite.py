"""The one walker of IR trees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from patternc import ir
from patternc.nodes import parts


def children(node: ir.Node) -> Iterator[ir.Node]:
    """The direct subtrees, in the order of the fields."""
    for name in parts(type(node)):
        value = getattr(node, name)
        if isinstance(value, ir.Node):
            yield value
        elif isinstance(value, tuple):
            yield from value


def walk(node: ir.Node) -> Iterator[ir.Node]:
    """Every node once, parents before children; shared subtrees are visited once."""
    seen: set[int] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(reversed(list(children(node))))


def uses_of(node: ir.Node, apart: tuple[type[ir.Node], ...]) -> Counter[int]:
    """How often each subtree, by identity, is a part of others, nodes of the kinds `apart` being looked at from outside
    only."""
    uses: Counter[int] = Counter()
    stack = [node]
    while stack:
        for child in children(stack.pop()):
            uses[id(child)] += 1
            if uses[id(child)] == 1 and not isinstance(child, apart):
                stack.append(child)
    return uses


def rebuild(node: ir.Node, rule: Callable[[ir.Node], ir.Node | None]) -> ir.Node:
    """The node with `rule` applied to its direct subtrees; the very same node if none changes.

    A rule returns None for "unchanged". Rules that go deeper call `rebuild` on what they do not handle.
    """
    changes: dict[str, Any] = {}
    for name in parts(type(node)):
        value = getattr(node, name)
        if isinstance(value, ir.Node):
            if (new := rule(value)) is not None and new is not value:
                changes[name] = new
        elif isinstance(value, tuple):
            items = tuple(rule(item) or item for item in value)
            if any(new is not old for new, old in zip(items, value, strict=True)):
                changes[name] = items
    return replace(node, **changes) if changes else node
