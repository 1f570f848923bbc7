"""Where programs come from: files, the library `std/`, and text."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from patternc.errors import Code, Diagnostic, SpatError
from patternc.grammar.text import MAX_BYTES
from patternc.parser import decode
from patternc.source import Source, Span
from patternc.suggest import did_you_mean

LIBRARY = "std/"
SUFFIX = ".spat"
_LIBRARY_NAME = re.compile(r"std(/[a-z0-9_]+)+")


def open_source(text_or_path: str | Path) -> Source:
    """The source behind a path that ends in `.spat`, a library name `std/…`, or program text (anything else).

    Raises SpatError if there is no such file, or if what it holds is no text of a program.
    """
    if isinstance(text_or_path, Path):
        return read(text_or_path, str(text_or_path))
    if text_or_path.endswith(SUFFIX) and "\n" not in text_or_path:
        return read(Path(text_or_path), text_or_path)
    if text_or_path.startswith(LIBRARY) and "\n" not in text_or_path:
        return read_library(text_or_path)
    return Source("<text>", text_or_path)


def read(path: Path, name: str, place: Span | None = None) -> Source:
    """The source in a file; `name` is what messages call it, `place` the import that asks for it."""
    try:
        resolved = path.resolve()
        data = _bytes(resolved)
    except (OSError, RuntimeError, ValueError) as e:  # RuntimeError: a loop of symbolic links; ValueError: a NUL
        reason = getattr(e, "strerror", None) or str(e)
        raise SpatError(_unreadable(name, f"cannot be read: {reason}", place)) from None
    if data is None:
        raise SpatError(_not_found(resolved, name, place))
    return decode(data, name, resolved)


def _bytes(path: Path) -> bytes | None:
    """What a regular file holds, up to a byte more than is allowed; None for anything else."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def read_library(name: str, place: Span | None = None) -> Source:
    """The source of a library file; its name has no suffix."""
    if _LIBRARY_NAME.fullmatch(name):
        file = resources.files("patternc.std").joinpath(*f"{name}{SUFFIX}".split("/")[1:])
        if file.is_file():
            return decode(file.read_bytes(), name)
    raise SpatError(_unreadable(name, "is not in the library", place, did_you_mean(name, library_names())))


def library_names() -> list[str]:
    """All names that stand for a library file."""
    names, folders = [], [("std", resources.files("patternc.std"))]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((f"{prefix}/{entry.name}", entry))
            elif entry.name.endswith(SUFFIX):
                names.append(f"{prefix}/{entry.name.removesuffix(SUFFIX)}")
    return sorted(names)


def _unreadable(name: str, why: str, place: Span | None, hints: tuple[str, ...] = ()) -> Diagnostic:
    where = Span(Source(name, ""), 0, 0) if place is None else place
    return Diagnostic(
        Code.FILE_NOT_FOUND, f"`{name}` {why}", where, label="imported here" if place else "", hints=hints
    )


def _not_found(path: Path, name: str, place: Span | None) -> Diagnostic:
    if path.is_dir():
        return _unreadable(name, "is a folder, not a file", place)
    if not path.parent.is_dir():
        return _unreadable(name, "does not exist, nor does its folder", place)
    others = sorted(p.name for p in path.parent.glob(f"*{SUFFIX}"))
    folder = name[: len(name) - len(path.name)]
    return _unreadable(name, "does not exist", place, did_you_mean(name, [folder + other for other in others]))
