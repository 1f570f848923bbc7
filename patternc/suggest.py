"""What somebody may have meant who wrote a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

MAX_CANDIDATES = 2_000
"""Among more names than these only those of the same letters are looked for: comparing takes a while."""


def _letters(name: str) -> str:
    return name.replace("_", "").lower()


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate nearest to a name: the same letters but for case and underscores, or nearly the same."""
    found = list(candidates)
    same = [c for c in found if _letters(c) == _letters(name)]
    if same:
        return same[0]
    if len(name) < 3 or len(found) > MAX_CANDIDATES:
        return None
    import difflib  # only programs with a mistake need it

    by_letters = {_letters(c): c for c in reversed(found)}
    near = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.7)
    return by_letters[near[0]] if near else None


def did_you_mean(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """The hint, if there is a name to offer."""
    found = closest(name, candidates)
    return (f"did you mean `{found}`?",) if found else ()


def guess(name: str, candidates: Iterable[str]) -> str:
    """What a message of Python's errors ends with, if there is a name to offer."""
    found = closest(name, candidates)
    return f"; did you mean {found!r}?" if found else ""


def listed(names: Iterable[str], conjunction: str = "and") -> str:
    """`a`, `b` and `c`"""
    quoted = [f"`{name}`" for name in names]
    return f" {conjunction} ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]])) if quoted else ""
