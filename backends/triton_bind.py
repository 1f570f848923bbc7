"""What the launches of a pass are: kernels, grids and arguments, for tensors of given shapes and strides.

The values that come with each call have names: the tensors `q`, `k`, `v`, `out`, `lse`, and for the backward pass
`d_out`, `d_lse`, `dq`, `dk`, `dv`; the numbers `scale`, `log_scale` (in base 2) and `seed`; the rest is scratch, and
`alarm`, by which kernels tell that they have found what is not a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from patternc.backends.triton_boxes import boxes, flat, inverse, offered
from patternc.backends.triton_chain import KEEPS, READS
from patternc.backends.triton_launch import Box, Launch, Recipe, Scratch
from patternc.backends.triton_module import module
from patternc.backends.triton_options import CAREFUL, Options, options
from patternc.backends.triton_schedule import Schedule, Step
from patternc.backends.triton_structure import launch_columns, tensor_arguments
from patternc.backends.triton_tables import Tables

_MASK = 0xFFFFFFFF
_CAREFUL_PROGRAMS = 128
"""Of a kernel that seldom has anything to do."""
_ROWS = 64
"""Rows of a program of `prepare`."""
_WARPGROUP = 64
"""Queries of a tile from which on four warps compute a product together."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Call(NamedTuple):
    """What the passes of one call share. `scale` is positive."""

    schedule: Schedule
    scale: float
    dropout_p: float = 0.0
    seed: int = 0
    precision: str = "ieee"
    """How float32 products are computed: ieee, tf32x3 or tf32."""
    options: Mapping[str, Options] = _NOTHING
    """By pass; those left out are the default ones."""
    boxes: bool | None = None
    """Whether to load tiles by tensor descriptors where that can be done; None: on devices that have them."""


def forward_recipe(call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, kept: bool) -> Recipe:
    """Of the forward pass. `kept`: q, k and v start at multiples of 16 bytes, now and in all calls to come."""
    made = _Pass(call, {"q": q, "k": k, "v": v}, kept, partial(_turns, call.schedule))
    given = {"out_ptr": "out", "lse_ptr": "lse", "sum_ptr": "sum"}
    made.sums(call.schedule.by_query, sum=q.shape[:3].numel() * v.shape[3])
    for step in call.schedule.by_query:
        pieces = made.pieces(step, call.schedule.tile_q, piece_ptr=v.shape[3], piece_best_ptr=0, piece_total_ptr=0)
        made.step("forward", "forward", step, {**given, **pieces, "scale": "log_scale"})
    return made.recipe()


def backward_recipe(
    call: Call, tensors: Mapping[str, torch.Tensor], *, queries: bool, keys: bool, kept: bool
) -> Recipe:
    """Of the backward pass; `tensors` are those of a call that are read, `kept` as in the forward pass."""
    made = _Pass(call, {name: tensors[name] for name in ("q", "k", "v", "d_out")}, kept)
    q, k, v = (tensors[name] for name in ("q", "k", "v"))
    for name in ("log", "delta"):
        made.scratch.take(name, tensors["lse"].numel())
    if not queries or any(step.roles for step in call.schedule.by_query):  # else the kernels of dq do that
        _prepare(made, tensors)
    scales = {"scale": "scale", "log_scale": "log_scale"}
    if queries:
        made.sums(call.schedule.by_query, sum=q.numel())
        for step in call.schedule.by_query:
            given = {f"{name}_ptr": name for name in ("out", "lse", "log", "delta", "dq", "sum")}
            given |= made.pieces(step, call.schedule.tile_q, piece_ptr=q.shape[3])
            own: Mapping[str, Any] = {"d_lse_ptr": None}
            if "d_lse" in tensors:
                given, own = {**given, "d_lse_ptr": "d_lse"}, {}
            made.step("backward_queries", "backward_queries", step, {**given, **scales}, own)
    if keys:
        made.sums(call.schedule.by_key, sum=k.numel(), other_sum=v.numel())
        for step in call.schedule.by_key:
            given = {"dk_ptr": "dk", "dv_ptr": "dv", "dk_sum_ptr": "sum", "dv_sum_ptr": "other_sum"}
            given |= made.pieces(step, call.schedule.tile_k, piece_dk_ptr=k.shape[3], piece_dv_ptr=v.shape[3])
            slots, spread = _spread(made, step, tensors["lse"])
            own = {"members": step.tables.members, "key_heads": k.shape[1], "slots": slots}
            made.step("backward_keys", f"backward_keys{step.term}", step, {**given, **spread, **scales}, own)
    return made.recipe()


