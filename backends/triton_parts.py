"""What the generated kernels share: their arguments, how a program finds its work, and the loop over tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from textwrap import fill

from patternc.backends.triton_notes import note
from patternc.backends.triton_structure import Structure, launch_columns, tensor_arguments
from patternc.backends.triton_writer import Writer

TABLES = ("followers", "items", "runs", "launches", "roles", "index")
FOLLOWER_COLUMNS = 8
ITEM_COLUMNS = 9
RUN_COLUMNS = 5
TURN_COLUMNS = 3
CONSTANTS = (
    "LAUNCH_COLUMNS, D, D_V, BLOCK_D, BLOCK_DV, TILE_Q, TILE_K, ALIGN, LONG, PRECISION, DROPOUT, "
    "CHAINED, READS, KEEPS, CUT, BOXES, ALIKE"
)
CHANNELS = ("D", "BLOCK_D", "d")
CAREFULLY = "tl.range(tiles, num_stages=1)"
"""The walk over all tiles in kernels that make rows that nobody reads in a tile 0 before they get into products."""


@dataclass(frozen=True, slots=True)
class Turns:
    """How a program of a grid with turns finds its work (see `Tables.turns`): which of the call's queries it belongs
    to, and which of the items of that query's row is its own."""

    query: str
    item: str


_JOINED = "\N{NO-BREAK SPACE}"


def signature(w: Writer, s: Structure, name: str, pointers: str, numbers: str, constants: str) -> None:
    """The head of a kernel. Integers may differ from call to call without a new compilation."""
    tensors = tensor_arguments(s)
    masks = [n for n, _ in tensors]
    batches = [f"{n}_batch" for n, a in tensors if a.batched]
    numbers = ", ".join([numbers, *batches])
    free = ", ".join(f'"{n.strip()}"' for n in numbers.split(",") if n.strip())
    with w.block("@triton.jit("):
        with w.block("do_not_specialize=["):
            w(wrapped(free))
        w("]")
    w(")")
    with w.block(f"def {name}("):
        for names in (pointers, ", ".join((*TABLES, *masks)), numbers):
            w(wrapped(names))
        w(wrapped(", ".join(f"{c.strip()}:{_JOINED}tl.constexpr" for c in constants.split(","))))
    w("):")
    with w.body():
        w(note(name))


def wrapped(names: str) -> str:
    return fill(names, 110, break_long_words=False).replace(_JOINED, " ") + ","


def find_work(w: Writer, row: str, turns: Turns | None = None) -> None:
    """The program's follower (a head and a batch row of a launch) and its item (a tile row, or a part of one); `turns`
    of kernels that have them."""
    w(f"""
        owner, number = work_of(tl.program_id(0), early, early_programs, per_follower)
        follower = followers + owner * {FOLLOWER_COLUMNS}
    """)
    if turns is not None:
        with w.block("if FEW:  # each query of the call has programs for the items of its row"):
            _turn(w, turns)
            w(f"""
                if ({turns.item} >= tl.load(turn + 1)) | (tl.load(turn + 2) >= n - n_q):
                    return
                launch = launches + tl.load(follower + 2) * LAUNCH_COLUMNS
                item = items + (tl.load(turn) + {turns.item}) * {ITEM_COLUMNS}
            """)
    w(f"""
        {"if" if turns is None else "elif"} ALIKE:  # all followers have the items of one launch
            launch = launches
            item = items + number * {ITEM_COLUMNS}
        else:
            if number >= tl.load(follower + 4):
                return
            launch = launches + tl.load(follower + 2) * LAUNCH_COLUMNS
            item = items + (tl.load(follower + 3) + number) * {ITEM_COLUMNS}
    """)
    _of_item(w, row)


def _turn(w: Writer, turns: Turns) -> None:
    """The line of the turns of the program's query."""
    w(f"turn = turns + (tl.load(follower + 2) * span + n - n_q - (room - span) + {turns.query}) * {TURN_COLUMNS}")


def _of_item(w: Writer, row: str) -> None:
    w(f"""
        {row} = tl.load(item)
        head = tl.load(follower)
        batch = tl.load(follower + 1).to(tl.int64)
    """)


@contextmanager
def kernel(
    w: Writer, s: Structure, name: str, pointers: str, numbers: str, row: str, turns: Turns | None = None
) -> Iterator[None]:
    """A kernel of one program for each item of work; what is added inside is its body. `row` becomes the first token of
    the item's tile row; `turns` as in `find_work`."""
    signature(w, s, name, pointers, numbers, _constants(turns))
    with w.body():
        find_work(w, row, turns)
        yield


def _constants(turns: Turns | None) -> str:
    return CONSTANTS if turns is None else f"{CONSTANTS}, FEW, MEMBERS"


@contextmanager
def careful_kernel(
    w: Writer, s: Structure, name: str, pointers: str, numbers: str, row: str, tile: str,
    turns: Turns | None = None,
) -> Iterator[None]:  # fmt: skip
    """The kernel `{name}_careful`, for the rows that are not numbers after the kernel of that name: something that
    nobody reads is not finite."""
    signature(w, s, f"{name}_careful", f"{pointers}, spoilt_ptr", f"{numbers}, programs", _constants(turns))
    with w.body(), _spoilt_work(w, row, tile, turns):
        yield


