"""What the source of kernels depends on. Numbers (lengths, strides, window widths) come with the call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from patternc.plan import Layout


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument that a mask function takes after (q, k, n, h): an `int`, whose value may differ from launch to
    launch, or a `tensor`, a pointer that is the same for all, which has a batch axis in front if `batched` (of length 1
    if all batch rows are alike); the function is given that of its batch row."""

    name: str
    kind: str = "int"
    batched: bool = False


@dataclass(frozen=True, slots=True)
class Mask:
    """The mask function of a term. `text` defines `{name}(q, k, n, h, …)` with the name left open: it holds the word
    MASK in its place."""

    text: str
    arguments: tuple[Argument, ...] = ()
    bag: bool = False
    """It gives multiplicities; else conditions."""


@dataclass(frozen=True, slots=True)
class Structure:
    """Kernels are generated once for each of these."""

    masks: tuple[Mask, ...]
    """One per term."""
    listed_queries: bool = False
    listed_keys: bool = False
    boxed: bool = False
    """Some lane may be narrower than its width, so columns have to be checked."""
    bag: bool = False
    """Multiplicities may be above 1."""
    title: str = field(default="", compare=False)
    """The pattern, for a reader."""

    @property
    def terms(self) -> range:
        return range(len(self.masks))

    @property
    def boxed_keys(self) -> bool:
        """Whether kernels by rows of queries may load keys by tensor descriptors: all, or where there are several
        terms, the full tiles of the main one."""
        return not self.listed_keys

    @property
    def one_layout(self) -> bool:
        """Whether all keys that kernels by rows of queries read are laid out alike."""
        return len(self.masks) == 1 and not self.listed_keys

    @property
    def boxed_queries(self) -> bool:
        """Whether kernels by rows of keys may load queries so."""
        return not self.listed_queries


def structure_of(
    masks: Sequence[Mask], queries: Sequence[Layout], keys: Sequence[Layout], *, title: str = ""
) -> Structure:
    """That of terms with these masks, for queries and keys under these layouts."""
    return Structure(
        tuple(masks),
        any(layout.listed for layout in queries),
        any(layout.listed for layout in keys),
        any(layout.stride % layout.width != 0 for layout in (*queries, *keys)),
        any(mask.bag for mask in masks),
        title,
    )


def launch_columns(s: Structure) -> dict[str, int]:
    """The columns of the table of launches by name."""
    names = ["q_stride", "q_bits", "q_index"]
    for t, mask in enumerate(s.masks):
        names += [f"k{t}_stride", f"k{t}_bits", f"k{t}_index"]
        names += [f"mask{t}_{a.name}" for a in mask.arguments if a.kind == "int"]
    if len(s.masks) > 1:
        names += ["main_stride", "main_bits", "main_index"]
    return {name: i for i, name in enumerate(names)}


def tensor_arguments(s: Structure) -> list[tuple[str, Argument]]:
    """The pointers that the masks of the terms take, under the names that kernels give them."""
    return [(f"mask{t}_{a.name}", a) for t, mask in enumerate(s.masks) for a in mask.arguments if a.kind == "tensor"]
