"""The contract of a backend, and how backends are found. Nothing here imports torch.

A backend is a class without arguments, named in the entry-point group `patternc.backends`; it is imported when it is
first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol

from patternc import ir
from patternc.suggest import guess

if TYPE_CHECKING:
    import torch

GROUP = "patternc.backends"
CHANNELS = 256
"""Head dimensions up to this every backend takes."""


class Artifact(Protocol):
    """A program, ready to run on tensors."""

    @property
    def source(self) -> str | None:
        """Generated source, for a reader; None where there is none."""

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        scale: float | None = None,
        dropout_p: float = 0.0,
        return_lse: bool = False,
        seed: int | None = None,
        tensors: Mapping[str, Any] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention of q (B, H, N_q, D), k (B, H_kv, N, D) and v (B, H_kv, N, D_v): the output (B, H, N_q, D_v) and, if
        asked for, lse (B, H, N_q), in float32 for half-precision inputs.

        `scale` is 1/√D unless given; `seed` decides what dropout drops, and is drawn from torch's generator unless
        given; `tensors` are the program's run-time tensors by name. Wrong arguments raise TypeError or ValueError.
        """


class Backend(Protocol):
    """One way to execute programs."""

    name: str
    most_channels: float
    """The largest head dimension, at least CHANNELS."""

    def supports(self, program: ir.Program, device: str, dtype: torch.dtype) -> list[str]:
        """The reasons why this backend cannot run the program on tensors of this device type ("cpu", "cuda") and
        dtype; none if it can."""

    def emit(self, program: ir.Program, heads: int, kv_heads: int) -> Artifact:
        """The program for a closed `program` (no Param, no Unknown) and these head counts."""


def collect(found: Sequence[EntryPoint]) -> dict[str, EntryPoint]:
    """Entry points by name; two different objects under one name are a ValueError."""
    backends: dict[str, EntryPoint] = {}
    for entry in found:
        first = backends.setdefault(entry.name, entry)
        if first.value != entry.value:
            raise ValueError(f"two backends are called {entry.name!r}: {first.value} and {entry.value}")
    return backends


@cache
def _entries() -> dict[str, EntryPoint]:
    return collect(tuple(entry_points(group=GROUP)))


def names() -> list[str]:
    """The installed backends, in alphabetical order; none is imported for this."""
    return sorted(_entries())


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """The message for a name that is not among those known."""
    return f"unknown {kind} {name!r}{guess(name, known)} (there are: {', '.join(known) or 'none'})"


@cache
def load(name: str) -> Backend:
    """The backend of that name; ValueError if there is none or it cannot be imported."""
    if name not in _entries():
        raise ValueError(unknown("backend", name, names()))
    try:
        kind = _entries()[name].load()
    except ImportError as error:
        raise ValueError(f"backend {name!r} cannot be imported: {error}") from error
    return kind()
