"""Shards: no kept pair leads from one to another, and residues that can be apart are."""

from __future__ import annotations

import time

import pytest
import torch

import patternc
from patternc.passes.shards import Shards, shards

N = 1000


def found(text: str, n: int = N) -> tuple[Shards | None, torch.Tensor]:
    attention = patternc.compile(f"pattern p() = {text}", heads=1)
    return shards(attention.plan(n, objective="padding").launches), attention.mask(n)[0] > 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("{ q -> k : (q - k) % 16 == 0 and abs(q - k) <= 256 }", 16),
        ("causal & { q -> k : (q - k) % 12 == 0 }", 12),
        ("{ q -> k : (q - k) % 16 in (0, 4, 12) }", 4),
        ("{ q -> k : (q - k) % 8 == 0 and abs(q - k) < 99 or (q - k) % 12 == 0 }", 4),
        ("{ q -> k : (q - k) % 16 == 1 }", 1),
        ("{ q -> k : abs(q - k) < 40 }", 1),
    ],
)
def test_shards_need_no_keys_of_each_other(text, count):
    result, mask = found(text)
    assert result is not None
    assert len(result.groups) == count
    assert sorted(r for group in result.groups for r in group) == list(range(result.period))
    owner = torch.empty(result.period, dtype=torch.long)
    for number, group in enumerate(result.groups):
        owner[list(group)] = number
    token = owner[torch.arange(N) % result.period]
    assert not (mask & (token[:, None] != token[None, :])).any()


def test_words():
    assert Shards(4, ((0,), (1,), (2,), (3,))).words == "the residues modulo 4"
    assert Shards(16, tuple(tuple(range(i, 16, 4)) for i in range(4))).words == "the residues modulo 4"
    assert Shards(8, ((0, 1), (2, 3), (4, 5), (6, 7))).words == "2 neighbouring residues modulo 8 each"
    assert Shards(6, ((0, 5), (1, 2), (3, 4))).words == "groups of residues modulo 6"


def test_long_periods_are_not_looked_at(monkeypatch):
    monkeypatch.setattr("patternc.passes.shards.MOST_RESIDUES", 49)
    assert len(found("{ q -> k : (q - k) % 49 == 0 }")[0].groups) == 49
    assert found("{ q -> k : (q - k) % 53 == 0 }")[0] is None


def test_the_length_costs_little():
    attention = patternc.compile("pattern p() = { q -> k : (q - k) % 64 == 0 and abs(q - k) <= 4096 }", heads=1)
    launches = attention.plan(1_000_000).launches
    start = time.process_time()
    result = shards(launches)
    assert time.process_time() - start < 0.2
    assert len(result.groups) == 64


def test_explain_tells_of_shards():
    text = "pattern p() = { q -> k : (q - k) % 16 == 0 and abs(q - k) <= 256 }"
    attention = patternc.compile(text, heads=2)
    assert "16 that need no keys of each other: the residues modulo 16" in attention.explain(4096)
    assert "shards" not in patternc.compile("pattern p() = causal", heads=2).explain(4096)
