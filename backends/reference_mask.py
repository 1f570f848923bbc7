"""Multiplicities of patterns, densely and straight from the meaning of each node (language.md §1, §4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from patternc import ir
from patternc.backends import inputs
from patternc.backends.reference_scalars import Cells
from patternc.errors import Code, Diagnostic, SpatError
from patternc.rewrite import walk

# ------------------------------------------------------------------ patterns


def multiplicity(node: ir.Pattern, cells: Cells) -> torch.Tensor:
    """M on the rows of `cells`: int64 (n - first, n)."""
    match node:
        case ir.Where(condition):
            holds = cells.scalar(condition, _filled(cells, 1).bool())
            return holds.to(torch.int64).expand(_shape(cells))
        case ir.Union(args):
            return _fold(torch.maximum, args, cells, 0)
        case ir.Sum(args):
            return _fold(torch.add, args, cells, 0)
        case ir.Product(args):
            return _fold(torch.mul, args, cells, 1)
        case ir.Complement(a):
            return 1 - multiplicity(a, cells)
        case ir.Support(a):
            return multiplicity(a, cells).clamp(max=1)
        case ir.Choose(condition, then, orelse):
            return multiplicity(then if cells.uniform(condition) else orelse, cells)
        case ir.Family():
            return _family(node, cells)
        case ir.Blocks():
            return _blocks(node, cells)
        case ir.Cover():
            return _cover(node, cells)
        case ir.Top():
            return _top(node, cells)
        case ir.Sample():
            return _sample(node, cells)
    raise AssertionError(f"{type(node).__name__} is no pattern")


def _shape(cells: Cells) -> tuple[int, int]:
    return cells.n - cells.first, cells.n


def _filled(cells: Cells, value: int) -> torch.Tensor:
    return torch.full(_shape(cells), value, dtype=torch.int64, device=cells.device)


def _fold(combine: Any, args: tuple[ir.Pattern, ...], cells: Cells, start: int) -> torch.Tensor:
    result = _filled(cells, start)
    for arg in args:
        result = combine(result, multiplicity(arg, cells))
    return result


def _family(node: ir.Family, cells: Cells) -> torch.Tensor:
    result = _filled(cells, 0)
    for inner in cells.each(node):
        combine = torch.maximum if node.kind == "union" else torch.add
        result = combine(result, multiplicity(node.body, inner))
    return result


def _size(node: ir.Blocks | ir.Cover, cells: Cells) -> int:
    size = cells.uniform(node.size)
    if isinstance(size, float) or size < 1:
        message = f"a block must be at least 1 long, but its size is {size} at n = {cells.sizes[0]}"
        raise SpatError(Diagnostic(Code.BAD_BLOCK_SIZE, message, node.size.span, label=f"this is {size}"))
    return size


def _blocks(node: ir.Blocks, cells: Cells) -> torch.Tensor:
    size = _size(node, cells)
    inner = replace(cells, sizes=(*cells.sizes, -(-cells.n // size)), first=cells.first // size)
    body = multiplicity(node.body, inner)
    return body[cells.queries() // size - inner.first, cells.keys() // size]


def _cover(node: ir.Cover, cells: Cells) -> torch.Tensor:
    size = min(_size(node, cells), cells.n)
    whole = replace(cells, first=0)
    count = -(-cells.n // size)
    padded = torch.zeros(count * size, count * size, dtype=torch.int64, device=cells.device)
    padded[: cells.n, : cells.n] = multiplicity(node.body, whole)
    touched = padded.view(count, size, count, size).amax(dim=(1, 3))
    return touched[cells.queries() // size, cells.keys() // size]


# ------------------------------------------------------------------ selection


def _ranks(score: torch.Tensor, candidate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys of each row in descending order of score, candidates first, ties by the smaller key; and which of
    these are candidates."""
    order = torch.sort(score, dim=1, descending=True, stable=True).indices
    candidates_first = torch.sort(candidate.gather(1, order).int(), dim=1, descending=True, stable=True).indices
    order = order.gather(1, candidates_first)
    return order, candidate.gather(1, order)


def _count(node: ir.Top | ir.Sample, cells: Cells) -> int | float:
    count = cells.uniform(node.count)
    good = 0 < count <= 1 if isinstance(count, float) else count >= 0
    if not good:
        message = f"the count must be 0 or more, or a share in (0, 1], but it is {count} at n = {cells.sizes[0]}"
        raise SpatError(Diagnostic(Code.BAD_COUNT, message, node.count.span, label=f"this is {count}"))
    return count


