"""A program at one length as grids of kernels: its plan, the masks of the plan's launches, their schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from patternc import ir
from patternc.analysis.meanings import Meanings
from patternc.analysis.planner import plan_of
from patternc.arrangement import Arrangement
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.triton_mask import LONGEST, Argument, MaskSource, mask_function
from patternc.backends.triton_mask_tables import MaskArguments, mask_arguments
from patternc.backends.triton_schedule import BoundMask, Schedule, schedule
from patternc.backends.triton_structure import Argument as KernelArgument
from patternc.backends.triton_structure import Mask
from patternc.passes.balance import PROCESSORS
from patternc.plan import LISTED, Axis, Launch, Plan

INT32 = range(-(1 << 31), 1 << 31)
MOST_KEYS = 1 << 30
"""Positions are numbers of 32 bits in kernels, those of slots beyond the end too."""
_SET = "MASK_of_set"


def tile_of(dim: int, bits: int) -> tuple[int, int]:
    """Queries and keys of a tile, for the larger head dimension and the bits of the dtype: so many rows of queries,
    keys, values and their gradients fit the shared memory of an H100 or H200 (227 KiB) together. Tiles of 64 x 64 were
    the fastest on an H200 for 128 channels, for larger ones spill registers (benchmarks/results/kernels-h200.json)."""
    return (64, 64) if max(dim, 64) * bits <= 256 * 16 else (32, 32)


@dataclass(frozen=True, eq=False)
class Masks:
    """The mask functions of the terms of a program's heads, each printed when it is first asked for."""

    arrangement: Arrangement
    _made: dict[tuple[int, int, int], MaskSource]

    @classmethod
    def of(cls, arrangement: Arrangement) -> Masks:
        return cls(arrangement, {})

    def source(self, head: int, term: int, n: int) -> MaskSource:
        """The function of a term of a head, for n keys at least."""
        number, own = next((i, c) for i, c in enumerate(self.arrangement.classes) if head in c.heads)
        longest = LONGEST if n <= LONGEST else MOST_KEYS
        key = (number, term, longest)
        if key not in self._made:
            tensors = self.arrangement.program.tensors
            self._made[key] = mask_function(own.terms[term].pattern, "MASK", tensors, longest)
        return self._made[key]

    def refused(self) -> str | None:
        """Why a head has no masks, if one has none; UnsupportedPatternError is such a reason too."""
        for own in self.arrangement.classes:
            for term in range(len(own.terms)):
                for number in self.source(own.heads[0], term, 1).numbers:
                    if number not in INT32:
                        return f"the number {number} in the pattern exceeds 32 bits"
        return None


@dataclass(frozen=True, eq=False)
class Ready:
    """All that a call needs beside its tensors of queries, keys and values."""

    plan: Plan
    schedule: Schedule


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
    meanings = Meanings(masks.arrangement, n=n, n_q=n_q, tensors=tensors, xp=TorchArrays(device))
    plan = plan_of(meanings, *tile, processors(device))
    known = _Bound(masks, meanings, batch, tensors, device)
    launches = tuple(part for launch in plan.launches for part in known.parts(of_one_kind(launch, device)))
    plan = replace(plan, launches=launches)
    known.bind(plan)
    made = schedule(plan, known.masks, kv_heads, batch, device, title=title)
    return Ready(plan, _with_gaps(made, plan, kv_heads, batch))


def processors(device: torch.device) -> int:
    """For how many a plan is balanced."""
    if device.type != "cuda":
        return PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def of_one_kind(launch: Launch, device: torch.device) -> Launch:
    """The launch with the keys of all terms listed if those of some are: a kernel reads its keys in one of two ways."""
    listed = [term.keys.layout.listed for term in launch.terms]
    if all(listed) or not any(listed):
        return launch
    return replace(launch, terms=tuple(replace(term, keys=_as_list(term.keys, device)) for term in launch.terms))


def _as_list(axis: Axis, device: torch.device) -> Axis:
    """The same slots as a list. The last slot of a tile that has slots without a token is one of them, as in others."""
    if axis.index is not None:
        return axis
    number, offset = (torch.arange(count, device=device) for count in (axis.tiles, axis.tile))
    return replace(axis, layout=LISTED, index=axis.tokens(number[:, None], offset).flatten().int())


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


