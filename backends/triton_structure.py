"""What the source of kernels depends on. Numbers (lengths, strides, window widths) come with the call."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument that a mask function takes after (q, k, n, h): an `int`, whose value may differ from launch to
    launch, or a `tensor`, a pointer that is the same for all, with a batch axis if `batched`."""

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
    split: bool = False
    """Partial and full tiles have loops of their own; else there is one loop with a branch."""
    title: str = field(default="", compare=False)
    """The pattern, for a reader."""

    @property
    def terms(self) -> range:
        return range(len(self.masks))

    @property
    def boxed_keys(self) -> bool:
        """Whether kernels by rows of queries may load keys by tensor descriptors: those of one layout."""
        return len(self.masks) == 1 and not self.listed_keys

    @property
    def boxed_queries(self) -> bool:
        """Whether kernels by rows of keys may load queries so."""
        return not self.listed_queries


def launch_columns(s: Structure) -> dict[str, int]:
    """The columns of the table of launches by name."""
    names = ["q_stride", "q_bits", "q_index"]
    for t, mask in enumerate(s.masks):
        names += [f"k{t}_stride", f"k{t}_bits", f"k{t}_index"]
        names += [f"mask{t}_{a.name}" for a in mask.arguments if a.kind == "int"]
    return {name: i for i, name in enumerate(names)}


def tensor_arguments(s: Structure) -> list[tuple[str, Argument]]:
    """The pointers that the masks of the terms take, under the names that kernels give them."""
    return [(f"mask{t}_{a.name}", a) for t, mask in enumerate(s.masks) for a in mask.arguments if a.kind == "tensor"]
