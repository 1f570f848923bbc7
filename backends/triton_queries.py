"""What the kernels by rows of queries share: the program's queries, and the walk over tiles of keys."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

from patternc.backends.triton_parts import (
    CAREFULLY,
    CHANNELS,
    TURN_COLUMNS,
    at,
    begin,
    box,
    by_term,
    line_of,
    load,
    loop,
    offsets,
    places,
    roles,
    tokens,
)
from patternc.backends.triton_structure import Structure
from patternc.backends.triton_writer import Writer

_KEY_ARRAYS = ("k", "d"), ("v", "dv")


def query_places(w: Writer, s: Structure, careful: bool = False) -> None:
    """The program's queries: their positions and rows of memory."""
    w("q_slot = tl.arange(0, TILE_Q)")
    _query_tokens(w, s)
    if careful:
        w("q_inside &= left_over")
    _channels(w)
    w("""
        q_line = (q - (n - n_q)).to(tl.int64)
        row = (batch * heads + head) * n_q + q_line  # of arrays (B, H, N_q)
        key_head = head // group
    """)
    roles(w, "q")


def few_query_places(w: Writer, s: Structure, careful: bool = False) -> None:
    """The same in kernels for grids with turns. A tile may hold the call's queries for several heads that read the same
    keys; `own_head` are then the heads of its slots."""
    w("q_slot = tl.arange(0, TILE_Q)")
    with w.block("if MEMBERS > 1:  # each query head of the key head has as many slots"):
        w(f"""
            q_line = q_slot % (TILE_Q // MEMBERS)
            own_head = head + q_slot // (TILE_Q // MEMBERS)
            q = n - n_q + q_line
            q_inside = (q_line < n_q) & (own_head < head + group)
            others = turns + (tl.load(follower + 2) * span + q - (room - span)) * {TURN_COLUMNS}
            q_inside &= tl.load(others, mask=q_inside, other=-1) == tl.load(turn)
            q_line = q_line.to(tl.int64)
            q_head_line = (own_head - head).to(tl.int64) * q_head + q_line * q_row
            mask_head = own_head[:, None]
        """)
    with w.block("else:"):
        _query_tokens(w, s)
        w("""
            q_line = (q - (n - n_q)).to(tl.int64)
            q_head_line = q_line * q_row
            own_head = head
            mask_head = head
        """)
    if careful:
        w("q_inside &= left_over")
    _channels(w)
    w("""
        row = (batch * heads + own_head) * n_q + q_line  # of arrays (B, H, N_q)
        key_head = head // group
    """)
    roles(w, "q", "room")


def _query_tokens(w: Writer, s: Structure) -> None:
    if not s.listed_queries:
        offsets(w, "q", "q_stride", "q_bits")
    tokens(w, s, "q", "q_base", "q_stride", "q_bits", "q_index")


def _channels(w: Writer) -> None:
    w("d = tl.arange(0, BLOCK_D)\ndv = tl.arange(0, BLOCK_DV)")


def query_tile(w: Writer, s: Structure, line: str = "q_line[:, None] * (q_row * ALIGN)") -> None:
    """The program's first tile of keys, and its query vectors, which lie at `line` of its head. Loads stay in the order
    of the text; those of vectors are waited for."""
    begin(w)
    if len(s.masks) > 1:
        w("main = tl.load(item + 7)")
    w(f"""
        q_home = q_ptr + (batch * q_batch + head.to(tl.int64) * q_head) * ALIGN
        q_mask = q_inside[:, None] & (d < D)[None, :]
        query = tl.load(q_home + {line} + d[None, :], mask=q_mask, other=0.0)
    """)


def keys(w: Writer, s: Structure, careful: bool = False) -> None:
    """Where the keys and values of the program's head lie."""
    w("""
        k_slot = tl.arange(0, TILE_K)
        k_home = k_ptr + (batch * k_batch + key_head.to(tl.int64) * k_head) * ALIGN
        v_home = v_ptr + (batch * v_batch + key_head.to(tl.int64) * v_head) * ALIGN
    """)
    if s.one_layout:
        _layout(w, s, "k0", careful)


def key_loops(w: Writer, s: Structure, careful: bool, body: Callable[[Writer, str], None]) -> None:
    """The loops over the program's tiles of keys; `body` is given their kind: "joint", "full" or "careful". The full
    tiles of the main term, if there are others, have a loop without masks, for which their layout is known before."""
    step = partial(_key_step, s=s)
    if careful:
        loop(w, CAREFULLY, step, lambda w: body(w, "careful"))
    elif len(s.masks) == 1:
        loop(w, "range(tiles)", step, lambda w: body(w, "joint"))
    else:
        loop(w, "range(tiles - main)", step, lambda w: body(w, "joint"))
        w("# The full tiles of the term that has most of them.")
        if s.listed_keys:
            w("step = TILE_K")
        else:
            w("step = (TILE_K >> main_bits) * main_stride")
            _layout(w, s, "main", careful)
        loop(w, "range(main)", None, lambda w: body(w, "full"))


def _layout(w: Writer, s: Structure, name: str, careful: bool) -> None:
    """Where the keys of a tile lie, all tiles being laid out alike."""
    offsets(w, "k", f"{name}_stride", f"{name}_bits")
    with nullcontext() if careful else w.block("if not BOXES:"):
        places(w, s, "k", *_KEY_ARRAYS)


def _key_step(w: Writer, s: Structure) -> None:
    """The distance between neighbouring tiles of a lane."""
    if s.listed_keys:
        w("step = TILE_K")
    else:
        w(f"step = (TILE_K >> {by_term(s.terms, 'k{}_bits')}) * {by_term(s.terms, 'k{}_stride')}")


def key_tokens(w: Writer, s: Structure, kind: str) -> None:
    """The tokens of the key tile at `base`."""
    if kind == "full":
        tokens(w, s, "k", "base", "main_stride", "main_bits", "main_index")
        return
    names = [by_term(s.terms, f"k{{}}_{name}") for name in ("stride", "bits", "index")]
    if len(s.masks) > 1:
        w(f"k_stride = {names[0]}\nk_bits = {names[1]}")
        names[:2] = "k_stride", "k_bits"
        if not s.listed_keys:
            offsets(w, "k", *names[:2])
            places(w, s, "k", *_KEY_ARRAYS)
    tokens(w, s, "k", "base", *names)


def _boxed(s: Structure, kind: str) -> bool:
    """Whether keys of such a tile may be loaded by descriptors."""
    return s.boxed_keys and kind != "careful" and (s.one_layout or kind == "full")


def key_load(w: Writer, s: Structure, kind: str) -> None:
    boxed = _boxed(s, kind)
    if boxed:
        stride = "k0_stride" if s.one_layout else "main_stride"
        line_of(w, "base", stride)
    inside = None if kind == "full" else "k_inside"
    load(w, "key", box("k", "key_head", "TILE_K, BLOCK_D") if boxed else "", at(s, "k", "k", "d"), inside, CHANNELS)


def value_load(w: Writer, s: Structure, kind: str) -> None:
    boxed = _boxed(s, kind)
    inside = None if kind == "full" else "k_inside"
    by_box = box("v", "key_head", "TILE_K, BLOCK_DV") if boxed else ""
    load(w, "value", by_box, at(s, "k", "v", "dv"), inside, ("D_V", "BLOCK_DV", "dv"))
