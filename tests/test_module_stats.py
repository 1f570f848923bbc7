"""Figures of modules, pictures in notebooks, and heads side by side."""

import base64
import io
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import patternc
from patternc.cli import commands
from patternc.nn import MultiheadAttention, PatternAttention, SelfAttention
from patternc.show import notebook
from patternc.show.png import png

CASES = Path(__file__).parent / "cases" / "show"
MIXED = """
import "std/presets/local"
import "std/strided"

pattern mixed(window: tokens = 16) =
    match h { 0..2 => local(window), 2 => causal, else => strided(l = 8) }
"""


# ------------------------------------------------------------------ figures


@pytest.mark.parametrize("n_q", [None, 1, 50])
def test_each_class_of_heads_is_counted(n_q):
    module = PatternAttention(MIXED, heads=6)
    found = module.stats(200, n_q, head_dim=16, dtype=torch.bfloat16)
    m = module.compiled.mask(200, n_q)
    assert [own.heads for own in found.per_head] == [(0, 1), (2,), (3, 5), (4,)]
    for own in (*found.per_head, found.total):
        part = m[list(own.heads)]
        assert own.wanted_pairs == int((part > 0).sum())
        assert own.density == pytest.approx(float((part > 0).double().mean()), rel=1e-12)
        assert own.flops == 4 * 16 * own.wanted_pairs
        assert own.kv_bytes == (own.full_tiles + own.partial_tiles) * 64 * 16 * 2 * 2
        assert own.computed_pairs == (own.full_tiles + own.partial_tiles) * 128 * 64
    whole = module.compiled.stats(200, n_q)
    assert (found.density, found.total.computed_pairs, found.plan_bytes, found.launches) == (
        pytest.approx(whole.density), whole.computed_pairs, whole.plan_bytes, whole.launches,
    )  # fmt: skip
    assert (found.dense_flops, found.backward_flops) == (4 * 6 * (n_q or 200) * 200 * 16, found.flops * 5 // 2)


def test_modules_know_their_channels_and_numbers():
    module = MultiheadAttention(48, 4, pattern=MIXED, dtype=torch.float64)
    assert (module.stats(64).head_dim, module.stats(64).itemsize) == (12, 8)
    own = SelfAttention("std/local", 48, heads=4, window=8).half()
    assert (own.stats(64).head_dim, own.stats(64).itemsize) == (12, 2)
    assert PatternAttention("std/local", heads=4).stats(64).head_dim == 64


def test_batch_rows_are_counted():
    module = PatternAttention("std/documents", heads=2)
    doc = torch.stack([torch.zeros(60, dtype=torch.int64), torch.arange(60)])
    found = module.stats(60, doc=doc)
    assert found.total.wanted_pairs == 2 * (60 * 61 // 2 + 60)
    assert found.density == found.total.wanted_pairs / (2 * 2 * 60 * 60)


def test_the_figures_as_text(golden):
    module = MultiheadAttention(48, 6, pattern=MIXED)
    golden(CASES / "stats.txt", f"{module.stats(1000)}\n\n{module.stats(1000, 1)}\n")
    html = module.stats(1000)._repr_html_()
    assert html.count("<tr>") == 6
    assert "heads 3, 5" in html


# ------------------------------------------------------------------ notebooks


def pictures(html):
    data = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    images = (matplotlib.image.imread(io.BytesIO(base64.b64decode(item))) for item in data)
    return [(image * 255).round().astype(np.uint8) for image in images]


def test_png_holds_the_image():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    read = matplotlib.image.imread(io.BytesIO(png(image)))
    np.testing.assert_array_equal((read[..., :3] * 255).round(), image)


def test_a_compiled_pattern_shows_its_mask():
    compiled = patternc.compile("pattern p(w: tokens) = { q -> k : abs(q - k) < w }", heads=2, kv_heads=1, w=8)
    html = compiled._repr_html_()
    assert "2 heads · 1 key head · backend auto" in html
    assert "heads 0, 1 · ≈" in html
    assert "n = 256; queries run down" in html
    [image] = pictures(html)
    kept = (image != image[0, -1]).any(-1)
    cells = compiled.mask(256)[0].view(128, 2, 128, 2).sum((1, 3)) > 0
    np.testing.assert_array_equal(kept, cells.numpy())


def test_heads_have_a_picture_each():
    assert len(pictures(patternc.compile(MIXED, heads=8)._repr_html_())) == 4
    image = matplotlib.image.imread(io.BytesIO(patternc.compile(MIXED, heads=8)._repr_png_()))
    assert image.shape[:2] == (256, 2 * (4 * 128 + 3 * 6))


def test_patterns_and_modules_are_shown():
    module = PatternAttention("std/local", heads=4, window=32)
    assert "PatternAttention · 4 heads · backend auto · window = 32" in module._repr_html_()
    assert len(pictures(module._repr_html_())) == 1
    assert len(pictures(patternc.load("std/local")["local"]._repr_html_())) == 1
    open_one = patternc.load("pattern p(w: tokens) = { q -> k : q - k < w }")["p"]
    assert "not compiled · w: tokens" in open_one._repr_html_()
    assert pictures(open_one._repr_html_()) == []
    assert "run-time tensors are drawn" in patternc.compile("std/documents", heads=1)._repr_html_()
    grid = patternc.compile("std/neighborhood", heads=1, H=8, W=12)
    assert "n = 96; queries" in grid._repr_html_()
    nowhere = patternc.compile("pattern p(H: int = 7) over (y: H, x: n // 5) = full", heads=1)
    assert (pictures(nowhere._repr_html_()), nowhere._repr_png_()) == ([], None)


def test_programs_are_not_trusted():
    text = 'pattern p() = { q -> k :  # <script>alert("&")</script>\n    q <= k and k < 5 }'
    for html in (patternc.compile(text, heads=1)._repr_html_(), patternc.load(text)["p"]._repr_html_()):
        assert "<script" not in html
        assert "&lt;script&gt;alert(&quot;&amp;&quot;)" in html
        assert "q &lt;= k" in html
    html = notebook.of_compiled(patternc.compile(text, heads=1), "<i>", {"<i>": "<i>"})
    assert "<i>" not in html
    assert "&lt;i&gt; = &lt;i&gt;" in html


# ------------------------------------------------------------------ heads side by side


def shown(tmp_path, monkeypatch, *options):
    monkeypatch.chdir(tmp_path)
    Path("mixed.spat").write_text(MIXED, encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "120")
    result = CliRunner().invoke(commands, ["show", "mixed.spat", "-n", "64", "--heads", "8", *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_heads_stand_side_by_side(tmp_path, monkeypatch, golden):
    text = shown(tmp_path, monkeypatch, "--across", "4")
    golden(CASES / "heads.txt", text)
    titles = next(line for line in text.splitlines() if "head 2" in line)
    assert re.split(r"\s{2,}", titles.strip()) == ["heads 0, 1", "head 2", "heads 3, 5, 7", "heads 4, 6"]
    assert all(len(line) <= 120 for line in text.splitlines())


def test_heads_stand_side_by_side_in_a_file(tmp_path, monkeypatch):
    shapes = []
    for across in ("4", "1"):
        shown(tmp_path, monkeypatch, "--across", across, "-o", "a.svg")
        text = Path("a.svg").read_text(encoding="utf-8")
        assert all(f">{title}<" in text for title in ("heads 0, 1", "head 2", "heads 3, 5, 7", "heads 4, 6"))
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', text).groups())
        shapes.append(width / height)
    assert shapes[0] > 2
    assert shapes[1] < 0.5
