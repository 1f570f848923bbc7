"""What every backend demands of its arguments, checked before any work: ValueError and TypeError show what was found
and what was expected.

Saved modules carry this file, so it imports nothing of patternc.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip
_CLASSES = {"int": _INTEGERS, "bool": (torch.bool,), "float": FLOATS}
_WIDEST = {"int": torch.int64, "bool": torch.bool, "float": torch.float64}
_ARTICLE = {"int": "integers", "bool": "bools", "float": "floats"}


@dataclass(frozen=True)
class Declared:
    """A run-time tensor as the program declares it at one length: its shape is `dims`, after (batch,) if batched."""

    name: str
    element: str
    dims: tuple[int, ...]
    batched: bool

    def expected(self) -> str:
        return "(" + ", ".join([*(["batch"] if self.batched else []), *map(str, self.dims)]) + ")"


class Sizes(NamedTuple):
    """The lengths of one call: query `i` stands at position n - n_q + i."""

    batch: int
    heads: int
    kv_heads: int
    n_q: int
    n: int
    dim: int
    dim_v: int


def _shape(t: torch.Tensor) -> str:
    return "(" + ", ".join(map(str, t.shape)) + ")"


def _shapes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> str:
    return f"found q {_shape(q)}, k {_shape(k)}, v {_shape(v)}"


_WANTED = "expected q (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v)"


def _check_kinds(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """Each is a float tensor, of one dtype and on one device."""
    for name, t in (("q", q), ("k", k), ("v", v)):
        if not isinstance(t, torch.Tensor):
            raise TypeError(f"{name} must be a torch.Tensor; found {type(t).__name__}")
        if t.layout is not torch.strided or t.is_nested:
            raise TypeError(f"{name} must be a dense tensor; found one of layout {t.layout}")
        if t.dtype not in FLOATS:
            raise TypeError(f"{name} must be float16, bfloat16, float32 or float64; found {t.dtype}")
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"q, k and v must have one dtype; found {q.dtype}, {k.dtype}, {v.dtype}")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k and v must be on one device; found {q.device}, {k.device}, {v.device}")


def check_qkv(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, kv_heads: int) -> Sizes:
    """The sizes of a call, after the checks that concern q, k and v."""
    _check_kinds(q, k, v)
    if not q.ndim == k.ndim == v.ndim == 4:
        raise ValueError(f"q, k and v must have four axes: {_WANTED}; {_shapes(q, k, v)}")
    batch, found_heads, n_q, dim = q.shape
    key_batch, found_kv_heads, n, key_dim = k.shape
    value_batch, value_heads, value_n, dim_v = v.shape
    if not batch == key_batch == value_batch:
        raise ValueError(f"q, k and v must have one batch size: {_WANTED}; {_shapes(q, k, v)}")
    if found_kv_heads != value_heads or n != value_n:
        raise ValueError(f"k and v must have the same heads and length: {_WANTED}; {_shapes(q, k, v)}")
    if dim != key_dim:
        raise ValueError(f"q and k must have the same head dimension D: {_WANTED}; {_shapes(q, k, v)}")
    if found_heads != heads or found_kv_heads != kv_heads:
        raise ValueError(f"the pattern was compiled for H = {heads} and H_kv = {kv_heads}; {_shapes(q, k, v)}")
    if n < 1 or n_q < 1 or dim < 1 or dim_v < 1:
        raise ValueError(f"there must be at least one query, one key and one channel; {_shapes(q, k, v)}")
    check_lengths(n, n_q)
    return Sizes(batch, heads, kv_heads, n_q, n, dim, dim_v)


def check_lengths(n: int, n_q: int) -> None:
    """1 ≤ n_q ≤ n: the queries are the last n_q positions."""
    if n < 1:
        raise ValueError(f"there must be at least one key; found n = {n}")
    if not 1 <= n_q <= n:
        raise ValueError(f"the queries are the last n_q of n positions, so 1 <= n_q <= n; found n_q = {n_q}, n = {n}")


def check_heads(heads: int, kv_heads: int) -> None:
    """Every key head serves the same number of query heads."""
    if heads < 1 or kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"heads must be a multiple of kv_heads, both positive; found {heads} and {kv_heads}")


def check_options(scale: float | None, dropout_p: float, dim: int) -> float:
    """The scale to use; a wrong scale or dropout probability is an error."""
    if not isinstance(dropout_p, int | float) or not 0 <= dropout_p <= 1:
        raise ValueError(f"dropout_p is a probability; found {dropout_p!r}")
    if scale is None:
        return 1 / math.sqrt(dim)
    if not isinstance(scale, int | float) or not -math.inf < scale < math.inf:  # also of a symbol in a graph
        raise ValueError(f"scale must be a finite number; found {scale!r}")
    return float(scale)


def draw_seed(seed: int | None, dropout_p: float) -> int:
    """The seed of dropout: the one given, or a draw from torch's default generator when dropout needs one."""
    if seed is not None:
        return seed
    return int(torch.randint(2**31, ())) if dropout_p > 0 else 0


