"""The checker: names, arity, types, units and bags of a file, before its parameters have values.

`check` judges the files that a module imports first, then the definitions of the file, each after those it calls, and
finds all mistakes of all of them. It never raises on a tree that the parser made.
"""

from __future__ import annotations

from collections.abc import Iterator

from patternc import ast
from patternc.checker.declarations import Declarations, imported_by
from patternc.checker.scope import Callee
from patternc.errors import Code, Diagnostic, in_order
from patternc.loader import Module


def check(module: Module) -> list[Diagnostic]:
    """What is wrong with a file, errors and warnings, in the order of the text; with the errors of the files it
    imports, and a message at each import that has some. Mistakes of syntax and import are in `module.diagnostics`."""
    callees: dict[int, Callee] = {}
    faults: dict[int, list[Diagnostic]] = {}
    for inner in _imports_first(module):
        judge = Declarations(inner, callees)
        judge.file()
        found = list(judge.found.values())
        if inner is module:
            return in_order([*found, *_broken_imports(module, faults)])
        faults[id(inner)] = [d for d in found if d.severity == "error"]
    raise AssertionError("a module stands last among those it leads to")


def _imported(module: Module) -> list[Module]:
    """The modules that a file imports and has names from."""
    direct = [*module.aliases.values(), *[found.module for found in module.names.values()]]
    return [inner for inner in {id(m): m for m in direct}.values() if inner is not module]


def _imports_first(module: Module) -> Iterator[Module]:
    """The module and all it leads to, each after those it imports."""
    seen = {id(module)}
    path = [(module, iter(_imported(module)))]
    while path:
        node, rest = path[-1]
        step = next((inner for inner in rest if id(inner) not in seen), None)
        if step is None:
            path.pop()
            yield node
        else:
            seen.add(id(step))
            path.append((step, iter(_imported(step))))


def _broken_imports(module: Module, faults: dict[int, list[Diagnostic]]) -> list[Diagnostic]:
    """The errors of all files behind this one, and a message at each import of the file itself that has some."""
    found = [diagnostic for errors in faults.values() for diagnostic in errors]
    for item in module.file.items:
        if isinstance(item, ast.Import):
            inner = imported_by(module, item)
            errors = [] if inner is None else _errors_behind(inner, faults)
            if errors:
                found.append(_broken(item, errors))
    return found


def _errors_behind(module: Module, faults: dict[int, list[Diagnostic]]) -> list[Diagnostic]:
    return [error for inner in _imports_first(module) for error in faults[id(inner)]]


def _broken(item: ast.Import, errors: list[Diagnostic]) -> Diagnostic:
    first = in_order(errors)[0]
    line, column = first.span.source.position(first.span.start)
    count = "an error" if len(errors) == 1 else f"{len(errors)} errors"
    note = f"{first.span.source.name}:{line}:{column}: {first.message} [{first.code}]"
    return Diagnostic(
        Code.IMPORT_BROKEN, f"`{item.path}` has {count}", item.path_span, label="imported here", notes=(note,)
    )
