"""The comments of a text, in order, as the formatter hands them out."""

from __future__ import annotations

from dataclasses import dataclass

from patternc.format_document import Comment, Concat, Doc, Hard
from patternc.grammar.scan import comments
from patternc.source import Source


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment, and whether nothing but white space stands before it on its line."""

    text: str
    start: int
    own_line: bool


class Comments:
    """Those not yet handed out. Whoever prints something asks first for those before it."""

    def __init__(self, source: Source) -> None:
        self.waiting = [self._remark(source, start, end) for start, end in comments(source.text)][::-1]

    @staticmethod
    def _remark(source: Source, start: int, end: int) -> Remark:
        line_start = source.text.rfind("\n", 0, start) + 1
        own_line = not source.text[line_start:start].strip()
        return Remark(source.text[start:end].rstrip(), start, own_line)

    def before(self, place: int) -> list[Remark]:
        """Takes the comments that start before a place."""
        taken = []
        while self.waiting and self.waiting[-1].start < place:
            taken.append(self.waiting.pop())
        return taken

    def behind(self, place: int, source: Source) -> Remark | None:
        """Takes the next comment if it stands behind an item that ends at a place, or in it, on a line with code."""
        if not self.waiting or self.waiting[-1].own_line:
            return None
        first = self.waiting[-1]
        same_line = first.start < place or "\n" not in source.text[place : first.start]
        return self.waiting.pop() if same_line else None

    def lines(self, place: int) -> Doc | None:
        """The comments before a place as a document that ends the line after each; None if there are none."""
        taken = self.before(place)
        if not taken:
            return None
        first, *others = taken
        docs = [Comment(first.text, first.own_line), *(Comment(c.text, True) for c in others)]
        return Concat(*docs, Hard())
