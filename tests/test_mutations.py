"""Broken programs: whatever the text, it ends in diagnostics or success, and soon."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import thread_time

import pytest
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


def seconds_of(action: Callable[[], object]) -> float:
    """What it takes to end, in diagnostics or well; whatever else it raises is raised."""
    start = thread_time()
    with suppress(patternc.SpatError):
        action()
    return thread_time() - start


def ends_soon(action: Callable[[], object]) -> None:
    """Once it may be late, by what else the machine does, or by what is loaded once."""
    seconds = seconds_of(action)
    if seconds >= SECONDS:
        seconds = seconds_of(action)
    assert seconds < SECONDS, f"{seconds:.2f} s"


def compile_and_look(text: str) -> None:
    """The mask and the plan of the last pattern, where they need no more than heads."""
    pattern = patternc.load(text).choose(None)
    if all(p.default is not None for p in pattern.definition.node.parameters):
        compiled = patternc.compile(pattern, heads=2)
        compiled.mask(6)
        compiled.plan(6)


STRIDED = "pattern p(l: tokens = 4) = causal & { q -> k : q - k < l or (q - k) % l == 0 }"
HOSTILE = [
    f"{STRIDED}\ncheck p at n = 100_000 : row <= 4",
    f"{STRIDED}\ncheck p at n = 100_000 : row >= 1, nonempty, causal, set, symmetric",
    f"{STRIDED}\ncheck p at n = {2**62} : row <= 4",
    f"{STRIDED}\ncheck p at n = {2**63 - 1} : nonempty",
    f"{STRIDED}\ncheck p at n = 16, heads = {2**62} : row <= 4",
    f"{STRIDED}\ncheck p at n = 16, layer = {2**63 - 1} : row <= 4",
    "pattern p() = cover(100_000) diagonal\ncheck p at n = 6 : row >= 1",
    f"pattern p() = cover({2**62}) diagonal\ncheck p at n = 6 : row >= 1",
    f"pattern p() = blocks({2**62}) (top({2**62}, by = k) | sample({2**62}, seed = {2**62}))",
    f"pattern p() = {{ q -> k : q * {2**62} * {2**62} < k ** 9 ** 9 }}",
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", HOSTILE)
def test_untrusted_text_ends_within_five_seconds(text: str) -> None:
    assert seconds_of(lambda: patternc.check(text)) < 6.0
    assert seconds_of(lambda: compile_and_look(text)) < 1.0


def test_mutants() -> None:
    reached: list[bool] = []

    @settings(max_examples=examples(2000))
    @given(mutants(TEXTS))
    def ends_well(data: bytes) -> None:
        note(repr(data))
        text = decoded(data)
        reached.append(text is not None and parses(text))
        if text is not None:
            ends_soon(lambda: patternc.check(text))
            ends_soon(lambda: compile_and_look(text))

    ends_well()
    assert sum(reached) >= 0.3 * len(reached)