def _as_tensor(declared: Declared, value: Any, device: torch.device) -> torch.Tensor:
    """The value on the device; arrays of NumPy (whatever has `__array__`) are copied there."""
    if isinstance(value, torch.Tensor):
        if value.device != device:
            raise ValueError(f"tensor {declared.name!r} must be on {device}; found {value.device}")
        return value.detach()
    if not hasattr(value, "__array__"):
        raise TypeError(f"tensor {declared.name!r} must be a tensor or an array; found {type(value).__name__}")
    return torch.from_numpy(value.__array__().copy()).to(device)


def _check_one(declared: Declared, value: Any, device: torch.device, home: torch.device) -> torch.Tensor:
    tensor = _as_tensor(declared, value, device)
    if tensor.dtype not in _CLASSES[declared.element]:
        raise TypeError(f"tensor {declared.name!r} must hold {_ARTICLE[declared.element]}; found {tensor.dtype}")
    shape = tuple(tensor.shape)[1:] if declared.batched else tuple(tensor.shape)
    if tensor.ndim < declared.batched or shape != declared.dims:
        raise ValueError(f"tensor {declared.name!r} must have shape {declared.expected()}; found {_shape(tensor)}")
    return tensor.to(home).to(_WIDEST[declared.element])


def _check_names(declared: Sequence[Declared], tensors: Mapping[str, Any]) -> None:
    known = [d.name for d in declared]
    for name in tensors:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            listed = ", ".join(known) or "none"
            raise TypeError(f"the pattern has no run-time tensor {name!r}{guess} (it has: {listed})")
    if missing := [d for d in declared if d.name not in tensors]:
        wanted = ", ".join(f"{d.name}: {d.element}{d.expected()}" for d in missing)
        raise TypeError(f"the pattern needs the run-time tensor{'s' * (len(missing) > 1)} {wanted}")


def check_tensors(
    declared: Sequence[Declared],
    tensors: Mapping[str, Any],
    device: torch.device,
    batch: int | None,
    home: torch.device | None = None,
) -> dict[str, torch.Tensor]:
    """The run-time tensors by name, as int64, float64 or bool on `home`, after all checks.

    They must be on `device`, which is also the home unless one is given. `batch` is the batch size that batched
    tensors must have; None takes it from the tensors, which must agree.
    """
    _check_names(declared, tensors)
    result = {d.name: _check_one(d, tensors[d.name], device, home or device) for d in declared}
    for d in declared:
        if not d.batched:
            continue
        found = result[d.name].shape[0]
        batch = found if batch is None else batch
        if found != batch:
            raise ValueError(f"tensor {d.name!r} must have {batch} batch rows; found shape {_shape(result[d.name])}")
    return result
