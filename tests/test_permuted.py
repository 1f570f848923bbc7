"""Pictures of layouts: the same cells in two orders, with the tiles and the padding of the plan."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import patternc
from patternc.cli import commands
from patternc.plan import CONSECUTIVE
from patternc.planning import planned
from patternc.show.permuted import Pair, pairs, slot_tokens
from patternc.show.picture import DEAD, FULL, PARTIAL, SKIPPED

PROGRAMS = {
    "strided": ("() = causal & { q -> k : (q - k) % 8 == 0 }", 70, (8, 8)),
    "grid": ("() over (y: 20, x: 25) = { q -> k : abs(q.y - k.y) <= 3 and abs(q.x - k.x) <= 3 }", 500, (16, 16)),
    "terms": ("() = { q -> k : abs(q - k) <= 8 or k % 16 == 0 }", 130, (16, 8)),
    "listed": ("(f: bool[n]) = { q -> k : abs(q - k) <= 8 or f[k] }", 128, (16, 8)),
    "bag": ("() = causal + { q -> k : (q - k) % 4 == 0 }", 64, (8, 8)),
}


def shown(name: str, n_q: int | None = None, **options) -> tuple[list[Pair], patternc.Compiled, int]:
    text, n, tile = PROGRAMS[name]
    attention = patternc.compile(f"pattern p{text}", heads=2)
    tensors = {"f": np.arange(n) % 23 == 5} if name == "listed" else {}
    made = planned(attention.arrangement(tile=tile), n, n_q or n, tensors, "cpu", tile)
    return list(pairs(made.plan, made.meanings, **options)), made, n


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("n_q", [None, 37])
def test_both_orders_show_the_cells_of_the_mask(name, n_q):
    found, made, n = shown(name, n_q)
    attention = patternc.compile(f"pattern p{PROGRAMS[name][0]}", heads=2)
    mask = attention.mask(n, n_q, **made.tensors).reshape(-1, n_q or n, n)[0].numpy()
    for which in (lambda pair: pair.before, lambda pair: pair.views[-1]):
        total = np.zeros_like(mask)
        for view in map(which, found):
            q, k = slot_tokens(view.queries), slot_tokens(view.keys)
            live = (q < n)[:, None] & (k < n)[None, :]
            assert (view.panel.kinds == DEAD).tolist() == (~live).tolist()
            rows, columns = np.nonzero(live)
            np.add.at(total, (q[rows] - n + (n_q or n), k[columns]), view.panel.values[live].astype(int))
        assert (total == mask).all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_tiles_and_kinds_are_those_of_the_plan(name):
    found, made, _ = shown(name)
    terms = [(launch, term) for launch in made.plan.launches for term in launch.terms]
    for pair, (launch, term) in zip(found, terms, strict=True):
        view, runs = pair.views[-1], term.by_query
        assert view.tiles == runs.count.sum()
        shape = (launch.queries.tiles, launch.queries.tile, term.keys.tiles, term.keys.tile)
        kinds = np.where(view.panel.kinds == DEAD, SKIPPED, view.panel.kinds).reshape(shape).max((1, 3))
        assert (kinds == FULL).sum() == runs.count[runs.kind == 0].sum()
        assert (kinds == PARTIAL).sum() == runs.count[runs.kind == 1].sum()
        assert (pair.after is None) == (launch.queries.layout == term.keys.layout == CONSECUTIVE)


def test_heads_can_be_chosen():
    found, _, _ = shown("strided", only=[1])
    assert [pair.title for pair in found] == ["head 1"]
    with pytest.raises(ValueError, match="no head 2: heads are numbered 0 to 1"):
        shown("strided", only=[2])


def show(*words: object):
    return CliRunner().invoke(commands, ["show", *map(str, words)])


def test_in_the_terminal():
    result = show("std/strided", "-n", 64, "--heads", 2, "--set", "l=8", "--tile", 8, "--layout")
    assert result.exit_code == 0, result.output
    for words in ("head 0", "head 1", "every 8th token", "8 tiles, padding 1.78", "36 tiles, padding 8"):
        assert words in result.output
    assert result.output.count("consecutive tokens") == 2


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_in_a_file(suffix, tmp_path):
    words = ["std/strided", "-n", 64, "--heads", 2, "--set", "l=8", "--tile", "8x8", "--layout", "-o"]
    for name in ("a", "b"):
        assert show(*words, tmp_path / (name + suffix)).exit_code == 0
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first == (tmp_path / f"b{suffix}").read_bytes()
    if suffix == ".svg":
        text = first.decode()
        for words in ("every 8th token", "8 tiles, padding 1.78", "key % 8", "query % 8", "head 1"):
            assert f">{words}" in text


def test_wrong_calls():
    long = show("std/strided", "-n", 513, "--layout")
    assert (long.exit_code, "at most n = 512; found n = 513" in long.output) == (2, True), long.output
    oblong = show("std/strided", "-n", 64, "--tile", "16x8")
    assert (oblong.exit_code, "squares; found 16x8" in oblong.output) == (2, True)
    for wrong in ("0", "8x", "axb", "8x8x8", "-4"):
        result = show("std/strided", "-n", 64, "--tile", wrong)
        assert result.exit_code == 2, wrong
        assert "128x64" in result.output
    empty = show("std/strided", "-n", 64, "--head", 3, "--layout", "--heads", 2)
    assert "no head 3" in empty.output