@contextmanager
def _spoilt_work(w: Writer, row: str, tile: str, turns: Turns | None) -> Iterator[None]:
    """The same for each program of the first kernel that has left rows to the careful one: those `left_over`."""
    w("if tl.load(alarm_ptr) == 0:\n    return")
    with w.block("for program in range(tl.program_id(0), programs, tl.num_programs(0)):"):
        w(f"""
            owner, number = work_of(program, early, early_programs, per_follower)
            follower = followers + owner * {FOLLOWER_COLUMNS}
            flags = spoilt_ptr + program * tl.full([], {tile}, tl.int64) + tl.arange(0, {tile})
        """)
        if turns is not None:
            with w.block("if FEW:"):
                _turn(w, turns)
                w(f"""
                    given = ({turns.item} < tl.load(turn + 1)) & (tl.load(turn + 2) < n - n_q)
                    own = tl.load(turn) + {turns.item}
                """)
        with nullcontext() if turns is None else w.block("else:"):
            w("given = number < tl.load(follower + 4)\nown = tl.load(follower + 3) + number")
        w("left_over = tl.load(flags, mask=given, other=0) != 0")
        with w.block("if tl.max(left_over.to(tl.int32), 0) > 0:"):
            w(f"""
                launch = launches + tl.load(follower + 2) * LAUNCH_COLUMNS
                item = items + own * {ITEM_COLUMNS}
            """)
            _of_item(w, row)
            yield


def whole(w: Writer, turns: Turns | None = None) -> None:
    """Whether the item is a whole row, and not a piece whose partial result is merged later; `turns` of kernels that
    have them."""
    with w.block("if CUT:"):
        w("whole = tl.load(item + 8) < 0")
        if turns is not None:
            w("if FEW:\n    place = (owner * per_follower + number).to(tl.int64)  # of the piece: the program's number")
        with nullcontext() if turns is None else w.block("else:"):
            w("place = (tl.load(follower + 7) + tl.load(item + 8)).to(tl.int64)  # of the piece among all")
    with w.block("else:"):
        w("whole: tl.constexpr = True")


def numbers(w: Writer, s: Structure, terms: range | None = None) -> None:
    """Load the launch's numbers: strides and widths of layouts, numbers in masks."""
    w("# The launch's layouts, and the numbers in its masks.")
    for name, column in launch_columns(s).items():
        side = name.split("_")[0].removeprefix("mask").removeprefix("k")
        of_other_term = terms is not None and (side == "main" or (side.isdigit() and int(side) not in terms))
        unused = name.endswith("_index") and not (s.listed_queries if name.startswith("q_") else s.listed_keys)
        if not of_other_term and not unused:
            w(f"{name} = tl.load(launch + {column})")


def offsets(w: Writer, side: str, stride: str, bits: str) -> None:
    """Where the slots of a tile lie in its layout, counted from its first token."""
    w(f"{side}_offset = ({side}_slot >> {bits}) * {stride} + ({side}_slot & ((1 << {bits}) - 1))")


def tokens(w: Writer, s: Structure, side: str, base: str, stride: str, bits: str, index: str) -> None:
    """The tokens of a tile, and which slots hold one: `{side}` and `{side}_inside`."""
    if s.listed_queries if side == "q" else s.listed_keys:
        w(f"{side} = tl.load(index + {index} + {base} + {side}_slot)")
    else:
        w(f"{side} = {base} + {side}_offset")
    w(f"{side}_inside = {side} < n" if side == "k" else f"{side}_inside = ({side} >= n - n_q) & ({side} < n)")
    if s.boxed:
        w(f"{side}_inside &= {base} % {stride} + ({side}_slot & ((1 << {bits}) - 1)) < {stride}")


def places(w: Writer, s: Structure, side: str, *arrays: tuple[str, str]) -> None:
    """Where the rows of a tile lie in arrays, given by name and channels, counted from the tile's first row."""
    if s.listed_queries if side == "q" else s.listed_keys:
        return
    w("if LONG:")
    with w.body():
        for name, channel in arrays:
            w(f"{name}_place = {side}_offset.to(tl.int64)[:, None] * ({name}_row * ALIGN) + {channel}[None, :]")
    w("else:")
    with w.body():
        for name, channel in arrays:
            w(f"{name}_place = {side}_offset[:, None] * ({name}_row * ALIGN) + {channel}[None, :]")


def at(s: Structure, side: str, name: str, channel: str, base: str = "base") -> str:
    """The pointers to the rows of the tile at `base`."""
    shift = " - (n - n_q)" if side == "q" else ""
    if s.listed_queries if side == "q" else s.listed_keys:
        return f"{name}_home + ({side}{shift}).to(tl.int64)[:, None] * ({name}_row * ALIGN) + {channel}[None, :]"
    first = f"({base}{shift})" if shift else base
    return f"{name}_home + {first}.to(tl.int64) * ({name}_row * ALIGN) + {name}_place"


