"""The passes of a schedule on tensors: forward, and backward in three kernels.

Interface: `schedule(plan, masks, kv_heads, batch, device)` makes the tables of a plan; `Call` holds what the passes of
a call share; `forward(call, q, k, v)` and `backward(call, q, k, v, out, lse, d_out, d_lse)` run them on tensors that
are `usable`, out being contiguous.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from patternc.backends.triton_boxes import boxes, flat, offered
from patternc.backends.triton_chain import KEEPS, READS
from patternc.backends.triton_module import module
from patternc.backends.triton_options import CAREFUL, Options, options
from patternc.backends.triton_schedule import Schedule, Step
from patternc.backends.triton_structure import launch_columns, tensor_arguments
from patternc.backends.triton_tables import Tables

_LOG2_E = 1.4426950408889634
_MASK = 0xFFFFFFFF
_CAREFUL_PROGRAMS = 128
"""Of a kernel that seldom has anything to do."""
_ROWS = 64
"""Rows of a program of `prepare`."""


@dataclass(frozen=True, eq=False)
class Call:
    """What the passes of one call share. `scale` is positive."""

    schedule: Schedule
    scale: float
    dropout_p: float = 0.0
    seed: int = 0
    precision: str = "ieee"
    """How float32 products are computed: ieee, tf32x3 or tf32."""
    options: Mapping[str, Options] = field(default_factory=dict)
    """By pass; those left out are the default ones."""
    boxes: bool | None = None
    """Whether to load tiles by tensor descriptors where that can be done; None: on devices that have them."""


def usable(t: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy with neighbouring channels side by side."""
    return t if t.stride(-1) == 1 else t.contiguous()


