"""The text of generated kernels."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from patternc.backends.triton_backward import backward_queries
from patternc.backends.triton_backward_keys import backward_keys
from patternc.backends.triton_forward import forward
from patternc.backends.triton_structure import Argument, Mask, Structure
from patternc.backends.triton_writer import Writer

FOLDER = Path(__file__).parent / "cases" / "triton"
WINDOW = Mask("@triton.jit\ndef MASK(q, k, n, h, w):\n    return (q >= k) & (q - k < w)", (Argument("w"),))
COMB = Mask("@triton.jit\ndef MASK(q, k, n, h, m):\n    return tl.load(m + k) > 0", (Argument("m", "tensor", True),))
BAG = Mask("@triton.jit\ndef MASK(q, k, n, h):\n    return (q >= k).to(tl.int32)", bag=True)

KERNELS = {
    "forward_of_a_window": lambda w: forward(w, Structure((WINDOW,))),
    "backward_queries_of_two_terms": lambda w: backward_queries(w, Structure((WINDOW, COMB))),
    "backward_keys_of_a_bag": lambda w: backward_keys(w, Structure((BAG,), listed_queries=True, bag=True), 0),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name: str, golden: Callable[[Path, str], None]) -> None:
    w = Writer()
    KERNELS[name](w)
    ast.parse(w.text())
    golden(FOLDER / f"{name}.golden", w.text())
