"""How backends are found, and what all of them demand of their arguments."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from patternc.backends import base, inputs

# ------------------------------------------------------------------ discovery


def test_names_and_loading() -> None:
    assert {"reference", "torch"} <= set(base.names())
    assert [base.load(name).name for name in ("reference", "torch")] == ["reference", "torch"]


def test_unknown_name_lists_the_backends() -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'refrence'; did you mean 'reference'\? \(there are: "):
        base.load("refrence")


def test_two_objects_under_one_name_are_refused() -> None:
    first = EntryPoint("x", "one:A", base.GROUP)
    assert base.collect([first, EntryPoint("x", "one:A", base.GROUP)]) == {"x": first}
    with pytest.raises(ValueError, match="two backends are called 'x': one:A and two:B"):
        base.collect([first, EntryPoint("x", "two:B", base.GROUP)])


def test_a_backend_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_entries", lambda: {"x": EntryPoint("x", "no_such_module:A", base.GROUP)})
    with pytest.raises(ValueError, match="backend 'x' cannot be imported: No module named 'no_such_module'"):
        base.load.__wrapped__("x")


def test_discovery_does_not_import_torch() -> None:
    code = "import sys; from patternc.backends import base; base.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------ q, k and v


def tensors(q=(2, 4, 5, 8), k=(2, 2, 7, 8), v=(2, 2, 7, 3), dtype=torch.float32) -> list[torch.Tensor]:
    return [torch.zeros(shape, dtype=dtype) for shape in (q, k, v)]


def test_sizes() -> None:
    assert inputs.check_qkv(*tensors(), 4, 2) == inputs.Sizes(2, 4, 2, 5, 7, 8, 3)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"q": (4, 5, 8)}, r"four axes: expected q \(B, H, N_q, D\).*found q \(4, 5, 8\), k \(2, 2, 7, 8\)"),
        ({"q": (1, 4, 5, 8)}, "one batch size"),
        ({"v": (2, 2, 6, 3)}, "same heads and length"),
        ({"v": (2, 4, 7, 3)}, "same heads and length"),
        ({"k": (2, 2, 7, 9)}, "same head dimension"),
        ({"q": (2, 3, 5, 8)}, r"compiled for H = 4 and H_kv = 2; found q \(2, 3, 5, 8\)"),
        ({"q": (2, 4, 8, 8)}, "n_q = 8, n = 7"),
        ({"q": (2, 4, 0, 8)}, "at least one query"),
        ({"k": (2, 2, 0, 8), "v": (2, 2, 0, 3)}, "at least one query, one key"),
    ],
)
def test_wrong_shapes(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inputs.check_qkv(*tensors(**shapes), 4, 2)


def test_wrong_kinds() -> None:
    q, k, v = tensors()
    with pytest.raises(TypeError, match=r"q must be a .*Tensor; found list"):
        inputs.check_qkv(q.tolist(), k, v, 4, 2)
    with pytest.raises(TypeError, match=r"k must be float16.*found torch\.int64"):
        inputs.check_qkv(q, k.long(), v, 4, 2)
    with pytest.raises(TypeError, match="one dtype"):
        inputs.check_qkv(q, k.double(), v, 4, 2)
    with pytest.raises(ValueError, match="one device; found cpu, meta, cpu"):
        inputs.check_qkv(q, k.to("meta"), v, 4, 2)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 3), (0, 1), (4, 0), (2, 4)])
def test_wrong_heads(heads: int, kv_heads: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of kv_heads, both positive; found {heads} and {kv_heads}"):
        inputs.check_heads(heads, kv_heads)


def test_options() -> None:
    assert inputs.check_options(None, 0.0, 16) == 0.25
    assert inputs.check_options(2, 0.5, 16) == 2.0
    for dropout in (-0.1, 1.1, float("nan"), "x"):
        with pytest.raises(ValueError, match="dropout_p is a probability"):
            inputs.check_options(None, dropout, 16)
    with pytest.raises(ValueError, match="scale must be a finite number; found inf"):
        inputs.check_options(float("inf"), 0.0, 16)


# ------------------------------------------------------------------ run-time tensors

DOC = inputs.Declared("doc", "int", (7,), True)
FLAGS = inputs.Declared("flags", "bool", (2, 3), False)
CPU = torch.device("cpu")


def test_run_time_tensors_are_widened() -> None:
    given = {"doc": torch.zeros(2, 7, dtype=torch.int16), "flags": np.zeros((2, 3), bool)[::-1]}
    found = inputs.check_tensors([DOC, FLAGS], given, CPU, 2)
    assert [(t.dtype, tuple(t.shape)) for t in found.values()] == [(torch.int64, (2, 7)), (torch.bool, (2, 3))]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"needs the run-time tensor doc: int\(batch, 7\)"),
        ({"dok": 1, "doc": 1}, r"no run-time tensor 'dok'; did you mean 'doc'\? \(it has: doc\)"),
        ({"doc": torch.zeros(2, 6, dtype=torch.int64)}, r"must have shape \(batch, 7\); found \(2, 6\)"),
        ({"doc": torch.zeros((), dtype=torch.int64)}, r"must have shape \(batch, 7\); found \(\)"),
        ({"doc": torch.zeros(3, 7, dtype=torch.int64)}, r"must have 2 batch rows; found shape \(3, 7\)"),
        ({"doc": torch.zeros(2, 7)}, r"must hold integers; found torch\.float32"),
        ({"doc": torch.zeros(2, 7, device="meta")}, "must be on cpu; found meta"),
        ({"doc": [[0] * 7] * 2}, "must be a tensor or an array; found list"),
    ],
)
def test_wrong_run_time_tensors(given: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        inputs.check_tensors([DOC], given, CPU, 2)
