"""Saved modules of the triton backend, in Triton's interpreter on tiny inputs, in a process that has no patternc."""

from __future__ import annotations

import ast
import copy
import os
import pickle
import random
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("triton")

import drawn_tables
import saved_triton_cases as cases
from click.testing import CliRunner
from saved_modules import load, run

import patternc
from patternc.analysis.meanings import trivial
from patternc.backends import export_triton, triton_drawn, triton_executor
from patternc.backends.export_embed import embed_sources
from patternc.backends.export_kernels import Kernels
from patternc.backends.export_reach import Reach
from patternc.backends.triton_tuned import SIDES
from patternc.cli.compile import command

HERE = Path(__file__).parent
DOCUMENTS = "pattern p(doc: int[batch, n]) over (y: 3, x: 4) = causal & { q -> k : doc[q] == doc[k] }"
pytestmark = pytest.mark.usefixtures("interpreted")


def test_modules_stand_alone_and_agree_with_the_reference(tmp_path: Path) -> None:
    """All in one process that can import torch, NumPy and triton alone, at lengths drawn after saving."""
    lengths = random.Random(os.urandom(8))
    for case in cases.CASES:
        cases.write(case, tmp_path, lengths, 40, dim=16, calls=1)
    found = alone("saved_triton_modules.py", str(tmp_path), "cpu")
    assert found.stdout == f"{len(cases.CASES)} modules agree with the reference\n", found.stderr


def alone(script: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **more}
    command = [sys.executable, "-W", "ignore", str(HERE / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=arguments[0])


@pytest.fixture(scope="module")
def documents(interpreted: None, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    path = tmp_path_factory.mktemp("saved") / "saved_documents.py"
    assert patternc.compile(DOCUMENTS, heads=2, kv_heads=1, backend="triton").save(path) == path
    return load(path)


def draw(n: int = 12, heads: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, h, n, 16) for h in (heads, 1, 1)]


DOC = torch.arange(12)[None] // 5

# ------------------------------------------------------------------ beside others


def test_beside_the_package_and_itself(documents: ModuleType, tmp_path: Path) -> None:
    """The same bits as the compiled pattern in this process, and as the same file under another name."""
    path = tmp_path / "saved_again.py"
    path.write_bytes(Path(documents.__file__).read_bytes())
    in_memory = patternc.compile(DOCUMENTS, heads=2, kv_heads=1, backend="triton")
    graph = torch.compile(documents.Attention(), fullgraph=True, backend="aot_eager")
    calls = (in_memory, documents.Attention(), load(path).Attention(), graph)
    first, *others = (run(call, draw(), {"doc": DOC}, draw()[0]) for call in calls)
    for found in others:
        assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True))


def test_operators_have_names_of_their_own(documents: ModuleType) -> None:
    assert documents.NAMESPACE.startswith("patternc_saved_")
    given = [t.requires_grad_() for t in draw()]
    operator = getattr(torch.ops, documents.NAMESPACE).attention.default
    torch.library.opcheck(operator, (*given, [DOC], documents.RUNNER.executor.key, 0.25, 0.0, None))


def test_a_saved_module_is_a_plain_module(documents: ModuleType) -> None:
    attention = documents.Attention()
    assert list(attention.parameters()) == []
    for other in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert torch.equal(other(*draw(), doc=DOC), attention(*draw(), doc=DOC))


