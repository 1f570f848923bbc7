"""Programs as arrangements: the passes that run when a program is compiled."""

from __future__ import annotations

from typing import Any

from patternc import ir
from patternc.analysis.meanings import trivial
from patternc.arrangement import Arrangement
from patternc.passes.layout import Aim, Story, layout, study
from patternc.passes.simplify import simplify
from patternc.passes.terms import terms

COMPILING = (simplify, terms, layout)
"""The passes from arrangement to arrangement, in their order."""


def arranged(program: ir.Program, heads: int, **aim: Any) -> Arrangement:
    """The terms and layouts of a program that is closed but for h and n, for so many heads.

    `aim` are the fields of `layout.Aim`: the tile (queries, keys) that layouts are chosen for (others can be planned
    from the result too), the objective "time" or "padding", the length. ValueError for another objective.
    """
    return arranged_with_story(program, heads, **aim)[0]


def arranged_with_story(program: ir.Program, heads: int, **aim: Any) -> tuple[Arrangement, tuple[Story, ...]]:
    """The same, and for each class of heads why it is arranged so."""
    return study(terms(simplify(trivial(program, heads))), Aim(**aim))
