"""Verdicts of checks: proofs that have to succeed, counterexamples that are real, and agreement with masks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn import Program, examples
from fifteen import EXAMPLES
from hypothesis import given, note, settings
from hypothesis import strategies as st
from programs import programs

import patternc
from patternc import ast, ir
from patternc.analysis.concrete import Evaluator, World
from patternc.analysis.worlds import Elements
from patternc.elaborate import elaborate
from patternc.errors import Code, SpatError, render
from patternc.judgement import check
from patternc.loader import load, open_source
from patternc.source import Span
from patternc.verdicts import Kind, Property, Verdict, judge

CAUSAL, NONEMPTY, SYMMETRIC, SET = (Property(name) for name in ("causal", "nonempty", "symmetric", "set"))
CHECKS = sorted((Path(__file__).parent / "errors" / "checks").glob("*.spat"))


def program(source: str, heads: int | None = None, **values: int) -> ir.Program:
    """The last pattern of a file or text, or of a pattern's body, closed but for n, h, heads and layer."""
    text = source if source.startswith("pattern") or source.endswith(".spat") else f"pattern p() = {source}"
    module = load(open_source(text))
    last = [item for item in module.file.items if isinstance(item, ast.Pattern)][-1]
    return elaborate(module.names[last.name.id], {k: ir.Const(v) for k, v in values.items()}, heads=heads)


def verdict(source: str, wanted: Property, **at: int) -> Verdict:
    return judge(program(source, at.get("heads")), wanted, at)


def row(op: str, number: float) -> Property:
    return Property("row", op, number)


def density(op: str, number: float) -> Property:
    return Property("density", op, number)


def equals(source: str) -> Property:
    return Property("equals", other=program(source))


# ------------------------------------------------------------------ what has to be proved


@pytest.mark.parametrize("name", ["local", "strided", "longnet", "documents", "gemma", "adaptive"])
def test_causal_for_every_n(name: str) -> None:
    made = verdict(str(EXAMPLES / f"{name}.spat"), CAUSAL)
    assert (made.kind, made.text) == (Kind.PROVED, "proved for every n")


@pytest.mark.parametrize("name", ["local", "global_local", "hierarchical", "bigbird", "adaptive", "block_dilated"])
def test_nonempty_for_every_n(name: str) -> None:
    assert verdict(str(EXAMPLES / f"{name}.spat"), NONEMPTY).kind == Kind.PROVED


PROVED = [
    ("{ q -> k : abs(q - k) < 9 }", SYMMETRIC),
    ("{ q -> k : abs(q - k) < 9 } + diagonal", SYMMETRIC),
    ("blocks(64) { q -> k : q == k or abs(q - k) in [1, 2, 4, 8] }", SYMMETRIC),
    ("causal + ~causal", SET),
    ("{ q -> k : 0 <= q - k < 4 }", row("<=", 4)),
    ("{ q -> k : 0 <= q - k < 4 }", row("<", 5)),
    ("{ q -> k : 0 <= q - k < 4 }", row("!=", 5)),
    ("causal", row(">=", 1)),
    ("causal", row(">", 0)),
    ("causal", row("!=", 0)),
    ("causal", row("<=", float("inf"))),
    ("diagonal", row("==", 1)),
    ("blocks(4) diagonal", row("<=", 4)),
    ("causal", density("<=", 1)),
    ("causal", density(">", -0.5)),
    ("full", density("==", 1)),
    ("empty", density("<", 0.5)),
    ("causal", equals("{ q -> k : not q < k }")),
    ("causal + diagonal", equals("diagonal + { q -> k : k <= q }")),
    ("blocks(2) blocks(3) causal", equals("blocks(6) causal")),
    ("cover(4) blocks(4) causal", equals("blocks(4) causal")),
]


@pytest.mark.parametrize(("source", "wanted"), PROVED)
def test_proved(source: str, wanted: Property) -> None:
    assert verdict(source, wanted).kind == Kind.PROVED


