"""Documents that lay themselves out in lines of a given width, after Wadler's "A prettier printer".

A document says where lines may end; `render` decides where they do. Two things are peculiar. `Hang` puts its content
behind what stands before it and aligns further lines with it, or, where that leaves too little room, on a line of its
own. And a document knows the least width that it needs (`Shape`), so that this is decided without trying.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

WIDTH = 100
INDENT = 4
COMMENT_WIDTH = 30
"""The room that a comment gets at least; a longer one is written in several lines."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The widths of a document when every line ends as early as it can, counted from the indentation."""

    head: int
    """of its first line"""
    tail: int
    """of its last line"""
    peak: int
    """of its widest"""
    breaks: bool = False
    """whether it has several lines"""

    def __add__(self, other: Shape) -> Shape:
        joint = self.tail + other.head
        head = self.head if self.breaks else joint
        tail = other.tail if other.breaks else joint
        return Shape(head, tail, max(self.peak, other.peak, joint), self.breaks or other.breaks)

    def indented(self, by: int) -> Shape:
        """With all lines but the first moved to the right."""
        return Shape(self.head, self.tail + by * self.breaks, self.peak + by * self.breaks, self.breaks)


_NOTHING, _BREAK = Shape(0, 0, 0), Shape(0, 0, 0, True)


class Doc:
    """`flat` is the width on one line, infinite if that is impossible; `shape` that on many."""

    __slots__ = ("flat", "shape")

    def __init__(self, flat: float, shape: Shape) -> None:
        self.flat, self.shape = flat, shape


class Text(Doc):
    """A word or sign."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__(len(text), Shape(len(text), len(text), len(text)))
        self.text = text


class Line(Doc):
    """A place where the line may end; else `flat_text` stands there, and `broken_text` before the end if it does."""

    __slots__ = ("broken_text", "flat_text")

    def __init__(self, flat_text: str = " ", broken_text: str = "") -> None:
        super().__init__(len(flat_text), Shape(len(broken_text), 0, len(broken_text), True))
        self.flat_text, self.broken_text = flat_text, broken_text


class Hard(Doc):
    """A place where the line ends."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(math.inf, _BREAK)


class Comment(Doc):
    """A comment; it stands behind what came before if it fits there, unless it had a line of its own."""

    __slots__ = ("own_line", "text")

    def __init__(self, text: str, own_line: bool) -> None:
        super().__init__(math.inf, Shape(0, 0, min(len(text), COMMENT_WIDTH), True))
        self.text, self.own_line = text, own_line


class Concat(Doc):
    """One after the other."""

    __slots__ = ("parts",)

    def __init__(self, *parts: Doc) -> None:
        super().__init__(sum(part.flat for part in parts), sum((part.shape for part in parts), _NOTHING))
        self.parts = parts


class Group(Doc):
    """On one line if that fits; else all its own lines end."""

    __slots__ = ("content",)

    def __init__(self, *content: Doc) -> None:
        self.content = Concat(*content)
        super().__init__(self.content.flat, self.content.shape)


class Nest(Doc):
    """With further lines indented."""

    __slots__ = ("by", "content")

    def __init__(self, by: int, *content: Doc) -> None:
        self.by, self.content = by, Concat(*content)
        super().__init__(self.content.flat, self.content.shape.indented(by))


class Align(Doc):
    """With further lines below the first character of its first one, or `outdent` columns to the left of it."""

    __slots__ = ("content", "outdent")

    def __init__(self, content: Doc, outdent: int = 0) -> None:
        width = content.shape.peak
        super().__init__(content.flat, Shape(width, width, width))
        self.content, self.outdent = content, outdent


class Hang(Doc):
    """Behind what stands before it (and `gap`), further lines aligned with it; else on a line of its own, indented.

    `lead` are comments before the content, which force the latter. Behind, lines may begin `outdent` to the left.
    """

    __slots__ = ("content", "gap", "lead", "outdent")

    def __init__(self, content: Doc, gap: str = "", lead: Doc | None = None, outdent: int = 0) -> None:
        shape = lead.shape + content.shape if lead else content.shape
        moved = Shape(0, shape.tail + INDENT, shape.peak + INDENT, True)
        super().__init__(math.inf if lead else len(gap) + content.flat, moved)
        self.content, self.gap, self.lead, self.outdent = content, gap, lead, outdent


