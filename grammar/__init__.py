"""The grammar of .spat and the mistakes one can make in it.

`spat.lark` is the grammar. `tables` holds the LALR tables that lark builds from it (a quarter of a second, which the
command line cannot spend at every start); `python -m patternc.grammar` writes them anew after a change.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lark import Lark

from patternc.grammar.tables import DATA, MEMO

GRAMMAR = Path(__file__).with_name("spat.lark")

__all__ = ["GRAMMAR", "parser"]


@cache
def parser() -> Lark:
    """The parser of one item, from the generated tables."""
    return Lark._load_from_dict(DATA, MEMO)
