"""Prints conditions as Triton expressions of blocks of queries and keys.

A condition that has a value in every cell is one expression. Of any other there are two: where it *holds* and where it
*fails*; in between it has no value, because a number in it has none (a division by zero, an index outside its axis).
`and`, `or` and `if` guard by these two alone: what a guard hides is computed on stand-ins, and counts nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from patternc import ir
from patternc.backends.triton_mask_facts import Space
from patternc.backends.triton_mask_numbers import SHAPE, NumberPrinter, is_power_of_two
from patternc.backends.triton_mask_text import (
    AND,
    COMPARE,
    FALSE,
    OR,
    TIMES,
    TRUE,
    XOR,
    Text,
    both,
    either,
    opposite,
)
from patternc.rewrite import children

_OPPOSITES = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


class ConditionPrinter(NumberPrinter):
    """Adds the lines of one function."""

    # -------------------------------------------------------------- conditions

    def holds(self, node: ir.Scalar, space: Space) -> Text:
        """Where a condition has a value and is true."""
        if isinstance(node, ir.Const):
            return TRUE if node.value else FALSE
        return self.once("holds", node, space, lambda: self._holds(node, space), "c")

    def fails(self, node: ir.Scalar, space: Space) -> Text:
        """Where a condition has a value and is false."""
        match node:
            case ir.Const(value):
                return FALSE if value else TRUE
            case ir.Unary("not", a):
                return self.holds(a, space)
        if not self.facts.of(node, space).sure:
            return self.once("fails", node, space, lambda: self._fails(node, space), "c")
        if isinstance(node, ir.Compare) and self.uses[id(node)] == 1 and self._kind(node.a, node.b, space) == "int":
            return self._compared(_OPPOSITES[node.op], node.a, node.b, space)
        return opposite(self.holds(node, space))

    def _holds(self, node: ir.Scalar, space: Space) -> Text:
        match node:
            case ir.Unary("not", a):
                return self.fails(a, space)
            case ir.Compare(op, a, b):
                return self._comparison(op, a, b, space, opposed=False)
            case ir.And(args):
                return self.all_of(self.holds(a, space) for a in args)
            case ir.Or(args):
                return self._first(args, space, self.holds, self.fails)
            case ir.If(condition, then, orelse):
                return self._branches(condition, self.holds(then, space), self.holds(orelse, space), space)
            case ir.Pick(index, items):
                return self.one_item(index, [self.holds(item, space) for item in items], space)
            case ir.Read(_, indices):
                return both(self.element(node, space), self.all_of(self.valid(i, space) for i in indices))
            case ir.Quantified():
                return self._quantified(node, space)[0]
        raise AssertionError(f"not a condition: {node}")

    def _fails(self, node: ir.Scalar, space: Space) -> Text:
        match node:
            case ir.Compare(op, a, b):
                return self._comparison(op, a, b, space, opposed=True)
            case ir.And(args):
                return self._first(args, space, self.fails, self.holds)
            case ir.Or(args):
                return self.all_of(self.fails(a, space) for a in args)
            case ir.If(condition, then, orelse):
                return self._branches(condition, self.fails(then, space), self.fails(orelse, space), space)
            case ir.Pick(index, items):
                return self.one_item(index, [self.fails(item, space) for item in items], space)
            case ir.Read():
                return both(opposite(self.element(node, space)), self.valid(node, space))
            case ir.Quantified():
                return self._quantified(node, space)[1]
        raise AssertionError(f"not a condition: {node}")

    def _first(
        self, args: tuple[ir.Scalar, ...], space: Space, settles: Callable[..., Text], passes: Callable[..., Text]
    ) -> Text:
        """Where an argument settles the whole, and those before it pass: they guard it."""
        found, before = FALSE, TRUE
        for i, arg in enumerate(args):
            found = either(self.short(found), both(before, settles(arg, space)))
            if i < len(args) - 1 and not self.facts.of(arg, space).sure:
                before = self.short(both(before, passes(arg, space)))
        return found

    def _branches(self, condition: ir.Scalar, then: Text, orelse: Text, space: Space) -> Text:
        first = both(self.holds(condition, space), then)
        return either(self.short(first), both(self.fails(condition, space), orelse))

    # -------------------------------------------------------------- comparisons

    def _kind(self, a: ir.Scalar, b: ir.Scalar, space: Space) -> str:
        kinds = self.facts.of(a, space).kind, self.facts.of(b, space).kind
        return "real" if "real" in kinds else kinds[0]

    def _comparison(self, op: str, a: ir.Scalar, b: ir.Scalar, space: Space, opposed: bool) -> Text:
        """A comparison, or its opposite, where both sides have values."""
        kind = self._kind(a, b, space)
        if kind == "truth":
            return self._same(a, b, space, (op == "==") is not opposed)
        valid = both(self.valid(a, space), self.valid(b, space))
        if kind == "real" and opposed:  # neither `<` nor `>=` holds of NaN
            return both(opposite(self._compared(op, a, b, space)), valid)
        return both(self._compared(_OPPOSITES[op] if opposed else op, a, b, space), valid)

    def _compared(self, op: str, a: ir.Scalar, b: ir.Scalar, space: Space) -> Text:
        match op, a, b:
            case "==" | "!=", ir.Binary("%", x, ir.Const(int() as m)), ir.Const(0) if m > 0:
                if m == 1:
                    return TRUE if op == "==" else FALSE
                rest = self.typed(x, space)  # is 0 whichever way it is rounded
                text = f"{rest.within(AND)} & {m - 1}" if is_power_of_two(m) else f"{rest.within(TIMES)} % {m}"
                return Text(f"{text} {op} 0", COMPARE)
        left, right = self.operands(a, b, space)
        return Text(f"{left.within(OR)} {op} {right.within(OR)}", COMPARE)

    def _same(self, a: ir.Scalar, b: ir.Scalar, space: Space, equal: bool) -> Text:
        """Where two conditions are equal, or where they differ."""
        if self.facts.of(a, space).sure and self.facts.of(b, space).sure:
            x, y = self.holds(a, space), self.holds(b, space)
            if TRUE not in (x, y) and FALSE not in (x, y):
                different = Text(f"{x.within(XOR)} ^ {y.within(AND)}", XOR)
                return opposite(different) if equal else different
        other = (self.holds, self.fails) if equal else (self.fails, self.holds)
        first = both(self.holds(a, space), other[0](b, space))
        return either(self.short(first), both(self.fails(a, space), other[1](b, space)))

    # -------------------------------------------------------------- loops

    def _quantified(self, node: ir.Quantified, space: Space) -> tuple[Text, Text]:
        """Where `any` or `all` of a body holds, and where it fails; values before one that settles it guard it."""
        keys = ("found", id(node), space), ("missed", id(node), space)
        if keys[0] not in self.known:
            found, missed = self._loop(node, space)
            settled = (found, missed) if node.kind == "any" else (missed, found)
            self.known.update(zip(keys, settled, strict=True))
        return self.known[keys[0]], self.known[keys[1]]

    def _loop(self, node: ir.Quantified, space: Space) -> tuple[Text, Text]:
        """Where some body settles it, and where none does and all have values."""
        self._hoist(node.body, space)
        sure = self.facts.of(node.body, space).sure
        found = self.lines.assigned("found", f"tl.full({SHAPE}, False, tl.int1)")
        missed = "" if sure else self.lines.assigned("missed", f"tl.full({SHAPE}, True, tl.int1)")

        def body() -> None:
            roles = (self.holds, self.fails) if node.kind == "any" else (self.fails, self.holds)
            hit = roles[0](node.body, space)
            passed = TRUE if sure else roles[1](node.body, space)
            before = TRUE if sure else Text(missed)
            self.lines.add(f"{found} = {either(Text(found), both(before, hit)).text}")
            if not sure:
                self.lines.add(f"{missed} = {both(before, passed).text}")

        self.loop(node, space, body)
        return Text(found), (opposite(Text(found)) if sure else Text(missed))

    def loop(self, node: ir.Quantified | ir.Family, space: Space, body: Callable[[], None]) -> None:
        """The lines of `body` for every value of the node's variable; names made there are not known after it."""
        lo, hi = self.number(node.lo, space), self.number(node.hi, space)
        self.position("q", space), self.position("k", space)  # not in every turn
        step = self.lines.name("step")
        self.lines.add(f"for {step} in range({lo.text}, {hi.text}):")
        outer, self.known = self.known, dict(self.known)
        self.lines.indent += 1
        self.bound[node.variable] = Text(self.lines.assigned("i", f"tl.cast({step}, {self.integer})"))
        body()
        self.lines.indent -= 1
        self.known = outer

    def _hoist(self, node: Any, space: Space) -> None:
        """Names the parts of a loop's body that are the same in all its turns."""
        if isinstance(node, ir.Const | ir.Param | ir.Var):
            return
        if self._turns(node):
            for child in children(node):
                self._hoist(child, space)
            return
        truth = self.facts.of(node, space).kind == "truth"
        text = self.holds(node, space) if truth else self.number(node, space)
        self.known["holds" if truth else "number", id(node), space] = self.named("c" if truth else "x", text)

    def _turns(self, node: ir.Node) -> bool:
        """Whether a variable of a loop that is not open yet, or was just opened, occurs in a node."""
        if isinstance(node, ir.Var):
            return "#" in node.name
        return any(self._turns(child) for child in children(node))
