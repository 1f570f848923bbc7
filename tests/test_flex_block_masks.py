"""The BlockMasks that FlexAttention is given have the pattern's tiles, and are made without a dense mask."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from drawn import in_torch
from fifteen import Case, tensors_of
from flex_cases import artifact_of
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode

from patternc.backends import flex_blocks
from patternc.backends.flex import Flex


def tile_sets(mask: BlockMask, side: str) -> dict[str, list[list[list[list[int]]]]]:
    """The tiles of each batch row, head and row, full and partial ones."""
    found = {}
    for kind in ("", "full_"):
        count, index = getattr(mask, f"{kind}{side}_num_blocks"), getattr(mask, f"{kind}{side}_indices")
        if count is None:
            count = torch.zeros_like(getattr(mask, f"{side}_num_blocks"))
            index = torch.zeros_like(getattr(mask, f"{side}_indices"))
        shape = count.shape
        found[kind] = [
            [[index[b, h, r, : count[b, h, r]].tolist() for r in range(shape[2])] for h in range(shape[1])]
            for b in range(shape[0])
        ]
    return found


def brute_force(m: np.ndarray) -> dict[str, dict[str, list[list[list[list[int]]]]]]:
    """The same for M (B, H, n_q, n): a full tile has 128 × 128 cells of one M > 0."""
    size = flex_blocks.BLOCK
    batch, heads, n_q, n = m.shape
    rows, columns = -(-n_q // size), -(-n // size)
    kinds = np.empty((batch, heads, rows, columns), dtype=object)
    for b, h, r, c in itertools.product(range(batch), range(heads), range(rows), range(columns)):
        tile = m[b, h, r * size : (r + 1) * size, c * size : (c + 1) * size]
        full = tile.shape == (size, size) and tile.min() == tile.max()
        kinds[b, h, r, c] = None if not tile.any() else "full_" if full else ""

    def listed(kind: str, k: np.ndarray) -> list[list[list[list[int]]]]:
        return [[[np.flatnonzero(row == kind).tolist() for row in head] for head in one] for one in k]

    return {
        side: {kind: listed(kind, k) for kind in ("", "full_")}
        for side, k in (("kv", kinds), ("q", kinds.transpose(0, 1, 3, 2)))
    }


TILED = [
    Case("local", 1, 0, {"window": 200}),
    Case("local", 2, 0, {"window": float("inf")}),
    Case("global_local", 1, 0, {"hubs": 130, "window": 40}),
    Case("strided", 4, 0, {"l": 128}),
    Case("longnet", 2, 0, {"levels": [(512, 1), (256, 2)]}),
    Case("documents", 2),
    Case("bigbird", 2, 0, {"block": 64, "r": 1}),
    Case("dilated_sparse", 1, 0, {"block": 64}),
]


@pytest.mark.parametrize("whole", [1 << 18, 0], ids=["wide", "narrow"])
@pytest.mark.parametrize(("n", "n_q"), [(512, 512), (500, 500), (500, 300), (330, 5)])
@pytest.mark.parametrize("case", TILED, ids=str)
def test_tiles_are_those_of_the_mask(case: Case, n: int, n_q: int, whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex_blocks, "WHOLE_CELLS", whole)
    compiled, tensors = case.compiled(backend="flex"), in_torch(tensors_of(case, n))
    mask = Flex().emit(compiled.program, case.heads, case.heads).block_mask(n, n_q, tensors=tensors)
    m = compiled.mask(n, n_q, **tensors).numpy()
    m = m if m.ndim == 4 else m[None]
    axes = mask.kv_num_blocks.shape[:2]
    m = np.broadcast_to(m, (max(axes[0], m.shape[0]), *m.shape[1:]))
    for side, kinds in brute_force(m).items():
        found = tile_sets(mask, side)
        for kind, expected in kinds.items():
            spread = [[found[kind][b % axes[0]][h % axes[1]] for h in range(m.shape[1])] for b in range(m.shape[0])]
            assert spread == expected


@pytest.mark.parametrize("case", TILED, ids=str)
def test_block_masks_are_those_of_pytorch(case: Case) -> None:
    """Of patterns without multiplicities above 1; what PyTorch computes from all cells."""
    n, tensors, compiled = 500, in_torch(tensors_of(case, 500)), case.compiled(backend="flex")
    mods = Flex().emit(compiled.program, case.heads, case.heads).mods(n, tensors=tensors)
    ours = mods.block_mask
    theirs = create_block_mask(mods.mask_mod, *ours.kv_num_blocks.shape[:2], n, n, device="cpu")
    assert ours.shape == theirs.shape
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert ours.sparsity() == theirs.sparsity()
    if mods.score_mod is None:
        assert tile_sets(ours, "kv") == tile_sets(theirs, "kv")
        assert tile_sets(ours, "q") == tile_sets(theirs, "q")
    assert str(ours) == str(theirs)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for t in result if isinstance(result, tuple | list) else (result,):
            if isinstance(t, torch.Tensor):
                self.elements = max(self.elements, t.numel())
        return result


@pytest.mark.parametrize(("n", "most"), [(1 << 16, 1 << 22), (1 << 20, 1 << 22)])
def test_no_dense_mask_is_made(n: int, most: int) -> None:
    """Nothing of n² elements, and from some length on lists as wide as the widest row."""
    run = artifact_of("std/local", heads=4, window=1024)
    with Largest() as largest:
        mask = run.block_mask(n)
    assert largest.elements <= most < n * n // 1000
    lists = [mask.kv_indices, mask.full_kv_indices, mask.q_indices, mask.full_q_indices]
    assert sum(t.nbytes for t in lists if t is not None) <= 16 * (n // 128) * max(9, min(512, (1 << 18) * 128 // n))
    assert int(mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum()) == 9 * (n // 128) - 36
