"""The one layout of a program: `format` writes a text anew from its tree, and keeps its comments."""

from __future__ import annotations

import re
from itertools import pairwise

from patternc import ast
from patternc.errors import SpatError
from patternc.format_comments import Comments
from patternc.format_document import WIDTH, render, wrapped
from patternc.format_expr import built
from patternc.format_items import item_doc
from patternc.parser import parse
from patternc.source import Source

__all__ = ["format"]

_RUNS = (ast.Import, ast.Check)
"""Items that stand without blank lines between them."""


def format(source: Source) -> str:
    """The text in its canonical layout, lines of up to 100 characters; raises SpatError if it has syntax errors.

    The result means the same, has all comments, and formats to itself. Texts without comments that differ only in
    white space give the same result.
    """
    file, mistakes = parse(source)
    if any(m.severity == "error" for m in mistakes):
        raise SpatError(mistakes)
    return _Writer(source, file).text()


class _Writer:
    def __init__(self, source: Source, file: ast.File) -> None:
        self.source, self.file = source, file
        self.comments = Comments(source)
        self.lines: list[str] = []

    def text(self) -> str:
        previous: ast.Item | None = None
        for item in self.file.items:
            self._gap(previous, item)
            self._item(item)
            previous = item
        self._gap(previous, None)
        return "\n".join([*self.lines, ""]) if self.lines else ""

    def _item(self, item: ast.Item) -> None:
        lines = render(built(item_doc(item, self.comments))).split("\n")
        remark = self.comments.behind(item.span.end, self.source)
        if remark and len(lines[-1]) + 2 + len(remark.text) <= WIDTH:
            lines[-1] += f"  {remark.text}"
        elif remark:
            lines = [*wrapped(remark.text), *lines]
        self.lines += lines

    def _gap(self, previous: ast.Item | None, item: ast.Item | None) -> None:
        """What stands between two items: blank lines, and comments with lines of their own."""
        start = previous.span.end if previous else 0
        end = item.span.start if item else len(self.source.text)
        remarks = self.comments.before(end)
        run = any(isinstance(previous, kind) and isinstance(item, kind) for kind in _RUNS)
        places = [start, *(r.start for r in remarks), end]
        for i, (remark, (a, b)) in enumerate(zip([*remarks, None], pairwise(places), strict=True)):
            blank = self._blank(a, b) if i > 0 or (run and remarks) else not run
            if blank and self.lines and (remark or item):
                self.lines.append("")
            self.lines += wrapped(remark.text) if remark else []

    def _blank(self, start: int, end: int) -> bool:
        """Whether the text has a blank line between two places."""
        return re.search(r"\n[ \t\r]*\n", self.source.text[start:end]) is not None
