"""What the arguments of printed masks are at one length: run-time tensors, tables of covers and selections, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch.nn.functional import pad

from patternc.analysis.relation import Relation
from patternc.backends.triton_mask_arguments import parameter, relation_name, table_name
from patternc.backends.triton_structure import Argument

INT32 = range(-(1 << 31), 1 << 31)
MOST_KEYS = 1 << 30
"""Positions are numbers of 32 bits in kernels, those of slots beyond the end too."""
MOST_BITS = 1 << 28
"""Cells of a relation, over all batch rows, of which a bitmap is kept (32 MiB); larger ones keep their runs."""


@dataclass(frozen=True, eq=False)
class MaskArguments:
    """What goes to one printed function: tensors by name, the same for all sources of its text, those of batched
    arguments with their batch axis; and the numbers by name for each source."""

    tensors: dict[str, torch.Tensor]
    numbers: tuple[dict[str, int], ...]


class Source(Protocol):
    """A mask function with its numbers, printed or saved."""

    @property
    def text(self) -> str:
        """Equal for equal functions."""

    @property
    def tensors(self) -> Sequence[Any]:
        """The run-time tensors that it reads, by `name` and `batched`."""

    @property
    def arguments(self) -> Sequence[Argument]:
        """What it takes after (q, k, n, h)."""

    @property
    def bag(self) -> bool:
        """It gives multiplicities; else conditions."""

    @property
    def relations(self) -> Sequence[Any]:
        """The covers and selections that it asks for cells."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The values of its last arguments."""


def mask_arguments(
    sources: Sequence[Source],
    relations: Sequence[Sequence[Sequence[Relation]]],
    *,
    tensors: Mapping[str, torch.Tensor],
    device: torch.device | str,
) -> MaskArguments:
    """The arguments of sources of one text, for example of several classes of heads.

    `relations` has for each source the relations that it asks for, for each batch row, or once if all batch rows are
    alike. `tensors` are the checked run-time tensors, with their batch axis.
    """
    assert len({source.text for source in sources}) == 1, "only equal functions share their arguments"
    one = sources[0]
    shared: dict[str, torch.Tensor] = {}
    common: dict[str, int] = {}
    for declared in one.tensors:
        name, tensor = table_name(declared.name), tensors[declared.name].to(device)
        shared[f"table_{name}"] = tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
        for i, axis in enumerate(range(declared.batched, tensor.ndim)):
            common |= {f"stride{i}_{name}": tensor.stride(axis), f"size{i}_{name}": tensor.shape[axis]}
    numbers = [common | _own_numbers(source) for source in sources]
    for i in range(len(one.relations)):
        name = relation_name(i)
        found = [packed([row[i] for row in rows], device) for rows in relations]
        shared[name], places = _pooled([table for table, _ in found])
        for own, (_, more), at in zip(numbers, found, places, strict=True):
            own |= {f"{name}_{key}": value for key, value in {"at": at, **more}.items()}
    return MaskArguments(shared, tuple(numbers))


def _own_numbers(source: Source) -> dict[str, int]:
    return {parameter(i): value for i, value in enumerate(source.numbers)}


def _pooled(tables: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
    """Tables (batch or 1, elements) side by side, and where each starts."""
    batch = max(table.shape[0] for table in tables)
    places = [0, *accumulate(table.shape[1] for table in tables)]
    return torch.cat([table.expand(batch, -1) for table in tables], 1), places[:-1]


# ------------------------------------------------------------------ relations


def packed(relations: Sequence[Relation], device: torch.device | str) -> tuple[torch.Tensor, dict[str, int]]:
    """The table of relations of one node, one for each batch row or one for all, (batch, elements) of int32, and the
    numbers that go with it: see `triton_words.belongs`."""
    one = relations[0]
    columns = one.stride - 1
    runs = [_runs(relation, device) for relation in relations]
    if len(relations) * one.rows * columns <= MOST_BITS:
        table = torch.stack([_bitmap(*run, one.rows, columns).flatten() for run in runs])
        stride, steps = -(-columns // 32), 0
    else:
        table, stride, steps = _listed(runs, one.rows)
    return table, {"first": one.first, "rows": one.rows, "columns": columns, "stride": stride, "steps": steps}


Runs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Row, first column and one past the last column of runs, in order."""


def _runs(relation: Relation, device: torch.device | str) -> Runs:
    starts, ends = (torch.as_tensor(a).to(device) for a in relation._levels[0][0])
    row = starts // relation.stride
    return row, starts - row * relation.stride, ends - row * relation.stride


def _bitmap(row: torch.Tensor, start: torch.Tensor, end: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(rows, words) of int32: bit c % 32 of word c // 32 is column c."""
    width = -(-columns // 32) * 32
    steps = torch.zeros(rows * (width + 1), dtype=torch.int8, device=row.device)
    steps[row * (width + 1) + start] = 1  # no run starts where another ends: the two would be one
    steps[row * (width + 1) + end] = -1
    inside = steps.view(rows, width + 1)[:, :width].cumsum(1, dtype=torch.int8)
    words = torch.zeros(rows, width // 32, dtype=torch.int32, device=row.device)
    for bit in range(32):
        words |= inside[:, bit::32].to(torch.int32) << bit
    return words


def _listed(runs: Sequence[Runs], rows: int) -> tuple[torch.Tensor, int, int]:
    """Bounds of rows, first columns and ends of runs; how many runs there is room for, and the halvings that find one
    in a row."""
    room = max(row.shape[0] for row, _, _ in runs)
    tables, longest = [], 1
    for row, start, end in runs:
        bounds = torch.searchsorted(row, torch.arange(rows + 1, device=row.device))
        longest = max(longest, int(bounds.diff().max()))
        tables.append(torch.cat([bounds, pad(start, (0, room - start.shape[0])), pad(end, (0, room - end.shape[0]))]))
    return torch.stack(tables).to(torch.int32), room, longest.bit_length()
