"""The suite's patterns with their layouts and masks written by hand, and plans of them made on a GPU by looking at
every cell: for measuring kernels without the compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from patternc.backends.triton_schedule import BoundMask
from patternc.backends.triton_structure import Argument, Mask
from patternc.plan import CONSECUTIVE, FULL, PARTIAL, Axis, Launch, Layout, Plan, Runs, TermTiles

Cells = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class Piece:
    """A term: M of cells (q, k, h), the same as the body of a mask function, and the layout of its keys."""

    cells: Cells
    text: str
    keys: Layout = CONSECUTIVE
    numbers: dict = field(default_factory=dict)
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A pattern: launches as (layout of queries, pieces); `classes` of heads differ in h % classes."""

    name: str
    launches: Sequence[tuple[Layout, Sequence[Piece]]]
    bag: bool = False
    classes: int = 1
    documents: bool = False


def doc_ids(n: int, device: torch.device) -> torch.Tensor:
    """Ids of 24 packed documents, whose lengths lie within a tenth of n / 24, as the suite's."""
    lengths = torch.rand(24, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.9
    ends = (lengths.cumsum(0) / lengths.sum() * n).round().long()
    return torch.bucketize(torch.arange(n), ends[:-1], right=True).int().to(device)


def _blocks(q, k):
    d = (q // 64 - k // 64).abs()
    return (d == 0) | (d == 1) | (d == 2) | (d == 4) | (d == 8)


def _longnet(q, k, h):
    total = 0
    for w, r in ((2048, 1), (4096, 2), (8192, 4)):
        total = total + ((q // w == k // w) & (q % w % r == h % r) & (k % w % r == h % r)).int()
    return total * (q >= k)


LONGNET = """
    same = (q // 2048 == k // 2048).to(tl.int32)
    same += ((q // 4096 == k // 4096) & (q % 2 == h % 2) & (k % 2 == h % 2)).to(tl.int32)
    same += ((q // 8192 == k // 8192) & (q % 4 == h % 4) & (k % 4 == h % 4)).to(tl.int32)
    return tl.where(q >= k, same, 0)
"""


def cases() -> list[Case]:
    one = CONSECUTIVE
    return [
        Case("causal", [(one, [Piece(lambda q, k, h: q >= k, "return q >= k")])]),
        Case("local_causal", [(one, [Piece(
            lambda q, k, h: (q >= k) & (q - k < 1024), "return (q >= k) & (q - k < w)", numbers={"w": 1024})])]),
        Case("longformer", [(one, [Piece(
            lambda q, k, h: ((q - k).abs() <= 256) | (q < 128) | (k < 128),
            "return (tl.abs(q - k) <= w) | (q < g) | (k < g)", numbers={"w": 256, "g": 128})])]),
        Case("dilated_blocks", [(one, [Piece(
            lambda q, k, h: _blocks(q, k),
            "d = tl.abs(q // 64 - k // 64)\n    return (d <= 2) | (d == 4) | (d == 8)")])]),
        Case("sinks", [(one, [Piece(
            lambda q, k, h: (q >= k) & ((q - k < 2048) | (k < 64)),
            "return (q >= k) & ((q - k < w) | (k < g))", numbers={"w": 2048, "g": 64})])]),
        Case("dilated_window16", [(Layout(16, 1), [Piece(
            lambda q, k, h: ((q - k).abs() <= 4096) & ((q - k) % 16 == 0), "return tl.abs(q - k) <= w", Layout(16, 1),
            {"w": 4096})])]),
        Case("strided_st", [
            (one, [Piece(
                lambda q, k, h: (q >= k) & (q - k < 128), "return (q >= k) & (q - k < w)", numbers={"w": 128})]),
            (Layout(128, 1), [Piece(
                lambda q, k, h: (q - k >= 128) & ((q - k) % 128 == 0), "return q - k >= w", Layout(128, 1),
                {"w": 128})]),
        ]),
        Case("inblock_dil", [(one, [Piece(
            lambda q, k, h: ((q // 256 - k // 256).abs() <= 2) & ((k % 256 < 128) | (k % 2 == 0)),
            "return (tl.abs(q // 256 - k // 256) <= 2) & ((k % 256 < 128) | (k % 2 == 0))", Layout(2, 1))])]),
        Case("hier", [(one, [
            Piece(lambda q, k, h: k % 16 == 0, "return k % 16 == 0", Layout(16, 1)),
            Piece(lambda q, k, h: ((q - k).abs() <= 64) & (k % 16 != 0),
                  "return (tl.abs(q - k) <= w) & (k % 16 != 0)", numbers={"w": 64}),
            Piece(lambda q, k, h: ((q - k).abs() <= 256) & ((q - k).abs() > 64) & (k % 4 == 0) & (k % 16 != 0),
                  "return (tl.abs(q - k) <= w) & (tl.abs(q - k) > v) & (k % 16 != 0)", Layout(4, 1),
                  {"w": 256, "v": 64}),
        ])]),
        Case("document", [(one, [Piece(
            lambda q, k, h, ids: (q >= k) & (ids[q.clamp(max=len(ids) - 1)] == ids[k.clamp(max=len(ids) - 1)]),
            "same = tl.load(doc + q, mask=q < n, other=-1) == tl.load(doc + k, mask=k < n, other=-2)\n"
            "    return (q >= k) & same", tensors=("doc",))])], documents=True),
        Case("longnet", [(Layout(4, 1), [Piece(_longnet, LONGNET.strip(), Layout(4, 1))])], bag=True, classes=4),
    ]  # fmt: skip


def bound(case: Case, piece: Piece, ids: torch.Tensor) -> BoundMask:
    arguments = (*(Argument(name) for name in piece.numbers), *(Argument(name, "tensor") for name in piece.tensors))
    names = ", ".join(["q", "k", "n", "h", *(a.name for a in arguments)])
    text = f"@triton.jit\ndef MASK({names}):\n    {piece.text}"
    return BoundMask(Mask(text, arguments, case.bag), {**piece.numbers, **dict.fromkeys(piece.tensors, ids)})


def plan_of(case: Case, n: int, heads: int, tile_q: int, tile_k: int, device: torch.device) -> tuple[Plan, Callable]:
    """The plan, and the masks of its launches."""
    launches, masks = [], {}
    ids = doc_ids(n, device)
    for c in range(case.classes):
        followers = tuple(range(c, heads, case.classes))
        for queries, pieces in case.launches:
            axis = Axis(queries, 0, n, tile_q)
            terms = []
            for t, piece in enumerate(pieces):
                cells = partial(piece.cells, ids=ids) if case.documents else piece.cells
                terms.append(_term(t, cells, c, axis, Axis(piece.keys, 0, n, tile_k), device))
            launch = Launch(followers, None, axis, tuple(terms))
            launches.append(launch)
            masks[launch] = [bound(case, piece, ids) for piece in pieces]
    return Plan(n, n, heads, tile_q, tile_k, tuple(launches)), masks.__getitem__


def _term(number: int, cells: Cells, h: int, queries: Axis, keys: Axis, device: torch.device) -> TermTiles:
    k = _slots(keys, device)
    low, high = [], []
    for rows in _slots(queries, device).split(max(1, 2048 // queries.tile)):
        m = cells(rows[:, :, None, None], k[None, None], h).int()
        valid = (rows < queries.stop)[:, :, None, None] & (k < keys.stop)[None, None]
        high.append(torch.where(valid, m, 0).amax((1, 3)))
        low.append(torch.where(valid, m, 1 << 20).amin((1, 3)))
    low, high = torch.cat(low), torch.cat(high)
    code = torch.where(high == 0, -1, torch.where(low == high, high, 0)).cpu()  # -1 none, 0 partial, else weight
    return TermTiles(number, keys, _runs(code, keys), _runs(code.T.contiguous(), queries))


def _slots(axis: Axis, device: torch.device) -> torch.Tensor:
    tile, slot = torch.arange(axis.tiles, device=device)[:, None], torch.arange(axis.tile, device=device)[None]
    return torch.as_tensor(axis.tokens(tile, slot))


def _runs(code: torch.Tensor, across: Axis) -> Runs:
    """Runs of a matrix of tiles; see `_term`."""
    rows, tiles = code.shape
    lane = torch.arange(tiles) // across.per_lane
    start = torch.ones_like(code, dtype=torch.bool)
    start[:, 1:] = (code[:, 1:] != code[:, :-1]) | (lane[1:] != lane[:-1])[None]
    row, first = start.nonzero(as_tuple=True)
    stop = torch.cat([(row * tiles + first)[1:], torch.tensor([rows * tiles])])
    count = stop - (row * tiles + first)
    value = code[row, first]
    keep = value >= 0
    row, first, count, value = row[keep], first[keep], count[keep], value[keep]
    places = torch.searchsorted(row.contiguous(), torch.arange(rows + 1))
    kind = torch.where(value == 0, PARTIAL, FULL)
    return Runs(places.int(), first.int(), count.int(), kind.int(), value.int())


def tiles(plan: Plan) -> int:
    """Tiles by query, times heads."""
    return sum(len(la.heads) * int(t.by_query.count.sum()) for la in plan.launches for t in la.terms)


def wanted(case: Case, plan: Plan, device: torch.device) -> int:
    """Pairs with M > 0 (of launches that are disjoint), times heads."""
    total, ids = 0, doc_ids(plan.n, device)
    k = torch.arange(plan.n, device=device)[None]
    for c in range(case.classes):
        heads = len(range(c, plan.heads, case.classes))
        for _, pieces in case.launches:
            for piece in pieces:
                cells = partial(piece.cells, ids=ids) if case.documents else piece.cells
                for q in torch.arange(plan.n, device=device)[:, None].split(4096):
                    total += heads * int((cells(q, k, c) > 0).sum())
    return total
