"""The patterns of a file, ready to be chosen from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from patternc import ast
from patternc.arguments import spelt
from patternc.checker import check as check_module
from patternc.errors import Code, Diagnostic, SpatError
from patternc.loader import Definition, Module, open_source
from patternc.loader import load as load_module
from patternc.source import Span
from patternc.suggest import did_you_mean


@dataclass(frozen=True, eq=False)
class Pattern:
    """One pattern of a program; `patternc.compile` takes it in place of a source."""

    definition: Definition

    @property
    def name(self) -> str:
        return self.definition.node.name.id

    @property
    def parameters(self) -> dict[str, str]:
        """Each parameter with its type as the language writes it; run-time tensors among them."""
        return {p.name.id: spelt(p.type) for p in self.definition.node.parameters}

    @property
    def signature(self) -> str:
        """`name(parameter: type = default, …)`"""
        return f"{self.name}({', '.join(map(_declaration, self.definition.node.parameters))})"

    def __repr__(self) -> str:
        return f"<patternc.Pattern {self.signature}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return import_module("patternc.show.notebook").of_pattern(self)


def _declaration(parameter: ast.Parameter) -> str:
    default = f" = {parameter.default.span.text}" if parameter.default else ""
    return f"{parameter.name.id}: {spelt(parameter.type)}{default}"


class Library(Mapping[str, Pattern]):
    """The patterns of one file by name, in the order of the text; what it imports is not among them."""

    def __init__(self, module: Module) -> None:
        self.module = module
        found = [item for item in module.file.items if isinstance(item, ast.Pattern)]
        self._patterns = {item.name.id: Pattern(Definition(item, module)) for item in found}

    def __getitem__(self, name: str) -> Pattern:
        return self._patterns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._patterns)

    def __len__(self) -> int:
        return len(self._patterns)

    def choose(self, name: str | None) -> Pattern:
        """The pattern of that name, or the last of the file; SpatError if there is none."""
        source = self.module.source
        if not self._patterns:
            message = f"{source.name} defines no pattern"
            raise SpatError(Diagnostic(Code.NO_PATTERN, message, Span(source, 0, 0), "write `pattern name(…) = …`"))
        if name is None:
            return self._patterns[next(reversed(self._patterns))]
        if name not in self._patterns:
            hints = did_you_mean(name, self._patterns)
            message = f"{source.name} has no pattern `{name}`; it has {', '.join(self._patterns)}"
            raise SpatError(Diagnostic(Code.UNKNOWN_PATTERN, message, Span(source, 0, 0), hints=hints))
        return self._patterns[name]


def load(source: str | Path) -> Library:
    """The patterns of a program: a path ending in `.spat`, `std/<name>`, or program text.

    SpatError with all errors of the text if it has any.
    """
    module = load_module(open_source(source))
    errors = [d for d in (*module.diagnostics, *check_module(module)) if d.severity == "error"]
    if errors:
        raise SpatError(errors)
    return Library(module)
