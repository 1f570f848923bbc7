"""What is said about each mistake in the syntax: `errors/syntax/*.spat` with the messages beside them, as `.stderr`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from patternc.errors import Code, Diagnostic, SpatError, render
from patternc.parser import decode, parse

FOLDER = Path(__file__).parent / "errors" / "syntax"
LARGE = {
    "text_too_large": "#" * (1 << 20) + "\n",
    "too_many_words": "pattern p() = full\n" * 20_000,
    "too_many_brackets": "pattern p() = \n" + "(\n" * 10_000,
    "too_long_chain": "pattern p() = a\n" + "| a\n" * 20_000,
    "too_many_nots": "pattern p() = \n" + "not\n" * 5_000 + "a",
    "too_many_ifs": "pattern p() = \n" + "a if b else\n" * 5_000 + "a",
}
"""Texts beyond a bound, with lines short enough to be shown."""


def messages(data: bytes, name: str) -> list[Diagnostic]:
    """What decoding and parsing say."""
    try:
        return parse(decode(data, name))[1]
    except SpatError as e:
        return list(e.diagnostics)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.spat")), ids=lambda p: p.stem)
def test_messages(path: Path, golden: Callable[[Path, str], None]) -> None:
    found = messages(path.read_bytes(), path.name)
    assert found
    golden(path.with_suffix(".stderr"), render(found) + "\n")


@pytest.mark.parametrize("name", LARGE)
def test_messages_beyond_bounds(name: str, golden: Callable[[Path, str], None]) -> None:
    golden(FOLDER / f"{name}.stderr", render(messages(LARGE[name].encode(), f"{name}.spat")) + "\n")


def test_every_code_has_a_golden() -> None:
    told = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.stderr"))
    missing = [code.name for code in Code if code < Code.FILE_NOT_FOUND and f"[{code}]" not in told]
    assert missing == []
