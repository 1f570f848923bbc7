"""Programs of which a few queries at the end of many positions are computed, for tests of decoding."""

import torch

import patternc
from patternc.draws import draw

HEADS, KV_HEADS, DIM = 4, 2, 8
DILATED = "pattern dilated(w: tokens = 20, d: int = 4) = { q -> k : 0 <= q - k < w and (q - k) % d == 0 }"
SOME_EMPTY = "pattern some() = { q -> k : k < q - 7 and q % 3 == 0 }"
SPEAKS_OF_N = "pattern tail() = { q -> k : k >= n - 9 and k <= q and q < 2 ** log2(n) }"
PATTERNS = {
    "window": ("std/local", {"window": 9}),
    "dilation": (DILATED, {}),
    "global tokens": ("std/longformer", {"w": 5, "dilation": [1, 1, 2, 4]}),
    "strided": ("std/strided", {"l": 6}),
    "both ways": ("std/presets/global_local", {"hubs": 3, "window": 8}),
    "bag": ("std/longnet", {"levels": [(8, 1), (16, 2), (64, 4)]}),
    "heads": (patternc.per_head({range(3): ("std/local", {"window": 5}), 3: "std/strided"}), {}),
    "empty rows": (SOME_EMPTY, {}),
    "length": (SPEAKS_OF_N, {}),
    "rounded": ("std/hierarchical", {"levels": [(4, 8, 4), (16, float("inf"), 4)]}),
    "drawn": ("std/bigbird", {"block": 4}),
    "chosen": ("std/adaptive", {"block": 4, "keep": 2}),
}


def compiled_of(name, **options):
    source, params = PATTERNS[name]
    if isinstance(source, patternc.Compiled):
        return patternc.per_head(
            {range(3): ("std/local", {"window": 5}), 3: "std/strided"}, kv_heads=KV_HEADS, **options
        )
    return patternc.compile(source, heads=HEADS, kv_heads=KV_HEADS, **params, **options)


def qkv(n_q, n, batch=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    shapes = [(batch, h, m, DIM) for h, m in ((HEADS, n_q), (KV_HEADS, n), (KV_HEADS, n))]
    return [torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes]


def tensors_of(compiled, n, batch=2, seed=0):
    drawn = draw(compiled.program.tensors, n, heads=HEADS, batch=batch, seed=seed)
    return {name: torch.from_numpy(array) for name, array in drawn.items()}


def reference(compiled, q, k, v, **options):
    return compiled.run("reference", q, k, v, return_lse=True, **options)


def close(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
