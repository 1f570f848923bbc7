"""The patterns of the migration guide against formulas in NumPy that share nothing with patternc; its lines are run by
test_docs.py."""

import re

import numpy as np
import pytest
import torch
from documents import ROOT, blocks

import patternc
from patternc.nn import MultiheadAttention, PatternAttention, ProgressiveSparsity, SelfAttention

GUIDE = ROOT / "docs" / "migration.md"
PROGRAMS = {block.option("file"): block.text for block in blocks(GUIDE) if block.option("file")}
LIBRARY = {"std/presets/dilated", "std/presets/global_local", "std/hierarchical", "std/presets/ultra_sparse",
           "std/block_dilated"}  # fmt: skip
POWERS = 2 ** np.arange(20)


def grid(n):
    return np.arange(n)[:, None], np.arange(n)[None, :]


def in_blocks(block, n, keep):
    """A condition on the numbers of blocks."""
    q, k = grid(-(-n // block))
    kept = np.broadcast_to(keep(q, k), (len(q), len(q)))
    return kept.repeat(block, axis=0).repeat(block, axis=1)[:n, :n]


def dilated(n, block, rates=(1, 2, 4, 8)):
    return in_blocks(block, n, lambda q, k: (q == k) | np.isin(abs(q - k), rates))


def hierarchical(n, levels):
    """Block by block: rows at multiples of the stride see a window, which fills whole blocks."""
    kept = np.zeros((n, n), bool)
    for stride, window, block in levels:
        for row in range(0, n, stride):
            for key in range(n):
                if abs(row - key) <= window / 2:
                    top, left = row // block * block, key // block * block
                    kept[top : top + block, left : left + block] = True
    return kept


def ultra_sparse(n, block, rates):
    kept = in_blocks(block, n, lambda q, k: q == k)
    for rate in rates:
        far = in_blocks(block, n, lambda q, k, rate=rate: abs(q - k) == rate)
        kept = kept | far & (np.arange(n) % block % rate == 0)
    return kept


def block_dilated(n, block, near, parts):
    slot = np.arange(n) % block
    comb = np.any([(lo <= slot) & (slot < hi) & ((slot - lo) % r == 0) for lo, hi, r in parts], axis=0)
    return in_blocks(block, n, lambda q, k: abs(q - k) <= near) & comb


def groups(n, window, block):
    q, k = grid(n)
    return np.stack([abs(q - k) <= window // 2 if h < 6 else dilated(n, block) for h in range(8)])


LEVELS = [(2, 4, 2), (8, 12, 2), (16, float("inf"), 4)]
PARTS = [(0, 4, 1), (4, 8, 2)]
CASES = {
    "block_local.spat": ({"block": 4, "near": 1}, lambda n: in_blocks(4, n, lambda q, k: abs(q - k) <= 1)),
    "powers.spat": (
        {"block": 2}, lambda n: in_blocks(2, n, lambda q, k: (k == q) | np.isin(k - q, POWERS)),
    ),
    "flat_butterfly.spat": (
        {"block": 2}, lambda n: in_blocks(2, n, lambda q, k: (k == q) | np.isin(q ^ k, POWERS)),
    ),
    "causal_powers.spat": (
        {"block": 2, "first": 1},
        lambda n: np.tri(n, dtype=bool)
        & (in_blocks(2, n, lambda q, k: (k == q) | np.isin(q - k, POWERS)) | (np.arange(n) < 1)),
    ),
    "groups.spat": ({"window": 6, "block": 2}, lambda n: groups(n, 6, 2)),
    "std/presets/dilated": ({"block": 2}, lambda n: dilated(n, 2)),
    "std/presets/global_local": (
        {"hubs": 3, "window": 6},
        lambda n: (abs(grid(n)[0] - grid(n)[1]) <= 3) | (grid(n)[0] < 3) | (grid(n)[1] < 3),
    ),
    "std/hierarchical": ({"levels": LEVELS}, lambda n: hierarchical(n, LEVELS)),
    "std/presets/ultra_sparse": ({"block": 4, "rates": [1, 2, 4]}, lambda n: ultra_sparse(n, 4, [1, 2, 4])),
    "std/block_dilated": ({"block": 8, "parts": PARTS}, lambda n: block_dilated(n, 8, 1, PARTS)),
}  # fmt: skip


def test_every_pattern_of_the_guide_is_drawn_and_has_a_formula():
    drawn = re.findall(r"^\$ patternc show (\S+)", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(drawn) == sorted({*PROGRAMS, *LIBRARY}) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [32, 33, 50])
def test_a_pattern_of_the_guide_is_its_formula(name, n):
    params, formula = CASES[name]
    compiled = patternc.compile(PROGRAMS.get(name, name), heads=8, **params)
    expected = np.broadcast_to(formula(n), (8, n, n))
    np.testing.assert_array_equal(compiled.mask(n).numpy(), expected)


@pytest.mark.parametrize("name", CASES)
def test_a_pattern_of_the_guide_computes(name):
    compiled = patternc.compile(PROGRAMS.get(name, name), heads=8, **CASES[name][0])
    assert patternc.verify(compiled, n=50)


def test_the_sections_of_the_guide_that_it_answers():
    titles = re.findall(r"^##+ (.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert titles == [
        "Quick start", "The five variants", "Base", "Hierarchical", "Adaptive", "Multihead", "Distributed", "Choosing",
        "Common patterns", "Extreme sparsity", "Local and global", "Progressive sparsity", "Custom patterns",
        "Head groups", "Troubleshooting", "With Transformers", "With Lightning",
        "Block-sparse or block-sparse-dilated",
    ]  # fmt: skip


@pytest.mark.parametrize("make", [
    lambda: PatternAttention("std/presets/local", heads=4, window=32),
    lambda: MultiheadAttention(32, 4, batch_first=True, pattern="std/presets/local", window=32),
    lambda: SelfAttention("std/presets/local", 32, heads=4, window=32),
], ids=["pattern", "multihead", "self"])  # fmt: skip
def test_a_schedule_changes_every_module(make):
    model = torch.nn.Sequential(make())
    schedule = ProgressiveSparsity(model, over="window", start=32, end=4, steps=7)
    densities = [model[0].stats(64).density]
    for _ in range(7):
        schedule.step()
        densities.append(model[0].stats(64).density)
    assert densities == sorted(densities, reverse=True)
    assert densities[-1] == patternc.compile("std/presets/local", heads=4, window=4).stats(64).density
