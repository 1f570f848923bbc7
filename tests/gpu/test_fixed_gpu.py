"""Plans of run-time tensors on a CUDA device: CUDA itself says whether the host waited for it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

from patternc import ir  # noqa: E402
from patternc.analysis.meanings import Meanings  # noqa: E402
from patternc.arrangement import Arrangement, HeadClass, Term  # noqa: E402
from patternc.backends.torch_arrays import UnwaitingArrays  # noqa: E402
from patternc.passes.fixed import FixedPlanner  # noqa: E402
from patternc.plan import LISTED  # noqa: E402

Q, K, N = ir.Var("q"), ir.Var("k"), ir.Var("n")
SAME = ir.Where(ir.And((ir.Compare("<=", K, Q), ir.Compare("==", ir.Read("ids", (Q,)), ir.Read("ids", (K,))))))
HUB = ir.Where(ir.Read("flags", (K,)))
TENSORS = (ir.Tensor("ids", "int", (N,), True), ir.Tensor("flags", "bool", (N,), True))


def plan_of(n, device):
    """Documents and, as a term of their own, listed keys that everybody keeps."""
    terms = Term(HUB, listed_keys=HUB, keys=LISTED), Term(ir.Product((SAME, ir.Complement(HUB))))
    pattern = ir.Union((SAME, HUB))
    arrangement = Arrangement(ir.Program("p", pattern, TENSORS), 2, (HeadClass((0, 1), pattern, terms),))
    ids = torch.arange(n, device=device).expand(2, n) // torch.tensor([[100], [700]], device=device)
    flags = torch.zeros(2, n, dtype=torch.bool, device=device)
    flags[:, ::999] = True
    xp = UnwaitingArrays(device)
    planner = FixedPlanner(arrangement, n, n, xp)
    options = {"n": n, "tensors": {"ids": ids, "flags": flags}, "xp": xp}
    planner.plan(Meanings(arrangement, **options))  # brings to the device what is the same at every call
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        return planner.plan(Meanings(arrangement, **options))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_host_does_not_wait():
    here, there = plan_of(5000, "cpu"), plan_of(5000, "cuda")
    assert len(here.launches) == len(there.launches) == 2
    for a, b in zip(here.launches, there.launches, strict=True):
        for x, y in zip(a.terms, b.terms, strict=True):
            for major in ("by_query", "by_key"):
                for name in ("rows", "first", "count", "kind", "weight"):
                    assert torch.equal(getattr(getattr(x, major), name), getattr(getattr(y, major), name).cpu())
