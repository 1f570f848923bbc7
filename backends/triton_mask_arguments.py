"""The arguments that mask functions take after (q, k, n, h): how they are called, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from patternc.backends.triton_structure import Argument

RELATION_NUMBERS = ("at", "first", "rows", "columns", "stride", "steps")
"""The numbers that go with a relation's table; see `triton_words.belongs`."""


class Tensor(Protocol):
    """A run-time tensor that a function reads."""

    @property
    def name(self) -> str: ...

    @property
    def batched(self) -> bool: ...

    @property
    def dims(self) -> Sequence[object]:
        """One for each axis but that of the batch."""


def arguments_of(tensors: Sequence[Tensor], relations: int, numbers: int) -> tuple[Argument, ...]:
    """Run-time tensors with strides and sizes, then tables of covers and selections, then numbers of the pattern."""
    result = []
    for tensor in tensors:
        name = table_name(tensor.name)
        result.append(Argument(f"table_{name}", "tensor", tensor.batched))
        for i in range(len(tensor.dims)):
            result += [Argument(f"stride{i}_{name}"), Argument(f"size{i}_{name}")]
    for i in range(relations):
        result.append(Argument(relation_name(i), "tensor", True))
        result += [Argument(f"{relation_name(i)}_{number}") for number in RELATION_NUMBERS]
    return (*result, *(Argument(parameter(i)) for i in range(numbers)))


def parameter(number: int) -> str:
    """A number that was lifted out of the pattern."""
    return f"number_{number}"


def relation_name(number: int) -> str:
    """A cover or selection."""
    return f"set{number}"


def table_name(tensor: str) -> str:
    """The part of an argument's name that says which run-time tensor it belongs to; no two have the same."""
    assert tensor.isidentifier(), "the parser lets no other name through"
    plain = tensor.isascii() and not (tensor.startswith("x") and tensor.endswith("_"))
    return tensor if plain else f"x{tensor.encode().hex()}_"
