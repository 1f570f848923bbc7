"""Trees of lark to nodes of `ast`, from the leaves up and without recursion, so that no input is too deep for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lark import Token, Tree

from patternc import ast
from patternc.errors import Code, Diagnostic, Related
from patternc.source import Source, Span

MAX_DEPTH = 200
MAX_DIGITS = 40
"""Longer integers are outside int64 anyway; `int` would be slow on them, and refuses more than 4,300 digits."""

Part = Any
"""A child of a tree: a token, or what a subtree was built into (a node, or a tuple of nodes for a list)."""


class TooDeepError(Exception):
    """An expression nests deeper than MAX_DEPTH."""

    def __init__(self, span: Span) -> None:
        self.span = span


def _parents_first(tree: Tree[Token]) -> Iterator[Tree[Token]]:
    stack = [tree]
    while stack:
        tree = stack.pop()
        yield tree
        stack.extend(child for child in tree.children if isinstance(child, Tree))


@dataclass(frozen=True, slots=True)
class _Built:
    """What a tree was built into."""

    part: Part
    span: Span
    depth: int
    """Levels of expressions in it."""
    place: Span
    """Its operator, or how it starts."""


def _level(tree: Tree[Token], built: dict[int, _Built]) -> Span:
    """The place of the first node that is deeper than allowed, counted from the root."""
    deepest = built[id(tree)].depth - MAX_DEPTH
    while built[id(tree)].depth > deepest:
        tree = max((t for t in tree.children if isinstance(t, Tree)), key=lambda t: built[id(t)].depth)
    return built[id(tree)].place


class Builder:
    """Builds one item; `base` is where its text starts. `mistakes` are those that the grammar permits."""

    def __init__(self, source: Source, base: int) -> None:
        self.source, self.base = source, base
        self.mistakes: list[Diagnostic] = []

    def build(self, tree: Tree[Token]) -> ast.Item:
        """The node of an item; raises TooDeepError."""
        built: dict[int, _Built] = {}
        too_deep: Span | None = None
        for t in reversed(list(_parents_first(tree))):
            built[id(t)] = self._built(t, built)
            if built[id(t)].depth > MAX_DEPTH and too_deep is None:
                too_deep = built[id(t)].place
        if too_deep is not None:
            raise TooDeepError(min(too_deep, _level(tree, built), key=lambda span: span.start))
        return built[id(tree)].part

    def _built(self, tree: Tree[Token], built: dict[int, _Built]) -> _Built:
        parts: list[Part] = []
        spans: list[Span] = []
        depth = 0
        for child in tree.children:
            if isinstance(child, Tree):
                of_child = built[id(child)]
                parts.append(of_child.part)
                spans.append(of_child.span)
                depth = max(depth, of_child.depth)
            else:
                spans.append(self._token_span(child))
                if not child.type.startswith("_"):  # these are punctuation
                    parts.append(child)
        span = spans[0].to(spans[-1])
        part = getattr(self, tree.data)(span, parts)
        place = spans[0] if isinstance(tree.children[0], Token) else spans[min(1, len(spans) - 1)]
        return _Built(part, span, depth + isinstance(part, ast.Expr | ast.Type), place)

    def _token_span(self, token: Token) -> Span:
        assert token.start_pos is not None
        start = self.base + token.start_pos
        return Span(self.source, start, start + len(token))

    def _name(self, token: Token) -> ast.Name:
        return ast.Name(str(token), span=self._token_span(token))

    # Each method below builds the rule of spat.lark that bears its name.

    # ------------------------------------------------------------------ items

    def import_(self, span: Span, parts: list[Part]) -> ast.Import:
        path, *alias = parts
        name = self._name(alias[0]) if alias else None
        return ast.Import(path[1:-1], name, path_span=self._token_span(path), span=span)

    def pattern(self, span: Span, parts: list[Part]) -> ast.Pattern:
        name, parameters, axes, body, where = self._definition(parts)
        return ast.Pattern(name, parameters, axes, body, where, span=span)

    def function(self, span: Span, parts: list[Part]) -> ast.Function:
        name, parameters, _, body, where = self._definition(parts)
        return ast.Function(name, parameters, body, where, span=span)

    def _definition(self, parts: list[Part]) -> tuple[ast.Name, Part, Part, ast.Expr, Part]:
        name, *rest = parts
        lists: dict[type, tuple[Part, ...]] = {type(part[0]): part for part in rest if isinstance(part, tuple)}
        (body,) = (part for part in rest if not isinstance(part, tuple))
        found = (lists.get(kind, ()) for kind in (ast.Parameter, ast.Axis, ast.Binding))
        parameters, axes, where = found
        return self._name(name), parameters, axes, body, where

    def check(self, span: Span, parts: list[Part]) -> ast.Check:
        target, *rest = parts
        at = rest.pop(0) if isinstance(rest[0], tuple) else ()
        return ast.Check(target, at, tuple(rest), span=span)

    def parameters(self, span: Span, parts: list[Part]) -> tuple[Part, ...]:
        return tuple(parts)

    over = where = at = arguments = parameters

    def parameter(self, span: Span, parts: list[Part]) -> ast.Parameter:
        name, *rest = parts
        return ast.Parameter(self._name(name), *rest, span=span)

    def axis(self, span: Span, parts: list[Part]) -> ast.Axis:
        return ast.Axis(self._name(parts[0]), parts[1], span=span)

    def binding(self, span: Span, parts: list[Part]) -> ast.Binding:
        return ast.Binding(self._name(parts[0]), parts[1], span=span)

    def keyword(self, span: Span, parts: list[Part]) -> ast.Keyword:
        return ast.Keyword(self._name(parts[0]), parts[1], span=span)

    def property_(self, span: Span, parts: list[Part]) -> ast.Property:
        return ast.Property(self._name(parts[0]), span=span)

    def bound(self, span: Span, parts: list[Part]) -> ast.Property:
        return ast.Property(self._name(parts[0]), str(parts[1]), parts[2], span=span)

    def property_of(self, span: Span, parts: list[Part]) -> ast.Property:
        return ast.Property(self._name(parts[0]), None, parts[1], span=span)

    # ------------------------------------------------------------------ types

    def type_name(self, span: Span, parts: list[Part]) -> ast.TypeName:
        return ast.TypeName(str(parts[0]), span=span)

    def tensor_type(self, span: Span, parts: list[Part]) -> ast.TensorType:
        return ast.TensorType(parts[0], tuple(parts[1:]), span=span)

    def list_type(self, span: Span, parts: list[Part]) -> ast.ListType:
        return ast.ListType(parts[0], span=span)

    def tuple_type(self, span: Span, parts: list[Part]) -> ast.TupleType:
        return ast.TupleType(tuple(parts), span=span)

    # ------------------------------------------------------------------ expressions

    def if_else(self, span: Span, parts: list[Part]) -> ast.IfElse:
        return ast.IfElse(*parts, span=span)

    def binary(self, span: Span, parts: list[Part]) -> ast.Binary:
        left, op, right = parts
        return ast.Binary(str(op), left, right, op_span=self._token_span(op), span=span)

    def unary(self, span: Span, parts: list[Part]) -> ast.Unary:
        return ast.Unary(str(parts[0]), parts[1], span=span)

    def compare(self, span: Span, parts: list[Part]) -> ast.Compare:
        return ast.Compare(parts[0], tuple(parts[1:]), span=span)

    def relation(self, span: Span, parts: list[Part]) -> tuple[str, ast.Expr | ast.Range]:
        *op, operand = parts
        return " ".join(op), operand

    def scaled(self, span: Span, parts: list[Part]) -> ast.Blocks | ast.Cover:
        word, size, body = parts
        node = ast.Blocks if word.type == "BLOCKS" else ast.Cover
        return node(size, body, span=span)

    def call(self, span: Span, parts: list[Part]) -> ast.Call:
        function, arguments = parts[0], parts[1] if len(parts) > 1 else ()
        if isinstance(function, Token):
            function = self._name(function)
        keywords = tuple(a for a in arguments if isinstance(a, ast.Keyword))
        positional = tuple(a for a in arguments if not isinstance(a, ast.Keyword))
        self._check_order(arguments, keywords)
        return ast.Call(function, positional, keywords, span=span)

    def _check_order(self, arguments: tuple[Part, ...], keywords: tuple[ast.Keyword, ...]) -> None:
        late = [a for a in arguments[arguments.index(keywords[0]) :] if a not in keywords] if keywords else []
        if late:
            self._mistake(
                Code.POSITIONAL_AFTER_NAMED,
                f"`{late[0].span.text}` has no name but follows a named argument",
                late[0].span,
                label="without a name",
                related=(Related(keywords[0].span, "the first named argument"),),
                hints=("arguments without names come first; name this one too, or move it to the front",),
            )

    def comprehension(self, span: Span, parts: list[Part]) -> ast.Comprehension:
        function, element, targets, _, iterable = parts
        return ast.Comprehension(self._name(function), element, targets, iterable, span=span)

    def names(self, span: Span, parts: list[Part]) -> tuple[ast.Name, ...]:
        return tuple(self._name(part) for part in parts)

    def index(self, span: Span, parts: list[Part]) -> ast.Index:
        return ast.Index(parts[0], tuple(parts[1:]), span=span)

    def attribute(self, span: Span, parts: list[Part]) -> ast.Attribute:
        return ast.Attribute(parts[0], self._name(parts[1]), span=span)

    def name(self, span: Span, parts: list[Part]) -> ast.Name:
        return ast.Name(str(parts[0]), span=span)

    def number(self, span: Span, parts: list[Part]) -> ast.Number:
        text = str(parts[0])
        if "." in text:
            value: float = float(text)
        else:
            value = int(text) if len(text) <= MAX_DIGITS else 2**63
        if value >= 2**63 and (isinstance(value, int) or value == float("inf")):
            bound = f"integers go up to {2**63 - 1:_}, the largest of 64 bits"
            self._mistake(Code.NUMBER_TOO_LARGE, "the number is too large", span, label="here", notes=(bound,))
            value = 0
        return ast.Number(value, text, span=span)

    def inf(self, span: Span, parts: list[Part]) -> ast.Inf:
        return ast.Inf(span=span)

    def truth(self, span: Span, parts: list[Part]) -> ast.Bool:
        return ast.Bool(parts[0] == "True", span=span)

    def parenthesised(self, span: Span, parts: list[Part]) -> ast.Expr:
        return replace(parts[0], span=span)

    def tuple_(self, span: Span, parts: list[Part]) -> ast.Tuple:
        return ast.Tuple(tuple(parts), span=span)

    def list_(self, span: Span, parts: list[Part]) -> ast.List:
        return ast.List(tuple(parts), span=span)

    def set_builder(self, span: Span, parts: list[Part]) -> ast.SetBuilder:
        query, key, condition = parts
        if (query, key) == ("k", "q"):
            self._warn_key_first(query, key)
        return ast.SetBuilder(self._name(query), self._name(key), condition, span=span)

    def _warn_key_first(self, query: Token, key: Token) -> None:
        self._mistake(
            Code.KEY_BEFORE_QUERY,
            "`k` is the query here and `q` the key",
            self._token_span(query).to(self._token_span(key)),
            label="read: the query `k` attends to the key `q`",
            hints=("write `q -> k`, or other names if this is meant",),
        )

    def match(self, span: Span, parts: list[Part]) -> ast.Match:
        subject, *arms = parts
        for arm in arms[:-1]:
            if arm.label is None:
                self._else_not_last(arm, arms[-1])
        return ast.Match(subject, tuple(arms), span=span)

    def _else_not_last(self, arm: ast.Arm, last: ast.Arm) -> None:
        self._mistake(
            Code.ELSE_NOT_LAST,
            "`else` must be the last arm of a match",
            arm.span,
            label="takes whatever is left",
            related=(Related(last.span, "can never be chosen"),),
            hints=("move the `else` arm to the end",),
        )

    def arm(self, span: Span, parts: list[Part]) -> ast.Arm:
        label, body = parts if len(parts) == 2 else (None, parts[0])
        return ast.Arm(label, body, span=span)

    def range_(self, span: Span, parts: list[Part]) -> ast.Range:
        return ast.Range(parts[0], parts[1], span=span)

    def _mistake(self, code: Code, message: str, span: Span, **more: Any) -> None:
        self.mistakes.append(Diagnostic(code, message, span, **more))
