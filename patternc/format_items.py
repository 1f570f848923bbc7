"""Items and types as documents."""

from __future__ import annotations

from patternc import ast
from patternc.format_comments import Comments
from patternc.format_expr import expr, filled, keyword, listed, outdent_of, separator
from patternc.layout import Align, Concat, Doc, Group, Hang, Hard, Nest, Text

MAX_COLUMN = 20
"""Longer names of bindings are not lined up."""


def item_doc(item: ast.Item, c: Comments) -> Doc:
    """The document of an item."""
    match item:
        case ast.Import():
            return Text(f'import "{item.path}"' + (f" as {item.alias.id}" if item.alias else ""))
        case ast.Pattern():
            return _definition("pattern", item, item.axes, c)
        case ast.Function():
            return _definition("fn", item, (), c)
        case ast.Check():
            return _check(item, c)


def _definition(word: str, item: ast.Pattern | ast.Function, axes: tuple[ast.Axis, ...], c: Comments) -> Doc:
    parts = [Text(f"{word} {item.name.id}"), listed("(", item.parameters, ")", c, lambda p: _parameter(p, c))]
    if axes:
        remarks = separator(axes[0].span.start, c)
        parts.append(Group(Nest(4, remarks, Text("over "), listed("(", axes, ")", c, lambda a: _axis(a, c)))))
    remarks = separator(item.body.span.start, c)
    parts += [Text(" ="), Group(Nest(4, remarks, expr(item.body, c)))]
    if item.where:
        remarks = c.lines(item.where[0].span.start) or Hard()
        parts.append(Nest(2, remarks, Text("where "), Align(_bindings(item.where, c))))
    return Concat(*parts)


def _parameter(node: ast.Parameter, c: Comments) -> Doc:
    type_ = Concat(Text(f"{node.name.id}: "), type_doc(node.type, c))
    if node.default is None:
        return type_
    lead = c.lines(node.default.span.start)
    return Concat(type_, Text(" ="), Hang(expr(node.default, c), " ", lead))


def _axis(node: ast.Axis, c: Comments) -> Doc:
    return Concat(Text(f"{node.name.id}: "), Align(expr(node.extent, c)))


def _bindings(bindings: tuple[ast.Binding, ...], c: Comments) -> Doc:
    column = max(len(b.name.id) for b in bindings)
    column = column if column <= MAX_COLUMN else 0
    parts: list[Doc] = []
    for i, binding in enumerate(bindings):
        if i > 0:
            parts.append(c.lines(binding.span.start) or Hard())
        lead, outdent = c.lines(binding.value.span.start), outdent_of(binding.value)
        value = expr(binding.value, c, outdent=outdent)
        parts += [Text(f"{binding.name.id.ljust(column)} ="), Hang(value, " ", lead, outdent)]
    return Concat(*parts)


def _check(item: ast.Check, c: Comments) -> Doc:
    parts: list[Doc] = [expr(item.target, c)]
    if item.at:
        remarks = separator(item.at[0].span.start, c)
        parts += [remarks, Text("at "), Align(filled(item.at, c, lambda k: keyword(k, c)))]
    remarks = separator(item.properties[0].span.start, c)
    parts += [remarks, Text(": "), Align(filled(item.properties, c, lambda p: _property(p, c)))]
    return Concat(Text("check "), Group(Nest(4, *parts)))


def _property(node: ast.Property, c: Comments) -> Doc:
    if node.value is None:
        return Text(node.name.id)
    if node.op is None:
        lead = c.lines(node.value.span.start)
        return Concat(Text(f"{node.name.id}("), Hang(Concat(expr(node.value, c), Text(")")), lead=lead))
    return Concat(Text(f"{node.name.id} {node.op}"), Hang(expr(node.value, c, 5), " ", c.lines(node.value.span.start)))


def type_doc(node: ast.Type, c: Comments) -> Doc:
    """The document of a type."""
    match node:
        case ast.TypeName():
            return Text(node.name)
        case ast.ListType():
            return Concat(Text("["), type_doc(node.item, c), Text("]"))
        case ast.TupleType():
            return listed("(", node.items, ")", c, lambda t: type_doc(t, c))
        case ast.TensorType():
            return Concat(Text(node.element.name), listed("[", node.dims, "]", c, lambda d: expr(d, c)))
