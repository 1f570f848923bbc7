"""Prints the multiplicities of a pattern as a Triton function, for tiles of which only some cells are kept.

In a cell in which a condition has no value (an index out of range, a division by zero, unless a guard hides it) the
condition counts as False, as in plans and in the torch backend: kernels cannot raise. No memory outside a tensor is
read. Integers are exact: they are int32 where 32 bits hold every value at the lengths asked for, else int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap

from patternc import ir
from patternc.analysis.evaluate import shared
from patternc.analysis.overflow import most
from patternc.backends.triton_mask_arguments import arguments_of, parameter
from patternc.backends.triton_mask_facts import INT32, Facts, Space, UnsupportedPatternError
from patternc.backends.triton_mask_lift import lifted
from patternc.backends.triton_mask_patterns import PatternPrinter, Relation, visit_scalars
from patternc.backends.triton_mask_text import Lines
from patternc.backends.triton_structure import Argument
from patternc.printer import text as printed
from patternc.rewrite import children, rebuild, uses_of, walk

__all__ = ["Argument", "MaskSource", "UnsupportedPatternError", "mask_function"]

LONGEST = 1 << 24
"""The keys that a function is made for, unless more are asked for: far fewer than overflow int32 in usual patterns."""
MOST_SHOWN = 300
"""Nodes of the longest pattern that is shown above its function."""


@dataclass(frozen=True)
class MaskSource:
    """A printed function `name(q, k, n, h, …)` of blocks of positions q and k, (rows, 1) and (1, columns) or the other
    way round, of the length n and the head h: M, as int32 if `bag`, else as int1. What it returns for positions that
    are no tokens means nothing.

    Sources of equal text compute the same with their own numbers, and may share a kernel. Numbers may be given as
    int64; constants of the kernel they should not be made (`do_not_specialize`).
    """

    name: str
    text: str
    words: tuple[str, ...]
    """The functions of triton_words that the text calls."""
    arguments: tuple[Argument, ...]
    numbers: tuple[int, ...]
    """The values of the last arguments, which are numbers of the pattern."""
    bag: bool
    wide: bool
    """Whether it computes with int64 inside."""
    longest: int
    """The most keys that it is made for."""
    pattern: ir.Pattern = field(repr=False)
    relations: tuple[Relation, ...] = field(repr=False)
    tensors: tuple[ir.Tensor, ...] = field(repr=False)
    """The run-time tensors that the text reads."""


def mask_function(
    pattern: ir.Pattern, name: str, tensors: Sequence[ir.Tensor] = (), longest: int = LONGEST
) -> MaskSource:
    """The function of a pattern that is bound to a head, with n open or not, for up to `longest` keys; `tensors` are
    declared in its program. UnsupportedPatternError with the reason if there is none."""
    assert name.isidentifier()
    pattern = shared(pattern)
    if most(pattern, {}) > INT32[1]:
        raise UnsupportedPatternError("its multiplicities may exceed 2^31")
    parametric, numbers = lifted(pattern)
    values = {parameter(i): value for i, value in enumerate(numbers)}
    facts = Facts({t.name: t for t in tensors}, values)
    tokens = Space(most=(longest,))
    visit_scalars(parametric, facts, tokens)
    wide = not facts.narrow
    printer = PatternPrinter(Lines(), facts, uses_of(parametric, ir.RELATIONS), wide)
    bag = printer.returning(parametric, tokens)
    read = _tensors_read(parametric, tensors)
    arguments = arguments_of(read, len(printer.relations), len(numbers))
    body = _casts(parametric, len(numbers), wide) + printer.lines.text()
    shown = _shown(parametric, printer.relations)
    text = "\n".join([*shown, "@triton.jit", *_head(name, arguments), body])
    words = tuple(sorted(printer.words))
    return MaskSource(
        name, text, words, arguments, numbers, bag, wide, longest, pattern, tuple(printer.relations), read
    )


def _tensors_read(pattern: ir.Pattern, tensors: Sequence[ir.Tensor]) -> tuple[ir.Tensor, ...]:
    """Those that the function itself reads: what covers and selections read, they read before the launch."""
    names: set[str] = set()
    stack: list[ir.Node] = [pattern]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in seen or isinstance(node, ir.RELATIONS):
            continue
        seen.add(id(node))
        stack.extend(children(node))
        if isinstance(node, ir.Read):
            names.add(node.tensor)
    return tuple(t for t in tensors if t.name in names)


def _casts(pattern: ir.Pattern, numbers: int, wide: bool) -> str:
    """Lines that give all numbers one type, whatever the kernel has them in."""
    variables = {node.name for node in walk(pattern) if isinstance(node, ir.Var)}
    names = ["q", "k"] if wide else []
    names += [name for name in ("n", "h") if name in variables] + [parameter(i) for i in range(numbers)]
    return "".join(f"    {name} = tl.cast({name}, {'tl.int64' if wide else 'tl.int32'})\n" for name in names)


def _head(name: str, arguments: Sequence[Argument]) -> list[str]:
    head = f"def {name}({', '.join(['q, k, n, h', *(a.name for a in arguments)])}):"
    return [*wrap(head, 112, subsequent_indent=" " * 8), '    """How often queries q attend to keys k."""']


def _shown(pattern: ir.Pattern, relations: Sequence[Relation]) -> list[str]:
    """The pattern as comments, with the names of its numbers, covers and selections."""
    if _size(pattern, {}) > MOST_SHOWN:
        return ["# (a pattern of many parts)"]
    names = {id(relation.node): relation.name for relation in relations}

    def named(node: ir.Node) -> ir.Node:
        if id(node) in names:
            return ir.Where(ir.Param(names[id(node)], "bool"))
        return rebuild(node, named)

    safe = printed(named(pattern)).encode("ascii", "backslashreplace").decode()
    return [f"# {line}" for line in wrap("".join(c if c.isprintable() else " " for c in safe), 110)]


def _size(node: ir.Node, known: dict[int, int]) -> int:
    """Nodes of the tree, with shared subtrees as often as they occur."""
    if id(node) not in known:
        known[id(node)] = 1 + sum(_size(child, known) for child in children(node))
    return known[id(node)]