def test_wrong_calls(documents: ModuleType) -> None:
    attention = documents.Attention()
    with pytest.raises(TypeError, match=r"needs the run-time tensor doc: int\(batch, 12\)"):
        attention(*draw())
    with pytest.raises(ValueError, match=r"n = 13 tokens do not fill the grid of 3 \* 4 = 12"):
        attention(*draw(13), doc=torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(ValueError, match="compiled for H = 2 and H_kv = 1"):
        attention(*draw(heads=3), doc=DOC)
    with pytest.raises(ValueError, match="takes float16, bfloat16 and float32"):
        attention(*(t.double() for t in draw()), doc=DOC)


def test_where_kernels_do_not_run_the_reason_is_given(documents: ModuleType) -> None:
    program = (
        "import sys, torch; from pathlib import Path; from saved_modules import load\n"
        f"attention = load(Path({documents.__file__!r})).Attention(); q = torch.randn(1, 2, 12, 16)\n"
        "try: attention(q, q[:, :1], q[:, :1])\n"
        "except ValueError as error: print(error)"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(HERE)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert "this module cannot run here: kernels run on CUDA devices" in done.stdout, done.stderr


# ------------------------------------------------------------------ plans

STRIDED = "pattern p(doc: int[batch, n]) = causal & { q -> k : doc[q] == doc[k] // 1 and (q - k) % 4 == 0 }"


@pytest.mark.parametrize("source", [STRIDED, "std/longformer"], ids=["strided", "listed"])
def test_the_device_plans_as_in_memory(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = patternc.compile(source, heads=2, kv_heads=1, backend="triton")
    (tensor,) = compiled.program.tensors
    module = load(compiled.save(tmp_path / f"saved_{tensor.name}.py"))
    small = lambda dim, bits: (16, 16)
    for home in (triton_executor, module):
        monkeypatch.setattr(home, "tile_of", small)
    for home in (triton_drawn, module):
        monkeypatch.setattr(home, "enqueued", lambda device: True)
    position = torch.arange(60)[None]
    given = position // 25 if tensor.element == "int" else position % 19 == 0
    both = module.RUNNER.executor, compiled._artifact("triton").executor
    found, expected = (executor.ready(*draw(60), [given]) for executor in both)
    for major in ("by_query", "by_key"):
        tiles = drawn_tables.tiles(found, major)
        assert tiles
        assert tiles == drawn_tables.tiles(expected, major)


def test_only_what_the_device_may_plan_carries_the_planner() -> None:
    held = {
        text: "DrawnPlans" in _source_of(text)
        for text in (
            "pattern p(doc: int[n]) = { q -> k : doc[q] == doc[k] }",
            "pattern p() = causal",
            "pattern p(s: int[n]) = causal & top(2, by = s[k])",
        )
    }
    assert list(held.values()) == [True, False, False]


def _source_of(text: str) -> str:
    compiled = patternc.compile(text, heads=1, backend="triton")
    return export_triton.module_source(compiled.arrangement(), 1, text)


@pytest.mark.parametrize("name", ["strided", "listed", "grid"])
def test_kernels_serve_all_tiles_that_may_be_tuned(name: str, tmp_path: Path) -> None:
    case = next(case for case in cases.CASES if case.name == name)
    module = load(case.compiled("triton").save(tmp_path / f"saved_tiles_{name}.py"))
    n, sides = case.n or 50, [side for side in SIDES if side.bit_count() == 1]
    options = {"n": n, "n_q": n, "batch": 1, "kv_heads": case.kv_heads, "device": torch.device("cpu")}
    options["tensors"] = {tensor: make(1, n) for tensor, make in case.tensors.items()}
    for tile in product(sides, sides):
        schedule = module.ready(module.MASKS, tile=tile, **options).schedule
        for step in (*schedule.by_query, *schedule.by_key):
            assert module.module(step.structure).forward in vars(module).values()


# ------------------------------------------------------------------ what is saved


def test_numbers_that_need_64_bits_at_some_lengths_only(tmp_path: Path) -> None:
    """Both kernels are there, and the length says which one runs."""
    text = "pattern p() = { q -> k : (q * 100 + k) % 7 == 0 and k <= q }"
    compiled = patternc.compile(text, heads=1, backend="triton")
    module = load(compiled.save(tmp_path / "saved_wide.py"))
    masks = [module.MASKS.source(0, 0, n) for n in (module.NARROW, module.NARROW + 1)]
    assert masks[0] != masks[1]
    assert len(module.KERNELS) == 2
    narrow, wide = (Path(module.__file__).read_text().split("def mask0", 2)[i].split("return")[0] for i in (1, 2))
    assert ("int64" in narrow, "int64" in wide) == (False, True)


def test_a_saved_module_has_no_loose_ends(tmp_path: Path) -> None:
    for name in ("listed",):  # with all there is: several structures, and plans that the device makes
        case = next(case for case in cases.CASES if case.name == name)
        path = case.compiled("triton").save(tmp_path / "saved.py")
        rules = "--select=E9,F401,F63,F7,F821,F823"
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", rules, str(path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
        text = path.read_text()
        assert "from patternc" not in text
        assert "import patternc" not in text
        assert "import numpy" not in text
        assert len(text.splitlines()) < 15_000


@pytest.mark.parametrize("text", ["causal # \"\"\" ''' \\ {0}", "causal\rimport os\r\n# coding: utf-7"])
def test_program_text_cannot_leave_its_comment(text: str) -> None:
    arrangement = trivial(patternc.compile("pattern p() = causal", heads=1).program, 1)
    plain, hostile = (export_triton.module_source(arrangement, 1, shown) for shown in ("", text))
    names = [dict.fromkeys(line for line in t.splitlines() if line.startswith("NAMESPACE")) for t in (plain, hostile)]
    (own,), (other,) = names
    assert ast.dump(ast.parse(hostile.replace(other, own).encode())) == ast.dump(ast.parse(plain))


def test_what_has_no_kernels_is_refused(tmp_path: Path) -> None:
    compiled = patternc.compile("pattern p() = { q -> k : q - k < 12345678901 }", heads=1, backend="triton")
    with pytest.raises(ValueError, match="the triton backend cannot run p: the number 12345678901"):
        compiled.save(tmp_path / "saved.py")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    source, path = tmp_path / "x.spat", tmp_path / "x_attention.py"
    source.write_text("pattern x(w: tokens = 4) = { q -> k : 0 <= q - k < w }")
    arguments = [str(source), "--heads", "2", "--backend", "triton", "-o", str(path)]
    for _ in range(2):  # what we wrote may be overwritten
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0, result.output
    text = path.read_text()
    assert text.startswith("# Written by patternc; needs torch and triton only.")
    assert "#     pattern x(w: tokens = 4) = { q -> k : 0 <= q - k < w }" in text


# ------------------------------------------------------------------ joining texts


def test_kernels_share_what_is_equal() -> None:
    kernels = Kernels({"taken"})
    first, called = kernels.add(
        "A = 1\n\n# How it adds.\ndef f(x):\n    return x + A\n\ndef taken():\n    return f(1)\n", 0
    )
    assert called == {"A": "A", "f": "f", "taken": "taken_0"}
    assert first.endswith("# How it adds.\ndef f(x):\n    return x + A\n\n\ndef taken_0():\n    return f(1)")
    second, called = kernels.add("A = 1\ndef f(x):\n    return x - A\ndef taken():\n    return f(1)\n", 1)
    assert called == {"A": "A", "f": "f_1", "taken": "taken_1"}
    assert second == "def f_1(x):\n    return x - A\n\n\ndef taken_1():\n    return f_1(1)"
    assert kernels.add("A = 1\ndef f(x):\n    return x - A\n", 2) == ("", {"A": "A", "f": "f_1"})


def test_names_from_outside_give_way() -> None:
    """To those of the package, whichever comes first."""
    own = ("patternc.own", '"""A file."""\n\nclass Counter: pass\n\nmade = Counter()\n')
    other = ("patternc.other", '"""A file."""\n\nfrom collections import Counter\n\nmade = Counter()\n')
    found = embed_sources([own, other])
    assert found.imports == "from collections import Counter as Counter_of_collections"
    assert "made_of_other = Counter_of_collections()" in found.text
    found = embed_sources([other, own])
    assert found.imports == "from collections import Counter"
    assert "class Counter_of_own: pass" in found.text
    assert "made_of_own = Counter_of_own()" in found.text


def test_only_what_is_reached_is_carried() -> None:
    """With what registers itself, and without what is given."""
    home = "patternc.backends.triton_op"
    reach = Reach({("patternc.backends.triton_namespace", "NAMESPACE")})
    reach.add({"known"}, [home])
    (found,) = reach.sources()
    assert found[0] == home
    assert "def known(" in found[1]
    assert "def attention_backward" not in found[1]
    reach.add({"attention"}, [home])
    (found,) = reach.sources()
    assert "attention.register_autograd(" in found[1]
    assert "def _gradients(" in found[1]