def forward(call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, in q's dtype, and lse (B, H, N_q) in float32."""
    batch, heads, n_q, _ = q.shape
    out = q.new_empty(batch, heads, n_q, v.shape[3])
    lse = q.new_empty(batch, heads, n_q, dtype=torch.float32)
    total, alarm = _sums(call.schedule.by_query, out), no_alarm(q.device)
    if not call.schedule.queries_complete:
        out.zero_()
        lse.fill_(-torch.inf)
    for step in call.schedule.by_query:
        pointers = {"q_ptr": q, "k_ptr": k, "v_ptr": v, "out_ptr": out, "lse_ptr": lse, "sum_ptr": total}
        pointers["alarm_ptr"] = alarm
        pieces = _pieces(step, call.schedule.tile_q, piece_ptr=v.shape[3], piece_best_ptr=0, piece_total_ptr=0)
        pointers |= pieces
        _run("forward", "forward", call, step, pointers, q, k, v, {}, scale=call.scale * _LOG2_E)
    return out, lse


def backward(
    call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
    d_out: torch.Tensor, d_lse: torch.Tensor | None, *, queries: bool = True, keys: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """dq, dk and dv, in the dtypes of the inputs; None for those not asked for."""
    log, delta = _prepare(call, out, lse, d_out, d_lse)
    shared = {"q_ptr": q, "k_ptr": k, "v_ptr": v, "d_out_ptr": d_out, "lse_ptr": log, "delta_ptr": delta}
    shared["alarm_ptr"] = no_alarm(q.device)
    dq = _backward_queries(call, shared) if queries else None
    dk, dv = _backward_keys(call, shared) if keys else (None, None)
    return dq, dk, dv


def no_alarm(device: torch.device) -> torch.Tensor:
    """Whether some kernel of the pass has found what is not a number: not yet."""
    return torch.zeros(1, dtype=torch.int32, device=device)


def _prepare(
    call: Call, out: torch.Tensor, lse: torch.Tensor, d_out: torch.Tensor, d_lse: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """lse in base 2 and delta, as kernels want them."""
    log, delta = torch.empty_like(lse), torch.empty_like(lse)
    align = _alignment([d_out])
    kernel = module(call.schedule.by_query[0].structure).prepare
    kernel[(-(-lse.numel() // _ROWS),)](
        out, d_out, lse, lse if d_lse is None else d_lse.float().contiguous(), log, delta,
        lse.numel(), lse.shape[1], lse.shape[2], *(s // align for s in d_out.stride()[:3]),
        D_V=out.shape[3], BLOCK_DV=_block(out.shape[3]), ROWS=_ROWS, HAS_D_LSE=d_lse is not None, ALIGN=align,
        num_warps=4,
    )  # fmt: skip
    return log, delta


def _backward_queries(call: Call, shared: dict[str, torch.Tensor]) -> torch.Tensor:
    q, k, v, d_out = (shared[name] for name in ("q_ptr", "k_ptr", "v_ptr", "d_out_ptr"))
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    total = _sums(call.schedule.by_query, dq)
    if not call.schedule.queries_complete:
        dq.zero_()
    for step in call.schedule.by_query:
        pieces = _pieces(step, call.schedule.tile_q, piece_ptr=q.shape[3])
        pointers = {**shared, **pieces, "dq_ptr": dq, "sum_ptr": total}
        scales = {"scale": call.scale, "log_scale": call.scale * _LOG2_E}
        _run("backward_queries", "backward_queries", call, step, pointers, q, k, v, {"d_out": d_out}, **scales)
    return dq


def _backward_keys(call: Call, shared: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v, d_out = (shared[name] for name in ("q_ptr", "k_ptr", "v_ptr", "d_out_ptr"))
    dk, dv = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (k, v))
    dk_sum, dv_sum = (_sums(call.schedule.by_key, t) for t in (dk, dv))
    if not call.schedule.keys_complete:
        dk.zero_()
        dv.zero_()
    for step in call.schedule.by_key:
        more = {"dk_ptr": dk, "dv_ptr": dv, "dk_sum_ptr": dk_sum, "dv_sum_ptr": dv_sum, "members": step.tables.members}
        more |= _pieces(step, call.schedule.tile_k, piece_dk_ptr=k.shape[3], piece_dv_ptr=v.shape[3])
        slots, lse, delta = _spread(call, step, shared)
        more |= {"lse_ptr": lse, "delta_ptr": delta}
        scales = {"scale": call.scale, "log_scale": call.scale * _LOG2_E, "key_heads": k.shape[1], "slots": slots}
        name = f"backward_keys{step.term}"
        _run("backward_keys", name, call, step, {**shared, **more}, q, k, v, {"d_out": d_out}, **scales)
    return dk, dv


def _spread(call: Call, step: Step, shared: Mapping[str, torch.Tensor]) -> tuple[int, torch.Tensor, torch.Tensor]:
    """lse and delta in the order of slots, (B, H, slots in 16s, 16)."""
    grid, tile = step.spread, call.schedule.tile_q
    assert grid is not None
    batch, heads, n_q, _ = shared["q_ptr"].shape
    if step.in_order and n_q % tile == 0:
        return n_q // 16, shared["lse_ptr"], shared["delta_ptr"]
    slots = grid.per_follower * tile // 16
    made = [torch.empty(batch * heads * slots * 16, dtype=torch.float32, device=grid.items.device) for _ in range(2)]
    s = step.structure
    module(s).spread[(grid.programs,)](
        shared["lse_ptr"], shared["delta_ptr"], *made, **step.pointers, **_batch_strides(step),
        followers=grid.followers, items=grid.items, runs=grid.runs, launches=grid.launches,
        roles=grid.roles, index=grid.index,
        n=call.schedule.n, n_q=n_q, heads=heads, slots=slots, per_follower=grid.per_follower,
        LAUNCH_COLUMNS=len(launch_columns(s)), TILE_Q=tile, num_warps=max(1, min(4, tile // 32)),
    )  # fmt: skip
    return slots, made[0], made[1]


def _batch_strides(step: Step) -> dict[str, int]:
    """Of the tensors that masks read."""
    found = tensor_arguments(step.structure)
    return {f"{name}_batch": step.pointers[name].stride(0) for name, argument in found if argument.batched}


def _sums(steps: tuple[Step, ...], result: torch.Tensor) -> torch.Tensor:
    """Where steps leave sums for later ones: a tensor of the result's shape, if there are any such steps."""
    shape = result.shape if any(step.roles for step in steps) else (1,)
    return torch.empty(shape, dtype=torch.float32, device=result.device)


def _pieces(step: Step, tile: int, **channels: int) -> dict[str, torch.Tensor]:
    """Where pieces of cut rows leave their partial results: for each slot so many channels, or one number for 0."""
    slots = step.tables.pieces * tile
    device = step.tables.items.device
    return {
        name: torch.empty(max(1, slots * (_block(dim) if dim else 1)), dtype=torch.float32, device=device)
        for name, dim in channels.items()
    }


def _run(
    name: str, function: str, call: Call, step: Step, pointers: Mapping[str, torch.Tensor],
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, more: Mapping[str, torch.Tensor], **numbers: Any,
) -> None:  # fmt: skip
    """One grid, once more carefully for rows that are not numbers, and the merge of its pieces. `more` are tensors
    besides q, k, v whose strides the kernel takes."""
    read = {"q": q, "k": k, "v": v, **more}
    align = _alignment(list(read.values()))
    for side, t in read.items():
        for axis, stride in zip(("batch", "head", "row"), t.stride(), strict=False):
            numbers[f"{side}_{axis}"] = stride // align
    s, tables = step.structure, step.tables
    numbers |= _batch_strides(step)
    dim, dim_v = q.shape[3], v.shape[3]
    descriptors, boxed = _boxes(name, call, step, read, pointers)
    chosen = call.options.get(name) or options(name, max(_block(dim), _block(dim_v)), 8 * q.element_size())
    rows = call.schedule.tile_k if name == "backward_keys" else call.schedule.tile_q
    spoilt: dict[str, Any] = {"spoilt_ptr": torch.empty(tables.programs * rows, dtype=torch.int8, device=q.device)}
    careful = min(tables.programs, _CAREFUL_PROGRAMS)
    kernels: list[tuple[str, Tables, int, Options, dict[str, Any]]] = [
        (function, tables, tables.programs, chosen, descriptors | spoilt),
        (f"{function}_careful", tables, careful, CAREFUL, {**spoilt, "programs": tables.programs}),
    ]
    if tables.merge is not None:
        kernels.append((f"{function}_merge", tables.merge, tables.merge.programs, chosen, {}))
    for kernel, grid, programs, compiled, own in kernels:
        getattr(module(s), kernel)[(programs,)](
            **pointers, **step.pointers, **own,
            followers=grid.followers, items=grid.items, runs=grid.runs, launches=grid.launches,
            roles=grid.roles, index=grid.index,
            n=k.shape[2], n_q=q.shape[2], heads=q.shape[1], group=q.shape[1] // k.shape[1],
            per_follower=grid.per_follower,
            seed=_signed(_mixed(call.seed)), threshold=_signed(min(int(call.dropout_p * 2**32), _MASK)),
            survivor=0.0 if call.dropout_p == 1 else 1 / (1 - call.dropout_p),
            **numbers,
            LAUNCH_COLUMNS=len(launch_columns(s)), D=dim, D_V=dim_v, BLOCK_D=_block(dim), BLOCK_DV=_block(dim_v),
            TILE_Q=call.schedule.tile_q, TILE_K=call.schedule.tile_k, ALIGN=align, LONG=_long(read),
            PRECISION=call.precision, DROPOUT=call.dropout_p > 0,
            CHAINED=step.roles > 0, READS=step.roles & READS > 0, KEEPS=step.roles & KEEPS > 0,
            CUT=tables.merge is not None, BOXES=boxed and kernel == function,
            num_warps=compiled.warps, num_stages=compiled.stages, maxnreg=compiled.registers,
        )  # fmt: skip


def _boxes(
    name: str, call: Call, step: Step, read: Mapping[str, torch.Tensor], pointers: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Any], bool]:
    """The tensor descriptors that a kernel takes, and whether it may use them."""
    s, columns, schedule = step.structure, launch_columns(step.structure), call.schedule
    if name != "backward_keys":
        wanted, possible = ("k", "v"), s.boxed_keys
        side, tile, first = "k0", schedule.tile_k, 0
    else:
        wanted, possible = ("q", "d_out"), s.boxed_queries
        side, tile, first = "q", schedule.tile_q, schedule.n - schedule.n_q
    if not possible:
        return {}, False
    names = [f"{array}_box" for array in (*wanted, *(("log", "delta") if name == "backward_keys" else ()))]
    allowed = offered(step.tables.items.device) if call.boxes is None else call.boxes
    made: dict[str, Any] = {}
    if allowed:
        made = boxes({array: read[array] for array in wanted}, step.tables, columns, side, tile, first)
    if made and name == "backward_keys":
        slots = pointers["lse_ptr"], pointers["delta_ptr"]
        if slots[0].numel() >= 1 << 31:
            made = {}
        else:
            made |= {"log_box": flat(slots[0], tile), "delta_box": flat(slots[1], tile)}
    return made or dict.fromkeys(names), bool(made)


def _long(read: Mapping[str, torch.Tensor]) -> bool:
    """Whether places within a tile may exceed 32 bits."""
    return any(t.shape[2] * t.stride(2) >= 1 << 31 for t in read.values())


def _block(dim: int) -> int:
    """Channels of a tile: the smallest power of two that holds them, and that tensor cores take."""
    return max(16, 1 << (dim - 1).bit_length())


def _alignment(tensors: list[torch.Tensor]) -> int:
    """How many elements fit 16 bytes, if all rows start at multiples of 16 bytes; else 1."""
    unit = 16 // tensors[0].element_size()
    aligned = all(t.data_ptr() % 16 == 0 and all(s % unit == 0 for s in t.stride()[:3]) for t in tensors)
    return unit if aligned else 1


def _mixed(seed: int) -> int:
    """The seed after the first step of the hash; see torch_dropout."""
    x = (seed + 0x9E3779B9) & _MASK
    x ^= x >> 16
    x = (x * 0x7FEB352D) & _MASK
    x ^= x >> 15
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def _signed(x: int) -> int:
    """The int32 with the bits of a uint32, so that the type of the argument does not hang on its value."""
    return x - (1 << 32) if x >= 1 << 31 else x
