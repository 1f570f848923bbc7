"""Saved modules: what is generated, that it stands alone, and that it computes the same bits."""

from __future__ import annotations

import ast
import copy
import functools
import os
import pickle
import random
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fifteen
import pytest
import torch
from drawn import Program, examples, in_torch
from hypothesis import given, note, settings
from programs import programs
from saved_modules import run

import patternc
from patternc import ir
from patternc.analysis import numbers, relation
from patternc.analysis.meanings import trivial
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.backends import export, export_embed, inputs, torch_saved
from patternc.backends.reference import mask
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.torch_program import IrPattern
from patternc.backends.torch_run import Runner, tiled_plan
from patternc.passes.arranged import arranged
from patternc.passes.merge import equal_axes
from patternc.plan import CONSECUTIVE, LISTED, Launch, Layout, Runs

HERE = Path(__file__).parent
FIFTEEN = list(fifteen.FIRST.values())
CPU = torch.device("cpu")


def namespace(arrangement: Arrangement) -> dict[str, Any]:
    """The generated part of a module, executed over the words that it is made of."""
    names = {**vars(numbers), **vars(relation), **vars(inputs), **vars(torch_saved), "LISTED": LISTED}
    exec(export.pattern_source(arrangement), names)
    return names


def load(path: Path) -> types.ModuleType:
    module = types.ModuleType(path.stem)
    sys.modules[path.stem] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


# ------------------------------------------------------------------ what is generated


@pytest.mark.parametrize("case", FIFTEEN, ids=lambda case: case.name)
def test_generated_source(case: fifteen.Case, golden: Callable[[Path, str], None]) -> None:
    program = case.compiled().program
    golden(HERE / "cases" / f"{case.name}.py.golden", export.pattern_source(arranged(program, case.heads)))


def test_source_of_the_compiled_object() -> None:
    local = patternc.compile("std/local", heads=2, window=5, backend="torch")
    assert "return indicator((0 <= x_0) & (x_0 < 5))" in local.source


@settings(max_examples=examples(300))
@given(programs())
def test_generated_functions_mean_what_the_program_means(program: Program) -> None:
    n, n_q, arrays = program.at(40)
    attention = program.compile()
    arrangement = arranged(attention.program, program.heads)
    source = export.pattern_source(arrangement)
    note(source)
    assert max(map(len, source.splitlines())) < 400
    given_tensors = in_torch(arrays)
    m = mask(attention.program, program.heads, n, n_q, given_tensors)
    plans = []
    for pattern in (namespace(arrangement)["PATTERN"], IrPattern(attention.program, program.heads, arranged)):
        xp = TorchArrays(CPU)
        checked = inputs.check_tensors(pattern.declared(n), given_tensors, CPU, None)
        meanings = pattern.meanings(n, n_q, checked, xp)
        for b, of_row in enumerate(m if m.ndim == 4 else m[None]):
            for h, expected in enumerate(of_row):
                assert torch.equal(whole(meanings, n, n_q, h, b), expected), (b, h)
                assert torch.equal(total(meanings, n, n_q, h, b), expected), (b, h)
        plans.append(tiled_plan(meanings, 4, 4, xp))
    assert_equal_plans(plans[0].launches, plans[1].launches)


def cells(meaning: Callable[..., Any], n: int, n_q: int) -> torch.Tensor:
    """(n_q, n) multiplicities."""
    xp, q, k = TorchArrays(CPU), torch.arange(n - n_q, n)[:, None], torch.arange(n)[None, :]
    found = meaning(numbers.Cells(q, True, xp), numbers.Cells(k, True, xp))
    value = found.value if isinstance(found, numbers.Cells) else found
    return torch.as_tensor(value).to(torch.int64).expand(n_q, n)


def whole(meanings: Any, n: int, n_q: int, h: int, b: int) -> torch.Tensor:
    return cells(meanings.of(h, b), n, n_q)


