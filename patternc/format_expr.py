"""Expressions as documents. Parentheses are those that the tree needs, and those that a reader does.

Functions that go down the tree are generators: they yield what builds a part and are sent its document, so that
`built` needs no recursion, however deep the tree is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from patternc import ast
from patternc.format_comments import Comments
from patternc.format_document import Align, Concat, Doc, Group, Hang, Line, Nest, Soft, Text

Building = Generator[Any, Doc, Doc]
"""Yields further Buildings, is sent their documents, and returns its own."""

# How tight an expression binds, loosest first; the grammar has the same ladder.
CHOICE, OR, AND, NOT, COMPARE, BITS, SUM, TERM, PREFIX, POWER, POSTFIX, ATOM = 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13
_BINARY = {
    "or": OR, "and": AND, "|": BITS, "^": BITS + 1, "&": BITS + 2, "+": SUM, "-": SUM,
    "*": TERM, "//": TERM, "%": TERM, "**": POWER,
}  # fmt: skip
_SET_OPERATORS = ("|", "^", "&")


def built(building: Building) -> Doc:
    """The document that a building returns."""
    stack, doc = [building], None
    while True:
        try:
            stack.append(stack[-1].send(doc))  # type: ignore[arg-type]
            doc = None
        except StopIteration as finished:
            stack.pop()
            doc = finished.value
            if not stack:
                return doc


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


def expr(node: ast.Expr, c: Comments, least: int = CHOICE, under: str = "", outdent: int = 0) -> Building:
    """An expression, in parentheses if it binds looser than `least` or is an odd one `under` an operator.

    The operators of a broken chain stand `outdent` columns left of its operands.
    """
    if level(node) < least or _is_mixed(node, under):
        return enclosed("(", (yield _bare(node, c, 0)), ")")
    return (yield _bare(node, c, outdent))


def _bare(node: ast.Expr, c: Comments, outdent: int) -> Building:
    match node:
        case ast.Name() | ast.Number() | ast.Inf() | ast.Bool():
            return _leaf(node)
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


def _leaf(node: ast.Name | ast.Number | ast.Inf | ast.Bool) -> Building:
    yield from ()
    match node:
        case ast.Name():
            return Text(node.id)
        case ast.Number():
            return Text(node.text or str(node.value))
        case ast.Bool():
            return Text(str(node.value))
    return Text("inf")


def separator(place: int, c: Comments) -> Doc:
    """Where a line may end, before the operand at a place; where it ends, if comments stand there."""
    return c.lines(place) or Line()


def enclosed(opening: str, content: Doc, closing: str, lead: Doc | None = None, end: Doc | None = None) -> Doc:
    """Content between brackets; `lead` and `end` are the comments before it and behind it."""
    inside = Concat(content, end, Text(closing)) if end else Concat(content, Text(closing))
    return Concat(Text(opening), Hang(inside, lead=lead))


N = TypeVar("N", bound=ast.Node)
Builder = Callable[[N, Comments], Building]


def listed(opening: str, nodes: Sequence[N], closing: str, c: Comments, build: Builder[N], end: int = 0) -> Building:
    """Items between brackets, with commas; comments before `end` stand before the closing bracket."""
    if not nodes:
        return Text(opening + closing)
    lead = c.lines(nodes[0].span.start)
    content = yield filled(nodes, c, build)
    return enclosed(opening, content, closing, lead, c.lines(end))


def filled(nodes: Sequence[N], c: Comments, build: Builder[N]) -> Building:
    """Items with commas, as many on a line as fit."""
    parts: list[Doc] = []
    for i, node in enumerate(nodes):
        remarks = c.lines(node.span.start) if i > 0 else None
        doc = Group((yield build(node, c)), Text("," if i < len(nodes) - 1 else ""))
        if i > 0:
            parts.append(remarks or Soft(doc))
        parts.append(doc)
    return Concat(*parts)


# ------------------------------------------------------------------ operators


def _unary(node: ast.Unary, c: Comments) -> Building:
    word = node.op == "not"
    operand = yield expr(node.operand, c, NOT if word else PREFIX)
    return Concat(Text("not " if word else node.op), operand)


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


def _chain(node: ast.Binary, c: Comments, outdent: int) -> Building:
    links = operators(node)
    own = _BINARY[node.op]
    first, rest = (POSTFIX, PREFIX) if node.op == "**" else (own, own + 1)
    parts = [(yield expr(links[0].left, c, first, links[0].op))]
    for link in links:
        parts += [separator(link.right.span.start, c), Text(f"{link.op} ")]
        parts.append((yield expr(link.right, c, rest, link.op)))
    return Group(Align(Concat(*parts), outdent))


def _compare(node: ast.Compare, c: Comments) -> Building:
    parts = [(yield expr(node.first, c, BITS))]
    for op, operand in node.rest:
        parts += [separator(operand.span.start, c), Text(f"{op} ")]
        parts.append((yield range_(operand, c)))
    return Group(Align(Concat(*parts)))


def range_(node: ast.Expr | ast.Range, c: Comments) -> Building:
    """`lo..hi`, or an expression where a range could stand."""
    if isinstance(node, ast.Range):
        lo = yield expr(node.lo, c, BITS)
        return Concat(lo, Text(".."), (yield expr(node.hi, c, BITS)))
    return (yield expr(node, c, BITS))


def _if_else(node: ast.IfElse, c: Comments) -> Building:
    parts: list[Doc] = []
    last: ast.Expr = node
    while isinstance(last, ast.IfElse):
        then = yield expr(last.then, c, OR)
        before = separator(last.condition.span.start, c)
        condition = yield expr(last.condition, c, OR)
        parts += [Group(Nest(4, then, before, Text("if "), condition)), separator(last.orelse.span.start, c)]
        parts.append(Text("else "))
        last = last.orelse
    return Group(Align(Concat(*parts, (yield expr(last, c)))))


def _scaled(node: ast.Blocks | ast.Cover, c: Comments) -> Building:
    word = "blocks(" if isinstance(node, ast.Blocks) else "cover("
    lead = c.lines(node.size.span.start)
    size = enclosed(word, (yield expr(node.size, c)), ")", lead)
    lead = c.lines(node.body.span.start)
    return Concat(size, Hang((yield expr(node.body, c, PREFIX)), " ", lead))


# ------------------------------------------------------------------ calls and atoms


def _postfix(node: ast.Expr, c: Comments) -> Building:
    end = node.span.end - 1
    match node:
        case ast.Call():
            function = yield expr(node.function, c)
            arguments = sorted((*node.args, *node.keywords), key=lambda a: a.span.start)
            return Concat(function, (yield listed("(", arguments, ")", c, _argument, end)))
        case ast.Index():
            base = yield expr(node.base, c, POSTFIX)
            return Concat(base, (yield listed("[", node.indices, "]", c, expr, end)))
        case ast.Attribute():
            least = ATOM + 1 if isinstance(node.base, ast.Number) else POSTFIX
            return Concat((yield expr(node.base, c, least)), Text(f".{node.name.id}"))
        case ast.Tuple():
            return (yield listed("(", node.items, ")", c, expr, end))
        case ast.List():
            return (yield listed("[", node.items, "]", c, expr, end))
    raise AssertionError(f"{type(node).__name__} is no expression")


def _argument(node: ast.Expr | ast.Keyword, c: Comments) -> Building:
    return keyword(node, c) if isinstance(node, ast.Keyword) else expr(node, c)


def keyword(node: ast.Keyword, c: Comments) -> Building:
    """`name = value`"""
    lead = c.lines(node.value.span.start)
    return Concat(Text(f"{node.name.id} ="), Hang((yield expr(node.value, c)), " ", lead))


def _name(node: ast.Name, _: Comments) -> Building:
    return _leaf(node)


def _comprehension(node: ast.Comprehension, c: Comments) -> Building:
    lead = c.lines(node.element.span.start)
    element = yield expr(node.element, c)
    start = separator(node.targets[0].span.start, c)
    targets = Align((yield filled(node.targets, c, _name)))
    middle = separator(node.iterable.span.start, c)
    loop = Group(Text("for "), targets, middle, Text("in "), (yield range_(node.iterable, c)))
    end = c.lines(node.span.end - 1)
    return Concat(Text(node.function.id), enclosed("(", Group(element, start, loop), ")", lead, end))


def _set_builder(node: ast.SetBuilder, c: Comments) -> Building:
    lead, outdent = c.lines(node.condition.span.start), outdent_of(node.condition)
    condition = yield expr(node.condition, c, outdent=outdent)
    end = c.lines(node.span.end - 1)
    closing = (end, Text("}")) if end else (Text(" }"),)
    head = Text(f"{{ {node.query.id} -> {node.key.id} :")
    return Concat(head, Hang(Concat(condition, *closing), " ", lead, outdent))


def _match(node: ast.Match, c: Comments) -> Building:
    subject = yield expr(node.subject, c)
    arms: list[Doc] = []
    for i, arm in enumerate(node.arms):
        arms += [separator(arm.span.start, c), (yield _arm(arm, c))]
        arms.append(Text("," if i < len(node.arms) - 1 else ""))
    end = c.lines(node.span.end - 1)
    return Group(Text("match "), Align(subject), Text(" {"), Nest(4, *arms), end or Line(" ", ","), Text("}"))


def _arm(arm: ast.Arm, c: Comments) -> Building:
    label = Text("else") if arm.label is None else (yield range_(arm.label, c))
    lead = c.lines(arm.body.span.start)
    return Concat(label, Text(" =>"), Hang((yield expr(arm.body, c)), " ", lead))
