"""The generated kernels of the backward pass. dq walks over keys by query tile, dk and dv over queries by key tile;
nothing is added atomically, so same inputs give same bits."""

from __future__ import annotations

from contextlib import nullcontext

from patternc.backends.triton_chain import KEEPS, READS, WRITES
from patternc.backends.triton_forward import (
    CHANNELS,
    CONSTANTS,
    key_load,
    key_step,
    key_tokens,
    keys,
    query_places,
    query_tile,
    value_load,
)
from patternc.backends.triton_parts import (
    at,
    box,
    careful_loops,
    find_work,
    load,
    loops,
    mask_call,
    masked,
    numbers,
    offsets,
    places,
    roles,
    signature,
    spoilt,
    spoilt_work,
    tokens,
    whole,
)
from patternc.backends.triton_structure import Structure
from patternc.backends.triton_writer import Writer

POINTERS = "q_ptr, k_ptr, v_ptr, d_out_ptr, lse_ptr, delta_ptr, alarm_ptr"
NUMBERS = (
    "q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, d_out_batch, d_out_head, d_out_row, "
    "n, n_q, heads, group, per_follower, scale, log_scale, seed, threshold, survivor"
)


def prepare(w: Writer) -> None:
    """The kernel `prepare`: delta = Σ dO · O - dlse, and lse in base 2 with +inf for rows that see no key, so that
    their probabilities become 0."""
    w("""
        @triton.jit(do_not_specialize=["rows", "heads", "n_q", "d_out_batch", "d_out_head", "d_out_row"])
        def prepare(
            out_ptr, d_out_ptr, lse_ptr, d_lse_ptr, log_ptr, delta_ptr,
            rows, heads, n_q, d_out_batch, d_out_head, d_out_row,
            D_V: tl.constexpr, BLOCK_DV: tl.constexpr, ROWS: tl.constexpr, HAS_D_LSE: tl.constexpr, ALIGN: tl.constexpr,
        ):
            row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
            inside = row < rows
            dv = tl.arange(0, BLOCK_DV)
            mask = inside[:, None] & (dv < D_V)[None, :]
            out = tl.load(out_ptr + row[:, None] * D_V + dv[None, :], mask=mask, other=0.0).to(tl.float32)
            home = row // (heads * n_q) * d_out_batch + row // n_q % heads * d_out_head + row % n_q * d_out_row
            d_out = tl.load(d_out_ptr + home[:, None] * ALIGN + dv[None, :], mask=mask, other=0.0).to(tl.float32)
            delta = tl.sum(out * d_out, 1)
            if HAS_D_LSE:
                delta -= tl.load(d_lse_ptr + row, mask=inside, other=0.0)
            lse = tl.load(lse_ptr + row, mask=inside, other=0.0)
            tl.store(log_ptr + row, tl.where(lse == float("-inf"), float("inf"), lse * LOG2_E), mask=inside)
            tl.store(delta_ptr + row, delta, mask=inside)
    """)


