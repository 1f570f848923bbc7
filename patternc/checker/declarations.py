"""What a file declares: patterns, functions and their parameters, `where` names, imports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from patternc import ast
from patternc.builtins import BATCH, RESERVED_PARAMETERS
from patternc.checker.scope import Callee, Entry, Formal, Owner, Scope, Typed, in_order, references
from patternc.checker.statements import Statements
from patternc.errors import Code
from patternc.loader import Module
from patternc.types import (
    BLOCKS,
    CONDITION,
    FLOAT,
    INT,
    TOKENS,
    WRONG,
    Condition,
    List,
    Number,
    Pattern,
    Tensor,
    Tuple,
    Type,
    Wrong,
    describe,
    in_units,
    leaves,
)

T = TypeVar("T", ast.Parameter, ast.Axis, ast.Binding)
Declaration = ast.Pattern | ast.Function

_TYPES: dict[str, Type] = {
    "int": INT,
    "float": FLOAT,
    "bool": CONDITION,
    "tokens": in_units(TOKENS),
    "blocks": in_units(BLOCKS),
}
_MAX_CHAIN = 8
"""Names of a cycle that a message shows."""


class Declarations(Statements):
    """Judges one file."""

    def file(self) -> None:
        """All of the file: its definitions, each after those it calls, and its checks."""
        own = [item for item in self.module.file.items if isinstance(item, ast.Pattern | ast.Function)]
        self._file_names(own)
        for node in own:
            self.callees[id(node)] = self._signature(node)
        for node in self._in_order(own):
            self._definition(node)
        for item in self.module.file.items:
            if isinstance(item, ast.Check):
                self.statement(item)
        self._unused_imports()

    # ------------------------------------------------------------------ names and order

    def _file_names(self, own: Sequence[Declaration]) -> None:
        self.declare([node.name for node in own], "pattern or function")
        for item in self.module.file.items:
            if isinstance(item, ast.Import) and item.alias is not None:
                self.shadowing(item.alias, "import")

    def _in_order(self, own: Sequence[Declaration]) -> list[Declaration]:
        """The definitions, those that are called first; cycles are reported."""
        first: dict[str, Declaration] = {}
        for node in own:
            first.setdefault(node.name.id, node)
        below = {name: dict.fromkeys(x for x in _free_names(node) if x in first) for name, node in first.items()}
        order, cycles = in_order(first, below.__getitem__)
        for cycle in cycles:
            self._cyclic([first[name].name for name in cycle])
        return [*[first[name] for name in order], *[node for node in own if first[node.name.id] is not node]]

    def _cyclic(self, names: Sequence[ast.Name]) -> None:
        chain = [name.id for name in names]
        if len(chain) > _MAX_CHAIN:
            chain = [*chain[: _MAX_CHAIN - 1], "…", chain[-1]]
        first = names[0]
        message = f"`{first.id}` is defined by itself"
        related = [(name.span, "through this one") for name in names[1:_MAX_CHAIN]]
        notes = [" → ".join([*chain, first.id])] if len(names) > 1 else []
        self.report(Code.CYCLIC_DEFINITION, message, first.span, "leads back here", related=related, notes=notes)

    # ------------------------------------------------------------------ signatures

    def _signature(self, node: Declaration) -> Callee:
        formals = [Formal(p.name.id, _declared(p.type), p.default is None, p) for p in _first(node.parameters).values()]
        result = Typed(Pattern() if isinstance(node, ast.Pattern) else WRONG)
        return Callee(node, tuple(formals), result)

    def _type(self, node: ast.Type, scope: Scope, owner: Declaration, *, inside: bool = False) -> Type:
        """The declared type, with the units of a tensor's dims; messages for types that cannot stand there."""
        match node:
            case ast.ListType(item):
                return List(self._type(item, scope, owner, inside=True))
            case ast.TupleType(items):
                return Tuple(tuple([self._type(item, scope, owner, inside=True) for item in items]))
            case ast.TensorType(element, dims):
                return self._tensor(node, element, dims, scope, owner, inside)
        return _declared(node)

    def _tensor(
        self,
        node: ast.TensorType,
        element: ast.TypeName,
        dims: Sequence[ast.Expr],
        scope: Scope,
        owner: Declaration,
        inside: bool,
    ) -> Type:
        batched = _is_batch(dims[0])
        units = [self._dim(dim, scope) for dim in dims[batched:]]
        if inside:
            message = "a run-time tensor stands by itself: lists and tuples hold numbers and conditions"
            self.report(Code.TENSOR_NOT_ALLOWED, message, node.span, "inside a list or tuple")
            return WRONG
        if isinstance(owner, ast.Function):
            message = "a function takes numbers and conditions, not whole tensors"
            hints = ["pass an element of the tensor as the argument"]
            self.report(Code.TENSOR_NOT_ALLOWED, message, node.span, "a tensor", hints=hints)
            return WRONG
        return Tensor(_declared(element), tuple(units), batched)

    def _dim(self, node: ast.Expr, scope: Scope) -> str | None:
        """The unit of a dim; a message if it is no number of elements that `n`, `heads` and the parameters give."""
        value = self.infer(node, scope)
        value = self.restricted(node, value, "a dim of a tensor", also=("h", "layer"))
        match value.type:
            case Number(float=False, infinite=False):
                if isinstance(node, ast.Number) and node.value == 0:
                    self.report(Code.TENSOR_DIMS, "a dim of a tensor is at least 1", node.span, "no elements")
                return value.type.unit
            case Wrong():
                return None
        hints = ["dims are ints made of `n`, `heads` and parameters, such as `cdiv(n, block)`"]
        message = f"a dim of a tensor is an int, found {describe(value.type)}"
        self.report(Code.TENSOR_DIMS, message, node.span, "not a number of elements", hints=hints)
        return None

    # ------------------------------------------------------------------ definitions

    def _definition(self, node: Declaration) -> None:
        callee = self.callees[id(node)]
        axes = node.axes if isinstance(node, ast.Pattern) else ()
        kind = "pattern" if isinstance(node, ast.Pattern) else "function"
        owner = Owner(
            self.module,
            kind,
            node.name.id,
            _first(node.parameters),
            _first(axes),
        )
        owner.grid = axes[0].span.to(axes[-1].span) if axes else None
        scope = self._parameters(node, owner)
        self._axes(axes, scope)
        scope = self._where(node, scope)
        self._body(node, callee, scope)
        self._unused_names(node, owner)
        callee.grid = owner.grid

    def _parameters(self, node: Declaration, owner: Owner) -> Scope:
        """The scope of the parameters."""
        names = [p.name for p in node.parameters]
        self.duplicates(names, "parameter")
        for name in names:
            if isinstance(node, ast.Pattern) and name.id in RESERVED_PARAMETERS:
                message = f"a parameter cannot be called `{name.id}`: that is an argument of `compile` or of the call"
                hints = [f"call it `{name.id}_`, say"]
                self.report(Code.RESERVED_PARAMETER, message, name.span, "reserved", hints=hints)
            else:
                self.shadowing(name, "parameter")
        entries: dict[str, Entry] = {}
        for parameter in node.parameters:
            if parameter.default is not None:
                self._default(parameter, parameter.default, Scope(owner, entries))
            entry = Entry("parameter", parameter.name, Typed(_declared(parameter.type)))
            entries.setdefault(parameter.name.id, entry)
        scope = Scope(owner, entries)
        for parameter in node.parameters:
            entry = Entry("parameter", parameter.name, Typed(self._type(parameter.type, scope, node)))
            if entries[parameter.name.id].name is parameter.name:
                entries[parameter.name.id] = entry
        return scope

    def _default(self, parameter: ast.Parameter, default: ast.Expr, scope: Scope) -> None:
        declared, name = _declared(parameter.type), parameter.name.id
        value = self.infer(default, scope)
        if isinstance(declared, Tensor):
            message = f"`{name}` is a run-time tensor: it is given at the call and has no default"
            self.report(Code.TENSOR_NOT_ALLOWED, message, default.span, "a default", hints=["leave the default out"])
            return
        what = f"the default of `{name}`"
        if not self.fitting(default, value, declared, what, [(parameter.type.span, "declared here")]):
            return
        self.restricted(default, value, what)
        for found, wanted in leaves(value.type, declared):
            if None not in (found.unit, wanted.unit) and found.unit != wanted.unit:
                message = f"`{name}` is counted in {wanted.unit}, its default in {found.unit}"
                related = [(parameter.type.span, "declared here")]
                self.report(Code.UNIT_MISMATCH, message, default.span, f"counted in {found.unit}", related=related)
                return

    def _axes(self, axes: Sequence[ast.Axis], scope: Scope) -> None:
        self.duplicates([axis.name for axis in axes], "axis")
        for axis in axes:
            value = self.as_integer(axis.extent, self.infer(axis.extent, scope), "the extent of an axis")
            self.restricted(axis.extent, value, "the extent of an axis", also=("h", "layer"))

    def _where(self, node: Declaration, scope: Scope) -> Scope:
        """The scope of the body. All `where` values are judged, what others need first, in the units they are read
        in; those that nobody reads in tokens."""
        names = [binding.name for binding in node.where]
        self.duplicates([*[p.name for p in node.parameters], *names], "`where` name", first=len(node.parameters))
        for name in names:
            self.shadowing(name, "`where` name")
        bindings = _first(node.where)
        entries = [Entry("binding", name) for name in reversed(names) if name.id not in scope.names]
        scope = scope.within(entries)
        read = {
            name: [(x.id, deeper) for x, deeper in references(binding.value) if x.id in bindings]
            for name, binding in bindings.items()
        }

        def below(key: tuple[str, str]) -> list[tuple[str, str]]:
            return [(name, BLOCKS if deeper else key[1]) for name, deeper in read[key[0]]]

        body = [(x.id, BLOCKS if deeper else TOKENS) for x, deeper in references(node.body) if x.id in bindings]
        order, cycles = in_order(body, below)
        reached = {name for name, _ in order}
        rest, more = in_order([(name, TOKENS) for name in bindings if name not in reached], below)
        for cycle in {tuple(name for name, _ in cycle): None for cycle in [*cycles, *more]}:
            self._cyclic([bindings[name].name for name in cycle])
        for key, unit in dict.fromkeys([*order, *rest]):
            self._binding(bindings[key], scope, unit)
        return scope

    def _binding(self, binding: ast.Binding, scope: Scope, unit: str) -> None:
        value = self.infer(binding.value, scope if unit == scope.unit else scope.counting(unit))
        if isinstance(value.type, Tensor):
            self.unread_tensor(binding.value, value.type)
            value = Typed(WRONG)
        scope.owner.bindings[binding.name.id, unit] = value

    def _body(self, node: Declaration, callee: Callee, scope: Scope) -> None:
        value = self.infer(node.body, scope)
        if isinstance(node, ast.Pattern):
            what = f"a pattern as the body of `{node.name.id}`"
            callee.result = Typed(self.as_pattern(node.body, value, what))
            return
        if not isinstance(value.type, Number | Condition | Wrong):
            hints = ["declare it by `pattern` instead of `fn`"] if isinstance(value.type, Pattern) else []
            self.mismatch(node.body, value.type, "a number or condition as the body of a function", hints=hints)
            value = Typed(WRONG)
        hints = ["make it a parameter of the function, and give it in the call"]
        callee.result = self.restricted(node.body, value, "the body of a function", hints=hints)

    def _unused_names(self, node: Declaration, owner: Owner) -> None:
        for parameter in node.parameters:
            if parameter.name.span.start not in owner.used:
                self.unused(parameter.name, "parameter")
        for binding in node.where:
            if binding.name.span.start not in owner.used:
                self.unused(binding.name, "`where` name")
        for axis in owner.axes.values():
            if axis.name.span.start not in owner.used:
                self.unused(axis.name, "axis", hint=f"call it `_{axis.name.id}` if the grid is all you need")

    # ------------------------------------------------------------------ imports

    def _unused_imports(self) -> None:
        if any(d.severity == "error" for d in self.module.diagnostics):
            return
        for item in self.module.file.items:
            if not isinstance(item, ast.Import):
                continue
            inner = imported_by(self.module, item)
            if item.alias is not None:
                if item.alias.id not in self.imported and inner is not None:
                    self.unused(item.alias, "import", hint="leave the import out")
            elif inner is not None and not any(
                self.module.names[x].module is inner for x in self.imported if x in self.module.names
            ):
                message = f"nothing of the import `{item.path}` is used"
                hints = ["leave the import out"]
                self.report(Code.UNUSED_NAME, message, item.path_span, "not used", hints=hints)


