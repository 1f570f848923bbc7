"""The generated kernels of the backward pass by rows of queries: dq walks over keys by query tile, and leaves the
numbers of queries that dk and dv need, too, unless `prepare` has found them. (dk and dv: triton_backward_keys.) Nothing
is added atomically, so same inputs give same bits."""

from __future__ import annotations

from patternc.backends.triton_chain import KEEPS, READS, WRITES
from patternc.backends.triton_parts import careful_kernel, kernel, mask_call, masked, numbers, spoilt, whole
from patternc.backends.triton_queries import (
    key_load,
    key_loops,
    key_tokens,
    keys,
    query_places,
    query_tile,
    value_load,
)
from patternc.backends.triton_structure import Structure
from patternc.backends.triton_writer import Writer

POINTERS = "q_ptr, k_ptr, v_ptr, d_out_ptr, lse_ptr, delta_ptr, alarm_ptr"
NUMBERS = (
    "q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, d_out_batch, d_out_head, d_out_row, "
    "n, n_q, heads, group, per_follower, early, early_programs, scale, log_scale, seed, threshold, survivor, "
    "line_inverse, line_shift"
)


def prepare(w: Writer) -> None:
    """The kernel `prepare`: delta = Σ dO · O - dlse, and lse in base 2 with +inf for rows that see no key, so that
    their probabilities become 0."""
    w('''
        @triton.jit(do_not_specialize=["heads", "n_q", "d_out_batch", "d_out_head", "d_out_row"])
        def prepare(
            out_ptr, d_out_ptr, lse_ptr, d_lse_ptr, log_ptr, delta_ptr, heads, n_q, d_out_batch, d_out_head, d_out_row,
            D_V: tl.constexpr, BLOCK_DV: tl.constexpr, ROWS: tl.constexpr, HAS_D_LSE: tl.constexpr, ALIGN: tl.constexpr,
        ):
            """delta, and lse in base 2, of some rows; +inf where a row sees no key, so that its weights become 0."""
            blocks = tl.cdiv(n_q, ROWS)
            head = (tl.program_id(0) // blocks).to(tl.int64)  # counted over all batch rows
            q = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
            inside = q < n_q
            row = head * n_q + q
            dv = tl.arange(0, BLOCK_DV)
            mask = inside[:, None] & (dv < D_V)[None, :]
            out = tl.load(out_ptr + row[:, None] * D_V + dv[None, :], mask=mask, other=0.0).to(tl.float32)
            home = head // heads * d_out_batch + head % heads * d_out_head + q.to(tl.int64) * d_out_row
            d_out = tl.load(d_out_ptr + home[:, None] * ALIGN + dv[None, :], mask=mask, other=0.0).to(tl.float32)
            delta = tl.sum(out * d_out, 1)
            if HAS_D_LSE:
                delta -= tl.load(d_lse_ptr + row, mask=inside, other=0.0)
            lse = tl.load(lse_ptr + row, mask=inside, other=0.0)
            tl.store(log_ptr + row, tl.where(lse == float("-inf"), float("inf"), lse * LOG2_E), mask=inside)
            tl.store(delta_ptr + row, delta, mask=inside)
    ''')


QUERY_POINTERS = (
    "q_ptr, k_ptr, v_ptr, d_out_ptr, out_ptr, lse_ptr, d_lse_ptr, log_ptr, delta_ptr, alarm_ptr, dq_ptr, sum_ptr, "
    "piece_ptr"
)


def backward_queries(w: Writer, s: Structure) -> None:
    """The kernel `backward_queries`: dq of one query tile."""
    boxes = ", k_box, v_box" if s.boxed_keys else ""
    with kernel(w, s, "backward_queries", f"{QUERY_POINTERS}, spoilt_ptr{boxes}", NUMBERS, "q_base"):
        _dq_rows(w, s, careful=False)


def backward_queries_careful(w: Writer, s: Structure) -> None:
    """The kernel `backward_queries_careful`."""
    with careful_kernel(w, s, "backward_queries", QUERY_POINTERS, NUMBERS, "q_base", "TILE_Q"):
        _dq_rows(w, s, careful=True)


