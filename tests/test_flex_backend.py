"""The flex backend: what FlexAttention is given means what the program means, and is made without a dense mask."""

from __future__ import annotations

import itertools
from importlib.metadata import EntryPoint
from typing import Any

import fifteen
import numpy as np
import pytest
import test_differential as differential
import torch
from documents import ROOT, blocks
from drawn import Program, examples
from fifteen import CASES, EXAMPLES, HALVED, ON_GRIDS, Case
from hypothesis import given, note, settings
from programs import programs
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask
from torch.utils._python_dispatch import TorchDispatchMode

import patternc
from patternc.backends import base, flex, flex_blocks, flex_tables, flex_words
from patternc.backends.flex import Flex, FlexArtifact, Mods

ALL = [*CASES, *ON_GRIDS, *HALVED]
BOUNDED = [*ON_GRIDS, *HALVED]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point, also where the package was installed before it had one."""
    entries = {**base._entries(), "flex": EntryPoint("flex", "patternc.backends.flex:Flex", base.GROUP)}
    monkeypatch.setattr(base, "_entries", lambda: entries)


def compiled_case(case: Case, **options: Any) -> patternc.Compiled:
    given = {"heads": case.heads, "layer": case.layer, "backend": "flex", **case.params, **options}
    return patternc.compile(str(EXAMPLES / f"{case.name}.spat"), **given)


def artifact_of(text: str, heads: int = 1, kv_heads: int | None = None, **params: Any) -> FlexArtifact:
    compiled = patternc.compile(text, heads=heads, **params)
    return Flex().emit(compiled.program, heads, kv_heads or heads)


def length(case: Case, other: int) -> int:
    return 72 if case in BOUNDED else other


def in_torch(tensors: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(t) for name, t in tensors.items()}


def multiplicities(mods: Mods, heads: int, n_q: int, n: int, batch: int, dtype: torch.dtype = torch.int64) -> Any:
    """M (B, H, n_q, n) as the mods have it, from indices of some integer type."""
    b, h, q, k = (torch.arange(size, dtype=dtype) for size in (batch, heads, n_q, n))
    cell = (b[:, None, None, None], h[:, None, None], q[:, None], k)
    mask = mods.mask_mod(*cell)
    if mods.score_mod is None:
        return mask.long().expand(batch, heads, n_q, n).numpy()
    weight = mods.score_mod(torch.zeros((), dtype=torch.float64), *cell).exp()
    return torch.where(mask, weight, 0).round().long().expand(batch, heads, n_q, n).numpy()


# ------------------------------------------------------------------ attention


@pytest.mark.parametrize("n_q", [None, 37, 1])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_every_program(case: Case, n_q: int | None) -> None:
    """Outputs, lse and gradients, in float64 to 1e-10."""
    n = length(case, 187)
    report = patternc.verify(compiled_case(case), n=n, n_q=n_q, dtype=torch.float64, tensors=_tensors(case, n))
    assert report.backend == "flex"
    assert report, str(report)


def _tensors(case: Case, n: int) -> dict[str, np.ndarray]:
    return {} if case in BOUNDED else fifteen.tensors_of(case, n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["local", "longnet", "documents"])
def test_accuracy(name: str, dtype: torch.dtype) -> None:
    case = next(c for c in CASES if c.name == name)
    report = patternc.verify(compiled_case(case), n=150, dtype=dtype)
    assert report, str(report)


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
@pytest.mark.parametrize("name", ["strided", "longnet", "documents"])
def test_groups_of_heads(name: str, kv_heads: int) -> None:
    case = next(c for c in CASES if c.name == name)
    report = patternc.verify(compiled_case(case, heads=6, kv_heads=kv_heads), n=140, dtype=torch.float64)
    assert report, str(report)


@pytest.mark.parametrize(("n", "n_q"), [(300, 300), (300, 140), (256, 128), (129, 1)])
@pytest.mark.parametrize("name", ["local", "longnet"])
def test_lengths_around_tiles(name: str, n: int, n_q: int) -> None:
    case = next(c for c in CASES if c.name == name)
    report = patternc.verify(compiled_case(case), n=n, n_q=n_q, dtype=torch.float64)
    assert report, str(report)


def test_rows_without_keys() -> None:
    run = artifact_of("pattern late() = { q -> k : k + 40 < q }")
    q, k, v = (torch.randn(1, 1, 150, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out, lse = run(q, k, v, return_lse=True)
    assert not out[:, :, :41].any()
    assert (lse[:, :, :41] == -torch.inf).all()
    assert lse[:, :, 41:].isfinite().all()
    dq, dk, dv = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(d.isfinite().all() for d in (dq, dk, dv))
    assert not dq[:, :, :41].any()


def test_no_batch_rows() -> None:
    run = artifact_of("std/documents", heads=2)
    q, k, v = (torch.zeros(0, 2, 5, dim, requires_grad=True) for dim in (4, 4, 3))
    out, lse = run(q, k, v, return_lse=True, tensors={"doc": torch.zeros(0, 5, dtype=torch.int64)})
    assert (out.shape, lse.shape) == ((0, 2, 5, 3), (0, 2, 5))
    assert [g.shape for g in torch.autograd.grad(out.sum(), (q, k, v))] == [q.shape, k.shape, v.shape]


def test_scale_and_results() -> None:
    run = artifact_of("pattern p() = causal")
    q, k, v = (torch.randn(2, 1, 20, 8) for _ in range(3))
    out = run(q, k, v, scale=0.5)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5, is_causal=True)
    torch.testing.assert_close(out, expected)
    assert run(q.half(), k.half(), v.half(), return_lse=True)[1].dtype == torch.float32


# ------------------------------------------------------------------ mods


def compare_mods(program: Program) -> None:
    n = program.length(40)
    n_q, tensors = program.queries(n), program.make_tensors(n)
    note(f"{program.text}{program} at n = {n}, n_q = {n_q}")
    mask = differential.meaning(program, n, n_q, tensors, lenient=True)
    mask = mask if mask.ndim == 4 else mask[None]
    compiled = program.compile()
    run = Flex().emit(compiled.program, program.heads, program.heads)
    mods = run.mods(n, n_q, tensors=in_torch(tensors))
    note(run.source_at(n, n_q))
    for dtype in (torch.int64, torch.int32):  # as eager and as compiled code has them
        found = multiplicities(mods, program.heads, n_q, n, len(mask), dtype)
        np.testing.assert_array_equal(found, mask)


@settings(max_examples=examples(200))
@given(programs())
def test_mods_of_drawn_programs(program: Program) -> None:
    compare_mods(program)


@settings(max_examples=examples(200))
@given(programs(careless=True))
def test_mods_leave_out_what_has_no_meaning(program: Program) -> None:
    """A cell of a set builder that divides by zero or reads outside a tensor is False, and reads nothing there."""
    compare_mods(program)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_mods_under_vmap(case: Case) -> None:
    """As FlexAttention calls them."""
    n = length(case, 90)
    tensors, compiled = in_torch(_tensors(case, n)), compiled_case(case)
    run = Flex().emit(compiled.program, case.heads, case.heads)
    expected = compiled.mask(n, 60, **tensors)
    batch = 2 if expected.ndim == 4 else 1
    found = create_mask(run.mask_mod(n, 60, tensors=tensors), batch, case.heads, 60, n, device="cpu")
    assert torch.equal(found, (expected > 0).expand(batch, case.heads, 60, n))


@pytest.mark.parametrize(
    "condition",
    [
        "(q * 70_000 + k) % 7 == 3",
        "q * q + k * k <= n * n",
        "2 ** (q // 2_000) > k",
        "(q ^ 4_294_967_296) % 5 == k % 5",
        "max(q, 5_000_000_000) % 11 == k % 11",
        "(q if k < 9 else 5_000_000_000) % 13 == 1",
        "log2(q * 100_000 + 1) > 31",
        "doc[q] * 70_000 == doc[k] * 70_000",
    ],
)
def test_integers_of_32_bits_suffice_or_are_widened(condition: str) -> None:
    """Compiled code indexes with 32 bits."""
    n, cells = 70_000, [0, 1, 8, 9, 10, 4_099, 30_679, 46_341, 65_537, 69_999]
    compiled = patternc.compile(f"pattern p(doc: int[n]) = {{ q -> k : doc[q] >= 0 and {condition} }}", heads=1)
    doc = torch.arange(n, dtype=torch.int32)
    mask_mod, _ = Flex().emit(compiled.program, 1, 1)._generated(n, n, {"doc": 32}).mods({"doc": doc}, doc.device)
    at = torch.tensor(cells)
    zero = torch.zeros((), dtype=torch.int32)
    shape = (len(cells), len(cells))
    wide, narrow = (mask_mod(zero, zero, at[:, None].to(t), at.to(t)).expand(shape) for t in (torch.int64, torch.int32))
    values = {"n": n, "doc": range(n), "log2": lambda x: (x - 1).bit_length(), "max": max}
    expected = [[eval(condition, values, {"q": q, "k": k}) for k in cells] for q in cells]
    assert narrow.tolist() == expected
    assert wide.tolist() == expected


def test_integers_are_read_with_the_bits_they_came_with() -> None:
    run = artifact_of("pattern p(doc: int[batch, n]) = { q -> k : doc[q] == doc[k] }")
    big = torch.tensor([[1 << 40, 1 << 41, 1 << 40]])
    assert multiplicities(run.mods(3, tensors={"doc": big}), 1, 3, 3, 1)[0, 0].tolist() == [
        [1, 0, 1],
        [0, 1, 0],
        [1, 0, 1],
    ]
    mask_mod = run.mask_mod(3, tensors={"doc": big.clamp(max=7).int()})
    captured = {cell.cell_contents.dtype for cell in mask_mod.__closure__ or ()}
    assert captured == {torch.int32}


@pytest.mark.parametrize(("base_", "exponents"), [(2, range(12)), (-3, range(9)), (0, range(3)), (1, range(5))])
def test_power(base_: int, exponents: range) -> None:
    found = flex_words.power(torch.full((len(exponents),), base_), torch.tensor(list(exponents)), bits=4)
    assert found.tolist() == [base_**e for e in exponents]


def test_sizes_that_hang_on_the_head() -> None:
    """Then heads have text of their own."""
    text = "pattern p(b: [int] = [3, 5, 3]) = blocks(b[h]) causal | union({ q -> k : k == i } for i in 0..h)"
    compiled = patternc.compile(text, heads=3)
    run = Flex().emit(compiled.program, 3, 3)
    found = multiplicities(run.mods(20), 3, 20, 20, 1)[0]
    np.testing.assert_array_equal(found, compiled.mask(20).numpy())


@pytest.mark.parametrize("name", ["torch", "tables", "mask_mod", "x_0", "power"])
def test_names_of_tensors_do_not_meet_those_of_the_source(name: str) -> None:
    run = artifact_of(f"pattern p({name}: int[n]) = {{ q -> k : {name}[q] ** k < 3 and {name}[q] < 3 }}")
    found = multiplicities(run.mods(2, tensors={name: torch.tensor([9, 1])}), 1, 2, 2, 1)
    assert found[0, 0].tolist() == [[0, 0], [1, 1]]


def test_source_is_that_of_a_length_the_pattern_admits() -> None:
    grid = artifact_of("std/neighborhood", H=8, W=9)
    assert "of 72 positions" in grid.source
    assert "of 4096 positions" in artifact_of("std/local", window=9).source


# ------------------------------------------------------------------ BlockMasks


def tile_sets(mask: BlockMask, side: str) -> dict[str, list[list[list[list[int]]]]]:
    """The tiles of each batch row, head and row, full and partial ones."""
    found = {}
    for kind in ("", "full_"):
        count, index = getattr(mask, f"{kind}{side}_num_blocks"), getattr(mask, f"{kind}{side}_indices")
        if count is None:
            count = torch.zeros_like(getattr(mask, f"{side}_num_blocks"))
            index = torch.zeros_like(getattr(mask, f"{side}_indices"))
        shape = count.shape
        found[kind] = [
            [[index[b, h, r, : count[b, h, r]].tolist() for r in range(shape[2])] for h in range(shape[1])]
            for b in range(shape[0])
        ]
    return found


def brute_force(m: np.ndarray) -> dict[str, dict[str, list[list[list[list[int]]]]]]:
    """The same for M (B, H, n_q, n): a full tile has 128 × 128 cells of one M > 0."""
    size = flex_blocks.BLOCK
    batch, heads, n_q, n = m.shape
    rows, columns = -(-n_q // size), -(-n // size)
    kinds = np.empty((batch, heads, rows, columns), dtype=object)
    for b, h, r, c in itertools.product(range(batch), range(heads), range(rows), range(columns)):
        tile = m[b, h, r * size : (r + 1) * size, c * size : (c + 1) * size]
        full = tile.shape == (size, size) and tile.min() == tile.max()
        kinds[b, h, r, c] = None if not tile.any() else "full_" if full else ""

    def listed(kind: str, k: np.ndarray) -> list[list[list[list[int]]]]:
        return [[[np.flatnonzero(row == kind).tolist() for row in head] for head in one] for one in k]

    return {
        side: {kind: listed(kind, k) for kind in ("", "full_")}
        for side, k in (("kv", kinds), ("q", kinds.transpose(0, 1, 3, 2)))
    }


TILED = [
    Case("local", 1, 0, {"window": 200}),
    Case("local", 2, 0, {"window": float("inf")}),
    Case("global_local", 1, 0, {"hubs": 130, "window": 40}),
    Case("strided", 4, 0, {"l": 128}),
    Case("longnet", 2, 0, {"levels": [(512, 1), (256, 2)]}),
    Case("documents", 2),
    Case("bigbird", 2, 0, {"block": 64, "r": 1}),
    Case("dilated_sparse", 1, 0, {"block": 64}),
]


@pytest.mark.parametrize("whole", [1 << 18, 0], ids=["wide", "narrow"])
@pytest.mark.parametrize(("n", "n_q"), [(512, 512), (500, 500), (500, 300), (330, 5)])
@pytest.mark.parametrize("case", TILED, ids=str)
def test_tiles_are_those_of_the_mask(case: Case, n: int, n_q: int, whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex_blocks, "WHOLE_CELLS", whole)
    compiled, tensors = compiled_case(case), in_torch(_tensors(case, n))
    mask = Flex().emit(compiled.program, case.heads, case.heads).block_mask(n, n_q, tensors=tensors)
    m = compiled.mask(n, n_q, **tensors).numpy()
    m = m if m.ndim == 4 else m[None]
    axes = mask.kv_num_blocks.shape[:2]
    m = np.broadcast_to(m, (max(axes[0], m.shape[0]), *m.shape[1:]))
    for side, kinds in brute_force(m).items():
        found = tile_sets(mask, side)
        for kind, expected in kinds.items():
            spread = [[found[kind][b % axes[0]][h % axes[1]] for h in range(m.shape[1])] for b in range(m.shape[0])]
            assert spread == expected


@pytest.mark.parametrize("case", TILED, ids=str)
def test_block_masks_are_those_of_pytorch(case: Case) -> None:
    """Of patterns without multiplicities above 1; what PyTorch computes from all cells."""
    n, tensors, compiled = 500, in_torch(_tensors(case, 500)), compiled_case(case)
    mods = Flex().emit(compiled.program, case.heads, case.heads).mods(n, tensors=tensors)
    ours = mods.block_mask
    theirs = create_block_mask(mods.mask_mod, *ours.kv_num_blocks.shape[:2], n, n, device="cpu")
    assert ours.shape == theirs.shape
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert ours.sparsity() == theirs.sparsity()
    if mods.score_mod is None:
        assert tile_sets(ours, "kv") == tile_sets(theirs, "kv")
        assert tile_sets(ours, "q") == tile_sets(theirs, "q")
    assert str(ours) == str(theirs)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for t in result if isinstance(result, tuple | list) else (result,):
            if isinstance(t, torch.Tensor):
                self.elements = max(self.elements, t.numel())
        return result


@pytest.mark.parametrize(("n", "most"), [(1 << 16, 1 << 22), (1 << 20, 1 << 22)])
def test_no_dense_mask_is_made(n: int, most: int) -> None:
    """Nothing of n² elements, and from some length on lists as wide as the widest row."""
    run = artifact_of("std/local", heads=4, window=1024)
    with Largest() as largest:
        mask = run.block_mask(n)
    assert largest.elements <= most < n * n // 1000
    lists = [mask.kv_indices, mask.full_kv_indices, mask.q_indices, mask.full_q_indices]
    assert sum(t.nbytes for t in lists if t is not None) <= 16 * (n // 128) * max(9, min(512, (1 << 18) * 128 // n))
    assert int(mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum()) == 9 * (n // 128) - 36


# ------------------------------------------------------------------ the contract


def test_what_is_supported() -> None:
    program = patternc.compile("std/local", heads=1).program
    assert Flex().supports(program, "cpu", torch.float64) == []
    assert Flex().supports(program, "cuda", torch.bfloat16) == []
    assert "float64" in Flex().supports(program, "cuda", torch.float64)[0]
    assert "mps" in Flex().supports(program, "mps", torch.float32)[0]
    assert "float8" in Flex().supports(program, "cuda", torch.float8_e4m3fn)[0]


def test_it_is_taken_only_if_asked_for() -> None:
    q, k, v = (torch.randn(1, 1, 8, 4) for _ in range(3))
    automatic = patternc.compile("std/local", heads=1)
    assert automatic.backend_for(q) != "flex"
    asked = patternc.compile("std/local", heads=1, backend="flex")
    torch.testing.assert_close(asked(q, k, v), automatic(q, k, v))
    assert asked.report().endswith("backend flex")
    assert "def mask_mod" in (asked.source or "")


def test_wrong_arguments() -> None:
    q, k, v = (torch.randn(1, 1, 8, 4) for _ in range(3))
    run = artifact_of("std/documents")
    doc = torch.zeros(1, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"no dropout.*found 0\.1"):
        run(q, k, v, dropout_p=0.1, tensors={"doc": doc})
    with pytest.raises(ValueError, match="dropout_p is a probability"):
        run(q, k, v, dropout_p=2.0, tensors={"doc": doc})
    with pytest.raises(TypeError, match="needs the run-time tensor doc"):
        run(q, k, v)
    with pytest.raises(TypeError, match="no run-time tensor 'dok'"):
        run(q, k, v, tensors={"doc": doc, "dok": doc})
    with pytest.raises(ValueError, match="n_q = 9, n = 8"):
        run.mods(8, 9, tensors={"doc": doc})
    with pytest.raises(ValueError, match="multiple of kv_heads"):
        Flex().emit(run.program, 3, 2)


def test_selections_of_many_tokens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex_tables, "MOST_CELLS", 99)
    run = artifact_of("pattern p() = sample(2, of = causal, seed = 1)", heads=2)
    with pytest.raises(ValueError, match=r"a `sample` of 10 × 10 .* too large to be a table .*2 heads"):
        run.mods(10)


def test_lengths_are_kept() -> None:
    run = artifact_of("std/local", window=5)
    assert run.mods(30) is run.mods(30)
    assert run.mods(30) is not run.mods(31)
    first, second = (artifact_of("std/documents") for _ in range(2))
    doc = torch.zeros(1, 6, dtype=torch.int64)
    assert first.mods(6, tensors={"doc": doc}) is not first.mods(6, tensors={"doc": doc})
    assert second.mask_mod(6, tensors={"doc": doc}).__code__ is second.mask_mod(6, tensors={"doc": doc + 1}).__code__


@pytest.mark.parametrize(
    "case", [Case("documents", 2), Case("longnet", 2), Case("adaptive", 2, 0, {"block": 4})], ids=str
)
def test_a_call_is_traced_whole_and_once_for_a_length(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled on CUDA, here without generating code: new run-time tensors compile nothing anew."""
    traced: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        traced.append(1)
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compile_(f, backend=count, **options))
    n, compiled = 140, compiled_case(case)
    run, call = Flex().emit(compiled.program, case.heads, case.heads), flex._compiled()
    q, k, v = (torch.randn(2, case.heads, n, 16) for _ in range(3))
    for step in (1, -1):
        tensors = in_torch({name: t[::step].copy() for name, t in fifteen.tensors_of(case, n).items()})
        mods = run.mods(n, tensors=tensors)
        with torch.no_grad():
            out, lse = call(q, k, v, mods.score_mod, mods.block_mask, 0.25)
        expected = run(q, k, v, scale=0.25, return_lse=True, tensors=tensors)
        torch.testing.assert_close((out, lse), expected)
    assert traced == [1]
    assert flex._compiled().__wrapped__.__code__ is not flex._flex.__code__


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_document_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    """And prints what it shows."""
    namespace: dict[str, Any] = {}
    shown = ""
    for block in blocks(ROOT / "docs" / "flex.md"):
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), namespace)
            shown = capsys.readouterr().out
        else:
            assert block.text.strip() == shown.strip()
