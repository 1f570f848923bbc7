"""Text to syntax tree: the text is cut into items, each is parsed by lark, and its tree becomes nodes of `ast`."""

from __future__ import annotations

from importlib import import_module
from itertools import islice
from pathlib import Path

from lark import Tree
from lark.exceptions import UnexpectedInput

from patternc import ast
from patternc.errors import Code, Diagnostic, SpatError
from patternc.grammar import scan, text
from patternc.grammar.automaton import parser
from patternc.source import Source, Span
from patternc.syntax import Builder, TooDeepError

__all__ = ["decode", "parse"]

MAX_MISTAKES = 200
"""Nobody reads more, and to explain one takes some milliseconds."""


def decode(data: bytes, name: str, path: Path | None = None) -> Source:
    """The source of a file's bytes; raises SpatError if they are not UTF-8 or hold a refused character."""
    if len(data) > text.MAX_BYTES:
        raise SpatError(text.too_large(Source(name, "", path), "1 MiB of text"))
    try:
        source = Source(name, data.decode("utf-8"), path)
    except UnicodeDecodeError as e:
        source = Source(name, data.decode("utf-8", errors="replace"), path)
        place = len(data[: e.start].decode("utf-8"))
        message = f"the file is not UTF-8: byte {data[e.start]:#04x} at offset {e.start} starts no character"
        raise SpatError(Diagnostic(Code.NOT_UTF8, message, Span(source, place, place + 1))) from None
    if mistakes := text.text_mistakes(source):
        raise SpatError(mistakes)
    return source


def parse(source: Source) -> tuple[ast.File, list[Diagnostic]]:
    """The items of a text that can be read, and what is wrong with the others: the first MAX_MISTAKES mistakes."""
    whole = Span(source, 0, len(source.text))
    if mistakes := text.text_mistakes(source):
        return ast.File((), span=whole), mistakes
    lexemes = list(islice(scan.lexemes(source.text), text.MAX_LEXEMES + 1))
    if len(lexemes) > text.MAX_LEXEMES:
        return ast.File((), span=whole), [text.too_large(source, f"{text.MAX_LEXEMES:,} words and signs")]
    items = _Items(source)
    nodes = [items.node(item) for item in scan.items(source.text, lexemes)]
    return ast.File(tuple(node for node in nodes if node), span=whole), items.mistakes


class _Items:
    """Reads one item after the other, and collects their mistakes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.mistakes: list[Diagnostic] = []
        self.unread = 0

    def node(self, lexemes: scan.Lexemes) -> ast.Item | None:
        """The node of an item; None, and a mistake more, if it cannot be read."""
        builder = Builder(self.source, lexemes[0].start)
        try:
            if bracket := text.too_deep_bracket(self.source, lexemes):
                raise TooDeepError(bracket)
            tree = parser().parse(self.source.text[lexemes[0].start : lexemes[-1].end])
            assert isinstance(tree, Tree)
            node = builder.build(tree)
        except (UnexpectedInput, TooDeepError) as e:
            self._add(lexemes, e)
            return None
        self.mistakes += builder.mistakes
        return node

    def _add(self, lexemes: scan.Lexemes, error: UnexpectedInput | TooDeepError) -> None:
        self.unread += 1
        if self.unread > MAX_MISTAKES:
            return
        if isinstance(error, TooDeepError):
            self.mistakes.append(text.too_deep(error.span))
        else:
            hints = import_module("patternc.grammar.hints")  # most programs need none
            self.mistakes.append(hints.explain(self.source, lexemes, error))