def _chosen(order: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    """From places in descending order back to keys."""
    return torch.zeros_like(among).scatter(1, order, among).to(torch.int64)


def _top(node: ir.Top, cells: Cells) -> torch.Tensor:
    count = _count(node, cells)
    wanted = multiplicity(node.of, cells) > 0
    score = cells.scalar(node.by, wanted).expand(_shape(cells))
    order, candidate = _ranks(score, wanted & ~score.isnan())
    if isinstance(count, int):
        return _chosen(order, candidate & (torch.arange(cells.n, device=cells.device) < count))
    return _chosen(order, candidate & _within_share(score.gather(1, order).double(), candidate, count))


def _within_share(score: torch.Tensor, candidate: torch.Tensor, share: float) -> torch.Tensor:
    """The shortest prefix of each row whose softmax mass reaches the share; equal infinite scores weigh the same."""
    best = score[:, :1]
    weight = torch.where(score == best, 1.0, (score - best).exp())
    mass = torch.where(candidate, weight, 0.0).cumsum(dim=1)
    before = torch.nn.functional.pad(mass[:, :-1], (1, 0))
    return before < share * mass[:, -1:]


def mix(x: torch.Tensor | int) -> torch.Tensor | int:
    """The 32-bit mixer of `sample`, on integers that hold uint32 values (language.md §4)."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & 0xFFFFFFFF
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def hashed(seed: int, *counters: torch.Tensor | int) -> torch.Tensor | int:
    """The counter hash of `sample` and of dropout: a uint32 for each tuple of counters."""
    x = mix((seed + 0x9E3779B9) & 0xFFFFFFFF)
    for counter in counters:
        x = mix(x ^ (counter & 0xFFFFFFFF))
    return x


def _sample(node: ir.Sample, cells: Cells) -> torch.Tensor:
    count = _count(node, cells)
    wanted = multiplicity(node.of, cells) > 0
    seed = int(cells.uniform(node.seed))
    score = torch.as_tensor(hashed(seed, cells.head, cells.queries(), cells.keys()))
    order, candidate = _ranks(score.expand(_shape(cells)), wanted)
    return _chosen(order, candidate & (torch.arange(cells.n, device=cells.device) < count))


# ------------------------------------------------------------------ programs


def declared(program: ir.Program, heads: int, n: int) -> list[inputs.Declared]:
    """The run-time tensors with their shapes at this length."""
    cells = Cells(head=0, heads=heads, sizes=(n,))
    return [
        inputs.Declared(t.name, t.element, tuple(int(cells.uniform(d)) for d in t.dims), t.batched)
        for t in program.tensors
    ]


def check_grid(program: ir.Program, heads: int, n: int) -> None:
    """SpatError unless n is the number of cells of every grid."""
    cells = Cells(head=0, heads=heads, sizes=(n,))
    for grid in program.grids:
        extents = [int(cells.uniform(e)) for e in grid.extents]
        if math.prod(extents) != n:
            product = f"{' * '.join(map(str, extents))} = {math.prod(extents)}"
            message = f"n = {n} tokens do not fill the grid of {product}"
            raise SpatError(Diagnostic(Code.GRID_LENGTH, message, grid.span, label=f"needs n = {math.prod(extents)}"))


def _depends_on_head(program: ir.Program) -> bool:
    nodes = walk(program.pattern)
    return any(isinstance(node, ir.Sample) or (isinstance(node, ir.Var) and node.name == "h") for node in nodes)


def mask(
    program: ir.Program,
    heads: int,
    n: int,
    n_q: int | None = None,
    tensors: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    batch: int | None = None,
) -> torch.Tensor:
    """M of the last `n_q` queries: int64 (heads, n_q, n), or (B, heads, n_q, n) when a run-time tensor has a batch
    axis. Raises SpatError where the program has no value, ValueError or TypeError for wrong lengths or tensors."""
    n_q = n if n_q is None else n_q
    inputs.check_lengths(n, n_q)
    check_grid(program, heads, n)
    device = torch.device(device)
    given = inputs.check_tensors(declared(program, heads, n), tensors or {}, device, batch)
    batched = [t.name for t in program.tensors if t.batched]
    if not batched:
        return _heads(program, heads, n, n_q, given, device)
    rows = [
        _heads(program, heads, n, n_q, {**given, **{name: given[name][b] for name in batched}}, device)
        for b in range(given[batched[0]].shape[0])
    ]
    return torch.stack(rows) if rows else torch.zeros(0, heads, n_q, n, dtype=torch.int64, device=device)


def _heads(
    program: ir.Program, heads: int, n: int, n_q: int, tensors: Mapping[str, torch.Tensor], device: torch.device
) -> torch.Tensor:
    different = heads if _depends_on_head(program) else 1
    masks = [multiplicity(program.pattern, Cells(h, heads, (n,), n - n_q, tensors, device)) for h in range(different)]
    return torch.stack(masks).expand(heads, n_q, n)
