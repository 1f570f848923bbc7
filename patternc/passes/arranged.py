"""Programs as arrangements: the passes that run when a program is compiled."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from patternc import ir
from patternc.analysis.meanings import trivial
from patternc.arrangement import Arrangement
from patternc.passes.layout import Aim, Story, layout, study
from patternc.passes.simplify import simplify
from patternc.passes.terms import terms

COMPILING = (simplify, terms, layout)
"""The passes from arrangement to arrangement, in their order."""
KEPT = 32
"""Arrangements that are kept, for the backends of a program ask for the same one."""
Made = tuple[Arrangement, tuple[Story, ...]]
_kept: OrderedDict[tuple[int, int, Aim], tuple[ir.Program, Made]] = OrderedDict()
"""By the identity of the program, which is kept too: equal ones may differ, as Const(1) and Const(True) are equal."""


def arranged(program: ir.Program, heads: int, **aim: Any) -> Arrangement:
    """The terms and layouts of a program that is closed but for h and n, for so many heads.

    `aim` are the fields of `layout.Aim`: the tile (queries, keys) that layouts are chosen for (others can be planned
    from the result too), the objective "time" or "padding", the length. ValueError for another objective.
    """
    return arranged_with_story(program, heads, **aim)[0]


def arranged_with_story(program: ir.Program, heads: int, **aim: Any) -> Made:
    """The same, and for each class of heads why it is arranged so."""
    key = id(program), heads, Aim(**aim)
    found = _kept.pop(key, None)
    if found is None:
        found = program, study(terms(simplify(trivial(program, heads))), key[2])
    _kept[key] = found
    if len(_kept) > KEPT:
        _kept.popitem(last=False)
    return found[1]
