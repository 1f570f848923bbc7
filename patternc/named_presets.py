"""Ready-made patterns under short names, and help in choosing one. The programs are `std/presets/*.spat`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from patternc.backends.base import unknown
from patternc.compiler import Compiled, compile
from patternc.files import library_names, read_library

FOLDER = "std/presets/"

VERY_LONG = 50_000
"""Tokens beyond which a pattern of one scale no longer reaches across the sequence in a few layers."""


def preset(
    name: str, *, heads: int, kv_heads: int | None = None, layer: int = 0, backend: str = "auto", **overrides: Any
) -> Compiled:
    """The compiled preset of that name; `overrides` replace its parameters, the rest is as in `patternc.compile`.

    ValueError for an unknown name, TypeError for an unknown parameter.
    """
    names = _names()
    if name not in names:
        raise ValueError(unknown("preset", name, names))
    return compile(FOLDER + name, heads=heads, kv_heads=kv_heads, layer=layer, backend=backend, **overrides)


def presets() -> dict[str, str]:
    """Each preset with a sentence on what it does, in alphabetical order."""
    return {name: first_sentence(read_library(FOLDER + name).text) for name in _names()}


def _names() -> list[str]:
    return [name.removeprefix(FOLDER) for name in library_names() if name.startswith(FOLDER)]


def first_sentence(text: str) -> str:
    """The first sentence of the comment that a program begins with, on one line."""
    comment = re.match(r"\s*((?:#[^\n]*\n?)+)", text)
    if comment is None:
        return ""
    paragraph = re.split(r"\n#\s*\n", comment[1])[0]
    words = " ".join(line.lstrip("#").strip() for line in paragraph.splitlines())
    sentence = re.match(r".*?[.!?](?=\s|$)", words)
    return sentence[0] if sentence else words


# ------------------------------------------------------------------ which one


@dataclass(frozen=True, slots=True)
class Choice:
    """The name of a preset, and why it is the one."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


USE_CASES = ("general", "research", "production", "drop_in_replacement", "extreme_length")


def choose(seq_len: int, use_case: str = "general", num_gpus: int = 1) -> Choice:
    """The preset to begin with, for sequences of `seq_len` tokens spread over `num_gpus` devices.

    `use_case` is one of `USE_CASES`. ValueError for another one, and for counts below 1. What it says is a first guess
    from the shape of the problem: nothing is measured.
    """
    for name, value in (("seq_len", seq_len), ("num_gpus", num_gpus)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1; found {value!r}")
    match use_case:
        case "research":
            return Choice("adaptive", "which blocks matter is not known yet, and this one learns it: scores of the "
                          "model decide which blocks of the past are kept.")  # fmt: skip
        case "drop_in_replacement":
            return Choice("multihead", "half of the heads keep what is near and half what is far, so a model built on "
                          "full attention finds both; patternc.nn.MultiheadAttention takes it.")  # fmt: skip
        case "extreme_length":
            return Choice("hierarchical_long", "every token keeps its neighbourhood, and some blocks see everything, "
                          "so that two layers connect any two tokens.")  # fmt: skip
        case "production":
            return _in_production(seq_len, num_gpus)
        case "general":
            return _by_default(seq_len)
    raise ValueError(unknown("use case", use_case, USE_CASES))


def _in_production(seq_len: int, num_gpus: int) -> Choice:
    if num_gpus > 1:
        return Choice("local", f"{num_gpus} devices each hold a stretch of the sequence, and a window needs half its "
                      "length of keys from either neighbour and nothing from the others.")  # fmt: skip
    if seq_len > VERY_LONG:
        return Choice("hierarchical", f"{seq_len:,} tokens are more than {VERY_LONG:,}: distances need coarser scales, "
                      "and windows at three of them cover near and far.")  # fmt: skip
    return _by_default(seq_len)


def _by_default(seq_len: int) -> Choice:
    return Choice("dilated", f"blocks at the distances 1, 2, 4 and 8 are a simple and even load for {seq_len:,} "
                  "tokens, and a good first thing to compare others with.")  # fmt: skip
