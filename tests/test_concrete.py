"""The evaluator of single cells, against the oracle."""

from __future__ import annotations

import numpy as np
import oracle
from drawn import Program, examples
from hypothesis import given, note, settings
from programs import guarded_programs, programs

from patternc import ast, parser
from patternc.analysis.concrete import Evaluator, World
from patternc.analysis.hashing import hash_cell
from patternc.source import Source


def masks(program: Program, n: int) -> tuple[np.ndarray, np.ndarray]:
    """M of the first batch row (heads, n, n), by the evaluator and by the oracle."""
    tensors = program.make_tensors(n)
    compiled = program.compile().program
    first = {t.name: tensors[t.name][0] if t.batched else tensors[t.name] for t in compiled.tensors}
    evaluator = Evaluator(compiled)
    made = [
        evaluator.matrix(World(n, program.heads, h, program.layer, read=lambda name, at: first[name][at].item()))
        for h in range(program.heads)
    ]
    tree, _ = parser.parse(Source("<drawn>", program.text))
    values = {"heads": program.heads, "layer": program.layer, "params": program.params, "tensors": tensors}
    wanted = oracle.mask(tree, n, n, **values)
    assert isinstance(tree, ast.File)
    return np.array(made), wanted if wanted.ndim == 3 else wanted[0]


@settings(max_examples=examples(100))
@given(programs())
def test_matrices(program: Program) -> None:
    compare(program)


@settings(max_examples=examples(100))
@given(guarded_programs())
def test_matrices_behind_guards(program: Program) -> None:
    compare(program)


def compare(program: Program) -> None:
    n = program.length(9)
    note(f"{program.text}{program} at n = {n}")
    made, wanted = masks(program, n)
    assert np.array_equal(made, wanted)


def test_hash() -> None:
    assert hash_cell(7, 3, 100, 5) == 0xC4A78487  # language.md, Selection