def total(meanings: Any, n: int, n_q: int, h: int, b: int) -> torch.Tensor:
    """The terms, on the tokens that their layouts hold, added up."""
    result = torch.zeros(n_q, n, dtype=torch.int64)
    for i in range(len(meanings.terms(h))):
        queries, keys = meanings.listed(h, b, i)
        rows = torch.ones(n_q, 1) if queries is None else held(queries - (n - n_q), n_q)[:, None]
        columns = torch.ones(1, n) if keys is None else held(keys, n)[None, :]
        result += cells(meanings.term(h, b, i), n, n_q) * (rows * columns).long()
    return result


def held(positions: torch.Tensor, length: int) -> torch.Tensor:
    return torch.zeros(length).index_fill(0, positions, 1)


def assert_equal_plans(first: tuple[Launch, ...], second: tuple[Launch, ...]) -> None:
    assert [(a.heads, a.batch) for a in first] == [(b.heads, b.batch) for b in second]
    for a, b in zip(first, second, strict=True):
        assert equal_axes(a.queries, b.queries, TorchArrays(CPU))
        for x, y in zip(a.terms, b.terms, strict=True):
            assert x.term == y.term
            assert equal_axes(x.keys, y.keys, TorchArrays(CPU))
            assert_equal_runs(x.by_query, y.by_query)
            assert_equal_runs(x.by_key, y.by_key)


