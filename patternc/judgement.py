"""All that is said about a program before it is compiled: messages, warnings and the verdicts of its checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patternc import ast, fold, ir
from patternc.analysis.properties import Property
from patternc.checker import check as check_module
from patternc.elaborate import Elaborator, elaborate, elaborate_check
from patternc.errors import Code, Diagnostic, SpatError, in_order, render
from patternc.lint import lint
from patternc.loader import Module, load, open_source
from patternc.source import Source, Span
from patternc.specialise import specialise
from patternc.values import Frame, Place
from patternc.verdicts import Verdict, judge


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of one `check` statement, as written, and what is known of it."""

    statement: str
    property: str
    verdict: Verdict
    span: Span

    def __str__(self) -> str:
        told = f": {self.verdict.counterexample}" if self.verdict.counterexample else ""
        return f"{self.statement} : {self.property} - {self.verdict.text}{told}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What `check` found; true if there is no error and no check that fails or is left open."""

    source: Source
    diagnostics: tuple[Diagnostic, ...]
    """Errors and warnings in the order of the text, failed and undecided checks among them."""
    verdicts: tuple[Finding, ...]
    """Of every property of every check, in the order of the text; none if the program has errors."""

    @property
    def ok(self) -> bool:
        return not any(d.severity == "error" for d in self.diagnostics)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return "\n".join([*([render(self.diagnostics)] if self.diagnostics else []), *map(str, self.verdicts)])


def check(source: str | Path | Source) -> Judgement:
    """Judges a program: a path ending in `.spat`, `std/<name>`, or program text.

    Mistakes of the text do not raise: they are in the result. SpatError only if a file cannot be read.
    """
    opened = source if isinstance(source, Source) else open_source(source)
    module = load(opened)
    diagnostics = [*module.diagnostics, *check_module(module)]
    findings: list[Finding] = []
    if not any(d.severity == "error" for d in diagnostics):
        diagnostics += _values(module)
        for statement in (item for item in module.file.items if isinstance(item, ast.Check)):
            try:
                findings += _findings(module, statement)
            except SpatError as error:
                diagnostics += error.diagnostics
    diagnostics += [d for f in findings if (d := f.verdict.diagnostic(f.span)) is not None]
    return Judgement(opened, tuple(in_order(diagnostics)), tuple(findings))


def _values(module: Module) -> Iterator[Diagnostic]:
    """What is wrong with values that are known without arguments, and warnings that hold for all arguments."""
    for item in module.file.items:
        if isinstance(item, ast.Pattern) and module.names[item.name.id].node is item:
            yield from _of_pattern(module, item)


def _of_pattern(module: Module, pattern: ast.Pattern) -> Iterator[Diagnostic]:
    definition = module.names[pattern.name.id]
    try:
        open_program = elaborate(definition, None)
        if all(p.default or isinstance(p.type, ast.TensorType) for p in pattern.parameters):
            elaborate(definition, {})
    except SpatError as error:
        yield from error.diagnostics
    else:
        yield from lint(open_program, pattern)


# ------------------------------------------------------------------ check statements


def _findings(module: Module, statement: ast.Check) -> Iterator[Finding]:
    at = {keyword.name.id: _length(module, keyword) for keyword in statement.at}
    program = _program(module, statement.target, at)
    words = statement.target.span.text
    if statement.at:
        words = f"{words} at {', '.join(f'{name} = {value}' for name, value in at.items())}"
    for asked in statement.properties:
        wanted = _property(module, asked, at)
        yield Finding(words, asked.span.text, judge(program, wanted, at), asked.span)


def _program(module: Module, target: ast.Expr, at: dict[str, int]) -> ir.Program:
    known: dict[str, int] = {name: at[name] for name in ("heads", "layer") if name in at}
    return specialise(elaborate_check(module, target, heads=at.get("heads")), known)


def _length(module: Module, keyword: ast.Keyword) -> int:
    """A value after `at`: n and heads are at least 1, layer at least 0."""
    value = _number(module, keyword.value)
    least = 0 if keyword.name.id == "layer" else 1
    if not isinstance(value, int) or value < least:
        message = f"`{keyword.name.id}` must be an integer of at least {least}; found {fold.show(value)}"
        raise fold.fail(Code.BAD_ARGUMENT, message, keyword.value.span, f"this is {fold.show(value)}")
    return value


def _number(module: Module, node: ast.Expr, at: dict[str, int] | None = None) -> int | float:
    """The value of an expression that may name what `at` gives."""
    value: Any = Elaborator((at or {}).get("heads")).expr(node, Place(Frame(module)))
    value = specialise(value, at or {})
    if not isinstance(value, ir.Const):
        raise fold.fail(
            Code.CHECK_WITHOUT_VALUE, f"`{node.span.text}` is not a known number here", node.span, "has no value",
            "fix n, heads or layer by `at`",
        )  # fmt: skip
    return value.value


def _property(module: Module, asked: ast.Property, at: dict[str, int]) -> Property:
    if asked.name.id == "equals" and asked.value is not None:
        return Property("equals", other=_program(module, asked.value, at))
    number = _number(module, asked.value, at) if asked.value is not None else None
    return Property(asked.name.id, asked.op, number)
