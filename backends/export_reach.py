"""Which statements of the package's files a text needs: those that define the names it uses, and so on from there."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import import_module

PACKAGE = "patternc"
Key = tuple[str, str]
"""A module, and a name in it."""


@dataclass(frozen=True)
class Statement:
    """A statement at the top level of a file, with the comments above it and a text that describes it below."""

    defines: tuple[str, ...]
    uses: frozenset[str]
    text: str


@dataclass(frozen=True)
class File:
    """The statements of a file, but for its docstring and its imports."""

    docstring: str
    statements: tuple[Statement, ...]
    imports: dict[str, Key]
    """Names from the package, with their homes."""
    others: tuple[tuple[str, str], ...]
    """Names from elsewhere, each with the line that imports it."""

    @property
    def defined(self) -> set[str]:
        return {name for statement in self.statements for name in statement.defines}


def names_in(tree: ast.AST) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def names_of(text: str) -> frozenset[str]:
    """What a text defines at its top level."""
    return _names(text)[0]


def uses_of(texts: Sequence[str]) -> frozenset[str]:
    """The names that occur in texts."""
    return frozenset().union(*(_names(text)[1] for text in texts))


@lru_cache(maxsize=16)
def _names(text: str) -> tuple[frozenset[str], frozenset[str]]:
    tree = ast.parse(text)
    return frozenset(name for node in tree.body for name in defined(node)), names_in(tree)


def statements_of(source: str) -> Iterator[Statement]:
    """The statements of a source, without docstring and imports."""
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    end = 0
    body = tree.body
    for i, node in enumerate(body):
        start, end = end, node.end_lineno or node.lineno
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node):
            continue
        if i + 1 < len(body) and _is_text(body[i + 1]):  # what describes a constant
            end = body[i + 1].end_lineno or end
        yield Statement(tuple(defined(node)), names_in(node), "".join(lines[start:end]).rstrip("\n"))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def defined(node: ast.stmt) -> Iterator[str]:
    """The names that a statement gives a meaning; `_` is none."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            found = [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            found = [name]
        case ast.Assign(targets=[ast.Tuple(elts=elements)]):
            found = [element.id for element in elements if isinstance(element, ast.Name)]
        case _:
            found = []
    yield from (name for name in found if name != "_")


@cache
def file_of(module: str) -> File:
    source = inspect.getsource(import_module(module))
    tree = ast.parse(source)
    imports: dict[str, Key] = {}
    others: list[tuple[str, str]] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            others += [((a.asname or a.name).split(".")[0], f"import {ast.unparse(a)}") for a in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            imports |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            others += [(a.asname or a.name, f"from {node.module} import {ast.unparse(a)}") for a in node.names]
    return File(ast.get_docstring(tree) or "", tuple(statements_of(source)), imports, tuple(others))


@dataclass
class Reach:
    """What is needed so far. Names that are `given` are defined by the text itself."""

    given: Collection[Key] = ()
    files: dict[str, File] = field(default_factory=dict)
    kept: dict[str, set[int]] = field(default_factory=dict)
    """The numbers of the statements that are needed, by file."""
    _names: set[Key] = field(default_factory=set)

    def add(self, names: Iterable[str], homes: Sequence[str]) -> None:
        """The names that one of the homes defines, and all that these need."""
        for name in sorted(names):
            for home in homes:
                if name in self._file(home).defined:
                    self._need((home, name))
                    break
        while self._beside():
            pass

    def _file(self, module: str) -> File:
        if module not in self.files:
            self.files[module], self.kept[module] = file_of(module), set()
        return self.files[module]

    def _need(self, key: Key) -> None:
        stack = [key]
        while stack:
            module, name = key = stack.pop()
            if key in self._names or key in self.given:
                continue
            self._names.add(key)
            file = self._file(module)
            if name in file.imports:
                stack.append(file.imports[name])
            for i, statement in enumerate(file.statements):
                if name in statement.defines and i not in self.kept[module]:
                    self.kept[module].add(i)
                    stack += [(module, used) for used in statement.uses]

    def _beside(self) -> bool:
        """Whether there are statements that define nothing, but do something to what is needed: they are needed too."""
        found = [
            (module, i, statement.uses)
            for module, file in self.files.items()
            for i, statement in enumerate(file.statements)
            if not statement.defines and i not in self.kept[module] and self._touches(module, statement)
        ]
        for module, i, uses in found:
            self.kept[module].add(i)
            for used in uses:
                self._need((module, used))
        return bool(found)

    def _touches(self, module: str, statement: Statement) -> bool:
        file = self.files[module]
        homes = {name: (module, name) for name in file.defined} | file.imports
        return any(homes[name] in self._names for name in statement.uses & homes.keys())

    # -------------------------------------------------------------- what it makes

    def sources(self) -> Iterator[tuple[str, str]]:
        """The files that are needed, by module, each after those that it imports: what is left of their source."""
        done: set[str] = set()
        for module in self.files:
            yield from self._sources(module, done)

    def _sources(self, module: str, done: set[str]) -> Iterator[tuple[str, str]]:
        if module in done or not self.kept.get(module):
            return
        done.add(module)
        file = self.files[module]
        statements = [file.statements[i] for i in sorted(self.kept[module])]
        uses = frozenset().union(*(statement.uses for statement in statements))
        homes = {name: home for name, home in file.imports.items() if name in uses}
        for home in sorted({home for home, _ in homes.values()}):
            yield from self._sources(home, done)
        imports = [line for name, line in file.others if name in uses]
        imports += [f"from {home} import {name} as {bound}" for bound, (home, name) in homes.items()]
        body = "\n".join(statement.text for statement in statements)
        yield module, "\n\n".join([f'"""{file.docstring}"""', "\n".join(imports), body.strip("\n")]) + "\n"
