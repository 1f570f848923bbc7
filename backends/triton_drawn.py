"""Plans of run-time tensors that the device makes by itself, while the host goes on.

What a length needs is made once: the tiles that may be kept whatever the tensors hold, kernels that look at them, and
grids with room for all of them. A call then starts a few small kernels, which leave what the kernels of attention read
in tables of the call's own. Nothing waits for the device, so that a CUDA graph can hold a call, and replays it with
what the tensors hold then.

Tiles are judged by the least and greatest elements that the tensors have in them; no cell is looked at. Rows are done
in the order of their candidates; those that turn out too long for one processor are cut (triton_cuts). Programs with
covers or selections stay with the planner that waits, for those are counted; so do those that compute with run-time
tensors what triton_trace does not know, and lengths with more than MOST_PLACES candidates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from patternc.analysis.fixed import UnknownElementError, UnknownTable
from patternc.analysis.tiles import TooMuchWorkError
from patternc.backends.inputs import Declared
from patternc.backends.triton_launch import Recipe, Scratch
from patternc.backends.triton_lists import Listings, listings
from patternc.backends.triton_looked import Look, look
from patternc.backends.triton_majors import Major, major, split, worst
from patternc.backends.triton_mask_arguments import table_name
from patternc.backends.triton_plans import Bound, Masks, Ready, grids, processors
from patternc.backends.triton_static import STATIC
from patternc.backends.triton_trace import TracedArrays, TracedTensor
from patternc.backends.triton_traced import Elements, plain
from patternc.backends.triton_values import UntraceableError
from patternc.passes.fixed import Possible, Room, room

MOST_PLACES = 1 << 22
"""Candidate tiles, over all classes of heads and batch rows: their tables take 200 MB, and those of a call as much.
Templates that are kept have no more of them together, but for the last one."""
KEPT = 8
"""Templates that are kept, by shapes."""


def enqueued(device: torch.device) -> bool:
    """Whether plans are made so."""
    return device.type == "cuda"


@dataclass(frozen=True, eq=False)
class Template:
    """What all calls at one length have in common."""

    ready: Ready
    looking: Recipe
    """Makes lists, and looks at the candidates."""
    elements: Elements
    sizes: Mapping[str, int]
    """Numbers of 32 bits of the tables that it leaves."""
    read: tuple[str, ...]
    """The tensors that masks read."""
    by_query: Major
    by_key: Major
    device: torch.device


@dataclass(eq=False)
class Drawn:
    """The tables of a call, made when they are first asked for."""

    template: Template
    tensors: Mapping[str, torch.Tensor]
    """Its run-time tensors, checked."""
    _looked: Mapping[str, torch.Tensor] = field(default_factory=dict)
    _made: dict[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)

    def tables(self, major: str) -> Mapping[str, torch.Tensor]:
        """The values of the call that launches `by_query` or `by_key` take."""
        if major not in self._made:
            maker: Major = getattr(self.template, major)
            read = {f"tensor {name}": plain(self.tensors[name]) for name in self.template.read}
            self._made[major] = {**read, **maker.run(self._found(), self.template.device)}
        return self._made[major]

    def _found(self) -> Mapping[str, torch.Tensor]:
        """What was found of each candidate, for walks over keys and for walks over queries, and the lists."""
        if not self._looked:
            template = self.template
            self._looked = split(template.sizes, template.device)
            template.looking.run({**self._looked, **template.elements.of(self.tensors)}, {})
        return self._looked


class DrawnPlans:
    """The plans of a program's calls."""

    def __init__(self, masks: Masks, kv_heads: int, title: str) -> None:
        self._masks, self._kv_heads, self._title = masks, kv_heads, title
        self._templates: OrderedDict[Any, Template | str] = OrderedDict()

    def ready(
        self, declared: Sequence[Declared], tensors: Mapping[str, torch.Tensor], types: Mapping[str, torch.dtype], *,
        n: int, n_q: int, batch: int, device: torch.device, tile: tuple[int, int],
    ) -> Ready | str:  # fmt: skip
        """The grids of a call, of which the device fills the tables; or why the planner that waits has to make them.
        `tensors` are checked; `types` are those that they had before, which bound their elements."""
        if not enqueued(device):
            return "the host does not run ahead of this device"
        shapes = tuple((t.shape, t.stride(), types[name], t.data_ptr() % 16) for name, t in tensors.items())
        key = (n, n_q, batch, device, tile, shapes)
        if key not in self._templates:
            try:
                self._templates[key] = self._template(declared, tensors, types, n, n_q, batch, device, tile)
            except (TooMuchWorkError, UnknownElementError, UntraceableError) as error:
                self._templates[key] = str(error) or "there are too many candidate tiles"
            self._forget()
        template = self._templates[key]
        if isinstance(template, str):
            return template
        return replace(template.ready, drawn=Drawn(template, tensors))

    def _forget(self) -> None:
        """Lets go of the oldest templates, if there are too many."""
        kept = self._templates
        while len(kept) > KEPT or (len(kept) > 1 and sum(_places(t) for t in kept.values()) > MOST_PLACES):
            kept.popitem(last=False)

    def _template(
        self, declared: Sequence[Declared], tensors: Mapping[str, torch.Tensor], types: Mapping[str, torch.dtype],
        n: int, n_q: int, batch: int, device: torch.device, tile: tuple[int, int],
    ) -> Template:  # fmt: skip
        unknown = {d.name: UnknownTable(d.element, tuple(tensors[d.name].shape), STATIC) for d in declared}
        meanings = self._masks.meanings(n, n_q, unknown, STATIC)
        if self._counts(meanings):
            raise UntraceableError("covers and selections are counted")
        xp = TracedArrays()
        traced = {d.name: _traced(xp, d, tensors[d.name], types[d.name]).table() for d in declared}
        here = self._masks.meanings(n, n_q, traced, xp)
        lists = listings(here, xp, tile)
        made = room(meanings, lists.of, *tile, limit=MOST_PLACES)
        if not 0 < made.places <= MOST_PLACES:
            raise UntraceableError(f"there are {made.places} candidate tiles")
        looks = [look(_meaning(here, p), p, lists.by_index, xp) for p in made.possible if len(p.tiles)]
        bound = Bound(self._masks, meanings, batch, tensors, device)
        ready = grids(bound, bound.completed(made.plan), kv_heads=self._kv_heads, batch=batch, device=device,
                      title=self._title, links=worst)  # fmt: skip
        return _template(made, ready, lists, looks, declared, tensors, device)

    def _counts(self, meanings: Any) -> bool:
        """Whether there are covers or selections."""
        return any(
            self._masks.source(heads[0], i, meanings.n).relations
            for heads in meanings.classes
            for i in range(len(meanings.terms(heads[0])))
        )


