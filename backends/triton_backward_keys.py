"""The generated kernels of the backward pass by rows of keys: dk and dv walk over queries by key tile, with the numbers
of queries in the order of slots."""

from __future__ import annotations

from contextlib import nullcontext

from patternc.backends.triton_backward import NUMBERS, POINTERS, add_and_store, probability
from patternc.backends.triton_parts import (
    CAREFULLY,
    CHANNELS,
    at,
    begin,
    box,
    careful_kernel,
    find_work,
    kernel,
    line_of,
    load,
    loop,
    numbers,
    offsets,
    places,
    roles,
    signature,
    spoilt,
    tokens,
    whole,
)
from patternc.backends.triton_structure import Structure
from patternc.backends.triton_writer import Writer

KEY_NUMBERS = f"{NUMBERS}, key_heads, slots"
KEY_POINTERS = f"{POINTERS}, dk_ptr, dv_ptr, dk_sum_ptr, dv_sum_ptr, piece_dk_ptr, piece_dv_ptr, members"


def spread(w: Writer, s: Structure) -> None:
    """The kernel `spread`: brings lse and delta into the order of slots of a layout; slots without a token get numbers
    that make probabilities 0."""
    signature(
        w,
        s,
        "spread",
        "lse_ptr, delta_ptr, lse_slots_ptr, delta_slots_ptr",
        "n, n_q, heads, slots, per_follower, early, early_programs",
        "LAUNCH_COLUMNS, TILE_Q, ALIKE",
    )
    with w.body():
        find_work(w, "q_base")
        numbers(w, s)
        w("q_slot = tl.arange(0, TILE_Q)")
        if not s.listed_queries:
            offsets(w, "q", "q_stride", "q_bits")
        tokens(w, s, "q", "q_base", "q_stride", "q_bits", "q_index")
        w("""
            row = (batch * heads + head) * n_q + q - (n - n_q)
            slot = ((batch * heads + head) * slots + tl.load(item + 1)) * 16 + q_slot
            tl.store(lse_slots_ptr + slot, tl.load(lse_ptr + row, mask=q_inside, other=float("inf")))
            tl.store(delta_slots_ptr + slot, tl.load(delta_ptr + row, mask=q_inside, other=0.0))
        """)


def backward_keys(w: Writer, s: Structure, term: int) -> None:
    """The kernel `backward_keys{term}`: dk and dv of one key tile of a term, over all query heads that share the key
    head. Scores stand with keys down and queries across."""
    boxes = ", q_box, d_out_box, log_box, delta_box" if s.boxed_queries else ""
    with kernel(w, s, f"backward_keys{term}", f"{KEY_POINTERS}, spoilt_ptr{boxes}", KEY_NUMBERS, "k_base"):
        _dkv_rows(w, s, term, careful=False)


def backward_keys_careful(w: Writer, s: Structure, term: int) -> None:
    """The kernel `backward_keys{term}_careful`."""
    with careful_kernel(w, s, f"backward_keys{term}", KEY_POINTERS, KEY_NUMBERS, "k_base", "TILE_K"):
        _dkv_rows(w, s, term, careful=True)


def _dkv_rows(w: Writer, s: Structure, term: int, careful: bool) -> None:
    whole(w)
    _key_places(w, s, term, careful)
    _key_tile(w)
    w("q_slot = tl.arange(0, TILE_Q)")
    if not s.listed_queries:
        offsets(w, "q", "q_stride", "q_bits")
        with nullcontext() if careful else w.block("if not BOXES:"):
            places(w, s, "q", ("q", "d"), ("d_out", "c"))
    with w.block("for member in range(tl.load(follower + 5), tl.load(follower + 6)):"):
        _member(w)
        spots = "TILE_Q // 16"
        begin(w, spots)
        tiles, kind = (CAREFULLY, "careful") if careful else ("range(tiles)", "joint")
        loop(w, tiles, lambda w: _query_step(w, s), lambda w: _dkv_tile(w, s, kind, term), spots)
    if not careful:
        spoilt(w, "k", "TILE_K", "dk", "dv")
    with w.block("if whole:"):
        _dkv_finish(w)
    with w.block("else:"):
        w("""
            pieces = (place * TILE_K + k_slot)[:, None]
            tl.store(piece_dk_ptr + pieces * BLOCK_D + d[None, :], dk, mask=k_inside[:, None])
            tl.store(piece_dv_ptr + pieces * BLOCK_DV + c[None, :], dv, mask=k_inside[:, None])
        """)


def _member(w: Writer) -> None:
    """One of the query heads that read the program's key head."""
    w("""
        head = tl.load(members + member)
        q_home = q_ptr + (batch * q_batch + head.to(tl.int64) * q_head) * ALIGN
        d_out_home = d_out_ptr + (batch * d_out_batch + head.to(tl.int64) * d_out_head) * ALIGN
        row_home = (batch * heads + head) * slots
    """)


def backward_keys_merge(w: Writer, s: Structure, term: int) -> None:
    """The kernel `backward_keys{term}_merge`: the pieces of a row, in order."""
    with kernel(w, s, f"backward_keys{term}_merge", KEY_POINTERS, KEY_NUMBERS, "k_base"):
        _key_places(w, s, term)
        w("""
            first = tl.load(follower + 7) + tl.load(item + 1)
            for piece in range(tl.load(item + 2)):
                place = (first + piece).to(tl.int64) * TILE_K + k_slot
                dk += tl.load(piece_dk_ptr + place[:, None] * BLOCK_D + d[None, :])
                dv += tl.load(piece_dv_ptr + place[:, None] * BLOCK_DV + c[None, :])
        """)
        _dkv_finish(w)