REFUTED = [
    (
        "{ q -> k : k <= q or q == 5000 and k == 5001 }", CAUSAL, {},
        "not causal: at n = 5002 query 5000 attends key 5001",
    ),
    (
        "{ q -> k : k <= q or q == 5000 and k == 5001 }", CAUSAL, {"n": 1_000_000},
        "not causal: at n = 1000000 query 5000 attends key 5001",
    ),
    ("{ q -> k : k <= q + 1 }", CAUSAL, {}, "not causal: at n = 2 query 0 attends key 1"),
    ("full if h == 5 else causal", CAUSAL, {}, "not causal: at n = 2, head 5 of 8, query 0 attends key 1"),
    ("full if layer % 6 == 5 else causal", CAUSAL, {}, "not causal: at n = 2, layer 5, query 0 attends key 1"),
    ("{ q -> k : k < q }", NONEMPTY, {}, "row 0 has no key at n = 1"),
    ("{ q -> k : k < q }", NONEMPTY, {"n": 500}, "row 0 has no key at n = 500"),
    ("{ q -> k : k == q - 100 or q < 700 }", NONEMPTY, {"n": 700}, None),
    ("{ q -> k : k == q - 900 or q < 700 }", NONEMPTY, {}, "row 700 has no key at n = 701"),
    ("causal", SYMMETRIC, {}, "not symmetric: at n = 2 query 1 attends key 0, but query 0 does not attend key 1"),
    (
        "causal + full", SYMMETRIC, {"n": 200},
        "not symmetric: at n = 200 query 0 attends key 1 once, but query 1 attends key 0 twice",
    ),
    ("causal + diagonal", SET, {}, "not a set: at n = 1 query 0 attends key 0 twice"),
    (
        "causal + causal + { q -> k : k == 300 }", SET, {"n": 400},
        "not a set: at n = 400 query 0 attends key 0 twice",
    ),
    ("{ q -> k : 0 <= q - k < 5 }", row("<=", 4), {}, "at n = 5 row 4 has 5 keys, expected <= 4"),
    ("{ q -> k : 0 <= q - k < 5 }", row("<=", 4), {"n": 16}, "at n = 16 row 4 has 5 keys, expected <= 4"),
    ("{ q -> k : 0 <= q - k < 500 }", row("<=", 499), {"n": 900}, "at n = 900 row 499 has 500 keys, expected <= 499"),
    ("{ q -> k : 0 <= q - k < 500 }", row("<=", 499), {}, "at n = 500 row 499 has 500 keys, expected <= 499"),
    ("causal", row("==", 1), {}, "at n = 2 row 1 has 2 keys, expected == 1"),
    ("causal", density("<", 0.6), {"n": 4}, "at n = 4 the density is 0.625, expected < 0.6"),
    ("causal", density("<", 0.5), {"n": 1000}, "at n = 1000 the density is 0.5005, expected < 0.5"),
    ("causal", equals("{ q -> k : k < q }"), {}, "not equal: at n = 1 query 0 attends key 0 only in this pattern"),
    (
        "{ q -> k : k < q }", equals("causal"), {"n": 300},
        "not equal: at n = 300 query 0 attends key 0 only in the other pattern",
    ),
    (
        "causal + causal", equals("causal"), {"n": 300},
        "not equal: at n = 300 query 0 attends key 0 twice, in the other pattern once",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "wanted", "at", "sentence"), REFUTED)
def test_counterexamples(source: str, wanted: Property, at: dict[str, int], sentence: str | None) -> None:
    made = verdict(source, wanted, **at)
    assert made.counterexample == sentence
    assert made.kind == (Kind.REFUTED if sentence else Kind.CHECKED)


def test_counterexamples_name_what_tensors_hold() -> None:
    source = "pattern p(x: int[batch, n]) = { q -> k : k <= q or x[q] == 77 and q == 1000 }"
    found = verdict(source, CAUSAL).counterexample
    assert found == "not causal: at n = 1002 query 1000 attends key 1001 (x[1000] = 77)"


@pytest.mark.parametrize(
    ("source", "wanted", "at", "text"),
    [
        ("causal", CAUSAL, {"n": 16}, "checked at n = 16"),
        ("strided", CAUSAL, {"n": 300, "heads": 4}, "checked at n = 300, heads = 4"),
        ("gemma", row("<=", 1024), {"layer": 4}, "proved for every n at layer = 4"),
        ("documents", NONEMPTY, {"n": 2000}, "checked at n = 2000"),
        ("causal", row("<=", 1_000_000), {"n": 1_000_000}, "checked at n = 1000000"),
    ],
)
def test_words(source: str, wanted: Property, at: dict[str, int], text: str) -> None:
    path = EXAMPLES / f"{source}.spat"
    assert verdict(str(path) if path.exists() else source, wanted, **at).text == text


def test_unknown_has_a_hint() -> None:
    source = "match h % 2 { 0 => { q -> k : (q ^ k) % 3 != 1 or k <= q }, 1 => causal }"
    made = verdict(source, density(">", 0.1))
    assert (made.kind, made.text) == (Kind.UNKNOWN, "unknown")
    assert made.hint == "ask at one length: `at n = 256, heads = 8`"


def test_grids_have_one_length() -> None:
    path = str(EXAMPLES / "neighborhood.spat")
    made = judge(program(path, H=9, W=12), row("==", 49), {})
    assert made.text == "checked at n = 108"
    with pytest.raises(SpatError) as caught:
        judge(program(path, H=9, W=12), CAUSAL, {"n": 100})
    assert caught.value.diagnostics[0].code == Code.GRID_LENGTH


