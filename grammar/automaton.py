"""The LALR parser of one item, from the generated tables.

Building them takes longer than the command line may take to start, so `tables` ships them;
`python -m patternc.grammar` writes them anew after a change of `spat.lark`.
"""

from __future__ import annotations

from functools import cache

from lark import Lark

from patternc.grammar.tables import DATA, MEMO


@cache
def parser() -> Lark:
    """The parser; `parse` takes the text of one item and gives its tree, with all tokens."""
    return Lark._load_from_dict(DATA, MEMO)