def _dkv_finish(w: Writer) -> None:
    w("dk *= scale")
    add_and_store(w, "dk", "dk_ptr", "dk_sum_ptr", "k_inside", "D", "d")
    add_and_store(w, "dv", "dv_ptr", "dv_sum_ptr", "k_inside", "D_V", "c")


def _key_places(w: Writer, s: Structure, term: int, careful: bool = False) -> None:
    """The program's keys: their positions, rows of memory, and sums."""
    w("key_head = head")
    numbers(w, s, range(term, term + 1))
    w("k_slot = tl.arange(0, TILE_K)")
    if not s.listed_keys:
        offsets(w, "k", f"k{term}_stride", f"k{term}_bits")
    tokens(w, s, "k", "k_base", f"k{term}_stride", f"k{term}_bits", f"k{term}_index")
    if careful:
        w("k_inside &= left_over")
    w("""
        d = tl.arange(0, BLOCK_D)
        c = tl.arange(0, BLOCK_DV)
        k_line = k.to(tl.int64)
        row = (batch * key_heads + key_head) * n + k_line  # of arrays (B, H_kv, N)
        dk = tl.zeros([TILE_K, BLOCK_D], tl.float32)
        dv = tl.zeros([TILE_K, BLOCK_DV], tl.float32)
    """)
    roles(w, "k")


def _key_tile(w: Writer) -> None:
    """The program's keys and values."""
    w("""
        k_mask = k_inside[:, None] & (d < D)[None, :]
        v_mask = k_inside[:, None] & (c < D_V)[None, :]
        k_home = k_ptr + (batch * k_batch + key_head.to(tl.int64) * k_head) * ALIGN
        v_home = v_ptr + (batch * v_batch + key_head.to(tl.int64) * v_head) * ALIGN
        key = tl.load(k_home + k_line[:, None] * (k_row * ALIGN) + d[None, :], mask=k_mask, other=0.0)
        value = tl.load(v_home + k_line[:, None] * (v_row * ALIGN) + c[None, :], mask=v_mask, other=0.0)
    """)


def _query_step(w: Writer, s: Structure) -> None:
    w("step = TILE_Q" if s.listed_queries else "step = (TILE_Q >> q_bits) * q_stride")


def _dkv_tile(w: Writer, s: Structure, kind: str, term: int) -> None:
    """dP is computed after P: both with the mask's numbers are more than a thread has registers for."""
    boxed = s.boxed_queries and kind != "careful"
    tokens(w, s, "q", "base", "q_stride", "q_bits", "q_index")
    if boxed:
        line_of(w, "(base - (n - n_q))", "q_stride")
    load(w, "query", box("q", "head", "TILE_Q, BLOCK_D") if boxed else "", at(s, "q", "q", "d"), "q_inside", CHANNELS)
    _of_slots(w, "lse", "log_box" if boxed else "")
    w("score = tl.dot(key, tl.trans(query), input_precision=PRECISION)")
    by_box = box("d_out", "head", "TILE_Q, BLOCK_DV") if boxed else ""
    load(w, "d_out", by_box, at(s, "q", "d_out", "c"), "q_inside", ("D_V", "BLOCK_DV", "c"))
    terms = range(term, term + 1)
    probability(w, s, kind, terms, "lse[None, :]", "q[None, :]", "k[:, None]", "k_inside[:, None]")
    w("d_weight = tl.dot(value, tl.trans(d_out), input_precision=PRECISION)")
    _of_slots(w, "delta", "delta_box" if boxed else "")
    if kind == "careful":
        w("""
            weight = tl.where(q_inside[None, :] & k_inside[:, None], weight, 0.0)
            reads = tl.max(tl.where(weight == 0.0, 0, 1), 0) > 0
            query = tl.where(reads[:, None], query, 0.0)
            d_out = tl.where(reads[:, None], d_out, 0.0)
        """)
    w("""
        kept = weight
        if DROPOUT:
            survivor_cells = survivors(seed, threshold, survivor, batch, head, q[None, :], k[:, None])
            kept = weight * survivor_cells
            d_weight *= survivor_cells
        dv = tl.dot(kept.to(d_out.dtype), d_out, dv, input_precision=PRECISION)
        d_score = weight * (d_weight - delta[None, :])
    """)
    if kind == "careful":
        w("d_score = tl.where(weight == 0.0, 0.0, d_score)")
    w("dk = tl.dot(d_score.to(query.dtype), query, dk, input_precision=PRECISION)")


def _of_slots(w: Writer, name: str, box: str) -> None:
    """A number of each query of the tile, which stand in the order of slots."""
    load = f"{name} = tl.load({name}_ptr + (row_home + spot) * 16 + q_slot)"
    if not box:
        w(load)
        return
    with w.block("if BOXES:"):
        w(f"{name} = {box}.load([((row_home + spot) * 16).to(tl.int32)])")
    with w.block("else:"):
        w(load)
