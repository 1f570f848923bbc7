"""What a saved module of generated kernels has in place of a program: its mask functions, by head and term. Saved
modules carry this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import torch

from patternc.analysis.relation import Relation
from patternc.backends.torch_saved import SavedMeanings, SavedPattern
from patternc.backends.triton_adapter import version
from patternc.backends.triton_backend import device_name, device_reasons
from patternc.backends.triton_executor import KernelAttention
from patternc.backends.triton_mask_arguments import arguments_of
from patternc.backends.triton_options import Form
from patternc.backends.triton_structure import Argument, Mask, Structure

NARROW = 1 << 24
"""Up to so many keys a mask may compute with 32 bits where at more it needs 64."""


@dataclass(frozen=True)
class ReadTensor:
    """A run-time tensor that a mask function reads, and its axes but for that of the batch."""

    name: str
    axes: int
    batched: bool

    @property
    def dims(self) -> range:
        return range(self.axes)


@dataclass(frozen=True)
class SavedMask:
    """A mask function with the numbers of a term; see `triton_mask_tables.Source`. It asks so many covers and
    selections for cells."""

    function: int
    """Which one: the same for those that may share a kernel."""
    numbers: tuple[int, ...] = ()
    tensors: tuple[ReadTensor, ...] = ()
    relation_count: int = 0
    bag: bool = False
    """It gives multiplicities; else conditions."""

    @property
    def text(self) -> str:
        return f"mask {self.function}"

    @property
    def relations(self) -> range:
        return range(self.relation_count)

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        return arguments_of(self.tensors, self.relation_count, len(self.numbers))


@dataclass(frozen=True)
class HeadMasks:
    """The masks of the terms of some heads, for up to NARROW keys, and where others are needed for more, those: None
    where there is none."""

    heads: tuple[int, ...]
    narrow: tuple[SavedMask, ...]
    wide: tuple[SavedMask | None, ...] = ()


@dataclass(frozen=True, eq=False)
class SavedMasks:
    """See `triton_plans.Masks`."""

    pattern: SavedPattern
    by_head: tuple[HeadMasks, ...]

    def meanings(self, n: int, n_q: int, tensors: Mapping[str, Any], xp: Any) -> SavedMeanings:
        return self.pattern.meanings(n, n_q, tensors, xp)

    def source(self, head: int, term: int, n: int) -> SavedMask:
        own = next(masks for masks in self.by_head if head in masks.heads)
        found = own.wide[term] if own.wide and n > NARROW else own.narrow[term]
        if found is None:
            raise ValueError(f"the kernels of this module take up to {NARROW} keys; found n = {n}")
        return found

    def mask(self, source: SavedMask, bag: bool) -> Mask:
        return Mask(source.text, source.arguments, bag)

    def of(self, head: int, terms: Sequence[int], bag: bool, wide: bool = False) -> tuple[Mask, ...]:
        """The masks of terms that are computed together."""
        return tuple(self.mask(self.source(head, term, NARROW + wide), bag) for term in terms)

    def relations(self, source: SavedMask, meaning: Any, n: int, n_q: int) -> Sequence[Relation]:
        found: Sequence[Relation] = meaning.relations
        assert len(found) == len(source.relations), "a term's function leaves what its mask asks for"
        return found


def kernels_of(structure: Structure, saved: Mapping[Structure, SimpleNamespace]) -> SimpleNamespace:
    """The kernels of a structure. Those that check columns serve tiles as well of which no column is missing."""
    return saved[structure] if structure in saved else saved[replace(structure, boxed=True)]


@dataclass(frozen=True, eq=False)
class SavedForms:
    """How the kernels run best, as `patternc bench --tune` had found when the module was saved. Under another version
    of Triton they may ask for more than a processor has, so that nothing of it counts."""

    version: tuple[int, int]
    """Of Triton, with which it was found."""
    forms: Mapping[tuple[str, int, int], Form]
    """By the name of the device, the larger head dimension and the bits of the dtype."""

    def on(self, device: torch.device, dim: int, bits: int) -> Form | None:
        """See `triton_executor.Tuned`."""
        return self.forms.get((device_name(device), dim, bits)) if version() == self.version else None


class SavedAttention(KernelAttention):
    """The call of a saved module."""

    def __call__(self, q: torch.Tensor, *inputs: torch.Tensor, **options: Any) -> Any:
        """See `KernelAttention`; ValueError with the reason where kernels do not run."""
        if not torch.compiler.is_compiling() and isinstance(q, torch.Tensor) and (reason := _reason(q.device.type)):
            raise ValueError(f"this module cannot run here: {reason}")
        return super().__call__(q, *inputs, **options)


@cache
def _reason(device: str) -> str:
    return "; ".join(device_reasons(device))
