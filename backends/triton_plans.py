"""A program at one length as grids of kernels: its plan, the masks of the plan's launches, their schedule.

This is the same for a program in memory and for a saved module, which carries this file; they differ in the `Masks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Protocol

import torch

from patternc.analysis.relation import Relation
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.triton_chain import chain
from patternc.backends.triton_complete import complete, terms_beside
from patternc.backends.triton_launch import apart
from patternc.backends.triton_mask_tables import INT32, MOST_KEYS, MaskArguments, Source, mask_arguments
from patternc.backends.triton_schedule import BoundMask, Links, Schedule, Step, schedule
from patternc.backends.triton_structure import Argument, Mask
from patternc.backends.triton_tables import Tables
from patternc.passes.balance import PROCESSORS, balance
from patternc.passes.merge import merge
from patternc.passes.tiles import tiles
from patternc.plan import Launch, Plan

PLANNED_BY_HOST = 1 << 17
"""Up to so many keys a plan without run-time tensors is made on the CPU: a GPU plans by some thousand small kernels."""
_HOST = torch.device("cpu")


AT_ONCE = 2
"""Programs that a processor runs at a time: each takes up to half of its registers and shared memory."""


def tile_of(dim: int, bits: int) -> tuple[int, int]:
    """Queries and keys of a tile, for the larger head dimension and the bits of the dtype: so many rows of queries,
    keys, values and their gradients fit the shared memory of an H100 or H200 (227 KiB) together. Tiles of 64 x 64 were
    the fastest on an H200 for 128 channels, by `patternc bench --tune`; for larger ones they spill registers."""
    return (64, 64) if max(dim, 64) * bits <= 256 * 16 else (32, 32)


class Masks(Protocol):
    """The mask functions of a program's terms: printed for one in memory, or saved with it."""

    def meanings(self, n: int, n_q: int, tensors: Mapping[str, Any], xp: Any) -> Any:
        """Its multiplicities at a length, as passes of planning want them; SpatError or ValueError if the program does
        not admit the length."""

    def source(self, head: int, term: int, n: int) -> Any:
        """The function of a term of a head, for n keys at least; see `triton_mask_tables.Source`."""

    def mask(self, source: Any, bag: bool) -> Mask:
        """What the structure of kernels has of it; of a set, as multiplicities if `bag`."""

    def relations(self, source: Any, meaning: Any, n: int, n_q: int) -> Sequence[Relation]:
        """The covers and selections that it asks for cells, those of the meaning if that has them."""


@dataclass(frozen=True, eq=False)
class Ready:
    """All that a call needs beside its tensors of queries, keys and values."""

    plan: Plan
    schedule: Schedule
    drawn: Any = None
    """Where the device makes the tables of each call: those of this one, a `triton_drawn.Drawn`. The plan then has room
    for all calls."""

    def tables(self, major: str) -> Mapping[str, torch.Tensor]:
        """The values of the call's own that launches `by_query` or `by_key` take."""
        return _NOTHING if self.drawn is None else self.drawn.tables(major)


_NOTHING: Mapping[str, torch.Tensor] = MappingProxyType({})


def ready(
    masks: Masks,
    *,
    n: int,
    n_q: int,
    batch: int,
    kv_heads: int,
    device: torch.device,
    tensors: Mapping[str, torch.Tensor],
    tile: tuple[int, int],
    title: str = "",
) -> Ready:
    """The grids for the last n_q of n positions. `tensors` are the run-time tensors, checked. SpatError if the program
    does not admit the length, ValueError for one that kernels cannot number."""
    if n > MOST_KEYS:
        raise ValueError(f"the triton backend takes up to {MOST_KEYS} keys; found n = {n}")
    if tensors:
        return _ready(masks, n, n_q, batch, kv_heads, device, tensors, tile, title, home=device)
    home = device if n > PLANNED_BY_HOST else _HOST
    return apart(lambda: _ready(masks, n, n_q, batch, kv_heads, device, tensors, tile, title, home=home), device)


def _ready(
    masks: Masks, n: int, n_q: int, batch: int, kv_heads: int, device: torch.device,
    tensors: Mapping[str, torch.Tensor], tile: tuple[int, int], title: str, *, home: torch.device,
) -> Ready:  # fmt: skip
    """The same, planned on the device `home`."""
    xp = TorchArrays(home)
    meanings = masks.meanings(n, n_q, tensors, xp)
    plan = merge(tiles(meanings, *tile), xp)
    bound = Bound(masks, meanings, batch, tensors, home)
    plan = balance(bound.completed(plan), xp, processors(device))
    made = grids(bound, plan, kv_heads=kv_heads, batch=batch, device=home, title=title)
    return made if home == device else replace(made, schedule=moved(made.schedule, device))


def grids(
    bound: Bound, plan: Plan, *, kv_heads: int, batch: int, device: torch.device, title: str, links: Links = chain
) -> Ready:
    """The grids of a plan whose launches are completed; see `schedule`."""
    bound.bind(plan)
    made = schedule(plan, bound.masks, kv_heads, batch, device, title=title, links=links)
    return Ready(plan, _with_gaps(made, plan, kv_heads, batch))


def moved(made: Schedule, device: torch.device) -> Schedule:
    """The schedule with its tables on the device."""
    found = _moved(made, device, {})
    assert isinstance(found, Schedule)
    return found


