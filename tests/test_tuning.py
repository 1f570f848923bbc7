"""Form kernels: the search, by a clock that is planted, and the file that keeps what was found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_modules import load

import patternc
from patternc.backends import export_triton, triton_tuned
from patternc.backends.triton_artifact import executor
from patternc.backends.triton_options import Form, Options
from patternc.backends.triton_tuned import Key, described, keep, store, trying, tuned
from patternc.bench import tuning
from patternc.bench.clocks import HostClock
from patternc.bench.contenders import Contender, Size
from patternc.bench.measure import Effort
from patternc.bench.tuning import MARGIN, OPTIONS, TILES, Spent, key_of, search, tune, usual_form

KEY = Key("A GPU", "p 0123", 128, 16)
FOUND = Form((128, 64), {"forward": Options(8, 3), "backward_keys": Options(4, 1, 168)})
USUAL = Form((64, 64))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, which no test before has read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    triton_tuned._read.cache_clear()
    return tmp_path


# ------------------------------------------------------------------ the search


def planted(form: Form) -> Spent | str:
    """Best in tiles of 128 × 64, with 8 warps forward and 1 stage for dq; tiles of 128 × 128 do not run."""
    if form.tile == (128, 128):
        return "OutOfResources: shared memory"
    of_tile = 1.0 if form.tile == (128, 64) else 1.5
    forward, queries = form.options.get("forward"), form.options.get("backward_queries")
    fast = 0.8 if forward is not None and forward.warps == 8 else 1.0
    return Spent(of_tile * fast, of_tile * (1.9 if queries == Options(4, 1) else 2.0))


def test_the_search_finds_what_is_planted():
    outcome = search(planted, USUAL)
    assert outcome.best.form.tile == (128, 64)
    assert outcome.best.form.options["forward"].warps == 8
    assert outcome.best.form.options["backward_queries"] == Options(4, 1)
    assert "backward_keys" not in outcome.best.form.options
    assert outcome.gain == pytest.approx(4.5 / 2.5 * 2.5 / 2.7)
    assert outcome.trials[0].form == USUAL
    forms = [str(trial.form) for trial in outcome.trials]
    assert len(set(forms)) == len(forms) == len(TILES) + sum(map(len, OPTIONS.values()))
    assert any("OutOfResources" in str(trial) for trial in outcome.trials)


def test_a_form_within_the_margin_is_not_taken():
    def slightly(share: float) -> Callable[[Form], Spent]:
        return lambda form: Spent(1.0, 2.0) if form == USUAL else Spent(1.0 - share, 2.0 - 2 * share)

    near = search(slightly(0.95 * MARGIN), USUAL)
    assert near.best.form == USUAL
    assert near.gain == 1
    assert search(slightly(1.05 * MARGIN), USUAL).gain > 1 + MARGIN


def test_a_usual_form_that_does_not_run_is_an_error():
    with pytest.raises(RuntimeError, match="the usual form does not run: no"):
        search(lambda form: "no", USUAL)


def test_tuning_needs_a_device_on_which_kernels_run():
    size = Size(64, 16, torch.float32, torch.device("meta"))
    with pytest.raises(ValueError, match="cannot run here"):
        tune(patternc.compile("std/local", heads=1), size, {})


def test_the_best_form_is_kept_and_the_usual_one_only_in_place_of_another(monkeypatch: pytest.MonkeyPatch):
    size = Size(64, 16, torch.float32, torch.device("cpu"))
    compiled = patternc.compile("std/local", heads=1, window=79)
    key = key_of(compiled, size)
    monkeypatch.setattr(tuning.base, "load", lambda name: Runs())
    monkeypatch.setattr(tuning, "measured", lambda *_: lambda form: Spent(1.0, 1.0))
    tune(compiled, size, {})
    assert read(key) is None
    monkeypatch.setattr(tuning, "measured", lambda *_: planted)
    found = tune(compiled, size, {}).best.form
    assert read(key) == found != usual_form(size)
    monkeypatch.setattr(tuning, "measured", lambda *_: lambda form: Spent(1.0, 1.0))
    tune(compiled, size, {})
    assert read(key) == usual_form(size)


class Runs:
    """A backend that runs everything."""

    def supports(self, *_: object) -> list[str]:
        return []


def test_an_entry_is_for_a_program_and_its_heads():
    size = Size(64, 16, torch.float32, torch.device("cpu"))
    keys = [key_of(patternc.compile("std/local", heads=h, window=w), size) for h, w in ((1, 8), (2, 8), (1, 9), (1, 8))]
    assert len({key.program for key in keys}) == 3
    assert keys[0] == keys[3]
    assert (keys[0].device, keys[0].dim, keys[0].bits) == ("cpu", 16, 32)


def test_every_form_is_tried_even_if_the_program_is_in_use(monkeypatch: pytest.MonkeyPatch):
    size = Size(64, 16, torch.float32, torch.device("cpu"))
    compiled = patternc.compile("std/local", heads=1, window=78)
    in_use = executor(compiled.program, 1, 1)
    tiles = []

    def planning(one: patternc.Compiled, tensors: dict[str, torch.Tensor]) -> Contender:
        def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            tiles.append(executor(one.program, 1, 1).form(q, v).tile)
            return q + k + v

        return Contender("x", attention)

    monkeypatch.setattr(tuning, "ours", planning)
    monkeypatch.setattr(tuning, "EFFORT", Effort(1, 0))
    measure = tuning.measured(compiled, size, {}, HostClock())
    found = [measure(Form(tile)) for tile in ((32, 32), (128, 64))]
    assert all(isinstance(spent, Spent) for spent in found)
    assert list(dict.fromkeys(tiles)) == [(32, 32), (128, 64)]
    assert in_use.key == key_of(compiled, size).program


# ------------------------------------------------------------------ the file


def read(key: Key = KEY) -> Form | None:
    triton_tuned._read.cache_clear()
    return tuned(key.device, key.program, key.dim, key.bits)


def test_what_is_kept_is_found_again_for_the_same_key_only():
    assert read() is None
    path = keep(KEY, FOUND)
    assert path == store()
    assert path.stat().st_mode & 0o077 == 0
    assert read() == FOUND
    for other in (Key("B", *_rest()), Key("A GPU", "q", 128, 16), Key("A GPU", "p 0123", 64, 16)):
        assert read(other) is None
    keep(KEY, USUAL)
    keep(Key("B", *_rest()), FOUND)
    assert read() == USUAL
    assert described() == f"{path} (2 entries)"
    assert not list(path.parent.glob("*.tmp"))


def _rest() -> tuple[str, int, int]:
    return KEY.program, KEY.dim, KEY.bits


def test_what_is_tried_goes_before_what_is_kept():
    keep(KEY, FOUND)
    with trying(USUAL):
        assert read() == USUAL
        assert read(Key("B", "q", 1, 1)) == USUAL
    assert read() == FOUND


def test_entries_of_other_versions_do_not_count(monkeypatch: pytest.MonkeyPatch):
    keep(KEY, FOUND)
    monkeypatch.setattr(triton_tuned, "versions", lambda: {"patternc": "9"})
    assert read() is None
    assert "0 entries" in described()


def edited(change: Callable[[dict[str, Any]], object]) -> None:
    path = keep(KEY, FOUND)
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("versions"),
        lambda found: found.update(entries={}),
        lambda found: found["entries"].append(3),
        lambda found: found["entries"][0].update(more=1),
        lambda found: found["entries"][0].update(tile=[64]),
        lambda found: found["entries"][0].update(tile=[64, 96]),
        lambda found: found["entries"][0].update(tile=[1 << 20, 64]),
        lambda found: found["entries"][0].update(tile=[64, "64"]),
        lambda found: found["entries"][0].update(device="A" * 1000),
        lambda found: found["entries"][0].update(dim="128"),
        lambda found: found["entries"][0].update(dim=True),
        lambda found: found["entries"][0].update(bits=64),
        lambda found: found["entries"][0]["options"].update(sideways={"warps": 4, "stages": 2, "registers": None}),
        lambda found: found["entries"][0]["options"]["forward"].update(warps=3),
        lambda found: found["entries"][0]["options"]["forward"].update(warps=True),
        lambda found: found["entries"][0]["options"]["forward"].update(stages=99),
        lambda found: found["entries"][0]["options"]["forward"].update(registers="all"),
        lambda found: found["entries"][0]["options"]["forward"].pop("registers"),
    ],
)
def test_a_file_that_we_did_not_write_so_is_ignored(change: Callable[[dict[str, Any]], object]):
    edited(change)
    assert read() is None
    assert "is ignored: " in described()
    keep(KEY, FOUND)
    assert read() == FOUND


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b" " * (triton_tuned.MOST_BYTES + 1)])
def test_a_file_that_is_no_json_is_ignored(data: bytes):
    path = keep(KEY, FOUND)
    path.write_bytes(data)
    assert read() is None
    assert "is ignored: " in described()


def test_a_file_that_others_may_write_is_ignored():
    path = keep(KEY, FOUND)
    path.chmod(0o622)
    assert read() is None
    assert described() == f"{path} is ignored: others may write it"


def test_a_link_is_ignored(tmp_path: Path):
    path = keep(KEY, FOUND)
    elsewhere = tmp_path / "elsewhere.json"
    os.replace(path, elsewhere)
    path.symlink_to(elsewhere)
    assert read() is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for():
    os.mkfifo(triton_tuned.store())
    assert triton_tuned.described().endswith("is ignored: it is no plain file")


def test_a_write_that_fails_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch):
    path = keep(KEY, FOUND)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(triton_tuned.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        keep(KEY, USUAL)
    assert read() == FOUND
    assert not list(path.parent.glob("*.tmp"))


def test_the_usual_form_is_that_of_the_backend():
    assert usual_form(Size(64, 128, torch.bfloat16, torch.device("cpu"))).tile == (64, 64)


def test_the_executor_runs_in_the_form_that_was_kept():
    size = Size(256, 16, torch.float32, torch.device("cpu"))
    compiled = patternc.compile("std/local", heads=1, window=77)
    keep(key_of(compiled, size), Form((32, 16), {"forward": Options(2, 1)}))
    made = executor(compiled.program, 1, 1)
    q = torch.zeros(1, 1, 256, 16)
    plan = made.ready(q, q, q, []).plan
    assert (plan.tile_q, plan.tile_k) == (32, 16)
    assert made.form(q, q).options == {"forward": Options(2, 1)}
    assert made.form(q.half(), q.half()) == Form((64, 64))


# ------------------------------------------------------------------ saved modules


def saved(compiled: patternc.Compiled) -> str:
    return export_triton.module_source(compiled.arrangement(), compiled.kv_heads, "")


def test_a_saved_module_knows_what_was_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For this program, on any device, under the Triton that it was found with."""
    compiled = patternc.compile("std/local", heads=1, window=76, backend="triton")
    plain = saved(compiled)
    assert "SavedForms" not in plain
    keep(KEY, USUAL)  # of another program
    assert saved(compiled) == plain
    program = key_of(compiled, Size(64, 16, torch.float32, torch.device("cpu"))).program
    keep(Key("cpu", program, 16, 32), Form((32, 16), {"backward_keys": Options(8, 1, 168), "forward": Options(2, 1)}))
    keep(Key(HOSTILE, program, 64, 16), USUAL)
    text = saved(compiled)
    assert text == saved(compiled)
    entry = """('cpu', 16, 32): Form((32, 16), {"forward": Options(2, 1), "backward_keys": Options(8, 1, 168)}),"""
    assert entry in text
    module = load(compiled.save(tmp_path / "saved_tuned.py"))
    assert not hasattr(module, "PLANTED")
    assert {name for name, *_ in module.TUNED.forms} == {"cpu", HOSTILE}
    q = torch.zeros(1, 1, 256, 16)
    executor = module.RUNNER.executor
    plan = executor.ready(q, q, q, []).plan
    assert (plan.tile_q, plan.tile_k) == (32, 16)
    assert executor.form(q.half(), q.half()).tile == (64, 64)
    monkeypatch.setattr(module, "version", lambda: (99, 0))
    assert module.TUNED.on(q.device, 16, 32) is None


HOSTILE = "A\"GPU')): 0}, \n\u2028PLANTED = 1 #\\"


def test_a_file_that_is_ignored_does_not_get_into_saved_modules():
    compiled = patternc.compile("std/local", heads=1, window=75, backend="triton")
    plain = saved(compiled)
    program = key_of(compiled, Size(64, 16, torch.float32, torch.device("cpu"))).program
    keep(Key("cpu", program, 16, 32), FOUND).chmod(0o622)
    triton_tuned._read.cache_clear()
    assert saved(compiled) == plain
