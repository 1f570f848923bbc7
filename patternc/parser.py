"""Text to syntax tree: the text is cut into items, each is parsed by lark, and its tree becomes nodes of `ast`."""

from __future__ import annotations

from pathlib import Path

from lark import Tree
from lark.exceptions import UnexpectedInput

from patternc import ast
from patternc.errors import Code, Diagnostic, SpatError
from patternc.grammar import hints, scan, text
from patternc.grammar.automaton import parser
from patternc.source import Source, Span
from patternc.syntax import Builder, TooDeepError

__all__ = ["decode", "parse"]

Mistakes = list[Diagnostic]


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


def parse(source: Source) -> tuple[ast.File, Mistakes]:
    """The items of a text that can be read, and what is wrong with the others, one mistake for each."""
    whole = Span(source, 0, len(source.text))
    if mistakes := text.text_mistakes(source):
        return ast.File((), span=whole), mistakes
    lexemes = []
    for lexeme in scan.lexemes(source.text):
        lexemes.append(lexeme)
        if len(lexemes) > text.MAX_LEXEMES:
            return ast.File((), span=whole), [text.too_large(source, f"{text.MAX_LEXEMES:,} words and signs")]
    parsed = [_item(source, item) for item in scan.items(source.text, lexemes)]
    nodes = tuple(node for node, _ in parsed if node is not None)
    return ast.File(nodes, span=whole), [mistake for _, more in parsed for mistake in more]


def _item(source: Source, lexemes: scan.Lexemes) -> tuple[ast.Item | None, Mistakes]:
    if too_deep := hints.too_many_brackets(source, lexemes):
        return None, [too_deep]
    start, end = lexemes[0].start, lexemes[-1].end
    try:
        tree = parser().parse(source.text[start:end])
    except UnexpectedInput as e:
        return None, [hints.explain(source, lexemes, e)]
    assert isinstance(tree, Tree)
    builder = Builder(source, start)
    try:
        node = builder.build(tree)
    except TooDeepError as e:
        return None, [hints.too_deep(e.span)]
    return node, builder.mistakes
