"""The ground of the checker: messages, and the demands that a place makes on the expression in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from patternc import ast, suggest
from patternc.checker.scope import Callee, Read, Scope, Typed, references
from patternc.errors import Code, Diagnostic, Related
from patternc.loader import Module
from patternc.source import Span
from patternc.types import (
    BLOCKS,
    CONDITION,
    WRONG,
    Condition,
    List,
    Number,
    Pattern,
    Tensor,
    Tuple,
    Type,
    Wrong,
    describe,
    fits,
    leaves,
    mixes,
)

MAX_SUGGESTIONS = 100
"""Names looked up for a did-you-mean in one file; more would take long, and nobody reads them."""
MAX_SNIPPET = 60

CELL = ("query", "key")
_VARIES = {
    "query": "differs from pair to pair",
    "key": "differs from pair to pair",
    "tensor": "known at run time only",
    "h": "differs from head to head",
}
_ROLES = {"query": "the query", "key": "the key", "tensor": "the tensor"}


def snippet(node: ast.Node) -> str:
    """The text of an expression for a hint, on one line; `…` if it is too long to be repeated."""
    text = " ".join(node.span.text.split())
    return text if 0 < len(text) <= MAX_SNIPPET else "…"


def shortened(node: ast.Node) -> str:
    """The text of an expression, cut off if it is long."""
    text = " ".join(node.span.text.split())
    return text if len(text) <= MAX_SNIPPET else f"{text[:MAX_SNIPPET].rstrip()} …"


def bare(node: ast.Node) -> str:
    """The same without parentheses around the whole."""
    text = snippet(node)
    if isinstance(node, ast.Tuple) or not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return text[1:-1] if i == len(text) - 1 else text
    return text


class Judge(ABC):
    """Collects what is wrong with one file."""

    def __init__(self, module: Module, callees: dict[int, Callee]) -> None:
        self.module = module
        self.callees = callees
        """What is known of patterns and functions, of this file and of those it imports, by `id` of the node."""
        self.found: dict[tuple[object, ...], Diagnostic] = {}
        self.item_types: dict[int, tuple[Type, ...]] = {}
        """The types of the items of list and tuple expressions, by `id` of the node, to place messages by."""
        self.imported: set[str] = set()
        """Names of imports that are used."""
        self.excused: set[int] = set()
        """Where names begin that need not be used: there is a message about them already."""
        self.suggestions = 0

    @abstractmethod
    def infer(self, node: ast.Expr, scope: Scope) -> Typed:
        """The type of an expression, and what its value depends on."""

    # ------------------------------------------------------------------ messages

    def report(
        self,
        code: Code,
        message: str,
        span: Span,
        label: str = "",
        *,
        related: Iterable[tuple[Span, str]] = (),
        hints: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        """One message for each code and place: a binding is judged in tokens and in blocks, and may fail twice."""
        places = tuple(Related(place, text) for place, text in related if place.source.text)
        diagnostic = Diagnostic(code, message, span, label, places, tuple(hints), tuple(notes))
        self.found.setdefault((code, span.start, span.end), diagnostic)

    def closest(self, name: str, candidates: Iterable[str]) -> str | None:
        """The name that was meant, as far as one can tell; None if too many have been looked for."""
        self.suggestions += 1
        return suggest.closest(name, candidates) if self.suggestions <= MAX_SUGGESTIONS else None

    def did_you_mean(self, name: str, candidates: Iterable[str]) -> tuple[str, ...]:
        """The hint, if there is a name to offer."""
        self.suggestions += 1
        return suggest.did_you_mean(name, candidates) if self.suggestions <= MAX_SUGGESTIONS else ()

    def mismatch(
        self,
        node: ast.Node,
        found: Type,
        expected: str,
        *,
        hints: Iterable[str] = (),
        related: Iterable[tuple[Span, str]] = (),
    ) -> None:
        message = f"expected {expected}, found {describe(found)}"
        self.report(Code.TYPE_MISMATCH, message, node.span, f"this is {describe(found)}", hints=hints, related=related)

    def given_twice(self, name: ast.Name, first: Span) -> None:
        message = f"`{name.id}` is given twice"
        self.report(Code.DUPLICATE_ARGUMENT, message, name.span, "and here again", related=[(first, "given here")])

    # ------------------------------------------------------------------ kinds of values

    def as_number(self, node: ast.Expr, value: Typed, expected: str = "a number") -> Typed:
        """The value, if it is a number; else a message and a value of no type."""
        match value.type:
            case Number() | Wrong():
                return value
            case Tensor() as tensor:
                self.unread_tensor(node, tensor)
            case Condition():
                hint = f"make a number of it: `(1 if {snippet(node)} else 0)`"
                self.mismatch(node, value.type, expected, hints=[hint])
            case _:
                self.mismatch(node, value.type, expected)
        return Typed(WRONG, value.reads)

    def as_integer(self, node: ast.Expr, value: Typed, what: str) -> Typed:
        """The value, if it is a finite integer."""
        value = self.as_number(node, value, f"an int for {what}")
        match value.type:
            case Number(infinite=True):
                self.no_infinity(node, what)
            case Number(float=True):
                self.mismatch(node, value.type, f"an int for {what}")
            case _:
                return value
        return Typed(WRONG, value.reads)

    def no_infinity(self, node: ast.Expr, what: str) -> None:
        note = "`inf` takes `+ - * //` with a finite number, `abs min max clamp` and comparisons"
        self.report(Code.INF_NOT_ALLOWED, f"`inf` cannot be {what}", node.span, "this is infinite", notes=[note])

    def as_condition(self, node: ast.Expr, value: Typed, what: str = "a condition") -> Typed:
        match value.type:
            case Condition() | Wrong():
                return value
            case Number():
                text = snippet(node)
                loose = isinstance(node, ast.IfElse | ast.Match)
                test = f"({bare(node)}) != 0" if loose else f"{bare(node)} != 0"
                message = f"`{text}` is {describe(value.type)}, not a condition"
                hint = f"write the comparison: `{test}`"
                self.report(Code.INT_AS_CONDITION, message, node.span, "a condition stands here", hints=[hint])
            case Tensor() as tensor:
                self.unread_tensor(node, tensor)
            case Pattern():
                hint = "a pattern has no truth value: write out its condition, or combine patterns by `|`, `&`, `~`"
                self.mismatch(node, value.type, what, hints=[hint])
            case _:
                self.mismatch(node, value.type, what)
        return Typed(CONDITION, value.reads)

    def as_pattern(self, node: ast.Expr, value: Typed, what: str = "a pattern") -> Pattern:
        """The pattern; a condition or number in its place is SPAT130."""
        match value.type:
            case Pattern() as pattern:
                return pattern
            case Wrong():
                return Pattern()
            case Condition():
                hints = [f"make a pattern of it: `{{ q -> k : {bare(node)} }}`"]
            case _:
                hints = []
        message = f"expected {what}, found {describe(value.type)}"
        self.report(Code.PATTERN_EXPECTED, message, node.span, f"this is {describe(value.type)}", hints=hints)
        return Pattern()

    def as_set(self, node: ast.Expr, pattern: Pattern, operator: str, hints: Iterable[str]) -> None:
        """Refuses a bag where only a set has a meaning."""
        if pattern.bag is None:
            return
        message = f"{operator} takes sets, and this is a bag: its pairs may count more than once"
        related = [(pattern.bag, f"this `{pattern.bag.text}` makes the bag")]
        self.report(Code.BAG_NOT_ALLOWED, message, node.span, "this is a bag", related=related, hints=hints)

    def unread_tensor(self, node: ast.Expr, tensor: Tensor) -> None:
        indices = ", ".join(["q", "k", "h"][: tensor.rank]) if tensor.rank <= 2 else "…"
        message = (
            f"`{snippet(node)}` is a tensor with {_counted(tensor.rank, 'index', 'indices')}; here stands one element"
        )
        hints = [f"read an element: `{snippet(node)}[{indices}]`"]
        self.report(Code.TENSOR_RANK, message, node.span, "a whole tensor", hints=hints)

    # ------------------------------------------------------------------ what a place may depend on

    def restricted(
        self, node: ast.Expr, value: Typed, what: str, *, also: tuple[str, ...] = (), hints: Iterable[str] = ()
    ) -> Typed:
        """Refuses values that depend on the query, the key or a tensor (or on `also`): `what` is settled before."""
        read = value.reading("query", "key", "tensor", *also)
        if read is None:
            return value
        self.misplaced(read, what, hints)
        return Typed(WRONG)

    def misplaced(self, read: Read, what: str, hints: Iterable[str] = ()) -> None:
        named = f"{_ROLES.get(read.role, '')} `{read.name}`".strip()
        code = Code.TENSOR_NOT_ALLOWED if read.role == "tensor" else Code.POSITION_NOT_ALLOWED
        related = [(read.origin, f"{named} is read here")] if read.origin else []
        label = f"depends on {named}" if read.origin else _VARIES.get(read.role, "not known here")
        self.report(code, f"{what} cannot depend on {named}", read.span, label, related=related, hints=hints)

    # ------------------------------------------------------------------ units and declared types

    def one_unit(self, whole: ast.Node, parts: Iterable[tuple[ast.Expr, Typed]], scope: Scope, verb: str) -> bool:
        """Whether no tokens meet blocks among the parts; else a message that shows both."""
        first: tuple[ast.Expr, Typed] | None = None
        for node, value in parts:
            if first is not None and mixes(first[1].type, value.type):
                self._mixed(whole, first, (node, value), scope, verb)
                return False
            if first is None and isinstance(value.type, Number) and value.type.unit:
                first = node, value
        return True

    def _mixed(
        self, whole: ast.Node, one: tuple[ast.Expr, Typed], two: tuple[ast.Expr, Typed], scope: Scope, verb: str
    ) -> None:
        units = [value.type.unit for _, value in (one, two) if isinstance(value.type, Number)]
        related, hints = [], []
        for (node, _), unit, other in zip((one, two), units, reversed(units), strict=True):
            origin = self._declaration(node, scope, unit)
            if origin is not None:
                name = origin.name.id
                related.append((origin.name.span.to(origin.type.span), f"counted in {unit}"))
                hints.append(f"declare `{name}: {other}`, or `{name}: int` if it is a plain number")
        notes = ["inside `blocks(…)` the names q, k and n count blocks"] if scope.unit == BLOCKS else []
        message = f"`{shortened(whole)}` {verb} {units[0]} with {units[1]}"
        label = f"`{shortened(one[0])}` counts {units[0]}, `{shortened(two[0])}` {units[1]}"
        self.report(Code.UNIT_MISMATCH, message, whole.span, label, related=related, hints=hints, notes=notes)

    def _declaration(self, node: ast.Expr, scope: Scope, unit: str | None) -> ast.Parameter | None:
        """The parameter that an expression has its unit from."""
        for name, _ in references(node):
            entry = scope.find(name.id)
            if entry is not None and entry.kind == "parameter" and isinstance(entry.value.type, Number):
                declared = scope.owner.parameters.get(name.id)
                if declared is not None and entry.value.type.unit == unit:
                    return declared
        return None

    def in_unit(self, node: ast.Expr, value: Typed, scope: Scope, what: str) -> None:
        """Refuses `what` if it is counted in another unit than the space it acts on."""
        if not (isinstance(value.type, Number) and value.type.unit not in (None, scope.unit)):
            return
        declared = self._declaration(node, scope, value.type.unit)
        related, hints = [], []
        if declared is not None:
            related = [(declared.name.span.to(declared.type.span), "declared here")]
            hints = [f"declare `{declared.name.id}: {scope.unit}` or `{declared.name.id}: int`"]
        message = f"{what} is counted in {scope.unit} here, not in {value.type.unit}"
        label = f"counted in {value.type.unit}"
        self.report(Code.UNIT_MISMATCH, message, node.span, label, related=related, hints=hints)

    def fitting(self, node: ast.Expr, value: Typed, declared: Type, what: str, related: list[tuple[Span, str]]) -> bool:
        """Whether a value has the declared type, units aside; else messages at the items that have not."""
        if isinstance(value.type, Wrong):
            return False
        right_kind = fits(value.type, declared)
        if right_kind and all(wanted.unit or not given.infinite for given, wanted in leaves(value.type, declared)):
            return True
        match node, declared:
            case ast.List(items), List(item):
                pairs = [(x, item) for x in items]
            case ast.Tuple(items), Tuple(types) if len(items) == len(types):
                pairs = list(zip(items, types, strict=True))
            case _ if right_kind:
                message = f"`inf` is a number of tokens; {what} takes {describe(declared)}"
                self.report(Code.INF_NOT_ALLOWED, message, node.span, "`inf` is given here", related=related)
                return False
            case _:
                self._unfitting(node, value.type, declared, what, related)
                return False
        found = self.item_types.get(id(node), (WRONG,) * len(pairs))
        for (part, expected), type in zip(pairs, found, strict=True):
            self.fitting(part, Typed(type), expected, what, related)
        return False

    def _unfitting(
        self, node: ast.Expr, found: Type, declared: Type, what: str, related: list[tuple[Span, str]]
    ) -> None:
        match found, declared:
            case Tensor() as tensor, Number() | Condition():
                self.unread_tensor(node, tensor)
                return
            case Number(), Condition():
                hints = (
                    [f"write `{bool(node.value)}`"]
                    if isinstance(node, ast.Number)
                    else [f"write `{snippet(node)} != 0`"]
                )
            case Number() | Condition() | Tuple(), List(item) if fits(found, item):
                hints = [f"write a list: `[{snippet(node)}]`"]
            case Number(), Number():
                hints = ["`//` divides to an int"] if not isinstance(node, ast.Number) else []
            case _:
                hints = []
        self.mismatch(node, found, f"{describe(declared)} for {what}", hints=hints, related=related)


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
