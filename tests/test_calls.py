"""What callers do with compiled patterns besides calling them on fresh tensors: views that are not what is in memory,
other layouts, derivatives in forward mode, pickles, files that are links or none."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

import patternc

WINDOW = "pattern p(doc: int[batch, n]) = { q -> k : 0 <= q - k < 5 and doc[q] == doc[k] }"


@pytest.fixture(params=["torch", "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "triton":
        pytest.importorskip("triton")
        request.getfixturevalue("interpreted")
    return request.param


def inputs(n: int = 12) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, 1, n, 8) for _ in range(3)]


def local(backend: str) -> patternc.Compiled:
    return patternc.compile("std/local", heads=1, window=5, backend=backend)


def test_views_that_stand_for_the_negative(backend: str) -> None:
    compiled = local(backend)
    q, k, v = (t.requires_grad_() for t in inputs())
    d_out = torch.randn(1, 1, 12, 8)
    torch.testing.assert_close(compiled(torch._neg_view(q), k, v), compiled(-q, k, v))
    imaginary = torch.complex(k, v).conj().imag  # how one comes by such a view
    assert imaginary.is_neg()
    torch.testing.assert_close(compiled(q, k, imaginary), compiled(q, k, -v))
    found = torch.autograd.grad(compiled(q, k, v), (q, k, v), torch._neg_view(d_out))
    torch.testing.assert_close(found, torch.autograd.grad(compiled(q, k, v), (q, k, v), -d_out))


def test_threads_that_call_for_the_first_time() -> None:
    """All at once, at lengths of their own and at one that they share."""
    compiled = patternc.compile("std/strided", heads=1, l=4, backend="torch")
    given = [inputs(n) for n in (20, 33, 20, 47, 20, 33)]
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(given)) as pool:
            found = list(pool.map(lambda x: compiled(*x), given))
    finally:
        sys.setswitchinterval(switching)
    assert all(torch.equal(out, compiled(*x)) for out, x in zip(found, given, strict=True))


def test_forward_mode_is_refused(backend: str) -> None:
    """An operator would give derivatives of 0."""
    compiled = local(backend)
    q, k, v = inputs()
    with pytest.raises(RuntimeError, match="forward-mode"):
        torch.func.jvp(lambda q: compiled(q, k, v), (q,), (q,))
    with pytest.raises(RuntimeError, match="forward-mode"):
        torch.func.jacfwd(lambda q: compiled(q, k, v).sum())(q)
    with forward_ad.dual_level():
        with pytest.raises(RuntimeError, match="forward-mode"):
            compiled(q, forward_ad.make_dual(k, k), v)
        assert compiled(q, k, v).shape == q.shape


def test_tensors_that_are_not_dense(backend: str) -> None:
    q, k, v = inputs()
    with pytest.raises(TypeError, match="q must be a dense tensor"):
        local(backend)(q.to_sparse(), k, v)
    jagged = torch.nested.nested_tensor([torch.randn(5, 1, 8), torch.randn(7, 1, 8)], layout=torch.jagged)
    with pytest.raises(TypeError, match="dense"):
        local(backend)(*[jagged.transpose(1, 2)] * 3)


def test_run_time_tensors_in_steps(backend: str) -> None:
    compiled = patternc.compile(WINDOW, heads=1, backend=backend)
    q, k, v = inputs()
    doc = torch.arange(24)[None] // 9
    assert torch.equal(compiled(q, k, v, doc=doc[:, ::2]), compiled(q, k, v, doc=doc[:, ::2].contiguous()))


@pytest.mark.usefixtures("interpreted")
def test_the_interpreter_has_no_bfloat16() -> None:
    with pytest.raises(ValueError, match="no products of bfloat16"):
        local("triton")(*(t.bfloat16() for t in inputs()))


def test_copies_and_pickles_of_what_was_called(backend: str) -> None:
    compiled = local(backend)
    out = compiled(*inputs())
    for other in (copy.copy(compiled), copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        assert torch.equal(other(*inputs()), out)


@pytest.mark.parametrize("name", ["torch", "reference"])
def test_no_batch_rows(name: str) -> None:
    q, k, v = (t[:0].requires_grad_() for t in inputs())
    out, lse = local(name)(q, k, v, return_lse=True)
    assert (out.shape, lse.shape) == ((0, 1, 12, 8), (0, 1, 12))
    assert torch.autograd.grad(out.sum(), q)[0].shape == q.shape


def test_files_that_are_links_or_none(tmp_path: Path) -> None:
    compiled = local("torch")
    (tmp_path / "there.py").write_text("old = 1\n")
    (tmp_path / "link.py").symlink_to("there.py")
    compiled.save(tmp_path / "link.py")
    assert (tmp_path / "link.py").is_symlink()
    assert "class Attention" in (tmp_path / "there.py").read_text()
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.py"):
        compiled.save(tmp_path / "folder.py")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        compiled.save(tmp_path / "none" / "x.py")
    os.mkfifo(tmp_path / "queue.py")
    with pytest.raises(OSError, match=r"this is no file: .*queue\.py"):
        compiled.save(tmp_path / "queue.py")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.py", "link.py", "queue.py", "there.py"]
