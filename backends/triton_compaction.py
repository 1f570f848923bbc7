"""The kernels that make the tables of a call out of what was found of each candidate tile; see triton_drawn.

In `compact` a program makes one item of work: it walks over the candidates of a tile row, drops those that are not
kept, and writes neighbours that agree as one run, into the room that the row has in the table of runs. Then `cut` cuts
rows that are too long (triton_cuts).
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
def costs(counts, times, first, rows, lines, least, block: tl.constexpr):
    """Of items, each computed so many `times`: the tiles of all, of those before the first of some rows, and, once
    each, of these rows as far as they may be cut."""
    total = tl.full([], 0, tl.int64)
    before = tl.full([], 0, tl.int64)
    own = tl.full([], 0, tl.int64)
    for start in range(0, lines, block):
        line = start + tl.arange(0, block)
        tiles = tl.load(counts + line, mask=line < lines, other=0).to(tl.int64)
        cost = tiles * tl.load(times + line, mask=line < lines, other=0)
        total += tl.sum(cost, 0)
        before += tl.sum(tl.where(line < first, cost, 0), 0)
        long = (line >= first) & (line < first + rows) & (tiles >= 3 * least)
        own += tl.sum(tl.where(long, tiles, 0), 0)
    return total, before, own


@triton.jit
def piece_of(row, item, runs, steps, tiles, piece, pieces, place, slots, columns: tl.constexpr, block: tl.constexpr):
    """Makes `item` the given one of the pieces of a `row`, an item with so many tiles; `place` is its number among the
    pieces of a follower."""
    start = (tiles * piece // pieces).to(tl.int32)
    stop = (tiles * (piece + 1) // pieces).to(tl.int32)
    first = tl.load(row + 1)
    run = -1
    skip = 0
    before = 0
    for begin in range(0, tiles.to(tl.int32), block):
        number = begin + tl.arange(0, block)
        # Behind the runs of the row is what memory held before; it is not come to.
        count = tl.load(runs + (first + number) * 5 + 1, mask=(number < tiles) & (run < 0), other=0)
        count = tl.minimum(tl.maximum(count, 0), tiles.to(tl.int32))
        end = before + tl.cumsum(count, 0)
        holder = tl.min(tl.where(end > start, number, tiles.to(tl.int32)), 0)
        here = (run < 0) & (holder < tiles)
        skip = tl.where(here, start - tl.sum(tl.where(number == holder, end - count, 0), 0), skip)
        run = tl.where(here, holder, run)
        before += tl.sum(count, 0)
    line = runs + (first + run) * 5
    code = tl.load(line + 2)
    tl.store(item, tl.load(row))
    tl.store(item + 1, first + run)
    tl.store(item + 2, stop - start)
    tl.store(item + 3, tl.load(line) + skip * tl.load(steps + code // 2))
    tl.store(item + 4, tl.load(line + 1) - skip)
    tl.store(item + 5, code)
    tl.store(item + 6, tl.load(line + 4) + skip * slots)
    tl.store(item + 7, 0)
    tl.store(item + 8, place)


@triton.jit
def own_items(followers, held, merged, owners, part, items, first_merge, merges, first_piece, pieces):
    """Tells the followers of a part how many items and merges they have, and which is their first piece."""
    column = tl.arange(0, 8)[None, :]
    for start in range(0, owners, 64):
        line = start + tl.arange(0, 64)
        place = line[:, None] * 8 + column
        mine = tl.load(followers + line * 8 + 2, mask=line < owners, other=-1) == part
        turn = tl.load(followers + line * 8 + 7, mask=mine, other=0)
        value = tl.load(followers + place, mask=mine[:, None], other=0)
        value = tl.where(column == 7, (first_piece + turn * pieces)[:, None], value)
        tl.store(held + place, tl.where(column == 4, items, value), mask=mine[:, None])
        value = tl.where(column == 3, first_merge, value)
        tl.store(merged + place, tl.where(column == 4, merges, value), mask=mine[:, None])


@triton.jit(do_not_specialize=["owners", "first_count", "lines", "processors", "least", "slots"])
def cut(
    places, parts, steps, times, followers, counts, items, runs, merges, held, merged, owners, first_count, lines,
    processors, least, slots, columns: tl.constexpr, terms: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Cuts rows of a grid, see triton_cuts: for each of `places`, (part, number), a program makes the piece in the
    part's spare item of that number, and the part's row that is cut as the one of that number. `parts` are lines (first
    item, rows, most pieces beside rows, first merge, most pieces of parts before). `items` and `counts` are those of
    `compact`; `merges`, and the followers `held` of items and `merged` of merges, are results."""
    part = tl.load(places + tl.program_id(0) * 2)
    number = tl.load(places + tl.program_id(0) * 2 + 1)
    first = tl.load(parts + part * 5)
    rows = tl.load(parts + part * 5 + 1)
    most = tl.load(parts + part * 5 + 2)
    first_merge = tl.load(parts + part * 5 + 3)
    counts += first_count
    total, before, own = costs(counts, times, first, rows, lines, least, block)
    fair = tl.maximum(tl.cdiv(total, processors), 2 * least)
    # A row of c tiles has ⌊(c - 1) / share⌋ pieces beside its own, all rows together no more than `most`.
    share = tl.maximum(fair, tl.cdiv(own, tl.maximum(most, 1)))
    more_before = 0
    cuts_before = 0
    row = -1
    piece = 0
    place = 0
    for start in range(0, rows, block):
        at = start + tl.arange(0, block)
        tiles = tl.load(counts + first + at, mask=at < rows, other=0)
        long = (tiles >= share + least) & (most > 0)
        more = tl.where(long, (tiles - 1) // share, 0).to(tl.int32)
        rank = cuts_before + tl.cumsum(long.to(tl.int32), 0) - 1
        other = more_before + tl.cumsum(more, 0) - more  # the spare item of the second piece
        mine = (other <= number) & (number < other + more)
        row = tl.maximum(row, tl.max(tl.where(mine, at, -1), 0))
        piece += tl.sum(tl.where(mine, number - other + 1, 0), 0)
        place += tl.sum(tl.where(mine, number + 1 + rank, 0), 0)
        shortened = long & (rank == number)
        item = items + (first + at) * columns
        tl.store(item + 2, tiles // (more + 1), mask=shortened)
        tl.store(item + 8, other + rank, mask=shortened)
        merge = merges + (first_merge + number + at * 0) * columns
        tl.store(merge, tl.load(item, mask=shortened, other=0), mask=shortened)
        tl.store(merge + 1, other + rank, mask=shortened)
        tl.store(merge + 2, more + 1, mask=shortened)
        more_before += tl.sum(more, 0)
        cuts_before += tl.sum(long.to(tl.int32), 0)
    if row >= 0:
        tiles_of_row = tl.load(counts + first + row).to(tl.int64)
        pieces = (tiles_of_row - 1) // share + 1
        item_of_row = items + (first + row) * columns
        spare_item = items + (first + rows + number) * columns
        piece_of(
            item_of_row, spare_item, runs, steps + part * terms, tiles_of_row, piece, pieces, place, slots, columns,
            block,
        )  # fmt: skip
    if number == 0:
        # No part has more pieces than 2 for each share of its tiles, so that all have 2 for each processor at most.
        first_piece = tl.minimum(2 * before // fair, tl.load(parts + part * 5 + 4)).to(tl.int32)
        own_items(
            followers, held, merged, owners, part, rows + more_before, first_merge, cuts_before, first_piece,
            more_before + cuts_before,
        )  # fmt: skip


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