def _moved(part: Any, device: torch.device, done: dict[int, Any]) -> Any:
    """A schedule, or a part of one, with its tensors on the device; what is one object stays one."""
    if id(part) in done:
        return done[id(part)]
    if isinstance(part, torch.Tensor):
        alike = part.ndim > 0 and part.stride(0) == 0  # for all batch rows
        made: Any = part[:1].to(device).expand(part.shape) if alike else part.to(device)
    elif isinstance(part, Schedule | Step | Tables):
        values = ((f.name, getattr(part, f.name)) for f in fields(part))
        made = replace(part, **{name: _moved(value, device, done) for name, value in values})
    elif isinstance(part, tuple):
        made = tuple(_moved(value, device, done) for value in part)
    elif isinstance(part, Mapping):
        made = {name: _moved(value, device, done) for name, value in part.items()}
    else:
        return part
    done[id(part)] = made
    return made


def processors(device: torch.device) -> int:
    """For how many a plan is balanced: programs that run at a time."""
    if device.type != "cuda":
        return PROCESSORS
    return AT_ONCE * int(torch.cuda.get_device_properties(device).multi_processor_count)


def _with_gaps(made: Schedule, plan: Plan, kv_heads: int, batch: int) -> Schedule:
    """The schedule, told of heads that no launch computes: their results have to be filled."""
    group = plan.heads // kv_heads
    computed = {
        (h, b) for la in plan.launches for h in la.heads for b in (range(batch) if la.batch is None else la.batch)
    }
    of_keys = {(h // group, b) for h, b in computed}
    return replace(
        made,
        queries_complete=made.queries_complete and len(computed) == plan.heads * batch,
        keys_complete=made.keys_complete and len(of_keys) == kv_heads * batch,
    )


class Bound:
    """The masks of a plan's launches with their values."""

    def __init__(
        self,
        masks: Masks,
        meanings: Any,
        batch: int,
        tensors: Mapping[str, torch.Tensor],
        device: torch.device,
    ) -> None:
        self._all, self._meanings, self._batch = masks, meanings, batch
        self._tensors, self._device = tensors, device
        self._first = {h: heads[0] for heads in meanings.classes for h in heads}
        self._arguments: dict[str, tuple[list[tuple[int, int]], MaskArguments]] = {}
        self._shared: dict[tuple[str, str], torch.Tensor] = {}

    def completed(self, plan: Plan) -> Plan:
        """The plan with complete launches, each for heads of equal masks."""
        parts = (part for launch in plan.launches for part in self._parts(launch, plan.tile_k))
        return replace(plan, launches=tuple(parts))

    def _parts(self, launch: Launch, tile_k: int) -> list[Launch]:
        """The complete launches for heads whose masks have equal text and numbers, one for each kind."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for h in launch.heads:
            terms = terms_beside(self._meanings.terms(h), launch.queries.layout)
            sources = [self._source(h, term) for term in terms]
            own = self._first[h] if any(s.relations for s in sources) else -1
            kind = (own, *((t, s.text, s.numbers) for t, s in zip(terms, sources, strict=True)))
            alike.setdefault(kind, []).append(h)
        return [self._complete(replace(launch, heads=tuple(heads)), tile_k) for heads in alike.values()]

    def _complete(self, launch: Launch, tile_k: int) -> Launch:
        layouts = self._meanings.terms(launch.heads[0])
        keys = {i: layouts[i][1] for i in terms_beside(layouts, launch.queries.layout)}
        return complete(launch, keys, self._meanings.n, tile_k, self._meanings.xp)

    def bind(self, plan: Plan) -> None:
        """Makes the arguments of all functions that the plan's launches call; those of one text share their tensors."""
        by_text: dict[str, dict[tuple[int, int], Source]] = {}
        for launch in plan.launches:
            for term in launch.terms:
                source = self._source(launch.heads[0], term.term)
                by_text.setdefault(source.text, {})[self._first[launch.heads[0]], term.term] = source
        for text, users in by_text.items():
            relations = [self._relations(h, i, source) for (h, i), source in users.items()]
            made = mask_arguments(list(users.values()), relations, tensors=self._tensors, device=self._device)
            self._arguments[text] = list(users), made

    def masks(self, launch: Launch) -> Sequence[BoundMask]:
        """For `schedule`."""
        sources = [self._source(launch.heads[0], term.term) for term in launch.terms]
        bag = any(source.bag for source in sources)
        return [self._mask(launch.heads[0], t.term, s, bag) for t, s in zip(launch.terms, sources, strict=True)]

    def _mask(self, head: int, term: int, source: Source, bag: bool) -> BoundMask:
        users, made = self._arguments[source.text]
        numbers = made.numbers[users.index((self._first[head], term))]
        for name, number in numbers.items():
            if number not in INT32:
                raise ValueError(
                    f"{name} of a run-time tensor is {number}, which exceeds 32 bits; use a smaller tensor"
                )
        mask = self._all.mask(source, bag)
        tensors = {a.name: self._tensor(source, made, a) for a in mask.arguments if a.kind == "tensor"}
        return BoundMask(mask, {**numbers, **tensors})

    def _tensor(self, source: Source, made: MaskArguments, argument: Argument) -> torch.Tensor:
        """The one object that all launches are given; one that is alike for all batch rows has a batch stride of 0."""
        key = (source.text, argument.name)
        if key not in self._shared:
            tensor = made.tensors[argument.name]
            self._shared[key] = tensor.expand(self._batch, *tensor.shape[1:]) if argument.batched else tensor
        return self._shared[key]

    def _source(self, head: int, term: int) -> Any:
        return self._all.source(self._first[head], term, self._meanings.n)

    def _relations(self, head: int, term: int, source: Source) -> list[Sequence[Relation]]:
        """Those that a mask asks for cells, in each batch row, or once if all are alike."""
        if not source.relations:
            return []
        meanings, count = self._meanings, self._meanings.rows_of(head)
        found = [meanings.term(head, b, term) for b in ([None] if count is None else range(count))]
        rows = found[:1] if all(m is found[0] for m in found) else found
        return [self._all.relations(source, m, meanings.n, meanings.n_q) for m in rows]
