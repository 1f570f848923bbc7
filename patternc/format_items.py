"""Items and types as documents."""

from __future__ import annotations

from patternc import ast
from patternc.format_comments import Comments
from patternc.format_document import Align, Concat, Doc, Group, Hang, Hard, Nest, Text
from patternc.format_expr import BITS, Building, expr, filled, keyword, listed, outdent_of, separator

MAX_COLUMN = 20
"""Longer names of bindings are not lined up."""


def item_doc(item: ast.Item, c: Comments) -> Building:
    """An item."""
    match item:
        case ast.Import():
            return Text(f'import "{item.path}"' + (f" as {item.alias.id}" if item.alias else ""))
        case ast.Pattern():
            return (yield _definition("pattern", item, item.axes, c))
        case ast.Function():
            return (yield _definition("fn", item, (), c))
        case ast.Check():
            return (yield _check(item, c))


def _definition(word: str, item: ast.Pattern | ast.Function, axes: tuple[ast.Axis, ...], c: Comments) -> Building:
    parts = [Text(f"{word} {item.name.id}"), (yield listed("(", item.parameters, ")", c, _parameter))]
    if axes:
        remarks = separator(axes[0].span.start, c)
        parts.append(Group(Nest(4, remarks, Text("over "), (yield listed("(", axes, ")", c, _axis)))))
    remarks = separator(item.body.span.start, c)
    parts += [Text(" ="), Group(Nest(4, remarks, (yield expr(item.body, c))))]
    if item.where:
        before = c.lines(item.where[0].span.start) or Hard()
        parts.append(Nest(2, before, Text("where "), Align((yield _bindings(item.where, c)))))
    return Concat(*parts)


def _parameter(node: ast.Parameter, c: Comments) -> Building:
    type_ = Concat(Text(f"{node.name.id}: "), (yield type_doc(node.type, c)))
    if node.default is None:
        return type_
    lead = c.lines(node.default.span.start)
    return Concat(type_, Text(" ="), Hang((yield expr(node.default, c)), " ", lead))


def _axis(node: ast.Axis, c: Comments) -> Building:
    return Concat(Text(f"{node.name.id}: "), Align((yield expr(node.extent, c))))


def _bindings(bindings: tuple[ast.Binding, ...], c: Comments) -> Building:
    longest = max(len(b.name.id) for b in bindings)
    column = longest if longest <= MAX_COLUMN else 0
    parts: list[Doc] = []
    for i, binding in enumerate(bindings):
        if i > 0:
            parts.append(c.lines(binding.span.start) or Hard())
        lead, outdent = c.lines(binding.value.span.start), outdent_of(binding.value)
        value = yield expr(binding.value, c, outdent=outdent)
        parts += [Text(f"{binding.name.id.ljust(column)} ="), Hang(value, " ", lead, outdent)]
    return Concat(*parts)


def _check(item: ast.Check, c: Comments) -> Building:
    parts: list[Doc] = [(yield expr(item.target, c))]
    if item.at:
        before = separator(item.at[0].span.start, c)
        parts += [before, Text("at "), Align((yield filled(item.at, c, keyword)))]
    before = separator(item.properties[0].span.start, c)
    parts += [before, Text(": "), Align((yield filled(item.properties, c, _property)))]
    return Concat(Text("check "), Group(Nest(4, *parts)))


def _property(node: ast.Property, c: Comments) -> Building:
    if node.value is None:
        return Text(node.name.id)
    lead = c.lines(node.value.span.start)
    if node.op is None:
        return Concat(Text(f"{node.name.id}("), Hang(Concat((yield expr(node.value, c)), Text(")")), lead=lead))
    return Concat(Text(f"{node.name.id} {node.op}"), Hang((yield expr(node.value, c, BITS)), " ", lead))


def type_doc(node: ast.Type, c: Comments) -> Building:
    """A type."""
    match node:
        case ast.TypeName():
            return Text(node.name)
        case ast.ListType():
            return Concat(Text("["), (yield type_doc(node.item, c)), Text("]"))
        case ast.TupleType():
            return (yield listed("(", node.items, ")", c, type_doc))
        case ast.TensorType():
            return Concat(Text(node.element.name), (yield listed("[", node.dims, "]", c, expr)))
