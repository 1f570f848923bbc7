"""From the syntax tree to the IR: names are resolved, calls inlined, known values computed.

The tree has passed the checker. Parameters either have values or stay symbolic (`ir.Param`), which is how a file is
judged before anybody calls it. `h` and `layer` stay variables, `heads` too unless it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from patternc import ast, fold, ir
from patternc.budget import Budget
from patternc.builtin_calls import BUILT_IN
from patternc.errors import Code
from patternc.expressions import Expressions
from patternc.loader import Definition, Module
from patternc.source import Span
from patternc.values import (
    Frame,
    Place,
    TensorRef,
    Value,
    symbol,
)


def elaborate(
    definition: Definition,
    arguments: Mapping[str, Value] | None,
    *,
    heads: int | None = None,
) -> ir.Program:
    """The program of one pattern. `arguments` hold values of its parameters, defaults fill in; None leaves all
    parameters symbolic. Raises SpatError for what is wrong with the values."""
    worker = Elaborator(heads)
    return worker.program(definition, arguments)


def elaborate_check(module: Module, target: ast.Expr, *, heads: int | None = None) -> ir.Program:
    """The program a `check` statement speaks of: parameters take their defaults, tensors stay run-time tensors."""
    worker = Elaborator(heads, open_tensors=True)
    pattern = worker.expr(target, Place(Frame(module)))
    worker.budget.measure(pattern)
    return ir.Program(target.span.text, pattern, tuple(worker.tensors.values()), tuple(worker.grids), span=target.span)


class Elaborator(Expressions):
    def __init__(self, heads: int | None, *, open_tensors: bool = False) -> None:
        self.heads, self.open_tensors = heads, open_tensors
        self.tensors: dict[str, ir.Tensor] = {}
        self.grids: list[ir.Grid] = []
        self.budget = Budget()
        self.fresh = 0

    # ------------------------------------------------------------------ programs and calls

    def program(self, definition: Definition, arguments: Mapping[str, Value] | None) -> ir.Program:
        node = definition.node
        frame = Frame(definition.module, where={b.name.id: b.value for b in node.where})
        for parameter in sorted(node.parameters, key=_is_tensor):  # the shape of a tensor may name any other parameter
            frame.values[parameter.name.id] = self._root_value(parameter, arguments, frame)
        pattern = self.budget.measure(self._body(node, frame, 0))
        return ir.Program(node.name.id, pattern, tuple(self.tensors.values()), tuple(self.grids), span=node.name.span)

    def _root_value(self, parameter: ast.Parameter, arguments: Mapping[str, Value] | None, frame: Frame) -> Value:
        name = parameter.name.id
        if _is_tensor(parameter):
            return self._declare(parameter, Place(frame))
        if arguments is None:
            return symbol(name, parameter.type)
        if name in arguments:
            return self._fitting(arguments[name], parameter.type, parameter.name.span)
        return self._default(parameter, Place(frame), parameter.name.span)

    def _default(self, parameter: ast.Parameter, place: Place, span: Span) -> Value:
        if parameter.default is None:
            name = parameter.name.id
            raise fold.fail(Code.CHECK_WITHOUT_VALUE, f"`{name}` has no value and no default", span, "give it a value")
        return self._fitting(self.expr(parameter.default, place), parameter.type, parameter.default.span)

    def _declare(self, parameter: ast.Parameter, place: Place) -> TensorRef:
        """A run-time tensor of the program."""
        dims = parameter.type.dims
        batched = bool(dims) and isinstance(dims[0], ast.Name) and dims[0].id == "batch"
        name = parameter.name.id
        shape = tuple(self.expr(dim, place) for dim in dims[batched:])
        element = parameter.type.element.name
        element = "int" if element in ("tokens", "blocks") else element  # units end with the checker
        tensor = ir.Tensor(name, element, shape, batched, span=parameter.name.span)
        if self.tensors.setdefault(name, tensor) != tensor:
            message = f"two run-time tensors are called `{name}` and differ in type or shape"
            raise fold.fail(Code.TENSOR_RANK, message, parameter.name.span, "another one is declared differently")
        return TensorRef(name, len(shape))

    def _fitting(self, value: Value, declared: ast.Type, span: Span) -> Value:
        """The value as the declared type has it: `tokens` are not negative, a `float` is one."""
        match declared, value:
            case ast.TypeName("tokens"), ir.Const(number) if number < 0:
                raise fold.fail(
                    Code.NEGATIVE_TOKENS, f"{fold.show(number)} tokens: a number of tokens is not negative", span,
                    "this is negative", "write `inf` for no limit",
                )  # fmt: skip
            case ast.TypeName("float"), ir.Const(number):
                return ir.Const(float(number), span=value.span)
            case ast.ListType(item), tuple():
                return tuple(self._fitting(x, item, span) for x in value)
            case ast.TupleType(items), tuple():
                return tuple(self._fitting(x, item, span) for x, item in zip(value, items, strict=True))
        return value

    def _activate(self, node: ast.Call | ast.Name, target: Definition, place: Place) -> Value:
        """A call of a pattern or function of the program; a bare name is a call without arguments."""
        args, keywords = (node.args, node.keywords) if isinstance(node, ast.Call) else ((), ())
        given: dict[str, ast.Expr] = dict(zip((p.name.id for p in target.node.parameters), args, strict=False))
        given |= {keyword.name.id: keyword.value for keyword in keywords}
        frame = Frame(target.module, where={b.name.id: b.value for b in target.node.where})
        for parameter in sorted(target.node.parameters, key=_is_tensor):
            frame.values[parameter.name.id] = self._argument(parameter, given, frame, place, node.span)
        return _standing_at(self.budget.measure(self._body(target.node, frame, place.depth)), node.span)

    def _argument(
        self, parameter: ast.Parameter, given: Mapping[str, ast.Expr], frame: Frame, place: Place, span: Span
    ) -> Value:
        argument = given.get(parameter.name.id)
        if _is_tensor(parameter):
            if argument is not None:
                return self.lookup(argument, place)
            if self.open_tensors and place.depth == 0:
                return self._declare(parameter, Place(frame))
        if argument is None:
            return self._default(parameter, Place(frame, place.depth), span)
        return self._fitting(self.expr(argument, place), parameter.type, argument.span)

    def _body(self, node: ast.Pattern | ast.Function, frame: Frame, depth: int) -> Value:
        if isinstance(node, ast.Pattern) and node.axes:
            extents = [self.expr(axis.extent, Place(frame, depth)) for axis in node.axes]
            self.grids.append(ir.Grid(tuple(extents), span=node.axes[0].span.to(node.axes[-1].span)))
            stride: ir.Scalar = fold.const(1, node.span)
            for axis, extent in zip(reversed(node.axes), reversed(extents), strict=True):
                frame.axes[axis.name.id] = stride, (None if axis is node.axes[0] else extent)
                stride = fold.binary("*", stride, extent, axis.span)
        with self.budget.call(node.body.span):
            return self.expr(node.body, Place(frame, depth))

    # ------------------------------------------------------------------ expressions

    def expr(self, node: ast.Expr, place: Place) -> Value:
        """The value of an expression."""
        self.budget.enter(node.span)
        span = node.span
        match node:
            case ast.Number(value) | ast.Bool(value):
                result: Value = fold.const(value, span)
            case ast.Inf():
                result = fold.const(float("inf"), span)
            case ast.Name():
                result = self.lookup(node, place)
                if isinstance(result, TensorRef):  # a tensor without axes is a number
                    result = ir.Read(result.name, (), span=span)
            case ast.Attribute():
                result = self._attribute(node, place)
            case ast.Unary():
                result = self.unary(node, place)
            case ast.Binary():
                result = self.binary(node, place)
            case ast.Compare():
                result = self.compare(node, place)
            case ast.IfElse():
                result = self.if_(node, place)
            case ast.Match():
                result = self.match_(node, place)
            case ast.Call():
                result = self._call(node, place)
            case ast.Comprehension():
                result = self.comprehension(node, place)
            case ast.Index():
                result = self.index(node, place)
            case ast.Tuple(items) | ast.List(items):
                result = tuple([self.expr(item, place) for item in items])
            case ast.SetBuilder(query, key, condition):
                bound = {query.id: ir.Var("q", place.depth, span=query.span)}
                bound[key.id] = ir.Var("k", place.depth, span=key.span)
                result = fold.where(self.expr(condition, place.binding(bound)), span)
            case ast.Blocks(size, body):
                blocks = fold.block_size(self.expr(size, place), "blocks")
                result = ir.Blocks(blocks, self.expr(body, replace(place, depth=place.depth + 1)), span=span)
            case ast.Cover(size, body):
                blocks = fold.block_size(self.expr(size, place), "cover")
                result = ir.Cover(blocks, self.expr(body, place), span=span)
        self.budget.nesting -= 1
        return result

    # ------------------------------------------------------------------ names

    def lookup(self, node: ast.Name | ast.Attribute, place: Place) -> Value:
        if isinstance(node, ast.Attribute):
            return self._attribute(node, place)
        name, frame = node.id, place.frame
        if name in place.local:
            return place.local[name]
        if name in frame.values:
            return frame.values[name]
        if name in frame.where:
            return _standing_at(self._binding(name, place), node.span)
        return self._built_in(node, place) or self._activate(node, frame.module.names[name], place)

    def _binding(self, name: str, place: Place) -> Value:
        """A `where` binding, read in the index space of its use, and computed once for each."""
        frame, key = place.frame, (name, place.depth)
        if key not in frame.memo:
            frame.memo[key] = self.budget.measure(self.expr(frame.where[name], Place(frame, place.depth)))
        return frame.memo[key]

    def _built_in(self, node: ast.Name, place: Place) -> Value | None:
        span = node.span
        q, k = (ir.Var(name, place.depth, span=span) for name in "qk")
        match node.id:
            case "q" | "k" | "n":
                return ir.Var(node.id, place.depth, span=span)
            case "h" | "layer":
                return ir.Var(node.id, span=span)
            case "heads":
                return ir.Var("heads", span=span) if self.heads is None else fold.const(self.heads, span)
            case "full":
                return fold.where(fold.const(True, span), span)
            case "empty":
                return fold.where(fold.const(False, span), span)
            case "causal":
                return fold.where(fold.compare("<=", k, q, span), span)
            case "diagonal":
                return fold.where(fold.compare("==", q, k, span), span)
        return None

    def _attribute(self, node: ast.Attribute, place: Place) -> Value:
        """A grid coordinate `q.y`, or a pattern of an import `lf.longformer`."""
        base, name = node.base, node.name.id
        if isinstance(base, ast.Name) and base.id in place.frame.module.aliases:
            inner = place.frame.module.aliases[base.id]
            return self._activate(ast.Name(name, span=node.span), inner.names[name], place)
        position = self.expr(base, place)
        stride, extent = place.frame.axes[name]
        row = fold.binary("//", position, stride, node.span)
        return row if extent is None else fold.binary("%", row, extent, node.span)

    # ------------------------------------------------------------------ calls

    def _call(self, node: ast.Call, place: Place) -> Value:
        function = node.function
        if isinstance(function, ast.Attribute):
            inner = place.frame.module.aliases[function.base.id]
            return self._activate(node, inner.names[function.name.id], place)
        if function.id in BUILT_IN:
            return BUILT_IN[function.id](self, node, place)
        return self._activate(node, place.frame.module.names[function.id], place)


def _standing_at(value: Value, span: Span) -> Value:
    """A pattern that is named, at the place of the name: there it is an arm of a union, say."""
    return replace(value, span=span) if isinstance(value, ir.Pattern) else value


def _is_tensor(parameter: ast.Parameter) -> bool:
    return isinstance(parameter.type, ast.TensorType)
