"""The generated kernel of the forward pass: one program per item of work computes the rows of one query tile."""

from __future__ import annotations

from patternc.backends.triton_chain import KEEPS, READS, WRITES
from patternc.backends.triton_parts import Turns, careful_kernel, kernel, mask_call, masked, numbers, spoilt, whole
from patternc.backends.triton_queries import (
    few_query_places,
    key_load,
    key_loops,
    key_tokens,
    keys,
    query_tile,
    value_load,
)
from patternc.backends.triton_structure import Structure
from patternc.backends.triton_writer import Writer

POINTERS = (
    "q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, sum_ptr, alarm_ptr, piece_ptr, piece_best_ptr, piece_total_ptr, turns"
)
NUMBERS = (
    "q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, "
    "n, n_q, heads, group, per_follower, early, early_programs, scale, seed, threshold, survivor, line_inverse, "
    "line_shift, room, span, longest"
)
_ITEMS, _ROWS = Turns("number // longest", "number % longest"), Turns("number", "0")
"""Of programs for each item, and of merges, one for each row."""


def forward(w: Writer, s: Structure) -> None:
    """The kernel `forward`."""
    boxes = ", k_box, v_box" if s.boxed_keys else ""
    with kernel(w, s, "forward", f"{POINTERS}, spoilt_ptr{boxes}", NUMBERS, "q_base", _ITEMS):
        _rows(w, s, careful=False)


def forward_careful(w: Writer, s: Structure) -> None:
    """The kernel `forward_careful`."""
    with careful_kernel(w, s, "forward", POINTERS, NUMBERS, "q_base", "TILE_Q", _ITEMS):
        _rows(w, s, careful=True)


def _rows(w: Writer, s: Structure, careful: bool) -> None:
    whole(w, _ITEMS)
    numbers(w, s)
    few_query_places(w, s, careful)
    query_tile(w, s, "q_head_line[:, None] * ALIGN")
    keys(w, s, careful)
    state(w, "whole")
    key_loops(w, s, careful, lambda w, kind: _tile(w, s, kind))
    if not careful:
        spoilt(w, "q", "TILE_Q", "acc")
    with w.block("if whole:"):
        _finish(w)
    with w.block("else:"):
        w("""
            tl.store(piece_best_ptr + place * TILE_Q + q_slot, best, mask=q_inside)
            tl.store(piece_total_ptr + place * TILE_Q + q_slot, total, mask=q_inside)
            pieces = piece_ptr + (place * TILE_Q + q_slot)[:, None] * BLOCK_DV + dv[None, :]
            tl.store(pieces, acc, mask=q_inside[:, None])
        """)


def forward_merge(w: Writer, s: Structure) -> None:
    """The kernel `forward_merge`: the pieces of a row, in order."""
    with kernel(w, s, "forward_merge", POINTERS, NUMBERS, "q_base", _ROWS):
        numbers(w, s)
        few_query_places(w, s)
        state(w, "True")
        w("""
            if FEW:
                first = (owner * per_follower + number) * longest
            else:
                first = tl.load(follower + 7) + tl.load(item + 1)
        """)
        with w.block("for piece in range(tl.load(item + 2)):"):
            w("""
                place = (first + piece).to(tl.int64) * TILE_Q + q_slot
                other = tl.load(piece_best_ptr + place)
                top = tl.maximum(best, other)
                level = tl.where(top == float("-inf"), 0.0, top)
                fade = tl.exp2(best - level)
                grow = tl.exp2(other - level)
                total = total * fade + tl.load(piece_total_ptr + place) * grow
                part = tl.load(piece_ptr + place[:, None] * BLOCK_DV + dv[None, :])
                acc = acc * fade[:, None] + part * grow[:, None]
                best = top
            """)
        _finish(w)


