"""Modules: the items of a file by name, with what its imports bring in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from patternc import ast
from patternc.errors import Code, Diagnostic, Related, SpatError
from patternc.files import LIBRARY, SUFFIX, open_source, read, read_library
from patternc.parser import parse
from patternc.source import Source, Span

__all__ = ["Definition", "Module", "load", "open_source"]

MAX_FILES = 256
"""Files that one program may import, directly and through others."""
MAX_CHAIN = 32
"""How long a chain of imports may be."""
MAX_TEXT = 4 << 20
"""Characters of all imported files together."""


@dataclass(frozen=True)
class Definition:
    """A pattern or function, and the file whose names its text means."""

    node: ast.Pattern | ast.Function
    module: Module


@dataclass(frozen=True, eq=False)
class Module:
    """A file and its names."""

    source: Source
    file: ast.File
    names: dict[str, Definition] = field(default_factory=dict)
    """Patterns and functions of the file, and those of files that it imports without `as`; not those that these
    import. Of two definitions with one name the first counts."""
    aliases: dict[str, Module] = field(default_factory=dict)
    """What is imported with `as`."""
    diagnostics: tuple[Diagnostic, ...] = ()
    """Mistakes of syntax and import, those of imported files included (of these the errors only)."""


def load(source: Source) -> Module:
    """The module of a source and all that it imports. Mistakes are in its `diagnostics`; nothing is raised for them."""
    return _Loading().module(source)


class _Loading:
    """One call of `load`: each file is read once, however often it is imported."""

    def __init__(self) -> None:
        self.done: dict[Key, Module] = {}
        self.chain: list[tuple[Key, Source, Span]] = []
        """The files on the way to the present one, and the import by which each was left."""
        self.files, self.characters = 0, 0

    def module(self, source: Source) -> Module:
        """Parses the source and follows its imports."""
        file, diagnostics = parse(source)
        own: dict[str, ast.Pattern | ast.Function] = {}
        for item in file.items:
            if isinstance(item, ast.Pattern | ast.Function):
                own.setdefault(item.name.id, item)
        scope = _Scope({name: node.name.span for name, node in own.items()})
        for item in file.items:
            if isinstance(item, ast.Import):
                try:
                    imported = self._imported(source, item)
                except SpatError as e:
                    diagnostics += e.diagnostics
                else:
                    diagnostics += _broken(item, imported)
                    diagnostics += scope.add(item, imported)
        module = Module(source, file, scope.names, scope.aliases, tuple(dict.fromkeys(diagnostics)))
        module.names.update({name: Definition(node, module) for name, node in own.items()})
        return module

    def _imported(self, source: Source, item: ast.Import) -> Module:
        new = _resolve(source, item)
        key = _key(new)
        if key in self.done:
            return self.done[key]
        links = [*self.chain, (_key(source), source, item.path_span)]
        if key in (k for k, _, _ in links):
            raise SpatError(_cycle(links, key))
        self._count(new, item, len(links))
        self.chain = links
        self.done[key] = self.module(new)
        self.chain = links[:-1]
        return self.done[key]

    def _count(self, new: Source, item: ast.Import, links: int) -> None:
        self.files += 1
        self.characters += len(new.text)
        if self.files > MAX_FILES or self.characters > MAX_TEXT or links > MAX_CHAIN:
            bounds = f"{MAX_FILES} files, {MAX_TEXT >> 20} MiB of text, chains of {MAX_CHAIN} imports"
            message = f"too much is imported: at most {bounds}"
            raise SpatError(Diagnostic(Code.TEXT_TOO_LARGE, message, item.path_span, label="one too many"))


class _Scope:
    """The names that a file has so far, and where each comes from."""

    def __init__(self, places: dict[str, Span]) -> None:
        self.places = places
        self.names: dict[str, Definition] = {}
        self.aliases: dict[str, Module] = {}

    def add(self, item: ast.Import, imported: Module) -> list[Diagnostic]:
        """Adds what an import brings; a name that is taken keeps its meaning, and is reported."""
        if item.alias:
            if item.alias.id in self.places:
                return [_clash(item, item.alias.id, item.alias.span, self.places[item.alias.id])]
            self.places[item.alias.id] = item.alias.span
            self.aliases[item.alias.id] = imported
            return []
        clashes = []
        for name, definition in imported.names.items():
            if definition.module is not imported or self.names.get(name) is definition:
                continue
            if name in self.places:
                clashes.append(_clash(item, name, item.path_span, self.places[name]))
            else:
                self.places[name], self.names[name] = item.path_span, definition
        return clashes


# ------------------------------------------------------------------ which file is meant

Key = str | Path


def _key(source: Source) -> Key:
    return source.path.resolve() if source.path else source.name


def _resolve(source: Source, item: ast.Import) -> Source:
    """The source that an import names; raises SpatError."""
    path, place = item.path, item.path_span
    if path.startswith(LIBRARY) and not path.endswith(SUFFIX):
        return read_library(path, place)
    if not path.endswith(SUFFIX):
        raise SpatError(_no_file(path, place))
    if source.path is None:
        raise SpatError(_from_text(source, path, place))
    folder = source.path.resolve().parent
    if "\\" in path or not _within(folder, folder / path):
        raise SpatError(_outside(path, place, folder))
    return read(folder / path, os.path.normpath(os.path.join(os.path.dirname(source.name), path)), place)


def _within(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):  # a loop of symbolic links, a NUL, a name too long
        return False


# ------------------------------------------------------------------ messages


def _no_file(path: str, place: Span) -> Diagnostic:
    name = path or "name"
    hint = f'write `"{name}{SUFFIX}"` for a file in the same folder, `"{LIBRARY}{name}"` for one of the library'
    message = f"`{path}` names neither a file nor a library"
    return Diagnostic(Code.FILE_NOT_FOUND, message, place, label="ends in no `.spat`", hints=(hint,))


def _from_text(source: Source, path: str, place: Span) -> Diagnostic:
    library = source.name.startswith(LIBRARY)
    name = path.removesuffix(SUFFIX).removeprefix(LIBRARY)
    return Diagnostic(
        Code.IMPORT_FROM_TEXT,
        f"{'a library file' if library else 'program text'} cannot import the file `{path}`",
        place,
        label="a file",
        hints=(f'import from the library (`"{LIBRARY}{name}"`)' + ("" if library else ", or save the text as a file"),),
    )


def _outside(path: str, place: Span, folder: Path) -> Diagnostic:
    return Diagnostic(
        Code.IMPORT_OUTSIDE,
        f"`{path}` is outside the folder of the importing file",
        place,
        label="leaves the folder",
        hints=("imports name files in the folder of the importing file or below it, with `/` between folders",),
    )


def _cycle(links: list[tuple[Key, Source, Span]], key: Key) -> Diagnostic:
    first = next(i for i, (k, _, _) in enumerate(links) if k == key)
    names = [source.name for _, source, _ in links[first:]]
    *others, (_, source, place) = links[first:]
    return Diagnostic(
        Code.IMPORT_CYCLE,
        f"`{source.name}` imports itself" if not others else "the imports go round in a circle",
        place,
        label=f"leads back to `{names[0]}`",
        related=tuple(Related(span, f"`{s.name}` imports the next") for _, s, span in others),
        notes=(" → ".join([*names, names[0]]),),
        hints=("move what both need into a third file",) if others else (),
    )


def _clash(item: ast.Import, name: str, span: Span, other: Span) -> Diagnostic:
    hint = f'write `import "{item.path}" as …` and `….{name}`'
    if item.alias:
        hint = f"choose another name, such as `{item.alias.id}_2`"
    return Diagnostic(
        Code.IMPORT_CLASH,
        f"the import brings in `{name}`, but there is a `{name}` already",
        span,
        label=f"brings in `{name}`",
        related=(Related(other, f"`{name}` comes from here"),),
        hints=(hint,),
    )


def _broken(item: ast.Import, imported: Module) -> list[Diagnostic]:
    """The errors of an imported file, and one at the import; a circle of imports is reported for itself."""
    errors = [d for d in imported.diagnostics if d.severity == "error"]
    roots = [d for d in errors if d.code not in (Code.IMPORT_BROKEN, Code.IMPORT_CYCLE)]
    if not roots:
        return errors
    own = [d for d in roots if d.span.source is imported.source]
    what = "has an error" if len(own) == 1 else f"has {len(own)} errors" if own else "imports a file with errors"
    line, column = roots[0].span.source.position(roots[0].span.start)
    note = f"{roots[0].span.source.name}:{line}:{column}: {roots[0].message} [{roots[0].code}]"
    message = f"`{item.path}` {what}"
    return [*errors, Diagnostic(Code.IMPORT_BROKEN, message, item.path_span, label="imported here", notes=(note,))]
