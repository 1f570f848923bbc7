"""Operators and comparisons, on numbers, conditions and patterns."""

from __future__ import annotations

from collections.abc import Sequence

from patternc import ast
from patternc.checker.base import bare, shortened, snippet
from patternc.checker.names import Names
from patternc.checker.scope import Scope, Typed, together
from patternc.errors import Code
from patternc.source import Span
from patternc.types import (
    CONDITION,
    SET,
    WRONG,
    Condition,
    List,
    Number,
    Pattern,
    Tuple,
    Type,
    Wrong,
    arithmetic,
    common,
    describe,
    mixes,
    show,
)

_WORDS = {"|": "or", "&": "and"}
_LOGIC = {"or": "|", "and": "&"}


class Operators(Names):
    """What operators give."""

    # ------------------------------------------------------------------ operators

    def unary(self, node: ast.Unary, scope: Scope) -> Typed:
        operand = node.operand
        value = self.infer(operand, scope)
        match node.op, value.type:
            case (_, Wrong()) | ("-", Number()):
                return value if node.op != "~" else Typed(SET)
            case "not", Pattern():
                self._not_for(
                    node, value.type, "not", "conditions", [f"the complement of a pattern is `~{snippet(operand)}`"]
                )
                return Typed(WRONG)
            case "not", _:
                return self.as_condition(operand, value)
            case "~", Pattern() as pattern:
                hints = [f"`~support({bare(operand)})` is the complement of its pairs"]
                self.as_set(operand, pattern, "`~`", hints)
                return Typed(SET)
            case "~", Condition():
                self._not_for(node, value.type, "~", "patterns", [f"a condition is denied by `not {snippet(operand)}`"])
                return Typed(WRONG, value.reads)
            case "-", Pattern():
                self._not_for(
                    node, value.type, "-", "numbers", [f"the complement of a pattern is `~{snippet(operand)}`"]
                )
                return Typed(WRONG)
            case "~", _:
                self.as_pattern(operand, value, "a pattern for `~`")
                return Typed(SET)
        self.as_number(operand, value)
        return Typed(WRONG, value.reads)

    def _not_for(self, node: ast.Expr, found: Type, op: str, takes: str, hints: Sequence[str]) -> None:
        message = f"`{op}` takes {takes}, found {describe(found)}"
        self.report(Code.TYPE_MISMATCH, message, node.span, f"of {describe(found)}", hints=hints)

    def binary(self, node: ast.Binary, scope: Scope) -> Typed:
        left = self.infer(node.left, scope)
        return self.combined(node, left, self.infer(node.right, scope), scope)

    def combined(self, node: ast.Binary, left: Typed, right: Typed, scope: Scope) -> Typed:
        """What an operator gives between operands that have been judged."""
        if isinstance(left.type, Pattern) or isinstance(right.type, Pattern):
            return Typed(self._patterns(node, left, right))
        reads = together(left, right)
        match node.op:
            case "and" | "or":
                self.as_condition(node.left, left)
                self.as_condition(node.right, right)
                return Typed(CONDITION, reads)
            case "|" | "&":
                return Typed(self._no_patterns(node, left.type, right.type), reads)
        return Typed(self._numbers(node, left, right, scope), reads)

    def _patterns(self, node: ast.Binary, left: Typed, right: Typed) -> Type:
        """An operator with a pattern on one side at least."""
        op, a, b = node.op, snippet(node.left), snippet(node.right)
        if op not in ("|", "&", "+", "-"):
            self._no_such_operator(node, left.type, right.type)
            return WRONG
        one = self.as_pattern(node.left, left, f"a pattern beside the pattern on the right of `{op}`")
        two = self.as_pattern(node.right, right, f"a pattern beside the pattern on the left of `{op}`")
        match op:
            case "+":
                return Pattern(node.op_span)
            case "&":
                return one if one.bag else two
            case "|":
                hints = [f"`{a} + {b}` adds multiplicities", "`support(…)` is the set under a bag"]
            case _:
                hints = ["`support(…)` is the set under a bag"]
        self.as_set(node.left, one, f"`{op}`", hints)
        self.as_set(node.right, two, f"`{op}`", hints)
        return SET

    def _no_such_operator(self, node: ast.Binary, left: Type, right: Type) -> None:
        op, a, b = node.op, snippet(node.left), snippet(node.right)
        if isinstance(left, Wrong) or isinstance(right, Wrong):
            return
        both = isinstance(left, Pattern) and isinstance(right, Pattern)
        if op in _LOGIC and both:
            hints = [f"patterns are combined by `{_LOGIC[op]}`: `{a} {_LOGIC[op]} {b}`"]
        elif op in _LOGIC and isinstance(right, Condition):
            hints = [f"make a pattern of the condition: `{a} {_LOGIC[op]} {{ q -> k : {b} }}`"]
        elif op == "^" and both:
            hints = [f"the pairs in one of the two: `({a} - {b}) | ({b} - {a})`"]
        elif op == "*":
            hints = [f"the pairs in both: `{a} & {b}`"] if both else ["`A + A` counts every pair of A twice"]
        else:
            hints = ["patterns are combined by `|`, `&`, `-`, `+` and `~`"]
        found = left if isinstance(left, Pattern) else right
        message = f"`{op}` takes {'conditions' if op in _LOGIC else 'numbers'}, found {describe(found)}"
        self.report(
            Code.TYPE_MISMATCH, message, node.span, f"`{op}` of {describe(left)} and {describe(right)}", hints=hints
        )

    def _no_patterns(self, node: ast.Binary, left: Type, right: Type) -> Type:
        """`|` or `&` of conditions or numbers."""
        if isinstance(left, Wrong) or isinstance(right, Wrong):
            return WRONG
        op, word = node.op, _WORDS[node.op]
        conditions = isinstance(left, Condition) and isinstance(right, Condition)
        message = f"`{op}` combines patterns, found {describe(left)} and {describe(right)}"
        if conditions:
            hints = [f"conditions are combined by `{word}`: `{snippet(node.left)} {word} {snippet(node.right)}`"]
        elif op == "&":
            hints = [
                "conditions are combined by `and`; there are no operators on bits but `^`: `x % 4` has the last two"
            ]
        else:
            hints = ["conditions are combined by `or`; there are no operators on bits but `^`"]
        self.report(Code.TYPE_MISMATCH, message, node.span, "not patterns", hints=hints)
        return CONDITION if conditions else WRONG

    def _numbers(self, node: ast.Binary, left: Typed, right: Typed, scope: Scope) -> Type:
        op = node.op
        what = f"a number for `{op}`"
        a = self.as_number(node.left, left, what).type
        b = self.as_number(node.right, right, what).type
        if not (isinstance(a, Number) and isinstance(b, Number)):
            return WRONG
        if op in ("%", "**", "^") and (a.infinite or b.infinite):
            self.no_infinity(node.left if a.infinite else node.right, f"an operand of `{op}`")
            return WRONG
        if a.infinite and b.infinite:
            self.no_infinity(node, f"combined with another `inf` by `{op}`")
            return WRONG
        for part, found in ((node.left, a), (node.right, b)):
            if found.float and (op == "^" or (op == "**" and part is node.right)):
                self.mismatch(part, found, f"an int for `{op}`")
                return WRONG
        parts = ((node.left, left), (node.right, right))
        return arithmetic(op, a, b) if self.one_unit(node, parts, scope, "mixes") else WRONG

    # ------------------------------------------------------------------ comparisons

    def compare(self, node: ast.Compare, scope: Scope) -> Typed:
        left = node.first, self._operand(node, node.first, -1, scope)
        reads, sound = [left[1]], True
        for i, (op, operand) in enumerate(node.rest):
            if isinstance(operand, ast.Range):
                reads.append(self.range(operand, scope, left))
                if i + 1 < len(node.rest):
                    message = "a range ends a chain of comparisons: what follows would compare the range itself"
                    hints = ["combine the comparisons by `and`"]
                    self.report(Code.TYPE_MISMATCH, message, operand.span, "not a number", hints=hints)
                continue
            right = operand, self._operand(node, operand, i, scope)
            reads.append(right[1])
            if op in ("in", "not in"):
                self._among(node, left, right)
            else:
                self._related(node, op, left, right, scope)
            left = right
            sound = sound and not isinstance(right[1].type, Pattern)
        return Typed(CONDITION if sound else WRONG, together(*reads))

    def _operand(self, node: ast.Compare, operand: ast.Expr, place: int, scope: Scope) -> Typed:
        """An operand of a comparison. `|`, `&`, `+` and `-` bind tighter than comparisons, and may have been meant to
        combine the comparisons themselves; `place` is the index in `node.rest`, or -1."""
        if not (isinstance(operand, ast.Binary) and operand.op in ("|", "&", "+", "-")):
            return self.infer(operand, scope)
        left, right = self.infer(operand.left, scope), self.infer(operand.right, scope)
        last = place == len(node.rest) - 1
        if place == -1 and isinstance(left.type, Pattern) and isinstance(right.type, Number):
            condition = Span(node.span.source, operand.right.span.start, node.span.end).text
            self._tighter(node, operand, f"{bare(operand.left)} {operand.op} {{ q -> k : {condition} }}")
            return Typed(WRONG)
        if last and isinstance(left.type, Number) and isinstance(right.type, Pattern):
            condition = Span(node.span.source, node.span.start, operand.left.span.end).text
            self._tighter(node, operand, f"{{ q -> k : {condition} }} {operand.op} {bare(operand.right)}")
            return Typed(WRONG)
        if operand.op in _WORDS and place >= 0 and not last:
            return self._chained(node, operand, left, right, scope)
        return self.combined(operand, left, right, scope)

    def _tighter(self, node: ast.Compare, operand: ast.Binary, meant: str) -> None:
        message = f"`{operand.op}` binds tighter than comparisons: this compares `{shortened(operand)}`"
        hints = [f"write `{' '.join(meant.split())}`"]
        self.report(Code.PATTERN_EXPECTED, message, node.span, "a pattern and a condition", hints=hints)

    def _chained(self, node: ast.Compare, operand: ast.Binary, left: Typed, right: Typed, scope: Scope) -> Typed:
        """`h | k` in the chain `q < h | k < h`, where conditions were to be combined."""
        sides = left.type, right.type
        if any(isinstance(side, Wrong) for side in sides):
            return Typed(WRONG)
        if not all(isinstance(side, Number | Condition) for side in sides):
            return self.combined(operand, left, right, scope)
        word, text = _WORDS[operand.op], node.span.text
        cut = operand.op_span.start - node.span.start
        rewritten = " ".join(f"{text[:cut]}{word}{text[cut + 1 :]}".split())
        message = f"`{operand.op}` binds tighter than comparisons: this compares with `{shortened(operand)}`"
        hints = [f"write `{rewritten}`"]
        self.report(Code.COMPARE_CHAIN_OR, message, node.span, "one chain of comparisons", hints=hints)
        return Typed(WRONG)

    def _related(
        self, node: ast.Compare, op: str, left: tuple[ast.Expr, Typed], right: tuple[ast.Expr, Typed], scope: Scope
    ) -> None:
        types = left[1].type, right[1].type
        if op in ("==", "!=") and all(isinstance(t, (Condition, Wrong)) for t in types):
            return
        if any(isinstance(t, Pattern) for t in types):
            part, found = left if isinstance(types[0], Pattern) else right
            hints = ["`check A : equals(B)` compares patterns"]
            self.mismatch(part, found.type, f"a number for `{op}`", hints=hints)
            return
        for part, value in (left, right):
            other = right if part is left[0] else left
            if isinstance(value.type, Condition) and isinstance(other[1].type, Number):
                hints = ["a condition is tested by itself: write it without the comparison"]
                self.mismatch(part, value.type, f"a number for `{op}`, as on its other side", hints=hints)
                return
            if isinstance(self.as_number(part, value, f"a number for `{op}`").type, Wrong):
                return
        self.one_unit(node, (left, right), scope, "compares")

    def _among(self, node: ast.Compare, left: tuple[ast.Expr, Typed], right: tuple[ast.Expr, Typed]) -> None:
        """`left in right`, a list or tuple."""
        operand, value = right
        match value.type:
            case List(item):
                self._member(node, left, item)
            case Tuple(items):
                for item in items:
                    self._member(node, left, item)
            case Wrong():
                pass
            case _:
                hint = f"write `== {snippet(operand)}`, or a range `0..{snippet(operand)}`"
                hints = [hint] if isinstance(value.type, Number) else []
                self.mismatch(operand, value.type, "a list, a tuple or a range after `in`", hints=hints)

    def _member(self, node: ast.Compare, left: tuple[ast.Expr, Typed], item: Type) -> None:
        """Whether `left` can be an item of this type."""
        part, value = left
        match value.type, item:
            case (Wrong(), _) | (_, Wrong()) | (Condition(), Condition()):
                return
            case Number(), Number():
                if mixes(value.type, item):
                    message = f"`{snippet(node)}` looks for a number of {value.type.unit} among numbers of {item.unit}"
                    self.report(Code.UNIT_MISMATCH, message, node.span, f"mixes {value.type.unit} with {item.unit}")
                return
            case Number(), _:
                message = f"{describe(value.type)} is looked for among items of type `{show(item)}`"
                self.report(Code.TYPE_MISMATCH, message, node.span, "never among them")
                return
        self.as_number(part, value, "a number before `in`")

    def range(self, node: ast.Range, scope: Scope, left: tuple[ast.Expr, Typed] | None = None) -> Typed:
        """The type of the numbers of a range, whose bounds depend on no position and no tensor; `left` is looked for
        in it."""
        ends, hints = [], []
        if left is not None:
            self.as_number(*left, "a number before `in`")
            hints = [f"write the comparisons: `{snippet(node.lo)} <= {snippet(left[0])} < {snippet(node.hi)}`"]
        for bound in (node.lo, node.hi):
            value = self.as_integer(bound, self.infer(bound, scope), "a bound of a range")
            ends.append((bound, self.restricted(bound, value, "a bound of a range", hints=hints)))
        agree = self.one_unit(node, ends if left is None else [left, *ends], scope, "mixes")
        joined = common(*[value.type for _, value in ends]) if agree else WRONG
        return Typed(joined or WRONG, together(*[value for _, value in ends]))
