"""Random syntax trees, and the text of a tree with all parentheses, for the properties of parser and formatter."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from patternc import ast
from patternc.grammar.scan import lexemes

NAMES = ["q", "k", "n", "h", "near", "window", "is_global", "x1", "_", "set", "row", "a_rather_long_name_of_a_binding"]
NUMBERS = ["0", "1", "4096", "1_000", "0.5", "2.25"]
BINARY = ["or", "and", "|", "^", "&", "+", "-", "*", "//", "%", "**"]
RELATIONS = ["<", "<=", ">", ">=", "==", "!=", "in", "not in"]
TYPES = ["int", "float", "bool", "tokens", "blocks"]


class Trees:
    """Draws trees; `size` bounds how deep they are."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def many(self, low: int, high: int, one: Callable[[], ast.Node]) -> tuple:
        return tuple(one() for _ in range(self.random.randint(low, high)))

    def name(self) -> ast.Name:
        return ast.Name(self.random.choice(NAMES))

    def number(self) -> ast.Number:
        text = self.random.choice(NUMBERS)
        return ast.Number(float(text) if "." in text else int(text), text)

    def leaf(self) -> ast.Expr:
        kinds = [self.name, self.name, self.number, ast.Inf, lambda: ast.Bool(self.random.random() < 0.5)]
        return self.random.choice(kinds)()

    def expr(self, size: int = 3) -> ast.Expr:
        """Any expression."""
        if size <= 0 or self.random.random() < 0.15:
            return self.leaf()
        kinds = [self.binary, self.binary, self.binary, self.unary, self.compare, self.if_else, self.match, self.call]
        kinds += [self.comprehension, self.index, self.attribute, self.tuple, self.list, self.set_builder, self.scaled]
        return self.random.choice(kinds)(size - 1)

    def range(self, size: int) -> ast.Expr | ast.Range:
        return ast.Range(self.expr(size), self.expr(size)) if self.random.random() < 0.3 else self.expr(size)

    def binary(self, size: int) -> ast.Expr:
        return ast.Binary(self.random.choice(BINARY), self.expr(size), self.expr(size))

    def unary(self, size: int) -> ast.Expr:
        return ast.Unary(self.random.choice(["-", "~", "not"]), self.expr(size))

    def compare(self, size: int) -> ast.Expr:
        ops = [self.random.choice(RELATIONS) for _ in range(self.random.randint(1, 3))]
        return ast.Compare(self.expr(size), tuple((op, self.relatum(op, size)) for op in ops))

    def relatum(self, op: str, size: int) -> ast.Expr | ast.Range:
        return self.range(size) if op.endswith("in") else self.expr(size)

    def if_else(self, size: int) -> ast.Expr:
        return ast.IfElse(self.expr(size), self.expr(size), self.expr(size))

    def match(self, size: int) -> ast.Expr:
        arms = self.many(1, 3, lambda: ast.Arm(self.range(size - 1), self.expr(size)))
        last = (ast.Arm(None, self.expr(size)),) if self.random.random() < 0.5 else ()
        return ast.Match(self.expr(size), arms + last)

    def call(self, size: int) -> ast.Expr:
        function = self.name() if self.random.random() < 0.7 else self.attribute(size)
        keywords = self.many(0, 2, lambda: ast.Keyword(self.name(), self.expr(size)))
        return ast.Call(function, self.many(0, 3, lambda: self.expr(size)), keywords)

    def comprehension(self, size: int) -> ast.Expr:
        targets = self.many(1, 3, self.name)
        return ast.Comprehension(self.name(), self.expr(size), targets, self.range(size))

    def index(self, size: int) -> ast.Expr:
        return ast.Index(self.expr(size), self.many(1, 3, lambda: self.expr(size)))

    def attribute(self, size: int) -> ast.Attribute:
        return ast.Attribute(self.expr(size), self.name())

    def tuple(self, size: int) -> ast.Expr:
        return ast.Tuple(self.many(2, 4, lambda: self.expr(size)))

    def list(self, size: int) -> ast.Expr:
        return ast.List(self.many(0, 6, lambda: self.expr(size)))

    def set_builder(self, size: int) -> ast.Expr:
        return ast.SetBuilder(self.name(), self.name(), self.expr(size))

    def scaled(self, size: int) -> ast.Expr:
        return self.random.choice([ast.Blocks, ast.Cover])(self.expr(size), self.expr(size))

    def type(self, size: int = 2) -> ast.Type:
        kind = self.random.randrange(4) if size else 0
        if kind == 1:
            return ast.ListType(self.type(size - 1))
        if kind == 2:
            return ast.TupleType(self.many(2, 3, lambda: self.type(size - 1)))
        element = ast.TypeName(self.random.choice(TYPES))
        return ast.TensorType(element, self.many(1, 3, lambda: self.expr(1))) if kind == 3 else element

    def parameter(self) -> ast.Parameter:
        return ast.Parameter(self.name(), self.type(), self.expr(1) if self.random.random() < 0.5 else None)

    def binding(self) -> ast.Binding:
        return ast.Binding(self.name(), self.expr())

    def property(self) -> ast.Property:
        match self.random.randrange(3):
            case 0:
                return ast.Property(self.name())
            case 1:
                return ast.Property(self.name(), self.random.choice(RELATIONS[:6]), self.expr(1))
            case _:
                return ast.Property(self.name(), None, self.expr(2))

    def item(self) -> ast.Item:
        """Any item."""
        parameters = self.many(0, 4, self.parameter)
        where = self.many(0, 3, self.binding)
        match self.random.randrange(6):
            case 0:
                return ast.Import("std/local", self.name() if self.random.random() < 0.5 else None)
            case 1:
                return ast.Function(self.name(), parameters, self.expr(), where)
            case 2:
                at = self.many(0, 2, lambda: ast.Keyword(self.name(), self.expr(1)))
                return ast.Check(self.expr(), at, self.many(1, 4, self.property))
            case _:
                axes = self.many(1, 2, lambda: ast.Axis(self.name(), self.expr(1)))
                axes = axes if self.random.random() < 0.2 else ()
                return ast.Pattern(self.name(), parameters, axes, self.expr(), where)

    def file(self) -> ast.File:
        """A file of a few items."""
        return ast.File(self.many(0, 4, self.item))