# ------------------------------------------------------------------ parts


def imported_by(module: Module, item: ast.Import) -> Module | None:
    """The module that an import has brought; None if it failed, or brought no names."""
    if item.alias is not None:
        return module.aliases.get(item.alias.id)
    for inner in {id(found.module): found.module for found in module.names.values()}.values():
        if inner.source.path is None or module.source.path is None:
            if inner.source.name == item.path:
                return inner
        elif inner.source.path.resolve() == (module.source.path.resolve().parent / item.path).resolve():
            return inner
    return None


def _declared(node: ast.Type) -> Type:
    """The type that is written, a tensor's dims not looked at."""
    match node:
        case ast.TypeName(name):
            return _TYPES[name]
        case ast.ListType(item):
            return List(_declared(item))
        case ast.TupleType(items):
            return Tuple(tuple([_declared(item) for item in items]))
        case ast.TensorType(element, dims):
            batched = _is_batch(dims[0])
            return Tensor(_declared(element), (None,) * (len(dims) - batched), batched)


def _first(declared: Sequence[T]) -> dict[str, T]:
    """What is declared, by name; of two with one name the first."""
    found: dict[str, T] = {}
    for node in declared:
        found.setdefault(node.name.id, node)
    return found


def _is_batch(dim: ast.Expr) -> bool:
    return isinstance(dim, ast.Name) and dim.id == BATCH


def _free_names(node: Declaration) -> Iterator[str]:
    """The names that a definition has from its file."""
    parameters = {p.name.id for p in node.parameters}
    local = parameters | {binding.name.id for binding in node.where}
    axes = node.axes if isinstance(node, ast.Pattern) else ()
    for part in (node.body, *[binding.value for binding in node.where], *[axis.extent for axis in axes]):
        yield from (name.id for name, _ in references(part) if name.id not in local)
    for parameter in node.parameters:
        dims = parameter.type.dims if isinstance(parameter.type, ast.TensorType) else ()
        for part in (*dims, *([parameter.default] if parameter.default is not None else [])):
            yield from (name.id for name, _ in references(part) if name.id not in parameters)
