"""Plans of the torch backend that are kept by what run-time tensors hold."""

import pytest
import torch

import patternc
from patternc.backends import torch_contents
from patternc.backends.torch_run import Runner

N = 40
DOCUMENTS = "pattern documents(doc: int[batch, n]) = causal & { q -> k : doc[q] == doc[k] }"


@pytest.fixture
def made(monkeypatch):
    """The lengths that plans were made for."""
    lengths = []
    original = Runner._make

    def counted(self, n, *others):
        lengths.append(n)
        return original(self, n, *others)

    monkeypatch.setattr(Runner, "_make", counted)
    return lengths


def attention():
    return patternc.compile(DOCUMENTS, heads=2, backend="torch")


def qkv(n=N):
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(2, 2, n, 8, generator=draw, dtype=torch.float64) for _ in range(3)]


def documents(*starts, n=N):
    return (torch.arange(n) >= torch.tensor(starts)[:, None]).long()


def expected(doc):
    return patternc.compile(DOCUMENTS, heads=2, backend="reference")(*qkv(doc.shape[1]), doc=doc)


def test_equal_tensors_have_one_plan(made):
    compiled = attention()
    for doc in (documents(7, 20), documents(7, 20), documents(8, 20), documents(7, 20).int(), documents(7, 20)):
        torch.testing.assert_close(compiled(*qkv(), doc=doc), expected(doc))
    assert len(made) == 3
    compiled(*qkv(30), doc=documents(7, 20, n=30))
    assert len(made) == 4


def test_a_tensor_that_is_written_to_is_another_one(made):
    compiled, doc = attention(), documents(7, 20)
    compiled(*qkv(), doc=doc)
    doc.numpy()[0, 11:] += 5  # which no counter of versions sees
    torch.testing.assert_close(compiled(*qkv(), doc=doc), expected(doc))
    assert len(made) == 2
    again = documents(7, 20)
    torch.testing.assert_close(compiled(*qkv(), doc=again), expected(again))
    assert len(made) == 2


def test_only_a_few_small_ones_are_kept(made, monkeypatch):
    compiled = attention()
    for start in (1, 2, 3, 4, 5, 1):
        compiled(*qkv(), doc=documents(start, 20))
    assert len(made) == 6
    monkeypatch.setattr(torch_contents, "MOST_BYTES", 100)
    for _ in range(2):
        compiled(*qkv(), doc=documents(1, 20))
    assert len(made) == 8


def test_a_plan_of_inference_serves_training():
    compiled, doc = attention(), documents(7, 20)
    with torch.inference_mode():
        compiled(*qkv(), doc=doc)
    q, k, v = (t.requires_grad_() for t in qkv())
    gradients = torch.autograd.grad(compiled(q, k, v, doc=doc).sum(), (q, k, v))
    reference = patternc.compile(DOCUMENTS, heads=2, backend="reference")
    for a, b in zip(gradients, torch.autograd.grad(reference(q, k, v, doc=doc).sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(a, b)


def test_wrong_tensors_are_refused_each_time():
    compiled = attention()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"tensor 'doc' must have shape \(batch, 40\); found \(2, 39\)"):
            compiled(*qkv(), doc=documents(7, 20, n=39))
        with pytest.raises(ValueError, match="must have 2 batch rows"):
            compiled(*qkv(), doc=documents(7))
        with pytest.raises(TypeError, match="must hold integers"):
            compiled(*qkv(), doc=documents(7, 20).double())
