"""What the generated kernels share: their arguments, how a program finds its work, and the loop over tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from textwrap import fill

from patternc.backends.triton_structure import Structure, launch_columns, tensor_arguments
from patternc.backends.triton_writer import Writer

TABLES = ("followers", "items", "runs", "launches", "roles", "index")
FOLLOWER_COLUMNS = 8
ITEM_COLUMNS = 14
RUN_COLUMNS = 5


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
        w(wrapped(", ".join(f"{c.strip()}: tl.constexpr" for c in constants.split(","))))
    w("):")


def wrapped(names: str) -> str:
    return fill(names, 110, break_long_words=False) + ","


def find_work(w: Writer, row: str) -> None:
    """The program's follower (a head and a batch row of a launch) and its item (a tile row, or a part of one)."""
    w(f"""
        follower = followers + tl.program_id(0) // per_follower * {FOLLOWER_COLUMNS}
        number = tl.program_id(0) % per_follower
        if number >= tl.load(follower + 4):
            return
    """)
    _item(w, row)


def _item(w: Writer, row: str) -> None:
    w(f"""
        head = tl.load(follower)
        batch = tl.load(follower + 1).to(tl.int64)
        launch = launches + tl.load(follower + 2) * LAUNCH_COLUMNS
        item = items + (tl.load(follower + 3) + number) * {ITEM_COLUMNS}
        {row} = tl.load(item)
    """)


@contextmanager
def spoilt_work(w: Writer, row: str, tile: str) -> Iterator[None]:
    """The same for each program of the first kernel that has left rows to the careful one: those `left_over`."""
    w("if tl.load(alarm_ptr) == 0:\n    return")
    with w.block("for program in range(tl.program_id(0), programs, tl.num_programs(0)):"):
        w(f"""
            follower = followers + program // per_follower * {FOLLOWER_COLUMNS}
            number = program % per_follower
            flags = spoilt_ptr + program * tl.full([], {tile}, tl.int64) + tl.arange(0, {tile})
            left_over = tl.load(flags, mask=number < tl.load(follower + 4), other=0) != 0
        """)
        with w.block("if tl.max(left_over.to(tl.int32), 0) > 0:"):
            _item(w, row)
            yield


def whole(w: Writer) -> None:
    """Whether the item is a whole row, and not a piece whose partial result is merged later."""
    w("""
        if CUT:
            whole = tl.load(item + 13) < 0
            place = (tl.load(follower + 7) + tl.load(item + 13)).to(tl.int64)  # of the piece among all
        else:
            whole: tl.constexpr = True
    """)


def numbers(w: Writer, s: Structure, terms: range | None = None) -> None:
    """Load the launch's numbers: strides and widths of layouts, numbers in masks."""
    for name, column in launch_columns(s).items():
        side = name.split("_")[0].lstrip("mask").lstrip("k")
        of_other_term = terms is not None and side.isdigit() and int(side) not in terms
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


def mask_call(s: Structure, term: int, q: str, k: str) -> str:
    values = []
    for a in s.masks[term].arguments:
        name = f"mask{term}_{a.name}"
        values.append(f"{name} + batch * {name}_batch" if a.batched else name)
    return f"mask{term}({', '.join([q, k, 'n', 'head', *values])})"


def by_term(terms: range, name: str) -> str:
    """The value of the tile's term, out of one variable per term."""
    chain = name.format(terms[-1])
    for t in reversed(terms[:-1]):
        chain = f"tl.where(code // 2 == {t}, {name.format(t)}, {chain})"
    return chain


def walk(
    w: Writer, column: int, step: Callable[[Writer], None], body: Callable[[Writer], None], spots: str = "",
    range_: str = "range(tiles)",
) -> None:  # fmt: skip
    """The loop over an item's tiles, run by run: sets `base` (the first token of the tile) and `code` (twice its term,
    plus 1 if partial). From that column on the item has its first run, the number of its tiles, and what it finds of
    the first run: token, tiles, code, slot."""
    w(f"""
        run = runs + tl.load(item + {column}) * {RUN_COLUMNS}
        tiles = tl.load(item + {column + 1})
        base = tl.load(item + {column + 2})
        left = tl.load(item + {column + 3})
        code = tl.load(item + {column + 4})
    """)
    if spots:
        w(f"spot = tl.load(item + {column + 5})")
    with w.block(f"for _ in {range_}:"):
        body(w)
        w("# The next tile of the run, or the first of the next run.")
        step(w)
        w(f"""
            left -= 1
            run += tl.where(left == 0, {RUN_COLUMNS}, 0)
            base = tl.where(left == 0, tl.load(run), base + step)
            code = tl.load(run + 2)
        """)
        if spots:
            w(f"spot = tl.where(left == 0, tl.load(run + 4), spot + {spots})")
        w("left = tl.where(left == 0, tl.load(run + 1), left)")


def loops(
    w: Writer, s: Structure, step: Callable[[Writer], None], body: Callable[[Writer, str], None], spots: str = ""
) -> None:
    """One loop over all tiles, or one over the partial and one over the full ones; `body` is given "joint", "partial"
    or "full"."""
    if not s.split:
        walk(w, 1, step, lambda w: body(w, "joint"), spots)
        return
    w("# Tiles that need a mask.")
    walk(w, 1, step, lambda w: body(w, "partial"), spots)
    w("# Tiles that need none.")
    walk(w, 7, step, lambda w: body(w, "full"), spots)


def careful_loops(
    w: Writer, s: Structure, step: Callable[[Writer], None], body: Callable[[Writer, str], None], spots: str = ""
) -> None:
    """The same slowly: rows that nobody reads in a tile are made 0 before they get into products."""
    for column in (1, 7) if s.split else (1,):
        walk(w, column, step, lambda w: body(w, "careful"), spots, "tl.range(tiles, num_stages=1)")


def spoilt(w: Writer, side: str, tile: str, *sums: str) -> None:
    """Note which rows are not numbers, as 0 · NaN and 0 · inf are not, and leave them to the careful kernel."""
    w(f"""
        check = {" + ".join(f"tl.sum({name}, 1)" for name in sums)}
        good = check == check
        tl.store(spoilt_ptr + tl.program_id(0).to(tl.int64) * {tile} + {side}_slot, tl.where(good, 0, 1).to(tl.int8))
        tl.store(alarm_ptr + {side}_slot * 0, 1, mask=good == 0)
        {side}_inside &= good
    """)


def roles(w: Writer, side: str) -> None:
    """What the launch does for each token of the row, if others have tiles for it too."""
    w(f"""
        if CHAINED:
            places = tl.load(follower + 2).to(tl.int64) * n + {side}
            role = tl.load(roles + places, mask={side}_inside, other=0)
    """)


def masked(w: Writer, s: Structure, kind: str, terms: range, apply: Callable[[Writer, int], None]) -> None:
    """What is done to the scores of partial tiles, term by term."""
    if kind == "full":
        return
    only = len(terms) == 1 and kind == "partial"
    for t in terms:
        word = "if" if t == terms[0] else "elif"
        with nullcontext() if only else w.block(f"{word} code == {2 * t + 1}:"):
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


def box(array: str, head: str, shape: str) -> str:
    """The load of a tile by its tensor descriptor of (batch, head, line, column, channel)."""
    return f"{array}_box.load([batch.to(tl.int32), {head}, line, column, 0]).reshape({shape})"