def spread(w: Writer, s: Structure) -> None:
    """The kernel `spread`: brings lse and delta into the order of slots of a layout; slots without a token get numbers
    that make probabilities 0."""
    signature(
        w,
        s,
        "spread",
        "lse_ptr, delta_ptr, lse_slots_ptr, delta_slots_ptr",
        "n, n_q, heads, slots, per_follower",
        "LAUNCH_COLUMNS, TILE_Q",
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


QUERY_POINTERS = f"{POINTERS}, dq_ptr, sum_ptr, piece_ptr"


def backward_queries(w: Writer, s: Structure) -> None:
    """The kernel `backward_queries`: dq of one query tile."""
    boxes = ", k_box, v_box" if s.boxed_keys else ""
    signature(w, s, "backward_queries", f"{QUERY_POINTERS}, spoilt_ptr{boxes}", NUMBERS, CONSTANTS)
    with w.body():
        find_work(w, "q_base")
        _dq_rows(w, s, careful=False)


def backward_queries_careful(w: Writer, s: Structure) -> None:
    """The kernel `backward_queries_careful`; see `forward_careful`."""
    signature(w, s, "backward_queries_careful", f"{QUERY_POINTERS}, spoilt_ptr", f"{NUMBERS}, programs", CONSTANTS)
    with w.body(), spoilt_work(w, "q_base", "TILE_Q"):
        _dq_rows(w, s, careful=True)


def _dq_rows(w: Writer, s: Structure, careful: bool) -> None:
    whole(w)
    numbers(w, s)
    query_places(w, s, careful)
    query_tile(w)
    w("""
        d_out_home = d_out_ptr + (batch * d_out_batch + head.to(tl.int64) * d_out_head) * ALIGN
        d_out_place = d_out_home + q_line[:, None] * (d_out_row * ALIGN) + dv[None, :]
        d_out = tl.load(d_out_place, mask=q_inside[:, None] & (dv < D_V)[None, :], other=0.0)
        lse = tl.load(lse_ptr + row, mask=q_inside, other=float("inf"))
        delta = tl.load(delta_ptr + row, mask=q_inside, other=0.0)
    """)
    keys(w, s, careful)
    w("acc = tl.zeros([TILE_Q, BLOCK_D], tl.float32)")
    walk = careful_loops if careful else loops
    walk(w, s, lambda w: key_step(w, s), lambda w, kind: _dq_tile(w, s, kind))
    if not careful:
        spoilt(w, "q", "TILE_Q", "acc")
    with w.block("if whole:"):
        _dq_finish(w)
    with w.block("else:"):
        w("""
            pieces = piece_ptr + (place * TILE_Q + q_slot)[:, None] * BLOCK_D + d[None, :]
            tl.store(pieces, acc, mask=q_inside[:, None])
        """)


def backward_queries_merge(w: Writer, s: Structure) -> None:
    """The kernel `backward_queries_merge`: the pieces of a row, in order."""
    signature(w, s, "backward_queries_merge", QUERY_POINTERS, NUMBERS, CONSTANTS)
    with w.body():
        find_work(w, "q_base")
        numbers(w, s)
        query_places(w, s)
        w("""
            first = tl.load(follower + 7) + tl.load(item + 1)
            acc = tl.zeros([TILE_Q, BLOCK_D], tl.float32)
            for piece in range(tl.load(item + 2)):
                place = (first + piece).to(tl.int64) * TILE_Q + q_slot
                acc += tl.load(piece_ptr + place[:, None] * BLOCK_D + d[None, :])
        """)
        _dq_finish(w)


def _dq_finish(w: Writer) -> None:
    w("acc *= scale")
    _add_and_store(w, "acc", "dq_ptr", "sum_ptr", "q_inside", "D", "d")


def _dq_tile(w: Writer, s: Structure, kind: str) -> None:
    key_tokens(w, s)
    key_load(w, s, kind)
    w("score = tl.dot(query, tl.trans(key), input_precision=PRECISION)")
    value_load(w, s, kind)
    w("d_weight = tl.dot(d_out, tl.trans(value), input_precision=PRECISION)")
    _probability(w, s, kind, s.terms, "lse[:, None]", "q[:, None]", "k[None, :]", "k_inside[None, :]")
    w("""
        if DROPOUT:
            d_weight *= survivors(seed, threshold, survivor, batch, head, q[:, None], k[None, :])
        d_score = weight * (d_weight - delta[:, None])
    """)
    if kind == "careful":
        w("""
            d_score = tl.where(weight == 0.0, 0.0, d_score)
            key = tl.where((tl.max(tl.where(weight == 0.0, 0, 1), 0) > 0)[:, None], key, 0.0)
        """)
    w("acc = tl.dot(d_score.to(key.dtype), key, acc, input_precision=PRECISION)")


def _probability(w: Writer, s: Structure, kind: str, terms: range, lse: str, q: str, k: str, inside: str) -> None:
    """`weight`: the probabilities, 0 where nothing is read."""
    if s.bag:
        w(f"weight = tl.exp2(score * log_scale + (tl.load(run + 3).to(tl.float32, bitcast=True) - {lse}))")
    else:
        w(f"weight = tl.exp2(score * log_scale - {lse})")

    def apply(w: Writer, t: int) -> None:
        call = mask_call(s, t, q, k)
        if s.bag:
            w(f"m = tl.where({inside}, {call}, 0)")
            w("weight = tl.where(m > 0, weight * m.to(tl.float32), 0.0)")
        else:
            w(f"weight = tl.where({call} & {inside}, weight, 0.0)")

    masked(w, s, kind, terms, apply)


KEY_NUMBERS = f"{NUMBERS}, key_heads, slots"
KEY_POINTERS = f"{POINTERS}, dk_ptr, dv_ptr, dk_sum_ptr, dv_sum_ptr, piece_dk_ptr, piece_dv_ptr, members"


def backward_keys(w: Writer, s: Structure, term: int) -> None:
    """The kernel `backward_keys{term}`: dk and dv of one key tile of a term, over all query heads that share the key
    head. Scores stand with keys down and queries across."""
    boxes = ", q_box, d_out_box, log_box, delta_box" if s.boxed_queries else ""
    signature(w, s, f"backward_keys{term}", f"{KEY_POINTERS}, spoilt_ptr{boxes}", KEY_NUMBERS, CONSTANTS)
    with w.body():
        find_work(w, "k_base")
        _dkv_rows(w, s, term, careful=False)


def backward_keys_careful(w: Writer, s: Structure, term: int) -> None:
    """The kernel `backward_keys{term}_careful`; see `forward_careful`."""
    name = f"backward_keys{term}_careful"
    signature(w, s, name, f"{KEY_POINTERS}, spoilt_ptr", f"{KEY_NUMBERS}, programs", CONSTANTS)
    with w.body(), spoilt_work(w, "k_base", "TILE_K"):
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
        walk = careful_loops if careful else loops
        walk(w, s, lambda w: _query_step(w, s), lambda w, kind: _dkv_tile(w, s, kind, term), "TILE_Q // 16")
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
    signature(w, s, f"backward_keys{term}_merge", KEY_POINTERS, KEY_NUMBERS, CONSTANTS)
    with w.body():
        find_work(w, "k_base")
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
    _add_and_store(w, "dk", "dk_ptr", "dk_sum_ptr", "k_inside", "D", "d")
    _add_and_store(w, "dv", "dv_ptr", "dv_sum_ptr", "k_inside", "D_V", "c")


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
    boxed = s.boxed_queries and kind != "careful"
    tokens(w, s, "q", "base", "q_stride", "q_bits", "q_index")
    if boxed:
        w("""
            if BOXES:
                line = (base - (n - n_q)) // q_stride
                column = (base - (n - n_q)) % q_stride
        """)
    inside = None if kind == "full" else "q_inside"
    load(w, "query", box("q", "head", "TILE_Q, BLOCK_D") if boxed else "", at(s, "q", "q", "d"), inside, CHANNELS)
    _of_slots(w, "lse", "log_box" if boxed else "")
    w("score = tl.dot(key, tl.trans(query), input_precision=PRECISION)")
    by_box = box("d_out", "head", "TILE_Q, BLOCK_DV") if boxed else ""
    load(w, "d_out", by_box, at(s, "q", "d_out", "c"), inside, ("D_V", "BLOCK_DV", "c"))
    w("d_weight = tl.dot(value, tl.trans(d_out), input_precision=PRECISION)")
    terms = range(term, term + 1)
    _probability(w, s, kind, terms, "lse[None, :]", "q[None, :]", "k[:, None]", "k_inside[:, None]")
    _of_slots(w, "delta", "delta_box" if boxed else "")
    if kind == "careful":
        w("""
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


def _add_and_store(w: Writer, name: str, out: str, total: str, inside: str, dim: str, channel: str) -> None:
    """Add what earlier launches found, and store: the sum in float32 for later ones, the result if there are none."""
    w(f"""
        {name}_place = row[:, None] * {dim} + {channel}[None, :]
        {name}_stored = {inside}
        if CHAINED:
            if READS:
                {name}_read = {inside} & ((role & {READS}) > 0)
                {name}_mask = {name}_read[:, None] & ({channel} < {dim})[None, :]
                {name} += tl.load({total} + {name}_place, mask={name}_mask, other=0.0)
            if KEEPS:
                {name}_kept = {inside} & ((role & {KEEPS}) > 0)
                {name}_mask = {name}_kept[:, None] & ({channel} < {dim})[None, :]
                tl.store({total} + {name}_place, {name}, mask={name}_mask)
            {name}_stored = {inside} & ((role & {WRITES}) > 0)
        {name}_mask = {name}_stored[:, None] & ({channel} < {dim})[None, :]
        tl.store({out} + {name}_place, {name}.to({out}.dtype.element_ty), mask={name}_mask)
    """)
