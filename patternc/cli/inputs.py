"""The programs that a command is given."""

from __future__ import annotations

import sys
from pathlib import Path

from patternc import files, parser
from patternc.errors import Code, SpatError
from patternc.grammar.text import MAX_BYTES
from patternc.source import Source

STDIN = "-"


def open_file(name: str) -> Source:
    """The program that a FILE argument names: a path, `std/<name>` of the library, or `-` for standard input.

    Raises SpatError for what cannot be read or is no text.
    """
    if name == STDIN:
        return parser.decode(sys.stdin.buffer.read(MAX_BYTES + 1), "<stdin>")
    path = Path(name)
    if name.startswith(files.LIBRARY) and not path.exists():
        return files.read_library(name.removesuffix(files.SUFFIX))
    return files.read(path, name)


def status(error: SpatError) -> int:
    """The exit status for an error: 2 where a file that the call names cannot be read, else 1."""
    unread = all(d.code == Code.FILE_NOT_FOUND and not d.span.source.text for d in error.diagnostics)
    return 2 if unread else 1