def mask_call(s: Structure, term: int, q: str, k: str, head: str = "head") -> str:
    values = []
    for a in s.masks[term].arguments:
        name = f"mask{term}_{a.name}"
        values.append(f"{name} + batch * {name}_batch" if a.batched else name)
    return f"mask{term}({', '.join([q, k, 'n', head, *values])})"


def by_term(terms: range, name: str) -> str:
    """The value of the tile's term, out of one variable per term."""
    chain = name.format(terms[-1])
    for t in reversed(terms[:-1]):
        chain = f"tl.where(code // 2 == {t}, {name.format(t)}, {chain})"
    return chain


def loop(
    w: Writer, tiles: str, step: Callable[[Writer], None] | None, body: Callable[[Writer], None], spots: str = ""
) -> None:
    """The loop over so many of an item's tiles, from the one that the last loop, or `begin`, has come to: at `base`
    (its first token) and `spot` (its first slot in 16s) if asked for, of `code` (twice its term, plus 1 if partial),
    with `left` tiles of the `run`. `step` sets the distance to the next tile of a run, unless it is known."""
    with w.block(f"for _ in {tiles}:"):
        body(w)
        w("# The next tile of the run, or the first of the next run.")
        if step is not None:
            step(w)
        w(f"""
            left -= 1
            done = left == 0
            base = tl.where(done, next_base, base + step)
            left = tl.where(done, next_left, left)
            code = tl.where(done, next_code, code)
            run += tl.where(done, {RUN_COLUMNS}, 0)
        """)
        if spots:
            w(f"spot = tl.where(done, next_spot, spot + {spots})")
        _ahead(w, spots)


def begin(w: Writer, spots: str = "") -> None:
    """The first of an item's tiles."""
    w(f"""
        tiles = tl.load(item + 2)
        run = runs + tl.load(item + 1) * {RUN_COLUMNS}
        base = tl.load(item + 3)
        left = tl.load(item + 4)
        code = tl.load(item + 5)
    """)
    if spots:
        w("spot = tl.load(item + 6)")
    _ahead(w, spots)


def _ahead(w: Writer, spots: str) -> None:
    """The next run: read a tile before it may be needed."""
    for column, name in ((0, "base"), (1, "left"), (2, "code"), *([(4, "spot")] if spots else [])):
        w(f"next_{name} = tl.load(run + {RUN_COLUMNS + column})")


def spoilt(w: Writer, side: str, tile: str, *sums: str) -> None:
    """Note which rows are not numbers, as 0 · NaN and 0 · inf are not, and leave them to the careful kernel."""
    w(f"""
        # Rows that are not numbers are left over.
        check = {" + ".join(f"tl.sum({name}, 1)" for name in sums)}
        good = check == check
        tl.store(spoilt_ptr + tl.program_id(0).to(tl.int64) * {tile} + {side}_slot, tl.where(good, 0, 1).to(tl.int8))
        tl.store(alarm_ptr + {side}_slot * 0, 1, mask=good == 0)
        {side}_inside &= good
    """)


def roles(w: Writer, side: str, room: str = "n") -> None:
    """What the launch does for each token of the row, if others have tiles for it too; there is `room` for so many
    tokens of each launch."""
    w(f"""
        if CHAINED:
            places = tl.load(follower + 2).to(tl.int64) * {room} + {side}
            role = tl.load(roles + places, mask={side}_inside, other=0)
    """)


def masked(w: Writer, s: Structure, kind: str, terms: range, apply: Callable[[Writer, int], None]) -> None:
    """What is done to the scores of partial tiles, term by term."""
    if kind == "full":
        return
    for t in terms:
        with w.block(f"{'if' if t == terms[0] else 'elif'} code == {2 * t + 1}:"):
            apply(w, t)


def load(w: Writer, name: str, box: str, pointer: str, inside: str | None, dim: tuple[str, str, str]) -> None:
    """A tile of rows of D channels; slots without a token, and channels beyond D, are 0. With BOXES by `box`, unless
    that is empty. `dim` are D, the tile's channels and their numbers."""
    size, block, channel = dim
    rows = f"{inside}[:, None]" if inside else ""
    both = f"{rows} & " if rows else ""
    some = f", mask={rows}, other=0.0" if rows else ""
    first = f"if BOXES:\n    {name} = {box}\nelif" if box else "if"
    w(f"{first} {size} == {block}:")
    with w.body():
        w(f"{name} = tl.load({pointer}{some})")
    with w.block("else:"):
        w(f"{name} = tl.load({pointer}, mask={both}({channel} < {size})[None, :], other=0.0)")


def line_of(w: Writer, row: str, stride: str) -> None:
    """The line and column of a row of memory, for `box`. It multiplies by `triton_boxes.inverse`, for products wait for
    the dozens of instructions of a division."""
    w(f"""
        if BOXES:
            line = ({row} * line_inverse >> line_shift).to(tl.int32)
            column = {row} - line * {stride}
    """)


def box(array: str, head: str, shape: str) -> str:
    """The load of a tile by its tensor descriptor of (batch, head, line, column, channel)."""
    return f"{array}_box.load([batch.to(tl.int32), {head}, line, column, 0]).reshape({shape})"
