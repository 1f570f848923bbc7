"""Broken programs: whatever the text, it ends in diagnostics or success, and soon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import thread_time

import torch  # noqa: F401 (a second that is not a program's)
from drawn import examples
from fifteen import EXAMPLES
from hypothesis import given, note, settings
from programs import mutants

import patternc
from patternc import parser
from patternc.source import Source

TEXTS = [path.read_text() for path in sorted(EXAMPLES.glob("*.spat"))]
SECONDS = 1.0


def decoded(data: bytes) -> str | None:
    """The text of a file's bytes, or None where they are refused."""
    try:
        return parser.decode(data, "<mutant>").text
    except patternc.SpatError:
        return None


def parses(text: str) -> bool:
    _, mistakes = parser.parse(Source("<mutant>", text))
    return all(m.severity == "warning" for m in mistakes)


@contextmanager
def ends_soon() -> Iterator[None]:
    """What stands under it may end in diagnostics, and in nothing else; and not late."""
    start = thread_time()
    with suppress(patternc.SpatError):
        yield
    seconds = thread_time() - start
    assert seconds < SECONDS, f"{seconds:.2f} s"


def run(text: str) -> None:
    """Checked, compiled, and a mask made of it where it needs no more than heads."""
    with ends_soon():
        patternc.check(text)
    with ends_soon():
        pattern = patternc.load(text).choose(None)
        if all(p.default is not None for p in pattern.definition.node.parameters):
            compiled = patternc.compile(pattern, heads=2)
            compiled.mask(6)


def test_mutants() -> None:
    reached: list[bool] = []

    @settings(max_examples=examples(2000))
    @given(mutants(TEXTS))
    def ends_well(data: bytes) -> None:
        note(repr(data))
        text = decoded(data)
        reached.append(text is not None and parses(text))
        if text is not None:
            run(text)

    ends_well()
    assert sum(reached) >= 0.3 * len(reached)
