"""The source of several files of this package as one text without imports between them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from patternc.backends.export_reach import PACKAGE, Reach, names_in, names_of, uses_of


@dataclass
class Embedded:
    """Imports of what stands outside the package, and the text of the files, one after the other."""

    imports: str
    text: str
    names: dict[tuple[str, str], str]
    """What a name of a module is called in the text."""


def embed_sources(sources: Iterable[tuple[str, str]], given: Mapping[tuple[str, str], str] | None = None) -> Embedded:
    """Files by module and source, each after those that it imports. Where two files give one name to different things,
    the later one is renamed. What is `given`, a name in a module, is defined elsewhere in the result, under the name
    that it is mapped to."""
    joiner = _Joiner()
    for key, name in (given or {}).items():
        joiner.names[key] = name
        joiner.taken[name] = f"given {name}"
    texts = [joiner.add(module, source) for module, source in sources]
    return Embedded(joiner.imports(), "\n\n".join(texts), joiner.names)


def embed_needed(
    texts: Sequence[str], homes: Sequence[str], given: Mapping[tuple[str, str], str] | None = None
) -> Embedded:
    """What generated texts need of the package: the definitions of names that they use, which one of the homes has, and
    all that these need. What is `given`, a name in a module, the texts define themselves."""
    own, given = {name for text in texts for name in names_of(text)}, given or {}
    words = uses_of(texts) - own
    reach = Reach(given)
    reach.add(words, homes)
    found = embed_sources(reach.sources(), {**given, **{("", name): name for name in own}})
    for name in words:
        called = next((found.names[home, name] for home in homes if (home, name) in found.names), name)
        assert called == name, f"{name} was given another name"
    return found


@dataclass
class _Joiner:
    taken: dict[str, str] = field(default_factory=dict)
    """Every name at the top level of the result, with its definition: what it means by other names, and its text."""
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    """What a name of a module is called in the result."""
    plain: set[str] = field(default_factory=set)
    members: dict[str, set[str]] = field(default_factory=dict)

    def add(self, module: str, source: str) -> str:
        tree, texts = ast.parse(source), source.splitlines()
        imported = dict(self._imported(tree))
        self.names |= {(module, name): new for name, new in imported.items()}  # others may import them from here
        own = {name for name, _ in _definitions(tree)}
        renamed = dict(imported)
        for name, node in _definitions(tree):
            uses = names_in(node) - {name}
            known = (
                [module] if uses & own else [f"{used} is {imported[used]}" for used in sorted(uses & imported.keys())]
            )
            definition = [*known, *texts[node.lineno - 1 : node.end_lineno]]
            renamed[name] = self._own(module, name, "\n".join(definition))
        renamed = {old: new for old, new in renamed.items() if old != new}
        _refuse_shadows(tree, renamed, module)
        lines = replaced(source, tree, renamed)
        dropped = _dropped(tree)
        body = "".join(line for i, line in enumerate(lines) if i not in dropped).strip("\n")
        return f"{_heading(module, tree)}\n\n{body}\n"

    def _imported(self, tree: ast.Module) -> Iterator[tuple[str, str]]:
        """Names that a file imports from the package, and what they are called here; others are collected."""
        for node in tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.plain.add(ast.unparse(alias))
                    bound = alias.asname or alias.name
                    assert self.taken.setdefault(bound, "") == "", f"{bound} is defined and imported"
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
                for alias in node.names:
                    key = (node.module or "", alias.name)
                    assert key in self.names, f"{alias.name} of {node.module} must be embedded before it is imported"
                    yield alias.asname or alias.name, self.names[key]
            elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
                yield from ((a.asname or a.name, self._outside(node.module or "", a)) for a in node.names)

    def _outside(self, home: str, alias: ast.alias) -> str:
        """What a name from outside the package is called here."""
        bound, text = alias.asname or alias.name, f"from {home} import {alias.name}"
        while self.taken.setdefault(bound, text) != text:
            bound = f"{bound}_of_{home.replace('.', '_')}"
        shown = alias.name if bound == alias.name else f"{alias.name} as {bound}"
        self.members.setdefault(home, set()).add(shown)
        return bound

    def _own(self, module: str, name: str, text: str) -> str:
        new = name
        while self.taken.get(new, text) != text:
            new = f"{new}_of_{module.rsplit('.', 1)[1]}"
        self.taken[new] = text
        self.names[module, name] = new
        return new

    def imports(self) -> str:
        lines = [f"import {name}" for name in sorted(self.plain)]
        lines += [f"from {home} import {', '.join(sorted(names))}" for home, names in sorted(self.members.items())]
        return "\n".join(lines)


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        match node:
            case ast.FunctionDef(name="_"):  # known to its decorator alone
                pass
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case ast.Assign(targets=[ast.Tuple(elts=elements)]):
                yield from ((element.id, node) for element in elements if isinstance(element, ast.Name))


def _dropped(tree: ast.Module) -> set[int]:
    """The lines (from 0) of the docstring, of imports and of `__all__`."""
    first = tree.body[0]
    gone: list[ast.stmt] = [first] if isinstance(first, ast.Expr) else []
    gone += [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    gone += [node for name, node in _definitions(tree) if name == "__all__"]
    return {line - 1 for node in gone for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def _heading(module: str, tree: ast.Module) -> str:
    """The module's docstring as a comment, under a rule with its name."""
    title = module.split(".", 1)[1].replace(".", "/")
    rule = f"# {'=' * 66} {title}"
    return "\n".join([rule, "#", *(f"# {line}".rstrip() for line in (ast.get_docstring(tree) or "").split("\n"))])


# ------------------------------------------------------------------ renaming


def _refuse_shadows(tree: ast.Module, renamed: dict[str, str], module: str) -> None:
    for node in ast.walk(tree):
        argument = isinstance(node, ast.arg) and node.arg in renamed
        assert not argument, f"an argument in {module} has a name that must be changed"


def replaced(source: str, tree: ast.Module, renamed: dict[str, str]) -> list[str]:
    """The lines of the source with names changed; attributes, keywords and texts stay."""
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    for row, column, old in sorted(_places(tree, lines, set(renamed)), reverse=True):
        line = lines[row]
        assert line[column:].startswith(old.encode()), "a name inside an f-string cannot be changed"
        lines[row] = line[:column] + renamed[old].encode() + line[column + len(old.encode()) :]
    return [line.decode() for line in lines]


def _places(tree: ast.Module, lines: list[bytes], names: set[str]) -> Iterator[tuple[int, int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            yield node.lineno - 1, node.col_offset, node.id
    for name, node in _definitions(tree):
        if name in names and isinstance(node, ast.FunctionDef | ast.ClassDef):
            keyword = b"def " if isinstance(node, ast.FunctionDef) else b"class "
            yield node.lineno - 1, lines[node.lineno - 1].index(keyword) + len(keyword), name
