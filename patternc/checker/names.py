"""Names, attributes and indices: what they stand for, and what was meant where they stand for nothing."""

from __future__ import annotations

import re
from functools import cached_property

from patternc import ast
from patternc.builtins import BATCH, COMPREHENSIONS, FOREIGN, FUNCTIONS, NAMES, PATTERNS, POSITIONS
from patternc.checker.base import MAX_SUGGESTIONS, snippet
from patternc.checker.calls import Calls
from patternc.checker.scope import Callee, Entry, Read, Scope, Typed, together
from patternc.errors import Code
from patternc.suggest import listed
from patternc.types import (
    BLOCKS,
    INT,
    SET,
    WRONG,
    List,
    Number,
    Tensor,
    Tuple,
    Type,
    Wrong,
    describe,
    mixes,
    unit_of,
)

KINDS = {
    "parameter": "a parameter",
    "binding": "a `where` name",
    "variable": "a loop variable",
    "query": "the query",
    "key": "the key",
}
"""What local names are, in words."""


class Names(Calls):
    """What names give."""

    # ------------------------------------------------------------------ names

    def name(self, node: ast.Name, scope: Scope) -> Typed:
        entry = scope.find(node.id)
        if entry is not None:
            return self._local(node, entry, scope)
        if node.id in NAMES:
            return self._built_in(node, scope)
        callee = self.definition(node.id)
        if callee is not None and callee.is_pattern:
            return self.call_definition(node, callee, scope)
        if callee is not None:
            hint = f"call it: `{node.id}({', '.join([formal.name for formal in callee.formals])})`"
            message = f"`{node.id}` is a function, and here stands a value"
            related = [(callee.name.span, "declared here")]
            self.report(Code.TYPE_MISMATCH, message, node.span, "a function", hints=[hint], related=related)
        elif node.id in self.aliases:
            self.imported.add(node.id)
            self._alias_as_value(node)
        else:
            self.unknown(node, scope)
        return Typed(WRONG)

    def _local(self, node: ast.Name, entry: Entry, scope: Scope) -> Typed:
        scope.owner.used.add(entry.name.span.start)
        match entry.kind:
            case "binding":
                value = scope.owner.bindings.get((node.id, scope.unit), Typed(WRONG))
                return value.through(node.span)
            case "query" | "key":
                return Typed(entry.value.type, (Read(entry.kind, node.id, node.span),))
        if isinstance(entry.value.type, Tensor):
            read = Read("tensor", node.id, node.span)
            tensor = entry.value.type
            return Typed(tensor if tensor.rank else tensor.element, (read,))
        return entry.value.through(node.span)

    def _built_in(self, node: ast.Name, scope: Scope) -> Typed:
        name = node.id
        match name:
            case "q" | "k":
                return self._position(node, scope)
            case "n":
                return Typed(Number(unit=scope.unit), (Read("n", name, node.span),))
            case "h" | "heads" | "layer":
                return Typed(INT, (Read(name, name, node.span),))
        if name in PATTERNS:
            return Typed(SET)
        if name == BATCH:
            message = "`batch` leads the dims of a tensor and stands nowhere else"
            hints = ["the batch axis is implicit: `doc: int[batch, n]` is read as `doc[q]`"]
            self.report(Code.BATCH_MISPLACED, message, node.span, "not here", hints=hints)
            return Typed(WRONG)
        text = FUNCTIONS[name].text if name in FUNCTIONS else COMPREHENSIONS[name]
        message = f"`{name}` is a function, and here stands a value"
        self.report(Code.TYPE_MISMATCH, message, node.span, "a function", hints=[f"call it: `{text}`"])
        return Typed(WRONG)

    def _position(self, node: ast.Name, scope: Scope) -> Typed:
        """`q` or `k` outside a set builder, or inside one that gives them other names."""
        role = "query" if node.id == "q" else "key"
        builder = scope.builder
        if builder is None:
            return Typed(Number(unit=scope.unit), (Read(role, node.id, node.span),))
        name = builder.query if role == "query" else builder.key
        if node.id not in scope.owner.unknown:
            scope.owner.unknown.add(node.id)
            message = f"there is no name `{node.id}` in `{{ {builder.query.id} -> {builder.key.id} : … }}`"
            self.report(
                Code.UNKNOWN_NAME, message, node.span, "not known here",
                related=[(name.span, f"the {role}")], hints=[f"the {role} is called `{name.id}` here"],
            )  # fmt: skip
        return Typed(WRONG)

    # ------------------------------------------------------------------ what files declare

    @property
    def aliases(self) -> set[str]:
        """Names that imports are known by, whether or not the file behind them was found."""
        return {item.alias.id for item in self.module.file.items if isinstance(item, ast.Import) and item.alias}

    def definition(self, name: str) -> Callee | None:
        """The pattern or function of this file, or of an import without `as`."""
        found = self.module.names.get(name)
        if found is None:
            return None
        if found.module is not self.module:
            self.imported.add(name)
        return self.callees.get(id(found.node))

    def member(self, node: ast.Attribute) -> Callee | None:
        """The pattern or function `alias.name`; a message if there is none."""
        assert isinstance(node.base, ast.Name)
        self.imported.add(node.base.id)
        inner = self.module.aliases.get(node.base.id)
        if inner is None:  # the import itself has failed
            return None
        own = {name: found for name, found in inner.names.items() if found.module is inner}
        if node.name.id in own:
            return self.callees.get(id(own[node.name.id].node))
        if not any(d.severity == "error" for d in inner.diagnostics):
            message = f"`{node.base.id}` has no pattern or function `{node.name.id}`"
            hints = self.did_you_mean(node.name.id, own) or ((f"it has {listed(list(own)[:8])}",) if own else ())
            self.report(Code.UNKNOWN_NAME, message, node.name.span, "not in that file", hints=hints)
        return None

    def _alias_as_value(self, node: ast.Name) -> None:
        inner = self.module.aliases.get(node.id)
        if inner is None:
            return
        own = [name for name, found in inner.names.items() if found.module is inner]
        hints = [f"name a pattern of it: `{node.id}.{own[-1]}`"] if own else []
        message = f"`{node.id}` is an imported file, and here stands a value"
        self.report(Code.TYPE_MISMATCH, message, node.span, "a file", hints=hints)

    # ------------------------------------------------------------------ unknown names

    def unknown(self, node: ast.Name, scope: Scope) -> None:
        """Says that a name is not known, once in a definition, and what it may have been."""
        if node.id in scope.owner.unknown or self._excused(node.id):
            return
        scope.owner.unknown.add(node.id)
        hints = self._meant(node.id, scope)
        self.report(Code.UNKNOWN_NAME, f"there is no name `{node.id}`", node.span, "not known here", hints=hints)

    def _meant(self, name: str, scope: Scope) -> tuple[str, ...]:
        if self.suggestions >= MAX_SUGGESTIONS:
            return ()
        if name in scope.owner.parameters:
            return (f"a default may use earlier parameters only: declare `{name}` before this one",)
        if name in FOREIGN:
            return (FOREIGN[name],)
        for alias, inner in self.module.aliases.items():
            if name in inner.names:
                return (f"did you mean `{alias}.{name}`?",)
        hidden = () if scope.builder is None else POSITIONS
        local = [x for x in scope.all_names() if not x.startswith("_")]
        known = [*local, *sorted(NAMES.difference(hidden)), *self.module.names, *self.module.aliases]
        found = self.closest(name, [*known, "True", "False", "inf"])
        entry = scope.find(found) if found else None
        if entry is not None:  # else there would be a warning that it is not used
            scope.owner.used.add(entry.name.span.start)
        return (f"did you mean `{found}`?",) if found else ()

    @cached_property
    def _written(self) -> frozenset[str]:
        """Names that the text declares, also where it cannot be parsed."""
        return frozenset(re.findall(r"(?:\b(?:pattern|fn|as)\s+)?\b(\w+)(?=\s*[=:(])", self.module.source.text))

    def _excused(self, name: str) -> bool:
        """Whether the name may come from an import, or a definition, about which there is a message already."""
        codes = [d.code for d in self.module.diagnostics if d.severity == "error"]
        if any(code.startswith("SPAT05") for code in codes) and any(
            isinstance(item, ast.Import) and item.alias is None for item in self.module.file.items
        ):
            return True
        return bool(codes) and name in self._written

    # ------------------------------------------------------------------ attributes

    def attribute(self, node: ast.Attribute, scope: Scope) -> Typed:
        """A grid coordinate, or a name of an import."""
        base = node.base
        if isinstance(base, ast.Name) and scope.find(base.id) is None and base.id in self.aliases:
            callee = self.member(node)
            if callee is None:
                return Typed(WRONG)
            if callee.is_pattern:
                return self.call_definition(node, callee, scope)
            message = f"`{snippet(node)}` is a function, and here stands a value"
            self.report(Code.TYPE_MISMATCH, message, node.span, "a function", hints=[f"call it: `{snippet(node)}(…)`"])
            return Typed(WRONG)
        value = self.infer(base, scope)
        if isinstance(value.type, Wrong):
            return value
        if not self._is_position(base, scope):
            message = f"{describe(value.type)} has no attribute `{node.name.id}`"
            hints = ["attributes are grid coordinates of the query and the key, such as `q.y`, and names of an import"]
            self.report(
                Code.NO_ATTRIBUTE, message, node.span, f"`{snippet(base)}` is {describe(value.type)}", hints=hints
            )
            return Typed(WRONG)
        return self._coordinate(node, value, scope)

    def _is_position(self, node: ast.Expr, scope: Scope) -> bool:
        """Whether an expression is the query or the key itself."""
        if not isinstance(node, ast.Name):
            return False
        entry = scope.find(node.id)
        return node.id in POSITIONS if entry is None else entry.kind in ("query", "key")

    def _coordinate(self, node: ast.Attribute, position: Typed, scope: Scope) -> Typed:
        axes, name = scope.owner.axes, node.name
        if not axes:
            message = f"`{snippet(node)}`: `{scope.owner.name}` does not stand on a grid"
            hint = f"declare the grid before the `=`: `over ({name.id}: …, x: …)`"
            hints: tuple[str, ...] = (hint,) if scope.owner.kind == "pattern" else ()
            self.report(Code.NO_ATTRIBUTE, message, node.span, "no grid, no coordinates", hints=hints)
        elif name.id not in axes:
            message = f"the grid of `{scope.owner.name}` has no axis `{name.id}`"
            hints = self.did_you_mean(name.id, axes) or (f"its axes are {listed(axes)}",)
            related = [(next(iter(axes.values())).span, "the grid")]
            self.report(Code.NO_ATTRIBUTE, message, name.span, "no such axis", related=related, hints=hints)
        else:
            scope.owner.used.add(axes[name.id].name.span.start)
            if scope.unit != BLOCKS:
                return Typed(INT, position.reads)
            message = (
                f"`{snippet(node)}` is read inside `blocks`, where positions are blocks and have no grid coordinates"
            )
            related = [(axes[name.id].span, "the axis counts tokens")]
            self.report(Code.COORDINATE_IN_BLOCKS, message, node.span, "inside `blocks`", related=related)
        return Typed(WRONG)

    # ------------------------------------------------------------------ indices

    def index(self, node: ast.Index, scope: Scope) -> Typed:
        base = self.infer(node.base, scope)
        indices = [self.infer(index, scope) for index in node.indices]
        for i, (index, value) in enumerate(zip(node.indices, indices, strict=True)):
            indices[i] = self.as_integer(index, value, "an index")
        reads = together(base, *indices)
        match base.type:
            case Tensor() as tensor:
                return Typed(self._element(node, tensor, indices, scope), reads)
            case List(item):
                self._single(node, "a list")
                return Typed(item, reads)
            case Tuple(items):
                self._single(node, "a tuple")
                return Typed(self._component(node, items), reads)
            case Wrong():
                return Typed(WRONG, reads)
        self._not_indexable(node, base, scope)
        return Typed(WRONG, reads)

    def _not_indexable(self, node: ast.Index, base: Typed, scope: Scope) -> None:
        entry = scope.find(node.base.id) if isinstance(node.base, ast.Name) else None
        if entry is not None and isinstance(entry.value.type, Tensor):
            name = entry.name.id
            message = f"`{name}` has no dims besides batch: it is read as the number itself"
            hints, related = [f"write `{name}`"], [(entry.name.span, "declared here")]
            self.report(Code.TENSOR_RANK, message, node.span, "no index here", hints=hints, related=related)
            return
        message = f"{describe(base.type)} cannot be indexed"
        label = f"`{snippet(node.base)}` is {describe(base.type)}"
        self.report(Code.NOT_INDEXABLE, message, node.span, label, hints=["lists, tuples and run-time tensors can be"])

    def _single(self, node: ast.Index, what: str) -> None:
        if len(node.indices) > 1:
            message = f"{what} takes one index, {len(node.indices)} are given"
            extra = node.indices[1].span.to(node.indices[-1].span)
            hints = [f"write `{snippet(node.base)}[…][…]` for a list of lists"]
            self.report(Code.TOO_MANY_ARGUMENTS, message, extra, "too many", hints=hints)

    def _component(self, node: ast.Index, items: tuple[Type, ...]) -> Type:
        index = node.indices[0]
        if not isinstance(index, ast.Number) or not isinstance(index.value, int):
            hints = [f"write `{snippet(node.base)}[0]`, or take it apart: `for a, b in …`"]
            message = "a tuple is indexed by a number that is written out"
            self.report(Code.TYPE_MISMATCH, message, index.span, "not a written number", hints=hints)
            return WRONG
        if index.value >= len(items):
            message = f"this tuple has {len(items)} items, counted from 0"
            self.report(Code.INDEX_OUT_OF_RANGE, message, index.span, "no such item")
            return WRONG
        return items[index.value]

    def _element(self, node: ast.Index, tensor: Tensor, indices: list[Typed], scope: Scope) -> Type:
        name = snippet(node.base)
        declared = scope.owner.parameters.get(node.base.id) if isinstance(node.base, ast.Name) else None
        related = [(declared.span, "declared here")] if declared is not None else []
        if len(indices) != tensor.rank:
            hints = ["the batch axis is implicit and takes no index"] if tensor.batched else []
            takes = "1 index" if tensor.rank == 1 else f"{tensor.rank} indices"
            message = f"`{name}` takes {takes}, {len(indices)} are given"
            self.report(Code.TENSOR_RANK, message, node.span, "of another rank", related=related, hints=hints)
            return tensor.element
        for index, value, unit in zip(node.indices, indices, tensor.units, strict=True):
            if mixes(value.type, Number(unit=unit)):
                message = f"this axis of `{name}` is counted in {unit}, the index in {unit_of(value.type)}"
                self.report(
                    Code.UNIT_MISMATCH, message, index.span, f"counted in {unit_of(value.type)}", related=related
                )
        return tensor.element
