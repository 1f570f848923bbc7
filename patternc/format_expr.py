"""Expressions as documents. Parentheses are those that the tree needs, and those that a reader does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from patternc import ast
from patternc.format_comments import Comments
from patternc.layout import Align, Concat, Doc, Group, Hang, Line, Nest, Soft, Text

# How tight an expression binds, loosest first; the grammar has the same ladder.
CHOICE, OR, AND, NOT, COMPARE, BITS, SUM, TERM, PREFIX, POWER, POSTFIX, ATOM = 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13
_BINARY = {
    "or": OR, "and": AND, "|": BITS, "^": BITS + 1, "&": BITS + 2, "+": SUM, "-": SUM,
    "*": TERM, "//": TERM, "%": TERM, "**": POWER,
}  # fmt: skip
_SET_OPERATORS = ("|", "^", "&")


def level(node: ast.Expr) -> int:
    """The place of an expression in the ladder."""
    match node:
        case ast.IfElse():
            return CHOICE
        case ast.Binary():
            return _BINARY[node.op]
        case ast.Unary():
            return NOT if node.op == "not" else PREFIX
        case ast.Compare():
            return COMPARE
        case ast.Blocks() | ast.Cover():
            return PREFIX
        case ast.Call() | ast.Comprehension() | ast.Index() | ast.Attribute():
            return POSTFIX
        case _:
            return ATOM


def _is_mixed(node: ast.Expr, under: str) -> bool:
    """Whether `node` under a set operator is written with parentheses for the reader: `(A + B) & C`, `(a ^ b) | c`."""
    if under not in _SET_OPERATORS or not isinstance(node, ast.Binary):
        return False
    return _BINARY[node.op] >= SUM or (node.op != under and "^" in (node.op, under))


def expr(node: ast.Expr, c: Comments, least: int = CHOICE, under: str = "", outdent: int = 0) -> Doc:
    """The document of an expression, in parentheses if it binds looser than `least` or is an odd one `under` an
    operator. The operators of a broken chain stand `outdent` columns left of its operands."""
    if level(node) < least or _is_mixed(node, under):
        return enclosed("(", _doc(node, c, 0), ")")
    return _doc(node, c, outdent)


def _doc(node: ast.Expr, c: Comments, outdent: int) -> Doc:
    match node:
        case ast.Name():
            return Text(node.id)
        case ast.Number():
            return Text(node.text or str(node.value))
        case ast.Inf():
            return Text("inf")
        case ast.Bool():
            return Text(str(node.value))
        case ast.Unary():
            return _unary(node, c)
        case ast.Binary():
            return _chain(node, c, outdent)
        case ast.Compare():
            return _compare(node, c)
        case ast.IfElse():
            return _if_else(node, c)
        case ast.Match():
            return _match(node, c)
        case ast.Blocks() | ast.Cover():
            return _scaled(node, c)
        case ast.SetBuilder():
            return _set_builder(node, c)
        case ast.Comprehension():
            return _comprehension(node, c)
        case _:
            return _postfix(node, c)


def separator(place: int, c: Comments) -> Doc:
    """Where a line may end, before the operand at a place; where it ends, if comments stand there."""
    return c.lines(place) or Line()


def enclosed(opening: str, content: Doc, closing: str, lead: Doc | None = None, end: Doc | None = None) -> Doc:
    """Content between brackets; `lead` and `end` are the comments before it and behind it."""
    inside = Concat(content, end, Text(closing)) if end else Concat(content, Text(closing))
    return Concat(Text(opening), Hang(inside, lead=lead))


N = TypeVar("N", bound=ast.Node)


def listed(opening: str, nodes: Sequence[N], closing: str, c: Comments, build: Callable[[N], Doc], end: int = 0) -> Doc:
    """Items between brackets, with commas; comments before `end` stand before the closing bracket."""
    if not nodes:
        return Text(opening + closing)
    lead = c.lines(nodes[0].span.start)
    return enclosed(opening, filled(nodes, c, build), closing, lead, c.lines(end))


def filled(nodes: Sequence[N], c: Comments, build: Callable[[N], Doc]) -> Doc:
    """Items with commas, as many on a line as fit."""
    parts: list[Doc] = []
    for i, node in enumerate(nodes):
        remarks = c.lines(node.span.start) if i > 0 else None
        doc = Group(build(node), Text("," if i < len(nodes) - 1 else ""))
        if i > 0:
            parts.append(remarks or Soft(doc))
        parts.append(doc)
    return Concat(*parts)


# ------------------------------------------------------------------ operators


def _unary(node: ast.Unary, c: Comments) -> Doc:
    if node.op == "not":
        return Concat(Text("not "), expr(node.operand, c, NOT))
    return Concat(Text(node.op), expr(node.operand, c, PREFIX))


def operators(node: ast.Expr) -> list[ast.Binary]:
    """The links of a chain of operators that bind alike, first to last; none if the node is no chain."""
    links: list[ast.Binary] = []
    own = level(node)
    while isinstance(node, ast.Binary) and _BINARY[node.op] == own and (not links or node.op != "**"):
        links.append(node)
        node = node.left
    return links[::-1]


def outdent_of(node: ast.Expr) -> int:
    """How far operators stand to the left of the operands where a broken chain is aligned with its first operand."""
    return min((len(link.op) for link in operators(node)), default=-1) + 1


def _chain(node: ast.Binary, c: Comments, outdent: int) -> Doc:
    links = operators(node)
    own = _BINARY[node.op]
    first, rest = (POSTFIX, PREFIX) if node.op == "**" else (own, own + 1)
    parts = [expr(links[0].left, c, first, links[0].op)]
    for link in links:
        parts += [separator(link.right.span.start, c), Text(f"{link.op} "), expr(link.right, c, rest, link.op)]
    return Group(Align(Concat(*parts), outdent))


def _compare(node: ast.Compare, c: Comments) -> Doc:
    parts = [expr(node.first, c, BITS)]
    for op, operand in node.rest:
        parts += [separator(operand.span.start, c), Text(f"{op} "), range_(operand, c)]
    return Group(Align(Concat(*parts)))


def range_(node: ast.Expr | ast.Range, c: Comments) -> Doc:
    """`lo..hi`, or an expression where a range could stand."""
    if isinstance(node, ast.Range):
        return Concat(expr(node.lo, c, BITS), Text(".."), expr(node.hi, c, BITS))
    return expr(node, c, BITS)


def _if_else(node: ast.IfElse, c: Comments) -> Doc:
    parts: list[Doc] = []
    last: ast.Expr = node
    while isinstance(last, ast.IfElse):
        then = expr(last.then, c, OR)
        condition = separator(last.condition.span.start, c), Text("if "), expr(last.condition, c, OR)
        parts += [Group(Nest(4, then, *condition)), separator(last.orelse.span.start, c), Text("else ")]
        last = last.orelse
    return Group(Align(Concat(*parts, expr(last, c))))


def _scaled(node: ast.Blocks | ast.Cover, c: Comments) -> Doc:
    word = "blocks(" if isinstance(node, ast.Blocks) else "cover("
    size = enclosed(word, expr(node.size, c), ")", c.lines(node.size.span.start))
    lead = c.lines(node.body.span.start)
    return Concat(size, Hang(expr(node.body, c, PREFIX), " ", lead))


# ------------------------------------------------------------------ calls and atoms


def _postfix(node: ast.Expr, c: Comments) -> Doc:
    end = node.span.end - 1
    match node:
        case ast.Call():
            arguments = sorted((*node.args, *node.keywords), key=lambda a: a.span.start)
            return Concat(expr(node.function, c), listed("(", arguments, ")", c, lambda a: _argument(a, c), end))
        case ast.Index():
            return Concat(expr(node.base, c, POSTFIX), listed("[", node.indices, "]", c, lambda i: expr(i, c), end))
        case ast.Attribute():
            base = node.base
            least = ATOM + 1 if isinstance(base, ast.Number) else POSTFIX
            return Concat(expr(base, c, least), Text(f".{node.name.id}"))
        case ast.Tuple():
            return listed("(", node.items, ")", c, lambda i: expr(i, c), end)
        case ast.List():
            return listed("[", node.items, "]", c, lambda i: expr(i, c), end)
        case _:
            raise AssertionError(f"{type(node).__name__} is no expression")


def _argument(node: ast.Expr | ast.Keyword, c: Comments) -> Doc:
    return keyword(node, c) if isinstance(node, ast.Keyword) else expr(node, c)


def keyword(node: ast.Keyword, c: Comments) -> Doc:
    """`name = value`"""
    lead = c.lines(node.value.span.start)
    return Concat(Text(f"{node.name.id} ="), Hang(expr(node.value, c), " ", lead))


def _comprehension(node: ast.Comprehension, c: Comments) -> Doc:
    lead = c.lines(node.element.span.start)
    element = expr(node.element, c)
    start = separator(node.targets[0].span.start, c)
    targets = Align(filled(node.targets, c, lambda n: Text(n.id)))
    loop = Group(Text("for "), targets, separator(node.iterable.span.start, c), Text("in "), range_(node.iterable, c))
    end = c.lines(node.span.end - 1)
    return Concat(Text(node.function.id), enclosed("(", Group(element, start, loop), ")", lead, end))


def _set_builder(node: ast.SetBuilder, c: Comments) -> Doc:
    lead, outdent = c.lines(node.condition.span.start), outdent_of(node.condition)
    condition = expr(node.condition, c, outdent=outdent)
    end = c.lines(node.span.end - 1)
    closing = (end, Text("}")) if end else (Text(" }"),)
    return Concat(Text(f"{{ {node.query.id} -> {node.key.id} :"), Hang(Concat(condition, *closing), " ", lead, outdent))


def _match(node: ast.Match, c: Comments) -> Doc:
    subject = Concat(Text("match "), Align(expr(node.subject, c)), Text(" {"))
    arms: list[Doc] = []
    for i, arm in enumerate(node.arms):
        arms += [separator(arm.span.start, c), _arm(arm, c)]
        arms.append(Text(",") if i < len(node.arms) - 1 else Text(""))
    end = c.lines(node.span.end - 1)
    return Group(subject, Nest(4, *arms), end or Line(" ", ","), Text("}"))


def _arm(arm: ast.Arm, c: Comments) -> Doc:
    label = Text("else") if arm.label is None else range_(arm.label, c)
    lead = c.lines(arm.body.span.start)
    return Concat(label, Text(" =>"), Hang(expr(arm.body, c), " ", lead))