def state(w: Writer, reads: str) -> None:
    """The online softmax in base 2: best score, sum of weights, weighted sum of values; `reads` says who goes on from
    earlier launches."""
    w(f"""
        if READS:  # earlier launches may have summed up some keys already
            reads = ((role & {READS}) > 0) & ({reads})
            best = tl.load(lse_ptr + row, mask=reads, other=float("-inf")) * LOG2_E
            total = tl.where(best == float("-inf"), 0.0, 1.0)
            sum_mask = (best > float("-inf"))[:, None] & (dv < D_V)[None, :]  # others may be unwritten
            acc = tl.load(sum_ptr + row[:, None] * D_V + dv[None, :], mask=sum_mask, other=0.0)
        else:
            best = tl.full([TILE_Q], float("-inf"), tl.float32)
            total = tl.zeros([TILE_Q], tl.float32)
            acc = tl.zeros([TILE_Q, BLOCK_DV], tl.float32)
    """)


def _tile(w: Writer, s: Structure, kind: str) -> None:
    """One tile of keys. `acc` fades while the weights are computed, and these are summed up while their product is: on
    tensor cores a product runs on beside what follows it."""
    key_tokens(w, s, kind)
    key_load(w, s, kind)
    w("score = tl.dot(query, tl.trans(key), input_precision=PRECISION)")
    scores(w, s, kind, head="mask_head")
    scaled = "score" if s.bag else "score * scale"
    w(f"""
        top = tl.maximum(best, tl.max({scaled.replace(" * scale", "")}, 1){"" if s.bag else " * scale"})
        level = tl.where(top == float("-inf"), 0.0, top)  # a row may have seen no key yet
        fade = tl.exp2(best - level)
        acc *= fade[:, None]
        weight = tl.exp2({scaled} - level[:, None])
        best = top
    """)
    if kind == "careful":
        w("""
            weight = tl.where(q_inside[:, None], weight, 0.0)  # rows that are none read what nobody may
            read = tl.max(tl.where(weight == 0.0, 0, 1), 0) > 0
        """)
    w("""
        kept = weight
        if DROPOUT:
            kept = weight * survivors(seed, threshold, survivor, batch, mask_head, q[:, None], k[None, :])
    """)
    value_load(w, s, kind)
    if kind == "careful":
        w("value = tl.where(read[:, None], value, 0.0)")
    w("""
        acc = tl.dot(kept.to(value.dtype), value, acc, input_precision=PRECISION)
        total = total * fade + tl.sum(weight, 1)
    """)


def scores(
    w: Writer, s: Structure, kind: str, q: str = "q[:, None]", k: str = "k[None, :]", head: str = "head"
) -> None:
    """Scores where nothing is to be read are -inf; of a bag, scores are scaled and have log M added."""
    if s.bag:
        w("score = score * scale + tl.load(run + 3).to(tl.float32, bitcast=True)")
    inside = k.replace("k[", "k_inside[") if "k_slot" else k

    def apply(w: Writer, t: int) -> None:
        w(
            f"m = {mask_call(s, t, q, k, head)} & {inside}"
            if not s.bag
            else f"m = tl.where({inside}, {mask_call(s, t, q, k, head)}, 0)"
        )
        if s.bag:
            w('score = tl.where(m > 0, score + tl.log2(m.to(tl.float32)), float("-inf"))')
        else:
            w('score = tl.where(m, score, float("-inf"))')

    masked(w, s, kind, s.terms, apply)


def _finish(w: Writer) -> None:
    w(f"""
        safe = tl.where(total == 0.0, 1.0, total)
        acc *= (1.0 / safe)[:, None]
        lse = tl.where(total == 0.0, float("-inf"), best + tl.log2(safe)) * LN_2
        lse_mask = q_inside
        out_mask = q_inside
        if CHAINED:
            if KEEPS:  # a later launch goes on from here
                kept = q_inside & ((role & {KEEPS}) > 0)
                sum_place = sum_ptr + row[:, None] * D_V + dv[None, :]
                tl.store(sum_place, acc, mask=kept[:, None] & (dv < D_V)[None, :])
            lse_mask = q_inside & (role > 0)
            out_mask = q_inside & ((role & {WRITES}) > 0)
        tl.store(lse_ptr + row, lse, mask=lse_mask)
        out_place = row[:, None] * D_V + dv[None, :]
        tl.store(out_ptr + out_place, acc.to(out_ptr.dtype.element_ty), mask=out_mask[:, None] & (dv < D_V)[None, :])
    """)
