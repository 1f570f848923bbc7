"""Text of generated kernels: lines at the right depth, one at a time or as a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import dedent


class Writer:
    """Collects source text."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def __call__(self, text: str = "") -> None:
        """Add lines, which may be indented as a whole."""
        for line in dedent(text).strip("\n").split("\n"):
            self._lines.append("    " * self._depth + line if line else "")

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """What is added inside stands one step deeper, under the header."""
        self(header)
        with self.body():
            yield

    @contextmanager
    def body(self) -> Iterator[None]:
        """What is added inside stands one step deeper."""
        self._depth += 1
        yield
        self._depth -= 1

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"
