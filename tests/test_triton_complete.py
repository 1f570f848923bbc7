"""What kernels a program takes is known when it is compiled: no length, tile or tensor asks for others. A saved module,
which has those kernels and no others, plans the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from drawn import Program, examples, in_torch
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from programs import programs

pytest.importorskip("triton")

import patternc
from benchmarks import suite
from patternc.analysis import numbers, relation
from patternc.arrangement import Arrangement
from patternc.backends import export, inputs, torch_saved, triton_saved
from patternc.backends.export_triton import Parts
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.torch_program import IrPattern
from patternc.backends.triton_masks import Masks, structures
from patternc.backends.triton_plans import Ready, ready
from patternc.backends.triton_reasons import against
from patternc.backends.triton_saved import kernels_of
from patternc.backends.triton_structure import Structure
from patternc.passes.arranged import arranged
from patternc.plan import LISTED

CPU = torch.device("cpu")
TILES = st.sampled_from([(16, 16), (32, 16), (64, 64)])


def planned(masks: Any, arrangement: Arrangement, n: int, n_q: int, tensors: Any, tile: tuple[int, int]) -> Ready:
    batch = max([1, *(t.shape[0] for d in arrangement.program.tensors if d.batched for t in [tensors[d.name]])])
    heads = arrangement.heads
    declared = IrPattern(arrangement.program, heads, lambda *_: arrangement).declared(n)
    given_tensors = inputs.check_tensors(declared, tensors, CPU, batch)
    return ready(masks, n=n, n_q=n_q, batch=batch, kv_heads=heads, device=CPU, tensors=given_tensors, tile=tile)


def taken(made: Ready) -> set[Structure]:
    return {step.structure for step in (*made.schedule.by_query, *made.schedule.by_key)}


def saved(parts: Parts) -> triton_saved.SavedMasks:
    """The generated part of a module, but for its kernels, over the words that it is made of."""
    words = {**vars(numbers), **vars(relation), **vars(inputs), **vars(torch_saved), **vars(triton_saved)}
    words["LISTED"] = LISTED
    exec(export.pattern_source(parts.masks.arrangement, parts.left) + parts.masks_text(), words)
    return words["MASKS"]


@settings(max_examples=examples(60))
@given(programs(), TILES)
def test_drawn_programs(program: Program, tile: tuple[int, int]) -> None:
    n, n_q, arrays = program.at(60)
    note(f"in tiles of {tile}")
    arrangement = arranged(program.compile().program, program.heads)
    masks = Masks.of(arrangement)
    assume(not list(against(masks)))
    tensors = in_torch(arrays)
    made = planned(masks, arrangement, n, n_q, tensors, tile)
    known = dict.fromkeys(structures(masks))
    for structure in taken(made):
        kernels_of(structure, known)
    classes = masks.meanings(n, n_q, tensors, TorchArrays(CPU)).classes
    assume(classes == [own.heads for own in arrangement.classes])  # those alike at a length only are one in memory only
    assert_equal_schedules(planned(saved(Parts(masks)), arrangement, n, n_q, tensors, tile), made)


def assert_equal_schedules(a: Ready, b: Ready) -> None:
    for major in ("by_query", "by_key"):
        first, second = getattr(a.schedule, major), getattr(b.schedule, major)
        assert len(first) == len(second)
        for x, y in zip(first, second, strict=True):
            for name in ("followers", "items", "runs", "launches", "roles", "index", "members"):
                assert torch.equal(getattr(x.tables, name), getattr(y.tables, name)), name
            assert x.pointers.keys() == y.pointers.keys()
            assert all(torch.equal(t, y.pointers[name]) for name, t in x.pointers.items())


LENGTHS = (1, 17, 100, 1000)


@pytest.mark.parametrize("case", suite.SUITE, ids=lambda case: case.name)
def test_the_suite_takes_the_same_kernels_at_every_length(case: suite.Case) -> None:
    """At short lengths terms have no tiles, for a few queries too: the launches stay as they are."""
    compiled = patternc.compile(str(case.path), heads=case.kinds)
    arrangement = arranged(compiled.program, case.kinds)
    masks = Masks.of(arrangement)
    known = dict.fromkeys(structures(masks))
    for n in LENGTHS:
        tensors = {name: torch.as_tensor(t) for name, t in case.tensors(n).items()}
        for n_q in {1, n}:
            for structure in taken(planned(masks, arrangement, n, n_q, tensors, (64, 64))):
                kernels_of(structure, known)


def test_terms_without_tiles_stay() -> None:
    """Of near and far keys only the near ones are there for short sequences; the kernels are those for both."""
    text = "pattern p() = { q -> k : 0 <= q - k < 5 } | { q -> k : k % 8 == 0 and q - k >= 40 }"
    arrangement = arranged(patternc.compile(text, heads=1).program, 1)
    assert len(arrangement.classes[0].terms) == 2
    masks = Masks.of(arrangement)
    short, long = (planned(masks, arrangement, n, n, {}, (16, 16)) for n in (20, 200))
    assert [len(launch.terms) for launch in short.plan.launches] == [2]
    assert taken(short) == taken(long) == set(structures(masks))
    assert len(short.schedule.by_key) < len(long.schedule.by_key)  # what has no tiles costs no grid
