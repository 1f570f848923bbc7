"""Prints patterns as Triton expressions: sets as conditions, bags as int32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from patternc import ir
from patternc.backends.triton_mask_arguments import RELATION_NUMBERS, relation_name
from patternc.backends.triton_mask_conditions import ConditionPrinter
from patternc.backends.triton_mask_facts import Facts, Space, UnsupportedPatternError
from patternc.backends.triton_mask_numbers import SHAPE
from patternc.backends.triton_mask_text import (
    ATOM,
    COMPARE,
    FALSE,
    LONG,
    PLUS,
    TIMES,
    TRUE,
    UNARY,
    Lines,
    Text,
    both,
    either,
    opposite,
)
from patternc.rewrite import walk

BOTH_AXES = frozenset("qk")


@dataclass(frozen=True)
class Count:
    """The multiplicity of a pattern: a condition, or int32 if `bag`; it differs along `axes`."""

    text: Text
    bag: bool = False
    axes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Relation:
    """A cover or a selection, in the blocks that `sizes` lead to; its arguments bear the name set{number}."""

    number: int
    node: ir.Pattern
    sizes: tuple[ir.Scalar, ...]

    @property
    def name(self) -> str:
        return relation_name(self.number)


def visit_scalars(node: ir.Pattern, facts: Facts, space: Space, seen: set[tuple[int, Space]] | None = None) -> None:
    """Notes the facts of every scalar that is printed; UnsupportedPatternError for what cannot be."""
    seen = set() if seen is None else seen
    if (id(node), space) in seen:
        return
    seen.add((id(node), space))
    match node:
        case ir.Where(condition):
            facts.of(condition, space)
        case ir.Blocks(size, body):
            facts.of(size, space)
            visit_scalars(body, facts, space.inside(size), seen)
        case ir.Cover(size):
            facts.of(size, space)
        case ir.Choose(condition, then, orelse):
            facts.of(condition, space)
            visit_scalars(then, facts, space, seen)
            visit_scalars(orelse, facts, space, seen)
        case ir.Family(_, variable, lo, hi, body):
            facts.bind(variable, lo, hi, space)
            visit_scalars(body, facts, space, seen)
        case ir.Union(args) | ir.Sum(args) | ir.Product(args):
            for arg in args:
                visit_scalars(arg, facts, space, seen)
        case ir.Complement(a) | ir.Support(a):
            visit_scalars(a, facts, space, seen)


class PatternPrinter(ConditionPrinter):
    """Adds the lines of one function that returns a multiplicity."""

    def __init__(self, lines: Lines, facts: Facts, uses: Counter[int], wide: bool) -> None:
        super().__init__(lines, facts, uses, wide)
        self.relations: list[Relation] = []
        self._counts: dict[tuple[int, Space], Count] = {}

    def returning(self, pattern: ir.Pattern, tokens: Space) -> bool:
        """The rest of the function, which returns a block of all its cells; whether that is a bag."""
        count = self.count(pattern, tokens)
        text = count.text.text
        if count.text in (TRUE, FALSE) or text.isdigit():
            self.lines.add(f"return tl.full({SHAPE}, {text}, {'tl.int32' if count.bag else 'tl.int1'})")
        elif count.axes == BOTH_AXES:
            self.lines.returned(text)
        else:
            self.lines.add(f"return tl.broadcast_to({text}, {SHAPE})")
        self.check_length()
        return count.bag

    # -------------------------------------------------------------- patterns

    def count(self, node: ir.Pattern, space: Space) -> Count:
        """The multiplicity of a pattern in a space; what several others use gets a name."""
        key = id(node), space
        if key not in self._counts:
            count = self._count(node, space)
            again = self.uses[id(node)] > 1 or len(count.text.text) > LONG
            self._counts[key] = replace(count, text=self.named("m", count.text)) if again else count
        return self._counts[key]

    def _count(self, node: ir.Pattern, space: Space) -> Count:
        match node:
            case ir.Where(condition):
                return Count(self.holds(condition, space), False, self.facts.of(condition, space).axes)
            case ir.Union(args):
                return self._folded(args, space, self._united)
            case ir.Sum(args):
                return self._folded(args, space, _added, Count(Text("0"), True))
            case ir.Product(args):
                return self._folded(args, space, _multiplied, Count(TRUE))
            case ir.Complement(a):
                count = self.count(a, space)
                return replace(count, text=opposite(count.text))
            case ir.Support(a):
                return _support(self.count(a, space))
            case ir.Blocks(size, body):
                return self.count(body, space.inside(size))
            case ir.Choose():
                return self._choice(node, space)
            case ir.Family():
                return self._family(node, space)
            case ir.Cover(size):
                return self._related(node, space, space.inside(size))
        return self._related(node, space, space)

    def _folded(
        self,
        args: Sequence[ir.Pattern],
        space: Space,
        combine: Callable[[Count, Count], Count],
        nothing: Count = Count(FALSE),
    ) -> Count:
        result = nothing
        for arg in args:
            if len(result.text.text) > LONG:
                result = replace(result, text=self.named("m", result.text))
            result = combine(result, self.count(arg, space))
        return result

    @staticmethod
    def _united(a: Count, b: Count) -> Count:
        """Of sets: the checker lets no bag in."""
        return Count(either(a.text, b.text), False, a.axes | b.axes)

    def _choice(self, node: ir.Choose, space: Space) -> Count:
        """The condition is the same in every cell."""
        condition, a, b = (
            self.holds(node.condition, space),
            self.count(node.then, space),
            self.count(node.orelse, space),
        )
        axes = a.axes | b.axes
        if a.bag or b.bag:
            chosen = f"tl.where({condition.text}, {_number(a).text}, {_number(b).text})"
            return Count(Text(chosen), True, axes)
        first = both(condition, a.text)
        first = self.named("m", first) if len(first.text) > LONG else first
        return Count(either(first, both(opposite(condition), b.text)), False, axes)

    def _family(self, node: ir.Family, space: Space) -> Count:
        bag = node.kind == "sum"
        total = self.lines.assigned("total", f"tl.full({SHAPE}, {'0, tl.int32' if bag else 'False, tl.int1'})")

        def body() -> None:
            count = self.count(node.body, space)
            result = _added(Count(Text(total), True), count) if bag else self._united(Count(Text(total)), count)
            self.lines.add(f"{total} = {result.text.text}")

        outer, self._counts = self._counts, dict(self._counts)
        self.loop(node, space, body)
        self._counts = outer
        return Count(Text(total), bag, BOTH_AXES)

    # -------------------------------------------------------------- relations

    def _related(self, node: ir.Pattern, space: Space, rows: Space) -> Count:
        """Membership in a set that is computed before the launch, of whose rows and columns `rows` is the space."""
        if _open_variables(node):
            raise UnsupportedPatternError("a cover or selection that depends on a variable whose range hangs on n")
        relation = Relation(len(self.relations), node, space.sizes)
        self.relations.append(relation)
        numbers = [Text(f"{relation.name}_{name}") for name in RELATION_NUMBERS]
        cell = self.position("q", rows), self.position("k", rows)
        return Count(self.named("m", self.call("belongs", Text(relation.name), *numbers, *cell)), False, BOTH_AXES)


def _number(count: Count) -> Text:
    """A multiplicity as int32."""
    if count.bag or count.text in (TRUE, FALSE):
        return {TRUE: Text("1"), FALSE: Text("0")}.get(count.text, count.text)
    return Text(f"{count.text.within(ATOM)}.to(tl.int32)")


def _added(a: Count, b: Count) -> Count:
    x, y = _number(a), _number(b)
    if "0" in (x.text, y.text):
        return Count(y if x.text == "0" else x, True, a.axes | b.axes)
    return Count(Text(f"{x.within(PLUS)} + {y.within(TIMES)}", PLUS), True, a.axes | b.axes)


def _multiplied(a: Count, b: Count) -> Count:
    axes = a.axes | b.axes
    if not (a.bag or b.bag):
        return Count(both(a.text, b.text), False, axes)
    x, y = _number(a), _number(b)
    if "1" in (x.text, y.text):
        return Count(y if x.text == "1" else x, True, axes)
    return Count(Text(f"{x.within(TIMES)} * {y.within(UNARY)}", TIMES), True, axes)


def _support(a: Count) -> Count:
    if not a.bag:
        return a
    if a.text.text.isdigit():
        return Count(FALSE if a.text.text == "0" else TRUE)
    return Count(Text(f"{a.text.within(PLUS)} > 0", COMPARE), False, a.axes)


def _open_variables(node: ir.Pattern) -> set[str]:
    """Quantified variables that occur in a pattern and are bound outside of it."""
    named = {x.name for x in walk(node) if isinstance(x, ir.Var) and "#" in x.name}
    return named - {x.variable for x in walk(node) if isinstance(x, ir.Quantified | ir.Family)}
