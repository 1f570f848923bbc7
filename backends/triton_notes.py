"""What generated kernels say of themselves, for a reader."""

from __future__ import annotations

READING = """
A program of a kernel computes one item of work: a tile of queries (in `backward_keys…`: of keys), or a piece of
one that is too long. `follower` says for which head and batch row, `launch` has the layouts and the numbers in
masks. A layout puts the tokens stride · line + column into tiles of 2^bits neighbouring columns; a listed one
has them in `index`. Where a call has only a FEW of the queries that were planned, `turns` says which items make
up the row of each.

The walk goes over `tiles` tiles of the other side, run by run: `base` is the first token (or place in a list)
of the tile at hand, `left` tiles of its run are still to come, and `code` is twice the number of its term, plus
1 where a mask decides cell by cell. A row that is not a number after all, because what nobody reads is none, is
left to the kernel `…_careful`; `…_merge` joins the pieces of long items, always in one order.
"""

_NOTES = {
    "forward": "The output and lse of a tile of queries.",
    "forward_careful": "The same for rows that were left over: values that nobody reads count as 0.",
    "forward_merge": "The output and lse of queries whose tiles of keys were shared among several items.",
    "spread": "Brings lse and delta into the order of slots; where no token is, weights become 0.",
    "backward_queries": "dq of a tile of queries; where no other launch has them, lse and delta for dk and dv, too.",
    "backward_queries_careful": "The same for rows that were left over: keys that nobody reads count as 0.",
    "backward_queries_merge": "dq of queries whose tiles of keys were shared among several items.",
    "backward_keys": "dk and dv of a tile of keys of term {term}, over all heads that read them; scores stand turned.",
    "backward_keys_careful": "The same for rows that were left over: queries that read nothing count as 0.",
    "backward_keys_merge": "dk and dv of keys whose tiles of queries were shared among several items.",
}


def note(kernel: str) -> str:
    """The docstring of a kernel, by its name."""
    term = "".join(filter(str.isdigit, kernel))
    return f'"""{_NOTES[kernel.replace(term, "")].format(term=term)}"""'