class Soft(Doc):
    """A place where the line ends if what follows next would not fit; else a space."""

    __slots__ = ("following",)

    def __init__(self, following: Doc) -> None:
        super().__init__(1, _BREAK)
        self.following = following


Command = tuple[int, bool, Doc]
"""Indentation, whether on one line, and what."""


def render(doc: Doc) -> str:
    """The lines of a document."""
    return _Printer(doc).text()


def wrapped(comment: str, indent: int = 0) -> list[str]:
    """The lines of a comment, within the width where its words allow."""
    room = max(WIDTH - indent, COMMENT_WIDTH)
    if len(comment) <= room:
        return [comment]
    mark = comment[: len(comment) - len(comment.lstrip("# "))] or "# "
    words = comment[len(mark) :]
    return textwrap.wrap(words, room, initial_indent=mark, subsequent_indent=mark, break_long_words=False,
                         break_on_hyphens=False) or [mark.rstrip()]  # fmt: skip


class _Printer:
    def __init__(self, doc: Doc) -> None:
        self.pieces: list[str] = []
        self.column = 0
        self.stack: list[Command] = [(0, False, doc)]

    def text(self) -> str:
        while self.stack:
            self._print(*self.stack.pop())
        return "".join(self.pieces)

    def _write(self, text: str) -> None:
        self.pieces.append(text)
        self.column += len(text)

    def _newline(self, indent: int) -> None:
        if self.pieces:
            self.pieces[-1] = self.pieces[-1].rstrip(" ")
        self.pieces.append("\n" + " " * indent)
        self.column = indent

    def _print(self, indent: int, flat: bool, doc: Doc) -> None:
        match doc:
            case Text():
                self._write(doc.text)
            case Line():
                if flat:
                    self._write(doc.flat_text)
                else:
                    self._write(doc.broken_text)
                    self._newline(indent)
            case Hard():
                self._newline(indent)
            case Comment():
                self._comment(indent, doc)
            case Concat():
                self.stack += [(indent, flat, part) for part in reversed(doc.parts)]
            case Group():
                self.stack.append((indent, flat or self._fits(doc), doc.content))
            case Nest():
                self.stack.append((indent + doc.by, flat, doc.content))
            case Align():
                self.stack.append((max(indent, self.column - doc.outdent), flat, doc.content))
            case Hang():
                self._hang(indent, flat, doc)
            case Soft():
                self._soft(indent, flat, doc)

    def _comment(self, indent: int, doc: Comment) -> None:
        if not doc.own_line and self.column + 2 + len(doc.text) <= WIDTH:
            self._write(f"  {doc.text}")
            return
        for line in wrapped(doc.text, indent):
            self._newline(indent)
            self._write(line)

    def _hang(self, indent: int, flat: bool, doc: Hang) -> None:
        if flat or self._fits(doc):
            self._write(doc.gap)
            self.stack.append((indent, True, doc.content))
        elif doc.lead is None and self.column + len(doc.gap) + doc.content.shape.peak + self._behind() <= WIDTH:
            self._write(doc.gap)
            self.stack.append((self.column - doc.outdent, False, doc.content))
        else:
            self.stack += [(indent + INDENT, False, doc.content), (indent + INDENT, False, doc.lead or Hard())]

    def _soft(self, indent: int, flat: bool, doc: Soft) -> None:
        behind = 0 if flat else self._behind(1)
        if flat or self.column + 1 + doc.following.flat + behind <= WIDTH:
            self._write(" ")
        else:
            self._newline(indent)

    def _fits(self, doc: Doc) -> bool:
        return self.column + doc.flat + self._behind() <= WIDTH

    def _behind(self, skipped: int = 0) -> int:
        """The width of what follows at once, before the line can end; the next documents can be skipped."""
        end = len(self.stack) - skipped
        width, todo = 0, self.stack[max(0, end - _LOOKAHEAD) : end]
        for _ in range(_LOOKAHEAD):
            if not todo:
                break
            indent, flat, doc = todo.pop()
            match doc:
                case Text():
                    width += len(doc.text)
                case Concat():
                    todo += [(indent, flat, part) for part in reversed(doc.parts)]
                case Nest() | Group() | Align():
                    todo.append((indent, flat, doc.content))
                case Line() | Soft() if flat:
                    width += int(doc.flat)
                case Line():
                    return width + len(doc.broken_text)
                case _:
                    break
        return width


_LOOKAHEAD = 24
"""Documents that are looked at behind the present one: enough for a row of closing brackets."""