def assert_equal_runs(a: Runs, b: Runs) -> None:
    for name in ("rows", "first", "count", "kind", "weight"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_long_and_deep_expressions_are_cut() -> None:
    """Python nests 200 parentheses at most, and compiles no deep trees."""
    deep = "(" * 90 + "q" + "- (k + 1))" * 90
    text = f"pattern p(t: [int]) = {{ q -> k : {deep} > 0 and any(q - k == i * i for i in t) or t[q * 7 + k] == 1 }}"
    program = patternc.compile(text, heads=1, t=list(range(1000))).program
    pattern = namespace(trivial(program, 1))["PATTERN"]
    found = whole(pattern.meanings(50, 50, {}, TorchArrays(CPU)), 50, 50, 0, 0)
    assert torch.equal(found, mask(program, 1, 50)[0])


def test_what_depends_on_the_length_is_decided_at_the_length() -> None:
    """Families, choices and sizes that hang on n stay open in the generated source."""
    text = """
    pattern ring(i: int) = { q -> k : abs(q - k) == i }
    pattern p() = (sum(cover(1 + i) ring(i) for i in 1..log2(n)) if n > 20 else causal)
              + blocks(1 + n // 10) { q -> k : k == n - 1 } + top(n // 8, by = q ^ k)
    """
    program = patternc.compile(text, heads=1).program
    source = export.pattern_source(trivial(program, 1))
    assert all(word in source for word in ("summed(", "holds(", "block_size(", "selection_count("))
    pattern = namespace(trivial(program, 1))["PATTERN"]
    for n, n_q in ((5, 5), (33, 33), (64, 9), (100, 100)):
        found = whole(pattern.meanings(n, n_q, {}, TorchArrays(CPU)), n, n_q, 0, 0)
        assert torch.equal(found, mask(program, 1, n, n_q)[0]), n


# ------------------------------------------------------------------ what is saved


def test_modules_stand_alone_and_have_the_same_bits(tmp_path: Path) -> None:
    """All fifteen programs, in a process that can import torch alone, at lengths drawn after saving."""
    options = [{"kv_heads": case.heads // 2} if case.heads % 2 == 0 else {} for case in FIFTEEN]
    attentions = [case.compiled(backend="torch", **more) for case, more in zip(FIFTEEN, options, strict=True)]
    for case, attention in zip(FIFTEEN, attentions, strict=True):
        attention.save(tmp_path / f"saved_{case.name}.py")
    lengths = random.Random(os.urandom(8))
    for case, attention in zip(FIFTEEN, attentions, strict=True):
        calls = [draw_call(case, attention, case.length(lengths.randint(1, 200)), lengths) for _ in range(2)]
        torch.save(calls, tmp_path / f"saved_{case.name}.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, str(HERE / "saved_modules.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(FIFTEEN)} modules have the same bits\n"


def draw_call(case: fifteen.Case, attention: patternc.Compiled, n: int, lengths: random.Random) -> dict[str, Any]:
    n_q = lengths.choice([n, lengths.randint(1, n)])
    tensors = in_torch(fifteen.tensors_of(case, n))
    shapes = ((attention.heads, n_q, 8), (attention.kv_heads, n, 8), (attention.kv_heads, n, 4))
    drawn = [torch.randn(2, *shape) for shape in shapes]
    direction = torch.randn(2, attention.heads, n_q, 4)
    expected = run(attention, drawn, tensors, direction)
    return {"inputs": drawn, "tensors": tensors, "direction": direction, "expected": expected}


TERMS = {
    "near": "pattern p() = { q -> k : abs(q - k) < 9 and k % 4 != 0 and q % 16 != 3 }",
    "comb": "pattern p() = { q -> k : k % 4 == 0 and q % 16 != 3 }",
    "column": "pattern p() = { q -> k : (q - k) % 16 == 0 and q % 16 == 3 }",
    "flagged": "pattern p(flag: bool[batch, n]) = { q -> k : flag[q] and flag[k] }",
    "queries": "pattern p(flag: bool[batch, n]) = { q -> k : flag[q] }",
    "keys": "pattern p(flag: bool[batch, n]) = { q -> k : flag[k] }",
    "whole": """
    pattern p(flag: bool[batch, n]) = { q -> k : q % 16 != 3 and (abs(q - k) < 9 or k % 4 == 0) }
                                    + { q -> k : (q - k) % 16 == 0 and q % 16 == 3 }
                                    + { q -> k : flag[q] and flag[k] }""",
}
"""A bag as a sum of terms, the last of which overlaps the others and is on lists of flagged tokens."""


def many_layouts(heads: int) -> Arrangement:
    programs = {name: patternc.compile(text, heads=heads).program for name, text in TERMS.items()}
    part: dict[str, ir.Pattern] = {name: program.pattern for name, program in programs.items()}
    terms = (
        Term(part["near"]),
        Term(part["comb"], CONSECUTIVE, Layout(4, 1)),
        Term(part["column"], Layout(16, 1), Layout(8, 2)),
        Term(part["flagged"], LISTED, LISTED, part["queries"], part["keys"]),
    )
    whole = programs["whole"]
    return Arrangement(whole, heads, (HeadClass(tuple(range(heads)), whole.pattern, terms),))


@pytest.mark.parametrize(("n", "n_q"), [(1, 1), (150, 150), (131, 40)])
def test_layouts_and_lists_are_saved(tmp_path: Path, n: int, n_q: int) -> None:
    arrangement = many_layouts(4)
    path = export.save(tmp_path / f"saved_layouts_{n}.py", arrangement, 2, "")
    flag = torch.rand(2, n) < 0.3
    program = arrangement.program
    runners = Runner(IrPattern(program, 4, lambda *_: arrangement), 2), load(path).RUNNER
    drawn = [torch.randn(2, h, length, 8, dtype=torch.float64) for h, length in ((4, n_q), (2, n), (2, n))]
    found, saved = (run(functools.partial(call, r), drawn, {"flag": flag}, drawn[0]) for r in runners)
    for a, b in zip(found, saved, strict=True):
        assert torch.equal(a, b)
    exact = patternc.compile(TERMS["whole"], heads=4, kv_heads=2, backend="reference")
    for a, b in zip(found, run(exact, drawn, {"flag": flag}, drawn[0]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def call(runner: Runner, *inputs: torch.Tensor, return_lse: bool, dropout_p: float, **tensors: torch.Tensor) -> Any:
    return runner(*inputs, return_lse=return_lse, dropout_p=dropout_p, tensors=tensors)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> types.ModuleType:
    text = "pattern p(doc: int[batch, n]) over (y: 3, x: 4) = causal & { q -> k : doc[q] == doc[k] }"
    path = tmp_path_factory.mktemp("saved") / "saved_documents.py"
    assert patternc.compile(text, heads=2).save(path) == path
    return load(path)


def draw(n: int = 12, heads: int = 2) -> list[torch.Tensor]:
    return [torch.randn(1, heads, n, 4) for _ in range(3)]


def test_wrong_calls_of_a_saved_module(documents: types.ModuleType) -> None:
    attention = documents.Attention()
    doc = torch.zeros(1, 12, dtype=torch.int64)
    assert attention(*draw(), doc=doc).shape == (1, 2, 12, 4)
    with pytest.raises(TypeError, match=r"needs the run-time tensor doc: int\(batch, 12\)"):
        attention(*draw())
    with pytest.raises(TypeError, match="did you mean 'doc'"):
        attention(*draw(), dok=doc)
    with pytest.raises(ValueError, match=r"n = 13 tokens do not fill the grid of 3 \* 4 = 12"):
        attention(*draw(13), doc=torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(ValueError, match="compiled for H = 2 and H_kv = 2"):
        attention(*draw(heads=3), doc=doc)


def test_a_saved_module_is_a_plain_module(documents: types.ModuleType) -> None:
    attention = documents.Attention()
    assert list(attention.parameters()) == []
    assert attention.state_dict() == {}
    arguments = (*draw(),)
    doc = torch.zeros(1, 12, dtype=torch.int64)
    for other in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert torch.equal(other(*arguments, doc=doc), attention(*arguments, doc=doc))


def test_a_saved_module_has_no_loose_ends(tmp_path: Path) -> None:
    path = patternc.compile("std/local", heads=2).save(tmp_path / "saved.py")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=E9,F63,F7,F811,F821,F823", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


HOSTILE = [
    "pattern p = causal # \"\"\" ''' \\ {0}",
    "pattern p = causal # \x0cimport os\x0b\x85\u2028\u2029 print(1) \x00\x1b[2J",
    "pattern p = causal # coding: utf-7\n# -*- coding: latin-1 -*-",
    "pattern p = causal\rimport os\r\nimport sys",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_program_text_cannot_leave_its_comment(text: str) -> None:
    program = patternc.compile("pattern p() = causal", heads=1).program
    arrangement = trivial(program, 1)
    harmless = ast.dump(ast.parse(export.module_source(arrangement, 1, "")))
    source = export.module_source(arrangement, 1, text)
    assert ast.dump(ast.parse(source.encode())) == harmless
    assert all(c.isprintable() or c == "\n" for c in source)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = patternc.compile("std/local", heads=2)
    path = tmp_path / "saved.py"
    path.write_text("before")
    with pytest.raises(OSError, match="missing"):
        attention.save(tmp_path / "missing" / "saved.py")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            attention.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["saved.py"]
    assert path.read_text() == "before"
    attention.save(path)
    assert "class Attention" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o666 & ~export._umask()


# ------------------------------------------------------------------ embedding


def test_embedding_renames_what_clashes() -> None:
    one = "patternc.one", '"""One."""\nimport math\nA = 1\ndef f(x):\n    return x.f + A\n'
    text = '"""Two."""\nfrom patternc.one import A\n\ndef f(x):\n    return f(x, f=A) + "f"\n\nclass B:\n    c = f\n'
    joined = export_embed.embed_sources([one, ("patternc.two", text)])
    assert joined.imports == "import math"
    assert "def f(x):\n    return x.f + A" in joined.text
    assert 'def f_of_two(x):\n    return f_of_two(x, f=A) + "f"\n\nclass B:\n    c = f_of_two' in joined.text
    assert "# Two." in joined.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from patternc.other import x\n", "x of patternc.other must be embedded before"),
        ("def f():\n    pass\ndef g(f):\n    return f\n", "an argument in patternc.two"),
    ],
)
def test_embedding_refuses_what_it_cannot_do(text: str, message: str) -> None:
    one = "patternc.one", "def f():\n    return 1\n"
    with pytest.raises(AssertionError, match=message):
        export_embed.embed_sources([one, ("patternc.two", text)])
