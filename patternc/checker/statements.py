"""`check` statements: what they speak of, and which properties there are."""

from __future__ import annotations

from patternc import ast
from patternc.builtins import BOUNDS, FLAGS, LENGTHS, PROPERTIES
from patternc.checker.base import snippet
from patternc.checker.expressions import Expressions
from patternc.checker.scope import Owner, Scope
from patternc.errors import Code
from patternc.source import Span
from patternc.suggest import listed

_ANY_NAME = ("h", "heads", "layer", "n")


class Statements(Expressions):
    """Judges checks."""

    def statement(self, node: ast.Check) -> None:
        scope = Scope(Owner(self.module, "check", snippet(node.target)), {})
        self.as_pattern(node.target, self.infer(node.target, scope), "a pattern for `check`")
        self._at(node, scope)
        for asked in node.properties:
            self._property(asked, scope)

    def _at(self, node: ast.Check, scope: Scope) -> None:
        given: dict[str, Span] = {}
        for keyword in node.at:
            name = keyword.name
            if name.id not in LENGTHS:
                message = f"`at` fixes {listed(LENGTHS)}, not `{name.id}`"
                hints = self.did_you_mean(name.id, LENGTHS)
                hints = hints or (f"parameters stand in the call: `check P({name.id} = …) : …`",)
                self.report(Code.UNKNOWN_PARAMETER, message, name.span, "not fixed by `at`", hints=hints)
            elif name.id in given:
                self.given_twice(name, given[name.id])
            given.setdefault(name.id, name.span)
            value = self.as_integer(keyword.value, self.infer(keyword.value, scope), f"the value of `{name.id}`")
            self.restricted(keyword.value, value, f"the value of `{name.id}`", also=_ANY_NAME)

    def _property(self, node: ast.Property, scope: Scope) -> None:
        name = node.name.id
        if name == "equals":
            self._equals(node, scope)
        elif name in BOUNDS and node.op is not None and node.value is not None:
            self._bound(node, node.value, scope)
        else:
            self._wrong_property(node)
            if node.value is not None:
                self.infer(node.value, scope)

    def _equals(self, node: ast.Property, scope: Scope) -> None:
        if node.value is None or node.op is not None:
            self._needs(node, "`equals` takes a pattern", "equals(Q)")
        if node.value is not None:
            self.as_pattern(node.value, self.infer(node.value, scope), "a pattern for `equals`")

    def _bound(self, node: ast.Property, bound: ast.Expr, scope: Scope) -> None:
        value = self.infer(bound, scope)
        if node.name.id == "row":
            value = self.as_integer(bound, value, "the bound of `row`")
        else:
            value = self.as_number(bound, value, "a number for the bound of `density`")
        self.restricted(bound, value, f"the bound of `{node.name.id}`", also=("h",))

    def _wrong_property(self, node: ast.Property) -> None:
        name = node.name
        if name.id in BOUNDS:
            example = "row <= 4" if name.id == "row" else "density < 0.5"
            self._needs(node, f"`{name.id}` is a number and needs a comparison", example)
        elif name.id in FLAGS and (node.op is not None or node.value is not None):
            self._needs(node, f"`{name.id}` holds or does not, and takes no value", name.id)
        elif name.id not in FLAGS:
            hints = self.did_you_mean(name.id, PROPERTIES) or (f"the properties are {listed(PROPERTIES)}",)
            message = f"there is no property `{name.id}`"
            self.report(Code.UNKNOWN_PROPERTY, message, name.span, "not a property", hints=hints)

    def _needs(self, node: ast.Property, message: str, example: str) -> None:
        self.report(Code.UNKNOWN_PROPERTY, message, node.span, "", hints=[f"write `{example}`"])