class _Pass:
    """The launches of a pass, while they are found. `read` are the tensors whose strides kernels take."""

    def __init__(
        self, call: Call, read: Mapping[str, torch.Tensor], kept: bool,
        more: Callable[[Tables], Mapping[str, Any]] = lambda tables: _NOTHING,
    ) -> None:  # fmt: skip
        """`more` are arguments that all of its kernels take, of the tables of a grid."""
        self.call, self.read, self.kept, self._more = call, read, kept, more
        self.scratch, self.launches = Scratch(), list[Launch]()
        self.align = alignment(list(read.values()))
        q, k, v = (read[name] for name in ("q", "k", "v"))
        self.device = q.device
        dim, dim_v = q.shape[3], v.shape[3]
        lengths = lengths_of(read, self.align)
        self._lengths = {name: name for name in lengths} if call.schedule.few else {}
        """The numbers that differ from call to call: in a stretch of lengths."""
        self._numbers: dict[str, Any] = {} if call.schedule.few else lengths
        self._numbers |= {
            "n_q": q.shape[2], "heads": q.shape[1], "group": q.shape[1] // k.shape[1],
            "threshold": signed(min(int(call.dropout_p * 2**32), _MASK)),
            "survivor": 0.0 if call.dropout_p == 1 else 1 / (1 - call.dropout_p), **inverse(1),
        }  # fmt: skip
        self._constants: dict[str, Any] = {
            "D": dim, "D_V": dim_v, "BLOCK_D": block(dim), "BLOCK_DV": block(dim_v),
            "TILE_Q": call.schedule.tile_q, "TILE_K": call.schedule.tile_k, "ALIGN": self.align,
            "LONG": _long(read, call.schedule.n), "PRECISION": call.precision, "DROPOUT": call.dropout_p > 0,
        }  # fmt: skip

    def recipe(self) -> Recipe:
        return Recipe(self.launches, self.scratch, self.device, kept=self.kept)

    def sums(self, steps: tuple[Step, ...], **elements: int) -> None:
        """Places where steps leave sums for later ones, if there are any such steps."""
        for name, count in elements.items():
            self.scratch.take(name, count if any(step.roles for step in steps) else 1)

    def pieces(self, step: Step, tile: int, **channels: int) -> dict[str, str]:
        """Places where pieces of cut rows leave partial results: for each slot so many channels, or a number for 0."""
        places = {argument: f"piece {i}" for i, argument in enumerate(channels)}
        for argument, dim in channels.items():
            self.scratch.take(places[argument], step.tables.pieces * tile * (block(dim) if dim else 1))
        return places

    def step(
        self, name: str, function: str, step: Step, given: Mapping[str, str], own: Mapping[str, Any] = _NOTHING
    ) -> None:
        """One grid, once more carefully for rows that are not numbers, and the merge of its pieces."""
        call, tables = self.call, step.tables
        rows = call.schedule.tile_k if name == "backward_keys" else call.schedule.tile_q
        self.scratch.take("spoilt", tables.programs * rows, torch.int8)
        given = {f"{side}_ptr": side for side in self.read} | {"alarm_ptr": "alarm", "seed": "seed"} | dict(given)
        given |= {**step.drawn, **self._lengths}
        bound = {
            **self._numbers, **self._constants, **step.pointers, **_batch_strides(step), **own,
            "LAUNCH_COLUMNS": len(launch_columns(step.structure)),
            "CUT": tables.merge is not None,
            "CHAINED": step.roles > 0, "READS": step.roles & READS > 0, "KEEPS": step.roles & KEEPS > 0,
        }  # fmt: skip
        chained = step.roles > 0 and tables.turns is None
        chosen = self._sound(name, call.options.get(name) or options(name, *self._width(), chained, tables.tiles))
        found, beside = self._boxes(name, step, given, own)
        spoilt = {**given, "spoilt_ptr": "spoilt"}
        kernels = module(step.structure)
        self._add(getattr(kernels, function), tables, {**bound, **beside, "BOXES": bool(found)}, spoilt, chosen, found)
        careful = {**bound, "programs": tables.programs, "BOXES": False}
        most = min(tables.programs, _CAREFUL_PROGRAMS)
        self._add(getattr(kernels, f"{function}_careful"), tables, careful, spoilt, CAREFUL, programs=most)
        if tables.merge is not None:
            merge = getattr(kernels, f"{function}_merge")
            self._add(merge, tables.merge, {**bound, "BOXES": False}, {**given, **step.drawn_merge}, chosen)

    def _add(
        self, kernel: Any, tables: Tables, bound: Mapping[str, Any], given: Mapping[str, str], compiled: Options,
        found: Mapping[str, Box] | None = None, programs: int | None = None,
    ) -> None:  # fmt: skip
        own = {
            **bound, **_tables(tables), **self._more(tables), "num_warps": compiled.warps,
            "num_stages": compiled.stages, "maxnreg": compiled.registers,
        }  # fmt: skip
        own["ALIKE"] &= "followers" not in given  # else each has as many items as the call needs
        self.launches.append(Launch(kernel, tables.programs if programs is None else programs, own, given, found or {}))

    def _sound(self, name: str, chosen: Options) -> Options:
        """Options of which the assembler makes the right code. With four warps, where values of 16 bits are narrower
        than keys and rows start anywhere, ptxas 12.8 and 13.1 take a wrong register for the place of values in shared
        memory: outputs are wrong from the 17th key of a tile on."""
        narrow = self._constants["BLOCK_DV"] < self._constants["BLOCK_D"] and self.align == 1
        if name != "forward" or not narrow or self._width()[1] > 16 or self.call.schedule.tile_q < _WARPGROUP:
            return chosen
        return replace(chosen, warps=max(8, chosen.warps), registers=None)

    def _width(self) -> tuple[int, int]:
        """The channels of the wider tile, and the bits of each."""
        channels = max(self._constants["BLOCK_D"], self._constants["BLOCK_DV"])
        return channels, 8 * self.read["q"].element_size()

    def _boxes(
        self, name: str, step: Step, given: Mapping[str, str], own: Mapping[str, Any]
    ) -> tuple[dict[str, Box], Mapping[str, Any]]:
        """The tensor descriptors that a kernel takes, and the numbers beside them; or, if it may not use them, None for
        each."""
        s, schedule, keys = step.structure, self.call.schedule, name == "backward_keys"
        wanted, possible = (("q", "d_out"), s.boxed_queries) if keys else (("k", "v"), s.boxed_keys)
        if not possible:
            return {}, {}
        none = dict.fromkeys(f"{array}_box" for array in (*wanted, *(("log", "delta") if keys else ())))
        if not self.kept or schedule.few or not (offered(self.device) if self.call.boxes is None else self.call.boxes):
            return {}, none
        main = "k0" if s.one_layout else "main"
        side, tile, first = ("q", schedule.tile_q, schedule.n - schedule.n_q) if keys else (main, schedule.tile_k, 0)
        read = {array: self.read[array] for array in wanted}
        found = boxes(read, step.tables, launch_columns(s), side, tile, first)
        if found and keys:
            q = self.read["q"]
            count = own["slots"] * 16 * q.shape[0] * q.shape[1]
            if count >= 1 << 31:
                return {}, none
            found |= {
                "log_box": flat(given["lse_ptr"], count, tile),
                "delta_box": flat(given["delta_ptr"], count, tile),
            }
        return (found, inverse(found[f"{wanted[0]}_box"].shape[3])) if found else ({}, none)


