"""Expressions: the type of each form, and what it demands of its parts.

Every handler judges its parts first and then says what it gives, so that a level of the tree costs two or three
Python frames: trees of 200 levels stay within the recursion limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from patternc import ast
from patternc.builtins import COMPREHENSIONS, FUNCTIONS, NAMES
from patternc.checker.base import CELL, bare, snippet
from patternc.checker.names import KINDS
from patternc.checker.operators import Operators
from patternc.checker.scope import Callee, Entry, Scope, Typed, together
from patternc.errors import Code
from patternc.loader import Module
from patternc.suggest import listed
from patternc.types import (
    BLOCKS,
    CONDITION,
    FLOAT,
    INFINITE,
    INT,
    SET,
    WRONG,
    Condition,
    List,
    Number,
    Pattern,
    Tuple,
    Type,
    Wrong,
    common,
    describe,
    mixes,
)

Handler = Callable[..., Typed]


class Expressions(Operators):
    """What expressions give."""

    def __init__(self, module: Module, callees: dict[int, Callee]) -> None:
        super().__init__(module, callees)
        self.handlers: dict[type[ast.Node], Handler] = {
            ast.Name: self.name,
            ast.Number: self.number,
            ast.Inf: self.infinity,
            ast.Bool: self.truth,
            ast.Unary: self.unary,
            ast.Binary: self.binary,
            ast.Compare: self.compare,
            ast.IfElse: self.if_else,
            ast.Match: self.match,
            ast.Comprehension: self.comprehension,
            ast.Index: self.index,
            ast.Attribute: self.attribute,
            ast.Tuple: self.tuple_of,
            ast.List: self.list_of,
            ast.SetBuilder: self.set_builder,
            ast.Blocks: self.blocks,
            ast.Cover: self.cover,
        }
        self.functions: dict[str, Handler] = {
            **dict.fromkeys(FUNCTIONS, self.call_numbers),
            **dict.fromkeys(COMPREHENSIONS, self.call_gathering),
            "len": self.call_len,
            "support": self.call_support,
            "top": self.call_top,
            "sample": self.call_sample,
        }

    def infer(self, node: ast.Expr, scope: Scope) -> Typed:
        """The type of an expression, with messages for all that is wrong in it."""
        if isinstance(node, ast.Call):
            callee = self.callee(node, scope)
            if isinstance(callee, Callee):
                return self.call_definition(node, callee, scope)
            return callee(node, scope)
        return self.handlers[type(node)](node, scope)

    # ------------------------------------------------------------------ what is called

    def callee(self, node: ast.Call, scope: Scope) -> Callee | Handler:
        """Who judges a call."""
        function = node.function
        if isinstance(function, ast.Attribute):
            base = function.base
            if isinstance(base, ast.Name) and scope.find(base.id) is None and base.id in self.aliases:
                return self.member(function) or self.call_unknown
            return self.call_value
        if scope.find(function.id) is not None:
            return self.call_value
        if function.id in self.functions:
            return self.functions[function.id]
        if function.id in NAMES or function.id in self.aliases:
            return self.call_value
        found = self.definition(function.id)
        if found is None:
            self.unknown(function, scope)
            return self.call_unknown
        return found

    def call_unknown(self, node: ast.Call, scope: Scope) -> Typed:
        """A call of something about which there is a message already."""
        for value in (*node.args, *[keyword.value for keyword in node.keywords]):
            self.infer(value, scope)
        return Typed(WRONG)

    def call_value(self, node: ast.Call, scope: Scope) -> Typed:
        """A call of what is no pattern or function; `causal()` is well."""
        function = node.function
        value = self.infer(function, scope)
        self.call_unknown(node, scope)
        entry = scope.find(function.id) if isinstance(function, ast.Name) else None
        text, given = snippet(function), bool(node.args or node.keywords)
        if value.type == SET and entry is None:
            if given:
                message = f"`{text}` takes no arguments"
                self.report(Code.TOO_MANY_ARGUMENTS, message, node.span, "too many", hints=[f"write `{text}`"])
            return value
        if isinstance(value.type, Wrong):
            return Typed(WRONG)
        hints = [] if given else [f"write `{text}`"]
        if isinstance(value.type, List) and len(node.args) == 1:
            hints = [f"index it: `{text}[{snippet(node.args[0])}]`"]
        related = [] if entry is None else [(entry.name.span, f"{KINDS[entry.kind]}, {describe(value.type)}")]
        message = f"`{text}` is {describe(value.type)} and takes no arguments"
        self.report(Code.NOT_CALLABLE, message, function.span, "cannot be called", related=related, hints=hints)
        return Typed(WRONG)

    # ------------------------------------------------------------------ constants

    def number(self, node: ast.Number, scope: Scope) -> Typed:
        return Typed(FLOAT if isinstance(node.value, float) else INT)

    def infinity(self, node: ast.Inf, scope: Scope) -> Typed:
        return Typed(INFINITE)

    def truth(self, node: ast.Bool, scope: Scope) -> Typed:
        return Typed(CONDITION)

    # ------------------------------------------------------------------ choices

    def if_else(self, node: ast.IfElse, scope: Scope) -> Typed:
        then = self.infer(node.then, scope)
        condition = self.as_condition(node.condition, self.infer(node.condition, scope))
        orelse = self.infer(node.orelse, scope)
        if isinstance(then.type, Pattern) or isinstance(orelse.type, Pattern):
            hints = [f"write the choice inside: `{{ q -> k : … if {bare(node.condition)} else … }}`"]
            self.restricted(node.condition, condition, "the condition that chooses between patterns", hints=hints)
            condition = Typed(WRONG)
        type = self.one_of(((node.then, then), (node.orelse, orelse)), scope, "the two sides of `if`")
        return Typed(type, together(then, condition, orelse))

    def match(self, node: ast.Match, scope: Scope) -> Typed:
        subject = self.infer(node.subject, scope)
        if isinstance(subject.type, Condition):
            hints = ["a condition chooses by `A if condition else B`"]
            self.mismatch(node.subject, subject.type, "an int for `match`", hints=hints)
        else:
            subject = self.as_integer(node.subject, subject, "the subject of `match`")
        subject = self.restricted(
            node.subject, subject, "the subject of `match`", hints=["choose by `A if condition else B`"]
        )
        parts = []
        for arm in node.arms:
            if arm.label is not None:
                self._label(arm.label, (node.subject, subject), scope)
            parts.append((arm.body, self.infer(arm.body, scope)))
        type = self.one_of(parts, scope, "the arms of `match`")
        return Typed(type, together(subject, *[value for _, value in parts]))

    def _label(self, label: ast.Expr | ast.Range, subject: tuple[ast.Expr, Typed], scope: Scope) -> None:
        if isinstance(label, ast.Range):
            self.range(label, scope)
            return
        value = self.as_integer(label, self.infer(label, scope), "the label of an arm")
        self.restricted(label, value, "the label of an arm", also=("h", "n"))
        self.one_unit(label, (subject, (label, value)), scope, "compares")

    def one_of(self, parts: Sequence[tuple[ast.Expr, Typed]], scope: Scope, what: str) -> Type:
        """The type of values of which one is chosen: all patterns, all conditions, all numbers."""
        type: Type = WRONG
        for node, value in parts:
            joined = common(type, value.type)
            if joined is None:
                first = next(n for n, v in parts if not isinstance(v.type, Wrong))
                if isinstance(type, Pattern) and isinstance(value.type, (Condition, Number)):
                    self.as_pattern(node, value, f"a pattern, like the first of {what}")
                else:
                    message = f"{what} are of one kind: found {describe(type)} and {describe(value.type)}"
                    related = [(first.span, f"{describe(type)}")]
                    self.report(Code.TYPE_MISMATCH, message, node.span, describe(value.type), related=related)
                return type if isinstance(type, Pattern) else WRONG
            if mixes(type, value.type):
                self.one_unit(node, parts, scope, "mixes")
                return WRONG
            type = joined
        return type

    # ------------------------------------------------------------------ lists, tuples, comprehensions

    def list_of(self, node: ast.List, scope: Scope) -> Typed:
        parts = [(item, self.infer(item, scope)) for item in node.items]
        if not self._values_only(parts):
            return Typed(WRONG)
        self.item_types[id(node)] = tuple([value.type for _, value in parts])
        type: Type = WRONG
        for item, value in parts:
            joined = common(type, value.type)
            if joined is None:
                message = f"a list has items of one type: found {describe(type)} and {describe(value.type)}"
                related = [(node.items[0].span, describe(type))]
                self.report(Code.TYPE_MISMATCH, message, item.span, describe(value.type), related=related)
                return Typed(WRONG)
            type = joined
        self.one_unit(node, parts, scope, "mixes")
        return Typed(List(type), together(*[value for _, value in parts]))

    def tuple_of(self, node: ast.Tuple, scope: Scope) -> Typed:
        parts = [(item, self.infer(item, scope)) for item in node.items]
        if not self._values_only(parts):
            return Typed(WRONG)
        types = tuple([value.type for _, value in parts])
        self.item_types[id(node)] = types
        return Typed(Tuple(types), together(*[value for _, value in parts]))

    def _values_only(self, parts: Sequence[tuple[ast.Expr, Typed]]) -> bool:
        """Whether the items are what lists and tuples hold: numbers, conditions, and lists and tuples of them."""
        patterns = [(item, value) for item, value in parts if isinstance(value.type, Pattern)]
        for item, value in patterns:
            hints = ["`union(A, B)` and `sum(A, B)` take several patterns"]
            self.mismatch(item, value.type, "a number or condition in a list or tuple", hints=hints)
        return not patterns

    def comprehension(self, node: ast.Comprehension, scope: Scope) -> Typed:
        name = node.function.id
        items = self._items(node, scope)
        entries = self._targets(node, items, scope)
        inner = scope.within(entries)
        value = self.infer(node.element, inner)
        self._unused(entries, scope)
        reads = together(items, value)
        if name not in COMPREHENSIONS:
            message = f"`{name}` takes no comprehension"
            hints = [f"{listed(COMPREHENSIONS)} do"]
            self.report(Code.NOT_CALLABLE, message, node.function.span, "not over a list", hints=hints)
            return Typed(WRONG)
        if name in ("any", "all"):
            self.as_condition(node.element, value, f"a condition for `{name}`")
            return Typed(CONDITION, reads)
        self.gathered(name, node.element, value)
        read = items.reading(*CELL, "tensor")
        if read is not None:
            self.misplaced(read, f"the list that `{name}` runs over")
        return Typed(SET if name == "union" else Pattern(node.function.span))

    def _items(self, node: ast.Comprehension, scope: Scope) -> Typed:
        """The type of the items that a comprehension runs over."""
        iterable = node.iterable
        if isinstance(iterable, ast.Range):
            return self.range(iterable, scope)
        value = self.infer(iterable, scope)
        match value.type:
            case List(item):
                return Typed(item, value.reads)
            case Tuple(items):
                joined: Type | None = WRONG
                for item in items:
                    joined = None if joined is None else common(joined, item)
                if joined is not None:
                    return Typed(joined, value.reads)
                self.mismatch(iterable, value.type, "a list, or a tuple of items of one type, after `in`")
            case Number():
                hints = [f"write a range: `0..{snippet(iterable)}`"]
                self.mismatch(iterable, value.type, "a list or a range after `in`", hints=hints)
            case Wrong():
                pass
            case _:
                self.mismatch(iterable, value.type, "a list or a range after `in`")
        return Typed(WRONG)

    def _targets(self, node: ast.Comprehension, items: Typed, scope: Scope) -> list[Entry]:
        targets = node.targets
        self.declare(targets, "loop variable")
        if len(targets) == 1:
            types: tuple[Type, ...] = (items.type,)
        elif isinstance(items.type, Tuple) and len(items.type.items) == len(targets):
            types = items.type.items
        else:
            types = (WRONG,) * len(targets)
            if not isinstance(items.type, Wrong):
                holds = f"{len(items.type.items)} values" if isinstance(items.type, Tuple) else "one value"
                message = f"{len(targets)} names are given to items of {holds}"
                place = targets[0].span.to(targets[-1].span)
                related = [(node.iterable.span, f"each item is {describe(items.type)}")]
                self.excused.update([target.span.start for target in targets])
                self.report(Code.UNPACK_MISMATCH, message, place, f"{len(targets)} names", related=related)
        return [Entry("variable", name, Typed(type, items.reads)) for name, type in zip(targets, types, strict=True)]

    def _unused(self, entries: Sequence[Entry], scope: Scope) -> None:
        for entry in entries:
            if entry.name.span.start not in scope.owner.used:
                self.unused(entry.name, "loop variable")

    def unused(self, name: ast.Name, what: str, *, hint: str | None = None) -> None:
        if not name.id.startswith("_") and name.span.start not in self.excused:
            hints = [hint or f"leave it out, or call it `_{name.id}`"]
            self.report(Code.UNUSED_NAME, f"the {what} `{name.id}` is never used", name.span, "not used", hints=hints)

    def declare(self, names: Sequence[ast.Name], what: str) -> None:
        """Refuses names that are declared twice side by side, and those of the language."""
        self.duplicates(names, what)
        for name in names:
            self.shadowing(name, what)

    def duplicates(self, names: Sequence[ast.Name], what: str, first: int = 0) -> None:
        """Refuses names declared twice; those before `first` are not looked at, only what repeats them."""
        seen: dict[str, ast.Name] = {}
        for i, name in enumerate(names):
            if i >= first and name.id in seen and name.id != "_":
                self.excused.add(name.span.start)
                message = f"the {what} `{name.id}` is declared twice"
                related = [(seen[name.id].span, "first declared here")]
                self.report(Code.DUPLICATE_NAME, message, name.span, "and here again", related=related)
            seen.setdefault(name.id, name)

    def shadowing(self, name: ast.Name, what: str) -> None:
        if name.id in NAMES:
            message = f"the {what} `{name.id}` hides a name of the language"
            hints = [f"call it `{name.id}_`, say"]
            self.report(Code.SHADOWS_BUILTIN, message, name.span, "a built-in name", hints=hints)

    # ------------------------------------------------------------------ patterns

    def set_builder(self, node: ast.SetBuilder, scope: Scope) -> Typed:
        query, key = node.query, node.key
        self._builder_names(query, key)
        position = Number(unit=scope.unit)
        entries = [Entry("query", query, Typed(position)), Entry("key", key, Typed(position))]
        inner = scope.within(entries, node)
        self.as_condition(node.condition, self.infer(node.condition, inner), "a condition after `:`")
        return Typed(SET)

    def _builder_names(self, query: ast.Name, key: ast.Name) -> None:
        if query.id == key.id:
            message = f"the query and the key are both called `{key.id}`"
            related = [(query.span, "the query")]
            self.report(
                Code.DUPLICATE_NAME, message, key.span, "the key", related=related, hints=["write `{ q -> k : … }`"]
            )
        for name, what in ((query, "query name"), (key, "key name")):
            if name.id not in ("q", "k"):
                self.shadowing(name, what)

    def blocks(self, node: ast.Blocks, scope: Scope) -> Typed:
        self._size(node.size, scope, "blocks")
        body = self.infer(node.body, scope.counting(BLOCKS, node.size))
        return Typed(self.as_pattern(node.body, body, "a pattern for `blocks`"))

    def cover(self, node: ast.Cover, scope: Scope) -> Typed:
        self._size(node.size, scope, "cover")
        body = self.as_pattern(node.body, self.infer(node.body, scope), "a pattern for `cover`")
        self.as_set(node.body, body, "`cover`", [f"write `cover({snippet(node.size)}) support({bare(node.body)})`"])
        return Typed(SET)

    def _size(self, node: ast.Expr, scope: Scope, form: str) -> None:
        what = f"the block size of `{form}`"
        value = self.restricted(node, self.as_integer(node, self.infer(node, scope), what), what)
        self.in_unit(node, value, scope, what)