def _dq_rows(w: Writer, s: Structure, careful: bool) -> None:
    whole(w)
    numbers(w, s)
    query_places(w, s, careful)
    query_tile(w, s)
    w("""
        d_out_home = d_out_ptr + (batch * d_out_batch + head.to(tl.int64) * d_out_head) * ALIGN
        d_out_place = d_out_home + q_line[:, None] * (d_out_row * ALIGN) + dv[None, :]
        d_out = tl.load(d_out_place, mask=q_inside[:, None] & (dv < D_V)[None, :], other=0.0)
    """)
    _query_numbers(w, careful)
    keys(w, s, careful)
    w("acc = tl.zeros([TILE_Q, BLOCK_D], tl.float32)")
    key_loops(w, s, careful, lambda w, kind: _dq_tile(w, s, kind))
    if not careful:
        spoilt(w, "q", "TILE_Q", "acc")
    with w.block("if whole:"):
        _dq_finish(w)
    with w.block("else:"):
        w("""
            pieces = piece_ptr + (place * TILE_Q + q_slot)[:, None] * BLOCK_D + d[None, :]
            tl.store(pieces, acc, mask=q_inside[:, None])
        """)


def _query_numbers(w: Writer, careful: bool) -> None:
    """delta and lse as in `prepare`: found here where queries are in one launch only, and left to the kernels of dk and
    dv. Where several launches would find them, `prepare` has run before."""
    if careful:
        _prepared(w)
        return
    with w.block("if CHAINED:"):
        _prepared(w)
    with w.block("else:"):
        w("""
            out_place = out_ptr + row[:, None] * D_V + dv[None, :]
            out = tl.load(out_place, mask=q_inside[:, None] & (dv < D_V)[None, :], other=0.0)
            delta = tl.sum(out.to(tl.float32) * d_out.to(tl.float32), 1)
            if d_lse_ptr is not None:
                delta -= tl.load(d_lse_ptr + row, mask=q_inside, other=0.0)
            lse = tl.load(lse_ptr + row, mask=q_inside, other=float("-inf"))
            lse = tl.where(lse == float("-inf"), float("inf"), lse * LOG2_E)
            tl.store(log_ptr + row, lse, mask=q_inside)
            tl.store(delta_ptr + row, delta, mask=q_inside)
        """)


def _prepared(w: Writer) -> None:
    w("""
        lse = tl.load(log_ptr + row, mask=q_inside, other=float("inf"))
        delta = tl.load(delta_ptr + row, mask=q_inside, other=0.0)
    """)


def backward_queries_merge(w: Writer, s: Structure) -> None:
    """The kernel `backward_queries_merge`: the pieces of a row, in order."""
    with kernel(w, s, "backward_queries_merge", QUERY_POINTERS, NUMBERS, "q_base"):
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
    add_and_store(w, "acc", "dq_ptr", "sum_ptr", "q_inside", "D", "d")


def _dq_tile(w: Writer, s: Structure, kind: str) -> None:
    key_tokens(w, s, kind)
    key_load(w, s, kind)
    w("score = tl.dot(query, tl.trans(key), input_precision=PRECISION)")
    value_load(w, s, kind)
    w("d_weight = tl.dot(d_out, tl.trans(value), input_precision=PRECISION)")
    probability(w, s, kind, s.terms, "lse[:, None]", "q[:, None]", "k[None, :]", "k_inside[None, :]")
    w("""
        if DROPOUT:
            d_weight *= survivors(seed, threshold, survivor, batch, head, q[:, None], k[None, :])
        d_score = weight * (d_weight - delta[:, None])
    """)
    if kind == "careful":
        w("""
            weight = tl.where(q_inside[:, None], weight, 0.0)  # rows that are none read what nobody may
            d_score = tl.where(weight == 0.0, 0.0, d_score)
            key = tl.where((tl.max(tl.where(weight == 0.0, 0, 1), 0) > 0)[:, None], key, 0.0)
        """)
    w("acc = tl.dot(d_score.to(key.dtype), key, acc, input_precision=PRECISION)")


def probability(w: Writer, s: Structure, kind: str, terms: range, lse: str, q: str, k: str, inside: str) -> None:
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


def add_and_store(w: Writer, name: str, out: str, total: str, inside: str, dim: str, channel: str) -> None:
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
