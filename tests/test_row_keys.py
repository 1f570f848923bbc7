"""Rows without a plan, and programs over sequences in a row, cell for cell against the reference's masks of drawn
programs."""

from itertools import pairwise

import numpy as np
import torch
from drawn import Program, examples, in_torch
from hypothesis import given, note, settings
from programs import programs

import patternc
from patternc.analysis.row_keys import RowKeys, Rows
from patternc.backends.reference_mask import mask
from patternc.errors import SpatError
from patternc.nn.shifted import packed_program


def laid_out(classes: list[RowKeys], heads: int, n_q: int, n: int) -> np.ndarray:
    """M as (heads, n_q, n)."""
    m = np.zeros((heads, n_q, n), np.int64)
    for own in classes:
        assert (np.diff(own.keys) > 0).all()
        for h in own.heads:
            m[h][:, own.keys] = 1 if own.multiplicity is None else own.multiplicity
            assert (m[h][:, own.keys] > 0).any(0).all(), "every key is wanted by a query"
    return m


@settings(max_examples=examples(150))
@given(programs())
def test_rows_are_those_of_the_mask(program: Program) -> None:
    """At one length after the other, as in decoding, from one object."""
    longest = program.length(100)
    compiled = program.compile()
    rows = Rows(compiled.program, program.heads)
    lengths = [longest] if program.n else range(max(1, longest - 2), longest + 1)
    for n in lengths:
        tensors = program.make_tensors(n)
        for n_q in {1, min(n, 1 + program.seed[2] % 20)}:
            note(f"{program.text}{program} at n = {n}, n_q = {n_q}")
            expected = compiled.mask(n, n_q, **in_torch(tensors)).numpy()
            for b, classes in rows.wanted(n, n_q, tensors):
                found = laid_out(classes, program.heads, n_q, n)
                wanted = expected if expected.ndim == 3 else expected[0 if b is None else b]
                np.testing.assert_array_equal(found, wanted)


@settings(max_examples=examples(150))
@given(programs())
def test_a_program_over_sequences_is_each_by_itself(program: Program) -> None:
    compiled = program.compile()
    packed = packed_program(compiled.program)
    if packed is None:
        return
    shifted, name = packed
    first, second = 1 + program.seed[1] % 20, 1 + program.seed[2] % 20
    stops = [0, first, first + second]
    n = stops[-1]
    tensors = {t: torch.from_numpy(array) for t, array in program.make_tensors(n, batch=1).items()}
    starts = torch.tensor([0] * first + [first] * second)
    note(f"{program.text}{program} in {stops}")
    try:
        expected = torch.zeros(program.heads, n, n, dtype=torch.int64)
        for a, b in pairwise(stops):
            own = {t: array[:, a:b] for t, array in tensors.items()}
            expected[:, a:b, a:b] = compiled.mask(b - a, **own).view(-1, b - a, b - a)
    except SpatError:  # a length that the program does not admit
        return
    found = mask(shifted, program.heads, n, n, {**tensors, name: starts}, torch.device("cpu"), 1)
    assert torch.equal(found.view(-1, n, n), expected)


def test_sequences_in_a_row_are_drawn_at_all() -> None:
    """The property above is not about nothing."""
    text = "pattern p(b: bool[batch, n]) = blocks(3) { q -> k : q - k in [0, 2] } | { q -> k : b[k] and q % 5 == 0 }"
    assert packed_program(patternc.compile(text, heads=1).program) is not None
