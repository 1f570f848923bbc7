"""The pipeline as one call: from a program to attention that can be run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from patternc import ir
from patternc.arguments import arguments
from patternc.backends import base
from patternc.elaborate import elaborate
from patternc.library import Pattern, load
from patternc.machine import OBJECTIVES, Objective
from patternc.plan import TILE_K, TILE_Q
from patternc.specialise import of_head, specialise

if TYPE_CHECKING:
    import torch

    from patternc.arrangement import Arrangement
    from patternc.nn import SelfAttention
    from patternc.passes.layout import Story
    from patternc.plan import Plan
    from patternc.planning import Planned
    from patternc.statistics import Statistics

PREFERENCE = {"cuda": ("triton", "torch", "reference"), "cpu": ("torch", "reference")}
"""The order in which `backend="auto"` tries, by device; other devices are tried like a CPU, other installed backends
come after these."""
_F = TypeVar("_F", bound=Callable[..., Any])
MOST_HEADS = 4096
PLANS = 64
"""Plans that a compiled object keeps."""
TILE = (TILE_Q, TILE_K)
"""Queries and keys of a tile, unless others are asked for; backends have tiles of this size."""
MOST_TILE = 1024
"""The longest side of a tile."""


def compile(
    source: str | Path | Pattern,
    pattern: str | None = None,
    *,
    heads: int,
    kv_heads: int | None = None,
    layer: int = 0,
    backend: str = "auto",
    **params: Any,
) -> Compiled:
    """Compiles one pattern for attention with `heads` query heads.

    `source` is a path ending in `.spat`, `std/<name>`, program text, or a `Pattern`; `pattern` names one of a file
    with several (the last unless given). `kv_heads` is the number of key heads, of which each serves heads / kv_heads
    query heads. `params` are the pattern's parameters. Run-time tensors are passed when the result is called.

    SpatError says what is wrong with the program, TypeError and ValueError what is wrong with the arguments.
    """
    heads, kv_heads, layer = _counts(heads, kv_heads, layer)
    if backend != "auto" and backend not in base.names():
        raise ValueError(base.unknown("backend", backend, ["auto", *base.names()]))
    chosen = source if isinstance(source, Pattern) else load(source).choose(pattern)
    values = arguments(chosen.definition, params)
    program = specialise(elaborate(chosen.definition, values, heads=heads), {"layer": layer})
    for h in range(heads):
        of_head(program, h)  # whatever has no value for some head is found now
    return Compiled(chosen, program, heads, kv_heads, layer, backend)


def _counts(heads: int, kv_heads: int | None, layer: int) -> tuple[int, int, int]:
    kv_heads = heads if kv_heads is None else kv_heads
    for name, value, least in (("heads", heads, 1), ("kv_heads", kv_heads, 1), ("layer", layer, 0)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int; found {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}; found {value}")
    if heads > MOST_HEADS:
        raise ValueError(f"heads must be at most {MOST_HEADS}; found {heads}")
    if heads % kv_heads:
        raise ValueError(f"heads must be a multiple of kv_heads; found heads = {heads}, kv_heads = {kv_heads}")
    return heads, kv_heads, layer


def _lengths(n: int, n_q: int | None) -> tuple[int, int]:
    """n keys, and the number of queries, all unless given."""
    n_q = n if n_q is None else n_q
    for name, value in (("n", n), ("n_q", n_q)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int; found {value!r}")
    if not 1 <= n_q <= n:
        raise ValueError(f"the queries are the last n_q of n positions: 1 <= n_q <= n; found n = {n}, n_q = {n_q}")
    return n, n_q


def _tile(tile: tuple[int, int]) -> tuple[int, int]:
    """Two sides, checked."""
    if not isinstance(tile, tuple | list) or len(tile) != 2 or any(type(side) is not int for side in tile):
        raise TypeError(f"tile must be two ints, queries and keys; found {tile!r}")
    if not all(1 <= side <= MOST_TILE for side in tile):
        raise ValueError(f"the sides of a tile are 1 to {MOST_TILE}; found {tile!r}")
    return tile[0], tile[1]


def _channels(t: Any) -> int:
    return int(t.shape[-1]) if getattr(t, "ndim", 0) else 1


def _shown(device: str, dtype: Any, channels: int) -> str:
    """What a backend was chosen for; `channels` are 0 where every backend takes as many."""
    wide = f" with {channels} channels" if channels else ""
    return f"{device} {str(dtype).removeprefix('torch.')}{wide}"


def constant(method: _F) -> _F:
    """Of a method that torch.compile runs as it traces, and whose result stands in the graph. This is what
    torch.compiler.assume_constant_result does; that cannot be had without torch, and loads all of Dynamo."""
    method._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return method


class Compiled:
    """A pattern ready for attention; made by `compile`."""

    def __init__(
        self, pattern: Pattern, program: ir.Program, heads: int, kv_heads: int, layer: int, backend: str
    ) -> None:
        self.pattern = pattern
        self.program = program
        """The typed IR, closed but for h and n."""
        self.heads, self.kv_heads, self.layer = heads, kv_heads, layer
        self.backend = backend
        """The backend asked for; `report()` says which one ran."""
        self._arranged: dict[tuple[tuple[int, int], str], tuple[Arrangement, tuple[Story, ...]]] = {}
        self._plans: OrderedDict[tuple[Any, ...], Planned] = OrderedDict()
        self._artifacts: dict[str, base.Artifact] = {}
        self._used: dict[tuple[str, Any, int], str] = {}

    @property
    def name(self) -> str:
        return self.pattern.name

    def __repr__(self) -> str:
        return f"<patternc.Compiled {self.pattern.signature}, {self.heads} heads, backend {self.backend}>"

    def __getstate__(self) -> dict[str, Any]:
        """Copies, and what a pickle holds, make their plans and kernels anew."""
        made: dict[str, Any] = {"_arranged": {}, "_plans": OrderedDict(), "_artifacts": {}, "_used": {}}
        return {**self.__dict__, **made}

    def _repr_html_(self) -> str:
        """For notebooks; `_repr_png_` for those that show no HTML."""
        return import_module("patternc.show.notebook").of_compiled(self)

    def _repr_png_(self) -> bytes | None:
        return import_module("patternc.show.notebook").image_of(self)

    # ------------------------------------------------------------------ running

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        scale: float | None = None,
        dropout_p: float = 0.0,
        return_lse: bool = False,
        **runtime_tensors: Any,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention under the pattern: softmax over the keys of each row, of scale · q·k + log M.

        q is (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v); the queries are the last N_q of the N positions.
        Returns (B, H, N_q, D_v), and with `return_lse` also the rows' log-sum-exp (B, H, N_q). `scale` is 1/√D unless
        given. A row without keys gives 0 and −inf. Wrong shapes, dtypes, devices or run-time tensors are TypeError or
        ValueError; a length that the program does not admit is a SpatError.
        """
        options: dict[str, Any] = {"scale": scale, "dropout_p": dropout_p, "return_lse": return_lse}
        return self.run(self.backend_for(q, v), q, k, v, tensors=runtime_tensors, **options)

    def run(self, backend: str, q: Any, k: Any, v: Any, *, tensors: Mapping[str, Any], **options: Any) -> Any:
        """A call on the backend named. `options` are those of a call and `seed`, of dropout; see `base.Artifact`."""
        return self._artifact(backend)(q, k, v, tensors=tensors, **options)

    def backend_for(self, q: torch.Tensor, v: torch.Tensor | None = None) -> str:
        """The backend that runs inputs like q, and v if it has more channels. ValueError with the reasons if the one
        asked for cannot."""
        device: Any = getattr(q, "device", None)
        dtype: Any = getattr(q, "dtype", None)
        if not hasattr(dtype, "is_floating_point"):
            raise TypeError(f"q must be a torch.Tensor; found {type(q).__name__}")
        if not dtype.is_floating_point:
            raise TypeError(f"q must be a tensor of floats; found {dtype}")
        channels = max(_channels(q), _channels(v))
        return self._choice(device.type, dtype, channels if channels > base.CHANNELS else 0)  # a symbol in a graph

    @constant
    def _choice(self, device: str, dtype: Any, channels: int) -> str:
        key = device, dtype, channels
        if key not in self._used:
            self._used[key] = self._choose(device, dtype, channels)
        return self._used[key]

    def _choose(self, device: str, dtype: Any, channels: int) -> str:
        preferred = PREFERENCE.get(device, PREFERENCE["cpu"])
        order = [*preferred, *(name for name in base.names() if name not in preferred)]
        candidates = order if self.backend == "auto" else [self.backend]
        against: list[str] = []
        for name in candidates:
            reasons = self._against(name, device, dtype, channels)
            if not reasons:
                return name
            against += [f"{name}: {reason}" for reason in reasons]
        raise ValueError(f"{self.name} cannot run on {device} in {dtype}: {'; '.join(against)}")

    def _against(self, name: str, device: str, dtype: Any, channels: int) -> list[str]:
        """The reasons against a backend; for `auto` also what it finds when it emits the program."""
        backend = base.load(name)
        reasons = backend.supports(self.program, device, dtype)
        if channels > backend.most_channels:
            reasons = [*reasons, f"head dimensions up to {backend.most_channels} are supported; found {channels}"]
        if reasons or self.backend != "auto":
            return reasons
        try:
            self._emit(name)
        except ValueError as error:
            return [str(error)]
        return []

    def _artifact(self, backend: str) -> base.Artifact:
        self._emit(backend)
        return self._artifacts[backend]

    @constant
    def _emit(self, backend: str) -> bool:
        """Makes the artifact of a backend, unless there is one."""
        if backend not in self._artifacts:
            self._artifacts[backend] = base.load(backend).emit(self.program, self.heads, self.kv_heads)
        return True

    def follow(self, other: Compiled) -> None:
        """Makes ready what graphs of torch.compile that hold `other`, the pattern with other parameters, need to go on
        with this one. A backend that refuses it is chosen anew at the next call."""
        for backend in other._artifacts:
            try:
                artifact: Any = self._artifact(backend)
            except ValueError:
                continue
            if hasattr(artifact, "changing"):
                artifact.changing = True

    def report(self) -> str:
        """Which backend ran on which device and dtype, so far."""
        if not self._used:
            return f"{self.name}: not called yet; backend {self.backend} was asked for"
        return "\n".join(f"{self.name} on {_shown(*key)}: backend {name}" for key, name in self._used.items())

    # ------------------------------------------------------------------ looking inside

    def mask(self, n: int, n_q: int | None = None, **runtime_tensors: Any) -> torch.Tensor:
        """The multiplicities M, by the reference: int64 (heads, n_q, n), or (B, heads, n_q, n) when a run-time tensor
        with a batch axis is read. Dense: for looking and testing."""
        reference: Any = base.load("reference")
        return reference.mask(self.program, self.heads, *_lengths(n, n_q), runtime_tensors)

    def arrangement(self, *, tile: tuple[int, int] = TILE, objective: Objective = "time") -> Arrangement:
        """The terms that the heads' patterns are split into, and their layouts, for every length: what takes the least
        time, or computes the fewest pairs (`objective="padding"`), in tiles of tile[0] queries and tile[1] keys."""
        return self._arrange(tile, objective)[0]

    def _arrange(self, tile: tuple[int, int], objective: str) -> tuple[Arrangement, tuple[Story, ...]]:
        """The arrangement and how it was found; the passes that need no length run once."""
        key = (_tile(tile), objective)
        if key not in self._arranged:
            if objective not in OBJECTIVES:
                raise ValueError(base.unknown("objective", objective, OBJECTIVES))
            passes = import_module("patternc.passes.arranged")  # NumPy is loaded when something is planned
            self._arranged[key] = passes.arranged_with_story(self.program, self.heads, tile=key[0], objective=objective)
        return self._arranged[key]

    def plan(
        self,
        n: int,
        n_q: int | None = None,
        *,
        device: str = "cpu",
        tile: tuple[int, int] = TILE,
        objective: Objective = "time",
        **runtime_tensors: Any,
    ) -> Plan:
        """The schedule for the last n_q (all, unless given) of n positions, with tables on `device`; `tile` and
        `objective` as in `arrangement`.

        Without the run-time tensors of a program that has some, it keeps every tile that they might, as a partial one.
        """
        return self._planned(n, n_q, runtime_tensors, device, tile, objective, complete=False).plan

    def _planned(
        self,
        n: int,
        n_q: int | None,
        tensors: Mapping[str, Any],
        device: str = "cpu",
        tile: tuple[int, int] = TILE,
        objective: str = "time",
        *,
        complete: bool = True,
    ) -> Planned:
        """Kept for the next time if it does not hang on run-time tensors."""
        lengths, tile = _lengths(n, n_q), _tile(tile)
        key = (lengths, str(device), tile, objective)
        if tensors or key not in self._plans:
            arrangement = self._arrange(tile, objective)[0]
            planning = import_module("patternc.planning")
            planned = planning.planned(arrangement, *lengths, tensors, str(device), tile, complete=complete)
            if self.program.tensors:
                return planned
            self._plans[key] = planned
        self._plans.move_to_end(key)
        if len(self._plans) > PLANS:
            self._plans.popitem(last=False)
        return self._plans[key]

    def stats(
        self,
        n: int,
        n_q: int | None = None,
        *,
        device: str = "cpu",
        tile: tuple[int, int] = TILE,
        objective: Objective = "time",
        **runtime_tensors: Any,
    ) -> Statistics:
        """Exact counts of the plan: density, padding, tiles, flops. It looks at the cells of partial tiles, of
        equal ones once. The keywords are those of `plan`."""
        return self._planned(n, n_q, runtime_tensors, device, tile, objective).statistics()

    def explain(
        self,
        n: int,
        n_q: int | None = None,
        *,
        device: str = "cpu",
        tile: tuple[int, int] = TILE,
        objective: Objective = "time",
        **runtime_tensors: Any,
    ) -> str:
        """How the pattern is computed at the length n, in words and figures. The keywords are those of `plan`."""
        planned = self._planned(n, n_q, runtime_tensors, device, tile, objective)
        story = self._arrange(tile, objective)[1]
        return import_module("patternc.explanation").explain(self.pattern.signature, planned, story, objective)

    @property
    def source(self) -> str | None:
        """The generated source of the backend asked for (`auto`: of the one that it takes on this machine); None where
        nothing is generated."""
        if self.backend != "auto":
            return self._artifact(self.backend).source
        torch: Any = import_module("torch")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return self._artifact(self._choose(device, torch.float32, base.CHANNELS)).source

    def save(self, path: str | Path) -> Path:
        """Writes a self-contained module that needs torch, and with `backend="triton"` also Triton: its class
        `Attention` is an nn.Module that takes what a call takes, with the same results. The file appears whole or not
        at all; OSError if it cannot be written, ValueError if there are no kernels for the pattern."""
        text = self.pattern.definition.node.span.text
        export = import_module(f"patternc.backends.{'export_triton' if self.backend == 'triton' else 'export'}")
        saved: Path = export.save(Path(path), self.arrangement(), self.kv_heads, text)
        return saved

    def module(self, embed_dim: int, *, bias: bool = True, dropout: float = 0.0) -> SelfAttention:
        """An nn.Module of self-attention with projections; see `patternc.nn.SelfAttention`."""
        return import_module("patternc.nn").SelfAttention(self, embed_dim, bias=bias, dropout=dropout)