def _places(template: Template | str) -> int:
    return 0 if isinstance(template, str) else template.sizes["found"] // 2


def _meaning(meanings: Any, possible: Possible) -> Any:
    h = possible.heads[0]
    return meanings.term(h, None if meanings.rows_of(h) is None else 0, possible.term)


def _traced(xp: TracedArrays, declared: Declared, tensor: torch.Tensor, dtype: torch.dtype) -> TracedTensor:
    kind = declared.element
    whole = kind == "int" and not dtype.is_floating_point and dtype != torch.bool
    info = torch.iinfo(dtype if whole else torch.int64)
    return TracedTensor(xp, declared.name, kind, tuple(tensor.shape), declared.batched, (info.min, info.max))


def _template(
    made: Room, ready: Ready, lists: Listings, looks: Sequence[Look], declared: Sequence[Declared],
    tensors: Mapping[str, torch.Tensor], device: torch.device,
) -> Template:  # fmt: skip
    kernels = [one.kernel for one in lists.all] + [one.kernel for one in looks]
    pointers = tuple(dict.fromkeys(pointer for kernel in kernels for pointer in kernel.pointers))
    elements = Elements(pointers, frozenset(d.name for d in declared if d.batched))
    launches = [one.launch(elements, tensors, device) for one in lists.all]
    launches += [one.launch(made.places, elements, tensors, device) for one in looks]
    looking = Recipe(launches, Scratch(), device, kept=True)
    names = {f"table_{table_name(d.name)}": d.name for d in declared}
    schedule = ready.schedule
    by_query, by_key = (
        major(name, steps, made, ready.plan, lists, names, device, processors(device))
        for name, steps in (("by_query", schedule.by_query), ("by_key", schedule.by_key))
    )
    schedule = replace(schedule, by_query=by_query.steps, by_key=by_key.steps, recipes={})
    steps = (*by_query.steps, *by_key.steps)
    read = {value.removeprefix("tensor ") for s in steps for value in s.drawn.values() if value.startswith("tensor ")}
    sizes = {"found": 2 * made.places, **lists.sizes()}
    ready = replace(ready, schedule=schedule)
    return Template(ready, looking, elements, sizes, tuple(sorted(read)), by_query, by_key, device)