def test_long_lengths_are_quick() -> None:
    start = time.process_time()
    assert verdict("{ q -> k : 0 <= q - k < 1024 }", CAUSAL, n=1_000_000).kind == Kind.CHECKED
    assert verdict("blocks(64) causal", density("<", 0.51), n=100_000).kind == Kind.CHECKED
    assert time.process_time() - start < 10


def nested(form: str, leaf: str, depth: int) -> str:
    for i in range(depth):
        leaf = form.replace("#", str(i)).replace("@", leaf)
    return leaf


DEEP = [
    "{ q -> k : " + nested("(q + # < k or (q > # and @))", "q == k", 48) + " }",
    "{ q -> k : " + nested("(q < k if k > # else @)", "q == k", 97) + " }",
    "{ q -> k : " + nested("any(q + i# < k and @ for i# in 0..n)", "q == k", 60) + " }",
    "{ q -> k : " + nested("[q, k, 3][@ % 3]", "q", 45) + " > 1 }",
    nested("~(causal | (diagonal & @))", "full", 30),
    nested("(causal + (diagonal & @))", "full", 45),
    nested("union(diagonal | @ for i# in 0..n)", "causal", 60),
    nested("(causal if h == # else @)", "full", 97),
    nested("cover(2) (diagonal | @)", "full", 45),
    nested("top(2, by = k, of = diagonal | @)", "causal", 30),
]


@pytest.mark.parametrize("source", DEEP, ids=lambda source: source[:30])
def test_deep_programs_get_verdicts(source: str) -> None:
    made = program(source)
    start = time.process_time()
    for wanted in (CAUSAL, NONEMPTY, SYMMETRIC, SET, row("<=", 100_000)):
        assert judge(made, wanted, {}).kind in Kind
    assert time.process_time() - start < 10


# ------------------------------------------------------------------ agreement with masks


def holds(wanted: Property, masks: np.ndarray) -> bool:
    """Whether masks (heads, n, n) of one length have the property."""
    match wanted.name:
        case "causal":
            return not np.triu(masks, 1).any()
        case "nonempty":
            return bool(masks.any(-1).all())
        case "symmetric":
            return bool((masks == masks.swapaxes(1, 2)).all())
        case "set":
            return masks.max() <= 1
        case "row":
            return all(wanted.accepts(int(x)) for x in np.unique((masks > 0).sum(-1)))
    return wanted.accepts(float((masks > 0).mean()))


OPS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
PROPERTIES = st.one_of(
    st.sampled_from([CAUSAL, NONEMPTY, SYMMETRIC, SET]),
    st.builds(row, OPS, st.integers(0, 6)),
    st.builds(density, OPS, st.sampled_from([0, 0.25, 0.5, 1])),
)


def worlds(drawn: Program, made: ir.Program, n: int) -> Iterator[np.ndarray]:
    """Masks (heads, n, n) at one length, for three kinds of run-time tensors."""
    kinds = {t.name: t.element for t in made.tensors}
    evaluator = Evaluator(made)
    for draw in range(3 if kinds else 1):
        read = Elements(kinds, n, draw)
        yield np.array([evaluator.matrix(World(n, drawn.heads, h, drawn.layer, read=read)) for h in range(drawn.heads)])


@settings(max_examples=examples(60))
@given(programs(), PROPERTIES)
def test_verdicts_agree_with_masks(drawn: Program, wanted: Property) -> None:
    note(f"{drawn.text}{drawn}: {wanted}")
    made = drawn.compile().program
    for at in ({"heads": drawn.heads}, {"heads": drawn.heads, "n": drawn.length(9)}):
        found = judge(made, wanted, at if drawn.n is None else {**at, "n": drawn.n})
        note(f"{at}: {found}")
        lengths = [at["n"]] if "n" in at else range(1, 10)
        if found.kind in (Kind.PROVED, Kind.CHECKED):
            assert all(holds(wanted, m) for n in lengths for m in worlds(drawn, made, drawn.n or n))
        elif found.kind == Kind.REFUTED and not made.tensors:
            n = int(re.search(r"at n = (\d+)", found.counterexample)[1])  # type: ignore[index,arg-type]
            assert n > 40 or not all(holds(wanted, m) for m in worlds(drawn, made, n))
        else:
            assert made.tensors or "n" not in at


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_messages(path: Path, golden: Callable[[Path, str], None]) -> None:
    golden(path.with_suffix(".stderr"), render(check(str(path)).diagnostics).replace(f"{path.parent}/", "") + "\n")


def test_what_holds_says_nothing() -> None:
    source = patternc.check("pattern p() = causal\ncheck p : causal, nonempty, row >= 1").source
    assert verdict("causal", CAUSAL).diagnostic(Span(source, 0, 1)) is None