def _prepare(made: _Pass, tensors: Mapping[str, torch.Tensor]) -> None:
    """lse in base 2 and delta, as kernels want them: `log` and `delta`."""
    lse, d_out, dim_v = tensors["lse"], tensors["d_out"], tensors["v"].shape[3]
    align = alignment([d_out])
    strides = {f"d_out_{axis}": d_out.stride(i) // align for i, axis in enumerate(("batch", "head", "row"))}
    bound = {
        "heads": lse.shape[1], "n_q": lse.shape[2], **strides, "D_V": dim_v,
        "BLOCK_DV": block(dim_v), "ROWS": _ROWS, "HAS_D_LSE": "d_lse" in tensors, "ALIGN": align, "num_warps": 4,
    }  # fmt: skip
    given = {"d_lse_ptr": "d_lse" if "d_lse" in tensors else "lse", "log_ptr": "log", "delta_ptr": "delta"}
    given |= {f"{name}_ptr": name for name in ("out", "d_out", "lse")}
    kernel = module(made.call.schedule.by_query[0].structure).prepare
    programs = lse.shape[0] * lse.shape[1] * -(-lse.shape[2] // _ROWS)
    made.launches.append(Launch(kernel, programs, bound, given))


def _spread(made: _Pass, step: Step, lse: torch.Tensor) -> tuple[int, dict[str, str]]:
    """The slots of rows of queries, in 16s, and where lse and delta stand in their order, (B, H, slots in 16s, 16)."""
    grid, tile, s = step.spread, made.call.schedule.tile_q, step.structure
    assert grid is not None, "rows of keys know the tiles of queries"
    batch, heads, n_q = lse.shape
    if step.in_order and n_q % tile == 0:
        return n_q // 16, {"lse_ptr": "log", "delta_ptr": "delta"}
    slots = grid.per_follower * tile // 16
    for name in ("log_slots", "delta_slots"):
        made.scratch.take(name, batch * heads * slots * 16)
    bound = {
        **step.pointers, **_batch_strides(step), **_tables(grid), "n": made.call.schedule.n, "n_q": n_q, "heads": heads,
        "slots": slots, "LAUNCH_COLUMNS": len(launch_columns(s)), "TILE_Q": tile,
        "num_warps": max(1, min(4, tile // 32)),
    }  # fmt: skip
    given = {"lse_ptr": "log", "delta_ptr": "delta", "lse_slots_ptr": "log_slots", "delta_slots_ptr": "delta_slots"}
    given |= {name: value for name, value in step.drawn.items() if name == "index"}  # the rest is not of this grid
    made.launches.append(Launch(module(s).spread, grid.programs, bound, given))
    return slots, {"lse_ptr": "log_slots", "delta_ptr": "delta_slots"}


def _tables(grid: Tables) -> dict[str, Any]:
    return {
        "followers": grid.followers, "items": grid.items, "runs": grid.runs, "launches": grid.launches,
        "roles": grid.roles, "index": grid.index, "per_follower": grid.per_follower,
        "early": grid.early, "early_programs": grid.early * len(grid.followers),
        "ALIKE": len(grid.numbers) == 1 and grid.turns is None,
    }  # fmt: skip


def _turns(schedule: Schedule, grid: Tables) -> dict[str, Any]:
    """What kernels of the forward pass take beside the tables."""
    few = grid.turns is not None
    return {
        "turns": grid.turns if few else grid.index, "room": schedule.n, "span": schedule.n_q, "longest": grid.longest,
        "FEW": few, "MEMBERS": grid.beside,
    }  # fmt: skip


def lengths_of(read: Mapping[str, torch.Tensor], align: int) -> dict[str, int]:
    """The number of keys, and strides in `align` elements, of a call's tensors."""
    found = {"n": read["k"].shape[2]}
    for side, t in read.items():
        batch, head, row, _ = t.stride()
        found |= {f"{side}_batch": batch // align, f"{side}_head": head // align, f"{side}_row": row // align}
    return found


def _batch_strides(step: Step) -> dict[str, int]:
    """Of the tensors that masks read."""
    found = tensor_arguments(step.structure)
    return {f"{name}_batch": step.pointers[name].stride(0) for name, argument in found if argument.batched}


def _long(read: Mapping[str, torch.Tensor], n: int) -> bool:
    """Whether places within a tile may exceed 32 bits, at up to n keys."""
    rows = {"k": n, "v": n}
    return any(rows.get(name, t.shape[2]) * t.stride(2) >= 1 << 31 for name, t in read.items())


def block(dim: int) -> int:
    """Channels of a tile: the smallest power of two that holds them, and that tensor cores take."""
    return max(16, 1 << (dim - 1).bit_length())


def alignment(tensors: list[torch.Tensor]) -> int:
    """How many elements fit 16 bytes, if all rows start at multiples of 16 bytes; else 1."""
    unit = 16 // tensors[0].element_size()
    aligned = all(t.data_ptr() % 16 == 0 and all(s % unit == 0 for s in t.stride()[:3]) for t in tensors)
    return unit if aligned else 1


def signed(x: int) -> int:
    """The int32 with the bits of a uint32, so that the type of the argument does not hang on its value."""
    return x - (1 << 32) if x >= 1 << 31 else x