# ------------------------------------------------------------------ trees as text, by no rule of precedence


def listed(nodes: tuple, write: Callable[..., str]) -> str:
    return ", ".join(write(node) for node in nodes)


def expr_text(node: ast.Node) -> str:
    """An expression with parentheses around all that has parts."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Number(text=text):
            return f"({text})"
        case ast.Inf():
            return "inf"
        case ast.Bool(value=value):
            return str(value)
        case ast.Unary(op=op, operand=a):
            return f"({op} {expr_text(a)})"
        case ast.Binary(op=op, left=a, right=b):
            return f"({expr_text(a)} {op} {expr_text(b)})"
        case ast.Compare(first=a, rest=rest):
            return f"({expr_text(a)}{''.join(f' {op} {expr_text(b)}' for op, b in rest)})"
        case ast.Range(lo=a, hi=b):
            return f"{expr_text(a)}..{expr_text(b)}"
        case ast.IfElse(then=a, condition=c, orelse=b):
            return f"({expr_text(a)} if {expr_text(c)} else {expr_text(b)})"
        case ast.Match(subject=a, arms=arms):
            return f"match {expr_text(a)} {{ {listed(arms, expr_text)} }}"
        case ast.Arm(label=label, body=body):
            return f"{'else' if label is None else expr_text(label)} => {expr_text(body)}"
        case ast.Keyword(name=name, value=a):
            return f"{name.id} = {expr_text(a)}"
        case ast.Call(function=f, args=args, keywords=keywords):
            return f"{expr_text(f)}({listed(args + keywords, expr_text)})"
        case ast.Comprehension(function=f, element=a, targets=targets, iterable=xs):
            return f"{f.id}({expr_text(a)} for {listed(targets, expr_text)} in {expr_text(xs)})"
        case ast.Index(base=a, indices=indices):
            return f"({expr_text(a)})[{listed(indices, expr_text)}]"
        case ast.Attribute(base=a, name=name):
            return f"({expr_text(a)}).{name.id}"
        case ast.Tuple(items=items):
            return f"({listed(items, expr_text)})"
        case ast.List(items=items):
            return f"[{listed(items, expr_text)}]"
        case ast.SetBuilder(query=q, key=k, condition=a):
            return f"{{ {q.id} -> {k.id} : {expr_text(a)} }}"
        case ast.Blocks(size=a, body=b):
            return f"(blocks({expr_text(a)}) {expr_text(b)})"
        case ast.Cover(size=a, body=b):
            return f"(cover({expr_text(a)}) {expr_text(b)})"
    raise AssertionError(node)


def type_text(node: ast.Type) -> str:
    match node:
        case ast.TypeName(name=name):
            return name
        case ast.ListType(item=item):
            return f"[{type_text(item)}]"
        case ast.TupleType(items=items):
            return f"({listed(items, type_text)})"
        case ast.TensorType(element=element, dims=dims):
            return f"{element.name}[{listed(dims, expr_text)}]"


def parameter_text(node: ast.Parameter) -> str:
    default = f" = {expr_text(node.default)}" if node.default else ""
    return f"{node.name.id}: {type_text(node.type)}{default}"


def property_text(node: ast.Property) -> str:
    if node.value is None:
        return node.name.id
    return (
        f"{node.name.id} {node.op} {expr_text(node.value)}" if node.op else f"{node.name.id}({expr_text(node.value)})"
    )


def item_text(node: ast.Item) -> str:
    match node:
        case ast.Import(path=path, alias=alias):
            return f'import "{path}"' + (f" as {alias.id}" if alias else "")
        case ast.Check(target=target, at=at, properties=properties):
            where = f" at {listed(at, expr_text)}" if at else ""
            return f"check {expr_text(target)}{where} : {listed(properties, property_text)}"
        case ast.Pattern(name=name, parameters=parameters, body=body, where=bindings, axes=axes):
            over = f" over ({', '.join(f'{a.name.id}: {expr_text(a.extent)}' for a in axes)})" if axes else ""
            head = f"pattern {name.id}({listed(parameters, parameter_text)}){over}"
        case ast.Function(name=name, parameters=parameters, body=body, where=bindings):
            head = f"fn {name.id}({listed(parameters, parameter_text)})"
    where = " where " + " ".join(f"{b.name.id} = {expr_text(b.value)}" for b in bindings) if bindings else ""
    return f"{head} = {expr_text(body)}{where}"


def file_text(file: ast.File) -> str:
    """The text of a file, one item a line."""
    return "\n".join(map(item_text, file.items))


# ------------------------------------------------------------------ the same text, written otherwise

SPACES = [" ", "\n", "  ", "\n\n", "\t", "\r\n", "\n\n\n    "]
COMMENTS = ["# one\n", "  # two, behind\n", "\n# alone\n", "\n\n# after a blank line\n\n", "\n# two\n# lines\n", " #\n"]


def respaced(random: Random, text: str, comments: float = 0.0) -> str:
    """The text with other white space, and with comments between some words."""
    pieces, end = [], 0
    for lexeme in lexemes(text):
        gap = "" if lexeme.start == end and random.random() < 0.7 else random.choice(SPACES)
        if random.random() < comments:
            gap += random.choice(COMMENTS)
        pieces += [gap, lexeme.text]
        end = lexeme.end
    return "".join(pieces) + random.choice(["", "\n", " \n\n", "# end", "\n# end\n"] if comments else ["", "\n", " "])
