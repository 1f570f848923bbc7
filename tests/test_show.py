"""Pictures: what is in them, told by their cells, their text and their bytes."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from documents import ROOT, blocks

import patternc
from patternc.cli import commands
from patternc.show import figure, halfblocks, palette
from patternc.show.compute import Sight, tile_kinds
from patternc.show.picture import FULL, PARTIAL, SKIPPED, Panel, Picture, heads_title, percent, size_text

KINDS = {SKIPPED, PARTIAL, FULL}


def exact_picture(mask: np.ndarray, tile: int = 4, heads: tuple[int, ...] = (0,)) -> Picture:
    n_q, n = mask.shape
    panel = Panel(heads, mask.astype(np.float32), tile_kinds(mask, tile), float((mask > 0).mean()))
    return Picture("local", "window = 4", f"n = {n}", n, n_q, 1, tile, (panel,))


def window(n: int, width: int) -> np.ndarray:
    distance = np.arange(n)[:, None] - np.arange(n)
    return ((distance >= 0) & (distance < width)).astype(int)


def decoded(lines: list[str], rows: int, columns: int, label: int) -> np.ndarray:
    """The cells that half blocks without colour show."""
    upper = np.array([[c in "▀█" for c in line[label:].ljust(columns)] for line in lines])
    lower = np.array([[c in "▄█" for c in line[label:].ljust(columns)] for line in lines])
    return np.stack([upper, lower], 1).reshape(-1, columns)[:rows]


@pytest.mark.parametrize(("n", "n_q"), [(16, 16), (17, 17), (20, 5), (12, 1)])
def test_half_blocks_show_every_cell(n, n_q):
    mask = window(n, 5)[n - n_q :]
    lines = list(halfblocks.lines(exact_picture(mask), 80))
    body = lines[4 : 4 + -(-n_q // 2)]
    assert (decoded(body, n_q, n, label=3) == (mask > 0)).all()


def test_terminal_panels_stand_side_by_side_where_they_fit():
    one = exact_picture(window(16, 4)).panels[0]
    picture = Picture("p", "", "", 16, 16, 1, 4, (one, one))
    wide, narrow = list(halfblocks.lines(picture, 60)), list(halfblocks.lines(picture, 30))
    assert len(narrow) == 2 * (len(wide) - 4) + 5
    assert all(len(line) <= 60 for line in wide)


def test_terminal_legend_names_length_and_classes_left_out():
    one = exact_picture(window(16, 4)).panels[0]
    text = "\n".join(halfblocks.lines(Picture("p", "", "", 16, 16, 1, 4, (one,), omitted=3), 80))
    assert "3 more classes of heads" in text
    assert "query ↓" in text
    assert "key →" in text


@pytest.mark.parametrize("colour", [256, 2**24])
def test_terminal_colours_give_the_same_shape(colour):
    lines = list(halfblocks.lines(exact_picture(window(16, 4)), 80, colour=colour))
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert bare[4:12] == [f"{2 * i if i % 4 == 0 else '':>2} {'▀' * 16}" for i in range(8)]
    assert all(line.count("\x1b[0m") == 1 for line in lines[4:12])


def test_shares_are_shaded_in_the_terminal():
    values = np.array([[0, 0.2, 0.5, 0.9, 1]] * 2, np.float32)
    kinds = np.array([[0, 1, 1, 1, 2]] * 2, np.uint8)
    picture = Picture("p", "", "", 5000, 2000, 1000, 1000, (Panel((0,), values, kinds, 0.5),))
    assert list(halfblocks.lines(picture, 80))[3].endswith(" ░▒▓█")


def test_colours_tell_kinds_apart():
    picture = exact_picture(window(16, 9))
    image, kinds, kept = palette.colours(picture, picture.panels[0]), picture.panels[0].kinds, window(16, 9) > 0
    assert set(np.unique(kinds)) == KINDS
    groups = [image[kinds == SKIPPED], image[kinds == FULL], image[(kinds == PARTIAL) & kept]]
    groups.append(image[(kinds == PARTIAL) & ~kept])
    seen = [{tuple(c) for c in group.tolist()} for group in groups]
    assert all(len(colours) == 1 for colours in seen)
    assert len(set.union(*seen)) == 4


def test_multiplicities_get_darker():
    counts = np.array([[0, 1, 2, 3]] * 4)
    picture = exact_picture(counts)
    light = palette.colours(picture, picture.panels[0]).astype(int).sum(-1)[0]
    assert (np.diff(light) < 0).all()


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_files_are_the_same_each_time(tmp_path, suffix):
    for name in ("a", "b"):
        figure.write(exact_picture(window(32, 7)), tmp_path / f"{name}{suffix}")
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first == (tmp_path / f"b{suffix}").read_bytes()
    assert first.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")


def test_svg_text_stays_text(tmp_path):
    figure.write(exact_picture(window(32, 12), heads=(0, 1, 2, 5)), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for word in ("local", "window = 4", "heads 0–2, 5", "query", "key", "full tile", "skipped"):
        assert f">{word}" in text, word


def test_every_cell_is_a_whole_number_of_pixels(tmp_path):
    import matplotlib.image

    stripes = np.tile([1, 0], (60, 30))
    figure.write(exact_picture(stripes, tile=60), tmp_path / "a.png")
    image = (matplotlib.image.imread(tmp_path / "a.png")[..., :3] * 255).round().astype(int)
    row = image[image.shape[0] // 2]
    edges = np.flatnonzero(np.diff((abs(row - np.array(palette.PARTIAL_SCALE[0])) < 3).all(-1)))
    assert len(edges) == 60
    assert set(np.diff(edges)[1:].tolist()) == {round(620 / 60)}


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        figure.write(exact_picture(window(8, 2)), tmp_path / "a.gif")


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 7), (0, 64), (100, 101), (0, 1_000_000), (0, 97), (0, 16384)])
def test_ticks_rise_from_end_to_end(first, last):
    ticks = figure.ticks(first, last)
    assert ticks[0] == first
    assert ticks[-1] == last
    assert (np.diff(ticks) > 0).all()
    assert len(ticks) <= 12


def test_words():
    assert heads_title((3,)) == "head 3"
    assert heads_title((0, 1)) == "heads 0, 1"
    assert heads_title((0, 1, 2, 3, 4, 5)) == "heads 0–5"
    assert heads_title((0, 2, 4, 6, 7, 8)) == "heads 0, 2, 4, 6–8"
    assert percent(0) == "0 %"
    assert percent(1) == "100 %"
    assert percent(0.99999) == "99.9 %"
    assert percent(0.1234) == "12.3 %"
    assert percent(0.0041) == "0.41 %"
    assert percent(0.0000012) == "0.00012 %"
    assert size_text(16384) == "16,384"


# ------------------------------------------------------------------ from programs to pictures

TEXT = """
pattern bag(w: tokens = 5) = { q -> k : abs(q - k) < w } + { q -> k : k < 4 }
pattern heads_differ(s: int = 3) = causal & { q -> k : (q - k) % (h % s + 1) == 0 }
pattern selected() = blocks(4) (diagonal | sample(2, of = causal - diagonal, seed = 7))
pattern columns(l: tokens = 128) = causal & { q -> k : (q - k) % l == 0 }
"""


def sight(name: str, n: int, *, n_q: int | None = None, heads: int = 4, side: int = 512, **options: object) -> Sight:
    program = patternc.compile(TEXT, name, heads=heads).program
    return Sight(program, n, n_q or n, heads, {}, side=side, **options)


@pytest.mark.parametrize(("name", "n", "n_q"), [("bag", 37, 37), ("heads_differ", 40, 9), ("selected", 50, 50)])
def test_cells_are_those_of_the_mask(name, n, n_q):
    seen = sight(name, n, n_q=n_q)
    mask = patternc.compile(TEXT, name, heads=4).mask(n, n_q).numpy()
    assert sorted(h for heads in seen.classes for h in heads) == [0, 1, 2, 3]
    for heads in seen.classes:
        panel = seen.panel(heads)
        for h in heads:
            assert (panel.values == mask[h]).all()
        assert panel.density == pytest.approx((mask[heads[0]] > 0).mean())
        assert not panel.estimated


def test_kinds_of_cut_tiles():
    cells = np.array([[1, 1, 1, 0, 2], [1, 1, 0, 0, 2], [0, 0, 0, 3, 2]])
    wanted = [[FULL, FULL, PARTIAL, PARTIAL, FULL]] * 2 + [[SKIPPED, SKIPPED, PARTIAL, PARTIAL, FULL]]
    assert tile_kinds(cells, 2).tolist() == wanted


@pytest.mark.parametrize(("name", "n", "side"), [("bag", 300, 40), ("heads_differ", 257, 32), ("selected", 600, 64)])
def test_tiles_agree_with_the_mask(name, n, side):
    seen = sight(name, n, side=side)
    mask = patternc.compile(TEXT, name, heads=4).mask(n).numpy()
    assert -(-n // seen.step) <= side
    for heads in seen.classes:
        panel, cells = seen.panel(heads), mask[heads[0]]
        kinds = tile_kinds(cells, seen.step)[:: seen.step, :: seen.step]
        assert ((panel.kinds == SKIPPED) <= (kinds == SKIPPED)).all()
        assert ((panel.kinds == FULL) <= (kinds == FULL)).all()
        assert panel.density == pytest.approx((cells > 0).mean(), rel=0.1)


def test_density_at_a_million_tokens_is_not_fooled_by_strides():
    seen = sight("columns", 1_000_000)
    panel = seen.panel(seen.classes[0])
    assert panel.estimated
    assert panel.density == pytest.approx(1 / 256, rel=0.05)
    assert seen.step >= 1_000_000 // 512


def test_tile_sides():
    assert (sight("bag", 64).step, sight("bag", 64).tile) == (1, 4)
    assert sight("bag", 64, tile=9).tile == 9
    large = sight("bag", 5000, tile=9)
    assert large.step == large.tile
    assert large.step % 9 == 0


def test_many_classes_are_cut_and_heads_can_be_chosen():
    seen = sight("heads_differ", 64, heads=4, only=[1, 3])
    assert seen.classes == [(1,), (3,)] or seen.classes == [(3,), (1,)]
    many = sight("selected", 32, heads=20)
    assert (len(many.classes), many.omitted) == (8, 12)
    with pytest.raises(ValueError, match="no head 4"):
        sight("bag", 64, only=[4])
    with pytest.raises(ValueError, match="65 queries"):
        sight("bag", 64, n_q=65)


def test_expensive_selections_show_one_class():
    seen = sight("selected", 60_000, heads=4)
    assert seen.selected == 15_000**2
    assert len(seen.classes) == 1


GALLERY = ROOT / "docs" / "gallery.md"


@pytest.mark.parametrize("block", blocks(GALLERY), ids=lambda block: block.place)
def test_the_gallery_can_be_drawn_anew(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for line in block.text.splitlines():
        result = CliRunner().invoke(commands, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
        assert (ROOT / shlex.split(line)[-1]).exists()
        assert (tmp_path / shlex.split(line)[-1]).exists()


def test_the_gallery_shows_every_pattern_and_every_picture():
    text = GALLERY.read_text()
    shown = set(re.findall(r"\]\(pictures/(\w+\.png)\)", text + (ROOT / "docs" / "layouts.md").read_text()))
    assert shown == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
    assert {path.stem for path in (ROOT / "examples").glob("*.spat")} <= {name[:-4] for name in shown}