class _Bound:
    """The masks of a plan's launches with their values."""

    def __init__(
        self,
        masks: Masks,
        meanings: Meanings,
        batch: int,
        tensors: Mapping[str, torch.Tensor],
        device: torch.device,
    ) -> None:
        self._printed, self._meanings, self._batch = masks, meanings, batch
        self._tensors, self._device = tensors, device
        self._first = {h: heads[0] for heads in meanings.classes for h in heads}
        self._arguments: dict[str, tuple[list[tuple[int, int]], MaskArguments]] = {}
        self._shared: dict[tuple[str, str], torch.Tensor] = {}

    def parts(self, launch: Launch) -> list[Launch]:
        """The launch for heads whose masks have equal text and numbers, one for each kind."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for h in launch.heads:
            sources = [self._source(h, term.term) for term in launch.terms]
            own = self._first[h] if any(s.relations for s in sources) else -1
            alike.setdefault((own, *((s.text, s.numbers) for s in sources)), []).append(h)
        return [replace(launch, heads=tuple(heads)) for heads in alike.values()]

    def bind(self, plan: Plan) -> None:
        """Makes the arguments of all functions that the plan's launches call; those of one text share their tensors."""
        by_text: dict[str, dict[tuple[int, int], MaskSource]] = {}
        for launch in plan.launches:
            for term in launch.terms:
                source = self._source(launch.heads[0], term.term)
                by_text.setdefault(source.text, {})[self._first[launch.heads[0]], term.term] = source
        for text, users in by_text.items():
            meanings = [self._rows(h, i) if source.relations else [] for (h, i), source in users.items()]
            made = mask_arguments(
                list(users.values()),
                meanings,
                n=self._meanings.n,
                n_q=self._meanings.n_q,
                tensors=self._tensors,
                device=self._device,
            )
            self._arguments[text] = list(users), made

    def masks(self, launch: Launch) -> Sequence[BoundMask]:
        """For `schedule`."""
        sources = [self._source(launch.heads[0], term.term) for term in launch.terms]
        bag = any(source.bag for source in sources)
        return [self._mask(launch.heads[0], t.term, s, bag) for t, s in zip(launch.terms, sources, strict=True)]

    def _mask(self, head: int, term: int, source: MaskSource, bag: bool) -> BoundMask:
        users, made = self._arguments[source.text]
        numbers = made.numbers[users.index((self._first[head], term))]
        for name, number in numbers.items():
            if number not in INT32:
                raise ValueError(
                    f"{name} of a run-time tensor is {number}, which exceeds 32 bits; use a smaller tensor"
                )
        values: dict[str, Any] = dict(numbers)
        for a in source.arguments:
            if a.kind == "tensor":
                values[a.name] = self._tensor(source, made, a)
        arguments = tuple(KernelArgument(a.name, a.kind, a.batched) for a in source.arguments)
        return BoundMask(Mask(kernel_text(source, bag), arguments, bag), values)

    def _tensor(self, source: MaskSource, made: MaskArguments, argument: Argument) -> torch.Tensor:
        """The one object that all launches are given; one that is alike for all batch rows has a batch stride of 0."""
        key = (source.text, argument.name)
        if key not in self._shared:
            tensor = made.tensors[argument.name]
            self._shared[key] = tensor.expand(self._batch, *tensor.shape[1:]) if argument.batched else tensor
        return self._shared[key]

    def _source(self, head: int, term: int) -> MaskSource:
        return self._printed.source(self._first[head], term, self._meanings.n)

    def _rows(self, head: int, term: int) -> list[Any]:
        """M of a term in each batch row, or once if they are alike."""
        count = self._meanings.rows_of(head)
        rows = [None] if count is None else range(count)
        found = [self._meanings.term(head, b, term) for b in rows]
        return found[:1] if all(m is found[0] for m in found) else found


def kernel_text(source: MaskSource, bag: bool) -> str:
    """The function as generated modules have it, with the words that it calls; of a set, as multiplicities if `bag`."""
    imports = f"from patternc.backends.triton_words import {', '.join(source.words)}\n\n\n" if source.words else ""
    if not bag or source.bag:
        return imports + source.text
    names = ", ".join(["q", "k", "n", "h", *(a.name for a in source.arguments)])
    inner = source.text.replace("def MASK(", f"def {_SET}(")
    return f"{imports}{inner}\n\n@triton.jit\ndef MASK({names}):\n    return tl.where({_SET}({names}), 1, 0)\n"


def title_of(program: ir.Program, text: str) -> str:
    """A header that cannot end the text that it stands in."""
    safe = text.encode("ascii", "backslashreplace").decode().replace("\\", "/").replace('"', "'")
    return f"{program.name}\n\n{safe}"
