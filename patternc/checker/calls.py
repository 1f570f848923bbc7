"""Calls of the patterns and functions of programs: arguments, their types and units."""

from __future__ import annotations

from collections.abc import Sequence

from patternc import ast
from patternc.checker.base import bare, snippet
from patternc.checker.builtins import BuiltIns, Given
from patternc.checker.scope import Callee, Entry, Formal, Scope, Typed, together
from patternc.errors import Code
from patternc.source import Span
from patternc.suggest import listed
from patternc.types import (
    BLOCKS,
    WRONG,
    Tensor,
    Wrong,
    counted_in,
    describe,
    leaves,
    show,
)


class Calls(BuiltIns):
    """What calls of a program's own patterns and functions give."""

    def call_definition(self, node: ast.Call | ast.Name | ast.Attribute, callee: Callee, scope: Scope) -> Typed:
        """A call; a bare name is one without arguments."""
        args, keywords = (node.args, node.keywords) if isinstance(node, ast.Call) else ((), ())
        given = self._bind(node, args, keywords, callee, scope)
        values: list[tuple[Formal, ast.Expr, Typed]] = []
        for formal in callee.formals:
            if formal.name in given:
                values.append((formal, given[formal.name], self._argument(given[formal.name], formal, callee, scope)))
        if callee.is_pattern:
            for formal, argument, value in values:
                self._callers_units(argument, value, formal, callee, scope)
            self._on_grid(node, callee, scope)
            return Typed(callee.result.type)
        unit = self._function_units(node, values, scope)
        result = callee.result.through(node.span)
        return Typed(counted_in(result.type, unit), together(result, *[value for _, _, value in values]))

    def _bind(
        self,
        node: ast.Expr,
        args: Sequence[ast.Expr],
        keywords: Sequence[ast.Keyword],
        callee: Callee,
        scope: Scope,
    ) -> Given:
        """Which parameter is given which argument; what is given in vain is judged by itself."""
        names = [formal.name for formal in callee.formals]
        given: Given = dict(zip(names, args, strict=False))
        places: dict[str, Span] = {name: value.span for name, value in given.items()}
        if len(args) > len(names):
            self._too_many(args, callee)
        in_vain: list[ast.Expr] = list(args[len(names) :])
        strange = False
        for keyword in keywords:
            name = keyword.name.id
            if name not in names:
                self._unknown_parameter(keyword.name, callee, names)
                strange = True
                in_vain.append(keyword.value)
            elif name in given:
                self.given_twice(keyword.name, places[name])
                in_vain.append(keyword.value)
            else:
                given[name], places[name] = keyword.value, keyword.name.span
        for value in in_vain:
            self.infer(value, scope)
        if not strange:  # a misspelt name is not missing as well
            self._missing(node, callee, given, scope)
        return given

    def _too_many(self, args: Sequence[ast.Expr], callee: Callee) -> None:
        count = len(callee.formals)
        takes = "no arguments" if count == 0 else "one argument" if count == 1 else f"{count} arguments"
        message = f"`{callee.name.id}` takes {takes}, {len(args)} are given"
        extra = args[count].span.to(args[-1].span)
        self.report(Code.TOO_MANY_ARGUMENTS, message, extra, "too many", related=[_declared(callee)])

    def _unknown_parameter(self, name: ast.Name, callee: Callee, names: list[str]) -> None:
        message = f"`{callee.name.id}` has no parameter `{name.id}`"
        hints = self.did_you_mean(name.id, names) or ((f"its parameters are {listed(names)}",) if names else ())
        self.report(
            Code.UNKNOWN_PARAMETER, message, name.span, "no such parameter", related=[_declared(callee)], hints=hints
        )

    def _missing(self, node: ast.Expr, callee: Callee, given: Given, scope: Scope) -> None:
        missing = [f for f in callee.formals if f.required and f.name not in given]
        if scope.owner.kind == "check":  # a check speaks of all tensors, and so leaves them open
            missing = [f for f in missing if not isinstance(f.type, Tensor)]
        if not missing:
            return
        names = listed([formal.name for formal in missing])
        related = [(formal.node.span, "has no default") for formal in missing[:3]]
        hints = []
        if isinstance(missing[0].type, Tensor):
            formal = missing[0]
            hints = [f"declare the tensor here too, `{formal.text}`, and pass it on: `{formal.name} = {formal.name}`"]
        code = Code.CHECK_WITHOUT_VALUE if scope.owner.kind == "check" else Code.MISSING_ARGUMENT
        word = "arguments" if len(missing) > 1 else "argument"
        message = f"`{callee.name.id}` is called without its {word} {names}"
        if code is Code.CHECK_WITHOUT_VALUE and not hints:
            hints = [f"give a value: `{callee.name.id}({missing[0].name} = …)`"]
        self.report(code, message, node.span, f"{names} missing here", related=related, hints=hints)

    def _argument(self, node: ast.Expr, formal: Formal, callee: Callee, scope: Scope) -> Typed:
        """The value of an argument that fits its parameter; of no type if it does not."""
        what = f"`{formal.name}`"
        related = [(formal.node.span, "the parameter")]
        if isinstance(formal.type, Tensor):
            self._tensor_argument(node, formal, scope)
            return Typed(WRONG)
        value = self.infer(node, scope)
        if not self.fitting(node, value, formal.type, what, related):
            return Typed(WRONG, value.reads)
        if callee.is_pattern:
            hint = "a pattern is called once for all pairs; a helper `fn` takes any argument"
            return self.restricted(node, value, f"the argument {what} of a pattern", hints=[hint])
        return value

    def _tensor_argument(self, node: ast.Expr, formal: Formal, scope: Scope) -> None:
        """A tensor is passed on under its own name, to a parameter of its rank and element type."""
        related = [(formal.node.span, "the parameter")]
        if scope.owner.kind == "check":
            self.infer(node, scope)
            message = f"`{formal.name}` is a run-time tensor: a check speaks of all its values"
            self.report(Code.TENSOR_NOT_ALLOWED, message, node.span, "leave it out", related=related)
            return
        entry = scope.find(node.id) if isinstance(node, ast.Name) else None
        if entry is not None and isinstance(entry.value.type, Tensor):
            scope.owner.used.add(entry.name.span.start)
            self._same_shape(node, entry, formal, scope)
            return
        value = self.infer(node, scope).type
        if not isinstance(value, Wrong):
            message = f"`{formal.name}` takes a tensor `{formal.node.type.span.text}`, found {describe(value)}"
            hints = [f"declare a parameter `{formal.text}` and pass it on: `{formal.name} = {formal.name}`"]
            self.report(Code.TYPE_MISMATCH, message, node.span, "not a tensor", related=related, hints=hints)

    def _same_shape(self, node: ast.Expr, entry: Entry, formal: Formal, scope: Scope) -> None:
        name, found, wanted = entry.name.id, entry.value.type, formal.type
        assert isinstance(found, Tensor)
        assert isinstance(wanted, Tensor)
        declared = scope.owner.parameters[name]
        related = [(formal.node.span, "the parameter"), (declared.span, "the tensor that is passed")]
        if found.rank != wanted.rank:
            ranks = f"of rank {wanted.rank}, batch not counted; `{name}` has rank {found.rank}"
            message = f"`{formal.name}` takes a tensor {ranks}"
            self.report(Code.TENSOR_RANK, message, node.span, "of another rank", related=related)
        elif found.element != wanted.element:
            kinds = f"`{show(wanted.element)}`; `{name}` holds `{show(found.element)}`"
            message = f"`{formal.name}` takes a tensor of {kinds}"
            self.report(Code.TYPE_MISMATCH, message, node.span, "of another element type", related=related)

    def _callers_units(self, node: ast.Expr, value: Typed, formal: Formal, callee: Callee, scope: Scope) -> None:
        """A pattern counts its `tokens` in the units of the space it is called in."""
        for found, declared in leaves(value.type, formal.type):
            if declared.unit is None or found.unit is None:
                continue
            wanted = scope.unit if declared.unit != BLOCKS else BLOCKS
            if found.unit == wanted:
                continue
            related = [(formal.node.span, "the parameter")]
            if scope.unit == BLOCKS:
                message = (
                    f"`{callee.name.id}` is called inside `blocks` and counts `{formal.name}` in blocks, not in tokens"
                )
                size = snippet(scope.size) if scope.size is not None else "…"
                hints = [f"write `{bare(node)} // {size}`, or a plain number"]
                self.report(
                    Code.CALLER_UNITS,
                    message,
                    node.span,
                    "counted in the caller's tokens",
                    related=related,
                    hints=hints,
                )
            else:
                message = f"`{formal.name}` is counted in {declared.unit}, the argument in {found.unit}"
                self.report(Code.UNIT_MISMATCH, message, node.span, f"counted in {found.unit}", related=related)
            return

    def _on_grid(self, node: ast.Expr, callee: Callee, scope: Scope) -> None:
        if callee.grid is None:
            return
        if scope.unit == BLOCKS:
            message = f"`{callee.name.id}` stands on a grid of tokens and cannot be called inside `blocks`"
            self.report(
                Code.COORDINATE_IN_BLOCKS,
                message,
                node.span,
                "positions are blocks here",
                related=[(callee.grid, "the grid")],
            )
        scope.owner.grid = scope.owner.grid or callee.grid

    def _function_units(self, node: ast.Expr, values: Sequence[tuple[Formal, ast.Expr, Typed]], scope: Scope) -> str:
        """The unit that a function's `tokens` are this time: that of its arguments, which must agree."""
        unit: str | None = None
        first: tuple[Span, str] | None = None
        for formal, argument, value in values:
            for found, declared in leaves(value.type, formal.type):
                if found.unit is None or declared.unit is None:
                    continue
                wanted = BLOCKS if declared.unit == BLOCKS else unit
                if wanted is not None and found.unit != wanted:
                    message = f"`{formal.name}` is counted in {wanted} here, the argument in {found.unit}"
                    related = [first] if first and declared.unit != BLOCKS else [(formal.node.span, "the parameter")]
                    self.report(Code.UNIT_MISMATCH, message, argument.span, f"counted in {found.unit}", related=related)
                    return scope.unit
                if declared.unit != BLOCKS and unit is None:
                    unit, first = found.unit, (argument.span, f"counted in {found.unit}")
        return unit or scope.unit


def _declared(callee: Callee) -> tuple[Span, str]:
    return callee.name.span, "declared here"
