"""Presets against formulas in NumPy, the advice of `choose`, and patterns put together head by head."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import patternc
from patternc import format as formatter
from patternc import parser
from patternc.cli.group import patternc as commands
from patternc.files import library_names, read_library
from patternc.named_presets import USE_CASES

NAMES = sorted(patternc.presets())
N, H = 96, 4
Q, K = np.arange(N)[:, None], np.arange(N)


def rounded(wanted, size):
    """Wanted cells rounded out to blocks."""
    result = np.zeros_like(wanted)
    for i in range(0, N, size):
        for j in range(0, N, size):
            result[i : i + size, j : j + size] = wanted[i : i + size, j : j + size].any()
    return result


def far(block, rates):
    return [np.abs(Q // block - K // block) == rate for rate in rates]


def hierarchical(levels):
    return np.any([rounded((Q % s == 0) & (np.abs(Q - K) <= w // 2), b) for s, w, b in levels], axis=0)


LEVELS = [(4, 8, 4), (16, 200, 4)]
FORMULAS = {
    "local": ({"window": 10}, lambda h: np.abs(Q - K) <= 5),
    "dilated": ({"block": 5, "rates": [2, 3]}, lambda h: np.any([Q // 5 == K // 5, *far(5, [2, 3])], axis=0)),
    "global_local": ({"hubs": 3, "window": 6}, lambda h: (np.abs(Q - K) <= 3) | (Q < 3) | (K < 3)),
    "hierarchical": ({"levels": LEVELS}, lambda h: hierarchical(LEVELS)),
    "hierarchical_fine": ({"levels": LEVELS}, lambda h: hierarchical(LEVELS)),
    "hierarchical_long": ({"levels": LEVELS}, lambda h: hierarchical(LEVELS)),
    "block_dilated": (
        {"block": 16, "parts": [(0, 8, 1), (8, 16, 2)]},
        lambda h: (np.abs(Q // 16 - K // 16) <= 1) & ((K % 16 < 8) | (K % 2 == 0)),
    ),
    "longnet": (
        {"levels": [(8, 1), (16, 2)]},
        lambda h: (Q >= K) * (0 + (Q // 8 == K // 8) + ((Q // 16 == K // 16) & ((Q - h) % 2 + (K - h) % 2 == 0))),
    ),
    "ultra_sparse": (
        {"block": 8, "rates": [1, 4]},
        lambda h: np.any([Q // 8 == K // 8, far(8, [1])[0], far(8, [4])[0] & (K % 4 == 0)], axis=0),
    ),
    "multihead": (
        {"window": 10, "block": 5, "rates": [2]},
        lambda h: np.abs(Q - K) <= 5 if h < 2 else (Q // 5 == K // 5) | far(5, [2])[0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_a_preset_is_its_formula(name):
    params, formula = FORMULAS[name]
    found = patternc.preset(name, heads=H, **params).mask(N).numpy()
    assert np.array_equal(found, np.stack([formula(h) for h in range(H)]).astype(np.int64))


def test_the_adaptive_preset_keeps_the_best_tenth():
    torch.manual_seed(0)
    score = torch.randn(1, 2, 12, 12)
    mask = patternc.preset("adaptive", heads=2, block=8, one_in=4).mask(N, score=score)[0]
    blocks = mask[:, ::8, ::8]
    for h in range(2):
        for i in range(12):
            best = score[0, h, i, :i].topk(min(3, i)).indices.tolist()
            assert blocks[h, i].nonzero().flatten().tolist() == sorted([*best, i])


def test_every_preset_but_the_learned_one_has_a_formula():
    assert {*FORMULAS, "adaptive"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_clean_program(name):
    source = read_library(f"std/presets/{name}")
    assert formatter.format(source) == source.text
    tree, _ = parser.parse(source)
    assert [item.name.id for item in tree.items if type(item).__name__ == "Pattern"][-1] == name
    judgement = patternc.check(f"std/presets/{name}")
    assert judgement.diagnostics == ()
    assert len(judgement.verdicts) >= 2
    assert patternc.load(f"std/presets/{name}")[name].name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_compiles_as_it_is(name):
    compiled = patternc.preset(name, heads=8, kv_heads=2)
    assert (compiled.name, compiled.heads, compiled.kv_heads) == (name, 8, 2)


def test_the_sizes_that_are_promised():
    assert patternc.preset("block_dilated", heads=1).stats(1024).wanted_pairs == (2 + 3 + 3 + 2) * 256 * (128 + 64)
    rows = patternc.preset("ultra_sparse", heads=1).mask(64 * 256 + 256, n_q=1)
    assert int(rows.sum()) == 256 + 256 + 32 + 4
    assert 256 + 2 * (256 + 32 + 4) == 840


def test_presets_have_a_line_each():
    found = patternc.presets()
    assert [f"std/presets/{name}" for name in found] == [x for x in library_names() if x.startswith("std/presets/")]
    for line in found.values():
        assert line.endswith(".")
        assert len(line) <= 110
        assert "\n" not in line


def test_presets_are_listed_after_the_library():
    output = CliRunner().invoke(commands, ["list"]).output
    names = [line for line in output.splitlines() if line.startswith("std/")]
    assert names == sorted(names, key=lambda name: (name.count("/"), name))
    assert "std/presets/local" in names


def test_overrides_and_wrong_names():
    assert int(patternc.preset("local", heads=1, window=0).mask(9).sum()) == 9
    with pytest.raises(ValueError, match="unknown preset 'locl'; did you mean 'local'"):
        patternc.preset("locl", heads=1)
    with pytest.raises(TypeError, match="no parameter 'widow'; did you mean 'window'"):
        patternc.preset("local", heads=1, widow=3)


# ------------------------------------------------------------------ choose


@pytest.mark.parametrize(("arguments", "name"), [
    ((4096,), "dilated"),
    ((10**6, "research"), "adaptive"),
    ((4096, "research", 8), "adaptive"),
    ((4096, "production"), "dilated"),
    ((50_000, "production"), "dilated"),
    ((50_001, "production"), "hierarchical"),
    ((50_001, "production", 2), "local"),
    ((4096, "drop_in_replacement"), "multihead"),
    ((10**7, "extreme_length"), "hierarchical_long"),
    ((10**7, "general"), "dilated"),
])  # fmt: skip
def test_choose(arguments, name):
    choice = patternc.choose(*arguments)
    assert choice.name == name
    assert choice.name in NAMES
    assert str(choice) == f"{name}: {choice.reason}"
    assert choice.reason.endswith(".")


def test_choose_refuses_what_makes_no_sense():
    assert all(patternc.choose(10, case) for case in USE_CASES)
    with pytest.raises(ValueError, match="unknown use case 'reserch'; did you mean 'research'"):
        patternc.choose(10, "reserch")
    with pytest.raises(ValueError, match="seq_len must be an integer of at least 1; found 0"):
        patternc.choose(0)
    with pytest.raises(ValueError, match=r"num_gpus must be an integer of at least 1; found 1.5"):
        patternc.choose(10, num_gpus=1.5)


# ------------------------------------------------------------------ per_head


def test_every_head_follows_its_part():
    compiled = patternc.per_head(
        {
            range(3): ("std/local", {"window": 4}),
            range(3, 8, 2): "pattern own() = { q -> k : (q + k) % heads == h }",
            4: patternc.load("std/strided")["strided"],
            6: ("std/presets/longnet", {"levels": ((4, 1), (8, 2))}),
        },
        kv_heads=4,
    )
    found = compiled.mask(30)
    q, k = torch.arange(30)[:, None], torch.arange(30)
    assert (compiled.heads, compiled.kv_heads) == (8, 4)
    for h in range(8):
        if h < 3:
            expected = patternc.compile("std/local", heads=1, window=4).mask(30)[0]
        elif h == 4:
            expected = patternc.compile("std/strided", heads=8).mask(30)[4]
        elif h == 6:
            expected = patternc.compile("std/presets/longnet", heads=8, levels=[(4, 1), (8, 2)]).mask(30)[6]
        else:
            expected = ((q + k) % 8 == h).long()
        assert torch.equal(found[h], expected), h


def test_a_pattern_by_heads_is_an_ordinary_one(tmp_path):
    compiled = patternc.per_head({range(2): ("std/local", {"window": 5}), range(2, 4): "std/presets/dilated"})
    assert patternc.verify(compiled, n=100)
    assert "per_head" in compiled.explain(100)
    text = compiled.save(tmp_path / "mine.py").read_text(encoding="utf-8")
    assert "0..2 => local(window = 5)" in text


def test_run_time_tensors_are_shared_by_name():
    first = "pattern a(doc: int[batch, n]) = { q -> k : doc[q] == doc[k] }"
    second = "pattern b(doc: int[batch, n], level: float[n]) = { q -> k : doc[k] == 0 and level[q] > 0.0 }"
    compiled = patternc.per_head({0: first, 1: second})
    doc, level = torch.tensor([[0, 0, 1, 1]]), torch.tensor([1.0, -1.0, 1.0, 1.0])
    assert compiled.mask(4, doc=doc, level=level).sum(dim=(0, 2, 3)).tolist() == [8, 6]
    with pytest.raises(ValueError, match="run-time tensor 'doc', of different type or shape"):
        patternc.per_head({0: first, 1: "pattern c(doc: int[n]) = { q -> k : doc[q] == doc[k] }"})


@pytest.mark.parametrize(("parts", "error", "words"), [
    ({range(2): "a", range(1, 3): "a"}, ValueError, r"head 1 is in both range\(0, 2\) and range\(1, 3\)"),
    ({range(2): "a", 4: "a"}, ValueError, "heads 0 to 4 need a pattern each; there is none for 2, 3"),
    ({range(-1, 2): "a"}, ValueError, r"heads count from 0; found -1 in range\(-1, 2\)"),
    ({}, ValueError, "at least one head"),
    ({range(0): "a"}, ValueError, "at least one head"),
    ({"0..2": "a"}, TypeError, "a range or an int; found '0..2'"),
])  # fmt: skip
def test_heads_are_covered_once(parts, error, words):
    text = "pattern a() = causal"
    with pytest.raises(error, match=words):
        patternc.per_head(dict.fromkeys(parts, text))


def test_wrong_parts():
    with pytest.raises(TypeError, match="no parameter 'widow'"):
        patternc.per_head({0: ("std/local", {"widow": 1})})
    with pytest.raises(ValueError, match="found heads = 2, kv_heads = 3"):
        patternc.per_head({range(2): "std/local"}, kv_heads=3)
