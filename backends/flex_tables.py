"""What the mask_mods of a pattern capture: run-time tensors, lists of numbers, and tables of relations."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from patternc import ir
from patternc.analysis.evaluate import Meaning
from patternc.analysis.numbers import Cells
from patternc.analysis.tables import Table
from patternc.backends.flex_cells import Relation
from patternc.backends.flex_printer import Printed
from patternc.backends.flex_values import fits32
from patternc.backends.torch_arrays import TorchArrays
from patternc.rewrite import walk
from patternc.specialise import specialise

MOST_CELLS = 1 << 28
"""Cells of one table; a cell takes a byte."""
CELLS_AT_ONCE = 1 << 20
"""Cells in one evaluation; its temporaries are 64-bit integers."""


def tables_of(
    printed: Printed, tensors: Mapping[str, torch.Tensor], batched: frozenset[str], device: torch.device
) -> dict[str, torch.Tensor]:
    """The lists and tables by name; `tensors` are all run-time tensors, `batched` the names of those that have a batch
    axis. ValueError if a table were too large."""
    tables = {name: _list(items, device) for name, items in printed.lists.items()}
    for name, relation in printed.relations.items():
        tables[name] = _table(relation, tensors, batched, TorchArrays(device))
    return tables


def _list(items: tuple[int | float, ...], device: torch.device) -> torch.Tensor:
    """As bools, float64 or integers of no more bits than they need, 32 at least."""
    if not isinstance(items[0], int) or isinstance(items[0], bool):
        return torch.tensor(items, dtype=torch.float64 if isinstance(items[0], float) else torch.bool, device=device)
    return torch.tensor(items, dtype=torch.int32 if fits32(min(items), max(items)) else torch.int64, device=device)


def _table(
    relation: Relation, tensors: Mapping[str, torch.Tensor], batched: frozenset[str], xp: TorchArrays
) -> torch.Tensor:
    reads = sorted({node.tensor for node in walk(relation.node) if isinstance(node, ir.Read)})
    rows = range(tensors[next(name for name in reads if name in batched)].shape[0]) if relation.by_batch else [None]
    heads = relation.heads or (relation.head,)
    shape = (len(rows), len(heads), *relation.shape)
    if math.prod(shape) > MOST_CELLS:
        kind = type(relation.node).__name__.lower()
        message = f"a `{kind}` of {relation.shape[0]} × {relation.shape[1]} blocks or tokens is too large to be a table"
        raise ValueError(f"{message} ({len(rows)} batch rows, {len(heads)} heads); use another backend than flex")
    table = torch.empty(shape, dtype=torch.bool, device=xp.device)
    for i, b in enumerate(rows):
        arrays = {name: Table(xp, tensors[name][b] if name in batched else tensors[name]) for name in reads}
        for j, h in enumerate(heads):
            node = specialise(relation.node, {"h": h})
            meaning = Meaning(node, n=relation.n, n_q=relation.n_q, h=h, tables=arrays, xp=xp)
            table[i, j] = _cells(meaning, relation, xp)
    wanted = (slice(None) if relation.by_batch else 0, slice(None) if relation.heads else 0)
    return table[wanted].contiguous()


def _cells(meaning: Meaning, relation: Relation, xp: TorchArrays) -> torch.Tensor:
    """One cell of each block stands for all of it."""
    rows, columns = relation.shape
    q = torch.clamp((relation.first + xp.arange(0, rows)) * relation.size, min=relation.n - relation.n_q)
    k = xp.arange(0, columns) * relation.size
    parts = []
    for some in q.split(max(1, CELLS_AT_ONCE // columns)):
        m = meaning(Cells(some[:, None], True, xp), Cells(k[None, :], True, xp))
        value = m.value if isinstance(m, Cells) else m
        parts.append(torch.as_tensor(value, device=xp.device).expand(len(some), columns) > 0)
    return torch.cat(parts)
