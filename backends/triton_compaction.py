"""The kernels that make the tables of a call out of what was found of each candidate tile; see triton_drawn.

In `compact` a program makes one item of work: it walks over the candidates of a tile row, drops those that are not
kept, and writes neighbours that agree as one run, into the room that the row has in the table of runs.
"""

from __future__ import annotations

import triton
import triton.language as tl

SKIPPED = tl.constexpr(-1)
DOUBTFUL = tl.constexpr(-2)
"""What is found of a candidate; else the bits of the binary logarithm, in float32, of the multiplicity of all its
cells, which are 0 or more."""


@triton.jit
def greater(a, b):
    return tl.maximum(a, b)


@triton.jit
def state_of(candidates, found, first, number, tiles):
    """What was found of candidates of a row by number, and whether they follow on the one before them."""
    inside = (number >= 0) & (number < tiles)
    candidate = candidates + (first + number) * 5
    source = tl.load(candidate + 3, mask=inside, other=0)
    state = tl.load(found + source, mask=inside, other=-1)
    follows = tl.load(candidate + 1, mask=inside, other=0)
    return state, follows


@triton.jit(do_not_specialize=["size", "first_count"])
def compact(
    candidates, found, rows, items, runs, counts, size, first_count, columns: tl.constexpr, ending: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """`candidates` are lines (first token, whether it follows on the one before, 2 · term, place in `found`, first slot
    in 16s), `size` of them; `rows` are items of work with all candidates. The results are `items`, `runs` and, in
    `counts` from `first_count` on, for each item its number of tiles. Items have so many `columns`, and `ending` lines
    of zeros follow all runs."""
    row = rows + tl.program_id(0) * columns
    item = items + tl.program_id(0) * columns
    first = tl.load(row + 1)
    tiles = tl.load(row + 2)
    column = tl.arange(0, 16)
    same = (column < columns) & ((column < 1) | (column > 6))
    tl.store(item + column, tl.load(row + column, mask=same, other=0), mask=same)
    kept_before = 0
    runs_before = 0
    last_start = -1
    for start in range(0, tiles, block):
        number = start + tl.arange(0, block)
        state, follows = state_of(candidates, found, first, number, tiles)
        before, _ = state_of(candidates, found, first, number - 1, tiles)
        after, next_follows = state_of(candidates, found, first, number + 1, tiles)
        kept = state != SKIPPED
        begins = kept & ((follows == 0) | (before != state))
        ends = kept & ((next_follows == 0) | (after != state))
        run = runs_before + tl.cumsum(begins.to(tl.int32), 0) - 1
        at = tl.associative_scan(tl.where(begins, number, last_start), 0, greater)
        count = number - at + 1
        line = runs + (first + run) * 5
        candidate = candidates + (first + number) * 5
        token = tl.load(candidate, mask=begins, other=0)
        code = tl.load(candidate + 2, mask=begins, other=0) + (state == DOUBTFUL).to(tl.int32)
        slot = tl.load(candidate + 4, mask=begins, other=0)
        tl.store(line, token, mask=begins)
        tl.store(line + 1, count, mask=ends)
        tl.store(line + 2, code, mask=begins)
        tl.store(line + 3, tl.maximum(state, 0), mask=begins)
        tl.store(line + 4, slot, mask=begins)
        head = begins & (run == 0)
        nowhere = tl.zeros([block], tl.int32)
        tl.store(item + 3 + nowhere, token, mask=head)
        tl.store(item + 4 + nowhere, count, mask=ends & (run == 0))
        tl.store(item + 5 + nowhere, code, mask=head)
        tl.store(item + 6 + nowhere, slot, mask=head)
        kept_before += tl.sum(kept.to(tl.int32), 0)
        runs_before += tl.sum(begins.to(tl.int32), 0)
        last_start = tl.max(at, 0)
    tl.store(item + 1, first)
    tl.store(item + 2, kept_before)
    tl.store(counts + first_count + tl.program_id(0), kept_before)
    if runs_before == 0:
        for i in tl.static_range(3, 7):
            tl.store(item + i, 0)
    # Walks look at one run more than they have: that of the next row, or one that is no run.
    if runs_before < tiles:
        for i in tl.static_range(5):
            tl.store(runs + (first + runs_before) * 5 + i, 0)
    if tl.program_id(0) == 0:
        for i in tl.static_range(5 * ending):
            tl.store(runs + size * 5 + i, 0)


@triton.jit
def item_of(links, i, held, ranks, token, inside):
    """The item that computes the tokens in a link, or -1."""
    line = links + 4 * i
    place = tl.load(line + 1)
    first = tl.load(line + 2)
    tile = tl.load(line + 3)
    item = tl.load(held + place + token, mask=inside & (tile == 0), other=-1)
    rank = tl.load(ranks + place + token, mask=inside & (tile > 0), other=-1)
    return tl.where(rank >= 0, first + rank // tl.maximum(tile, 1), item)


@triton.jit(do_not_specialize=["n", "blocks"])
def link(chains, links, held, ranks, counts, roles, n, blocks, block: tl.constexpr):
    """What each of several launches that follow one another does for each token, see triton_chain: one program for some
    tokens of one of the `chains`, which are lines (first link, links). `links` are lines (row of `roles`, place, first
    item, tile): from the place on each position has its item, or -1, in `held`, or, if there is a tile, its rank in a
    list, or -1, in `ranks`. `counts` are the tiles of items."""
    chain = chains + tl.program_id(0) // blocks * 2
    first = tl.load(chain)
    last = first + tl.load(chain + 1)
    token = tl.program_id(0) % blocks * block + tl.arange(0, block)
    inside = token < n
    fills = tl.zeros([block], tl.int32)
    holder = tl.full([block], -1, tl.int32)
    for i in range(first, last):
        item = item_of(links, i, held, ranks, token, inside)
        holder = tl.where((holder < 0) & (item >= 0), i, holder)
        tiles = tl.load(counts + item, mask=item >= 0, other=0)
        fills += (tiles > 0).to(tl.int32)
    before = tl.zeros([block], tl.int32)
    for i in range(first, last):
        item = item_of(links, i, held, ranks, token, inside)
        filled = (tl.load(counts + item, mask=item >= 0, other=0) > 0).to(tl.int32)
        does = (before > 0).to(tl.int32) + tl.where(before + 1 < fills, 2, 4)
        role = tl.where((fills == 0) & (holder == i), 4, filled * does)
        before += filled
        tl.store(roles + tl.load(links + 4 * i) * n + token, role.to(tl.int8), mask=inside)


@triton.jit(do_not_specialize=["size"])
def gather(places, lists, index, size, block: tl.constexpr):
    """The lists that launches read, one after the other: for each slot a place in `lists`, or -1 - token."""
    slot = tl.program_id(0) * block + tl.arange(0, block)
    inside = slot < size
    place = tl.load(places + slot, mask=inside, other=-1)
    token = tl.load(lists + place, mask=place >= 0, other=0)
    tl.store(index + slot, tl.where(place < 0, -1 - place, token), mask=inside)
