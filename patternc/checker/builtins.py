"""Calls of the language's own functions."""

from __future__ import annotations

from patternc import ast
from patternc.builtins import COMPREHENSIONS, FUNCTIONS, BuiltIn
from patternc.checker.base import Judge, bare
from patternc.checker.scope import Scope, Typed, together
from patternc.errors import Code
from patternc.suggest import listed
from patternc.types import (
    CONDITION,
    INT,
    SET,
    WRONG,
    List,
    Number,
    Pattern,
    Tensor,
    Tuple,
    Wrong,
)

Given = dict[str, ast.Expr]
"""The arguments of a call by parameter."""


class BuiltIns(Judge):
    """What calls of built-in functions give."""

    def call_numbers(self, node: ast.Call, scope: Scope) -> Typed:
        """`abs min max clamp cdiv log2`"""
        name = _called(node).id
        given = self._bind_built_in(node, FUNCTIONS[name], scope)
        if given is None:
            return Typed(WRONG)
        finite = name in ("cdiv", "log2")
        parts = [(arg, self.infer(arg, scope)) for arg in given.values()]
        if finite:
            parts = [(arg, self.as_integer(arg, value, f"an argument of `{name}`")) for arg, value in parts]
        else:
            parts = [(arg, self.as_number(arg, value, f"a number for `{name}`")) for arg, value in parts]
        reads = together(*[value for _, value in parts])
        numbers = [value.type for _, value in parts if isinstance(value.type, Number)]
        if len(numbers) < len(parts) or not self.one_unit(node, parts, scope, "mixes"):
            return Typed(WRONG, reads)
        units = [number.unit for number in numbers if number.unit]
        if name == "log2" or (name == "cdiv" and numbers[1].unit):
            return Typed(INT, reads)
        is_float = any(number.float for number in numbers)
        unit = units[0] if units and not is_float else None
        return Typed(Number(is_float, unit, all(number.infinite for number in numbers)), reads)

    def call_len(self, node: ast.Call, scope: Scope) -> Typed:
        given = self._bind_built_in(node, FUNCTIONS["len"], scope)
        if given is None:
            return Typed(WRONG)
        argument = given["list"]
        value = self.infer(argument, scope)
        if not isinstance(value.type, (List, Tuple, Wrong)):
            hints = ["a tensor's extent is what its dims say, such as `n`"] if isinstance(value.type, Tensor) else []
            self.mismatch(argument, value.type, "a list for `len`", hints=hints)
        return Typed(INT)

    def call_support(self, node: ast.Call, scope: Scope) -> Typed:
        given = self._bind_built_in(node, FUNCTIONS["support"], scope)
        if given is not None:
            self.as_pattern(given["A"], self.infer(given["A"], scope), "a pattern for `support`")
        return Typed(SET)

    def call_top(self, node: ast.Call, scope: Scope) -> Typed:
        given = self._bind_built_in(node, FUNCTIONS["top"], scope)
        if given is None:
            return Typed(SET)
        if "m" in given:
            value = self.infer(given["m"], scope)
            if value.type != Number(float=True):
                value = self.as_integer(given["m"], value, "the count of `top`")
            self._count(given["m"], value, "top", scope)
        if "by" in given:
            self.as_number(given["by"], self.infer(given["by"], scope), "a number for `by`, the score of a pair")
        self._chosen_from(given, "top", scope)
        return Typed(SET)

    def call_sample(self, node: ast.Call, scope: Scope) -> Typed:
        given = self._bind_built_in(node, FUNCTIONS["sample"], scope)
        if given is None:
            return Typed(SET)
        if "m" in given:
            count = given["m"]
            value = self.infer(count, scope)
            if value.type == Number(float=True):
                hints = ["`top(share, by = score, of = A)` takes a share of the softmax mass"]
                message = "`sample` takes a number of keys, not a share"
                self.report(Code.SAMPLE_SHARE, message, count.span, "a float", hints=hints)
            else:
                self._count(count, self.as_integer(count, value, "the count of `sample`"), "sample", scope)
        if "seed" in given:
            seed = self.as_integer(given["seed"], self.infer(given["seed"], scope), "the seed of `sample`")
            self.restricted(given["seed"], seed, "the seed of `sample`")
        self._chosen_from(given, "sample", scope)
        return Typed(SET)

    def _count(self, node: ast.Expr, value: Typed, name: str, scope: Scope) -> None:
        value = self.restricted(node, value, f"the count of `{name}`")
        self.in_unit(node, value, scope, f"the count of `{name}`, which chooses {scope.unit},")

    def _chosen_from(self, given: Given, name: str, scope: Scope) -> None:
        if "of" in given:
            of = self.as_pattern(given["of"], self.infer(given["of"], scope), "a pattern for `of`")
            self.as_set(given["of"], of, f"`{name}`", [f"choose from `support({bare(given['of'])})`"])

    def call_gathering(self, node: ast.Call, scope: Scope) -> Typed:
        """`any all union sum` of values, without a comprehension."""
        name = _called(node).id
        for keyword in node.keywords:
            self.infer(keyword.value, scope)
            self._by_position(keyword.name, name, COMPREHENSIONS[name])
        parts = [(arg, self.infer(arg, scope)) for arg in node.args]
        if not parts and not node.keywords:
            message = f"`{name}` is called without anything to take together"
            self.report(
                Code.MISSING_ARGUMENT, message, node.span, "nothing here", hints=[f"write `{COMPREHENSIONS[name]}`"]
            )
        if name in ("any", "all"):
            for arg, value in parts:
                self.as_condition(arg, value)
            return Typed(CONDITION, together(*[value for _, value in parts]))
        for arg, value in parts:
            self.gathered(name, arg, value)
        return Typed(SET if name == "union" else Pattern(_called(node).span))

    def gathered(self, name: str, node: ast.Expr, value: Typed) -> None:
        """An item of `union` or `sum`."""
        pattern = self.as_pattern(node, value, f"a pattern for `{name}`")
        if name == "union":
            hints = ["`sum(…)` adds bags", f"`support({bare(node)})` is the set under the bag"]
            self.as_set(node, pattern, "`union`", hints)

    def _by_position(self, name: ast.Name, function: str, text: str) -> None:
        message = f"`{function}` has no parameter `{name.id}`"
        self.report(Code.UNKNOWN_PARAMETER, message, name.span, "no such parameter", hints=[f"write `{text}`"])

    def _bind_built_in(self, node: ast.Call, function: BuiltIn, scope: Scope) -> Given | None:
        """The arguments by parameter; None after a message if too few or too many are given."""
        name, names = _called(node).id, function.parameters
        given: Given = dict(zip(names, node.args, strict=False))
        extra = node.args[len(names) :]
        complete = True
        if extra and function.variadic:
            given |= {f"{names[-1]}{i}": arg for i, arg in enumerate(extra)}
        elif extra:
            complete = False
            message = f"`{name}` takes {len(names)} argument{'s' * (len(names) > 1)}, {len(node.args)} are given"
            self.report(
                Code.TOO_MANY_ARGUMENTS,
                message,
                extra[0].span.to(extra[-1].span),
                "too many",
                hints=[f"write `{function.text}`"],
            )
        for keyword in node.keywords:
            if not function.named or keyword.name.id not in names:
                complete = False
                self._by_position(keyword.name, name, function.text)
            elif keyword.name.id in given:
                complete = False
                self.given_twice(keyword.name, given[keyword.name.id].span)
            else:
                given[keyword.name.id] = keyword.value
        missing = [n for n in names[: function.required] if n not in given]
        if missing and complete:
            complete = False
            message = f"`{name}` is called without {listed(missing)}"
            self.report(
                Code.MISSING_ARGUMENT,
                message,
                node.span,
                f"{listed(missing)} missing here",
                hints=[f"write `{function.text}`"],
            )
        if complete:
            return given
        for value in (*node.args, *[keyword.value for keyword in node.keywords]):
            self.infer(value, scope)
        return None


def _called(node: ast.Call) -> ast.Name:
    """The name of the built-in function that is called."""
    assert isinstance(node.function, ast.Name)
    return node.function
