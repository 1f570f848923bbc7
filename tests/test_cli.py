"""The command line: what each command prints, writes and returns, for good calls, wrong calls and bad programs."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from patternc.cli import commands
from patternc.errors import Code

LOCAL = """\
# A window.
pattern local(window: tokens = 4) = { q -> k : 0 <= q - k < window }

check local(window = 4) at n = 16 : causal, nonempty, row <= 4
"""
BROKEN = "pattern p() = { q -> k : k <= }\npattern r() = nothing\n"
WARNING = "pattern p() = { q -> k : k <= q } where unused = 3\n"
REFUTED = "pattern p() = { q -> k : k >= q }\ncheck p at n = 4 : causal\n"
PER_HEAD = "pattern p(w: tokens = 8) = causal & match h % 2 { 0 => { q -> k : q - k < w }, 1 => full }\n"
TENSORS = (
    "pattern p(doc: int[batch, n], near: float[heads, n], flag: bool[n]) ="
    " causal & { q -> k : doc[q] == doc[k] and (flag[k] or near[h, q - k] > 0) }\n"
)


def call(*args: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(commands, [str(arg) for arg in args], input=stdin, prog_name="patternc")


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "a.spat") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# ------------------------------------------------------------------ the group


def test_commands_are_listed_and_explain_themselves():
    result = call("--help")
    assert result.exit_code == 0
    for name in ("check", "fmt", "show", "explain", "compile", "verify", "list", "doctor"):
        assert name in result.output
        one = call(name, "--help")
        assert one.exit_code == 0
        assert "Usage: patternc" in one.output


def test_unknown_commands_and_options_are_wrong_calls():
    result = call("chekc")
    assert result.exit_code == 2
    assert "did you mean 'check'" in result.output
    assert call("check", "--nonsense", "x").exit_code == 2
    assert call("--nonsense").exit_code == 2
    assert call("check").exit_code == 2
    assert call("--version").output.startswith("patternc ")


# ------------------------------------------------------------------ check


def test_check_prints_verdicts(write):
    path = write(LOCAL)
    result = call("check", path)
    assert result.exit_code == 0, result.output
    assert "local(window = 4) at n = 16 : causal" in result.output
    assert "checked at n = 16" in result.output
    assert "3 of 3 checks hold" in result.output


def test_check_reports_every_error_and_goes_on(write):
    bad, good = write(BROKEN, "bad.spat"), write(LOCAL, "good.spat")
    result = call("check", bad, good)
    assert result.exit_code == 1
    assert result.output.count("error[SPAT") == 2
    assert "checked at n = 16" in result.output


def test_check_of_a_warning_is_clean(write):
    result = call("check", write(WARNING))
    assert result.exit_code == 0
    assert "warning[SPAT301]" in result.output


def test_check_refutes(write):
    result = call("check", write(REFUTED))
    assert result.exit_code == 1
    assert "SPAT400" in result.output
    assert "refuted" in result.output


def test_check_as_json(write):
    result = call("check", "--format", "json", write(REFUTED, "r.spat"), write(BROKEN, "b.spat"), write(LOCAL))
    assert result.exit_code == 1
    refuted, broken, good = json.loads(result.stdout)["files"]
    assert [v["verdict"] for v in good["verdicts"]] == ["checked"] * 3
    assert good["verdicts"][0]["property"] == "causal"
    assert [v["verdict"] for v in refuted["verdicts"]] == ["refuted"]
    assert len(broken["diagnostics"]) == 2
    first = broken["diagnostics"][0]
    assert first["start"]["line"] == 1
    assert first["severity"] == "error"


def test_check_reads_standard_input_and_the_library():
    assert "3 of 3 checks hold" in call("check", "-", stdin=LOCAL).output
    assert call("check", "std/local").exit_code == 0


@pytest.mark.parametrize("name", ["nowhere.spat", "std/nowhere", ".", "/dev/zero", "a\0b.spat", "x" * 5000, ""])
@pytest.mark.parametrize("command", ["check", "fmt", "explain", "show"])
def test_files_that_cannot_be_read_are_wrong_calls(command, name):
    result = call(command, name)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"", b"\0" * 100, b"\xef\xbb\xbfpattern", b"(" * 10_000, b"a" * (2**20 + 5), b"\r\n\x1b[31m"],
)
@pytest.mark.parametrize("command", ["check", "fmt", "explain", "show"])
def test_hostile_files_end_in_messages(write, command, content):
    result = call(command, write(content))
    assert result.exit_code in (0, 1)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "\x1b[31m" not in result.output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(write):
    path = write(LOCAL)
    path.chmod(0)
    assert call("check", path).exit_code == 2


# ------------------------------------------------------------------ fmt

UGLY = "# A window.\npattern   local( window:tokens=4 )={q->k:0<=q-k<window} # here\n"


def test_fmt_lays_out_in_place_once(write):
    path = write(UGLY)
    path.chmod(0o640)
    assert call("fmt", path).exit_code == 0
    once = path.read_text()
    assert "pattern local(window: tokens = 4)" in once
    assert "# here" in once
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    before = path.stat().st_mtime_ns
    assert call("fmt", path).exit_code == 0
    assert path.read_text() == once
    assert path.stat().st_mtime_ns == before
    assert os.listdir(path.parent) == [path.name]


def test_fmt_check_and_diff_write_nothing(write):
    path = write(UGLY)
    result = call("fmt", "--check", path)
    assert result.exit_code == 1
    assert "would change" in result.output
    result = call("fmt", "--diff", path)
    assert result.exit_code == 0
    assert "+pattern local(window: tokens = 4)" in result.output
    assert path.read_text() == UGLY
    call("fmt", path)
    assert call("fmt", "--check", "--diff", path).exit_code == 0


def test_fmt_of_standard_input_writes_standard_output():
    result = call("fmt", "-", stdin=UGLY)
    assert result.exit_code == 0
    assert result.stdout.startswith("# A window.\npattern local(window: tokens = 4)")
    assert call("fmt", "-", stdin=result.stdout).stdout == result.stdout
    assert call("fmt", "-", "-").exit_code == 2


def test_fmt_leaves_broken_files_alone_and_does_the_others(write):
    bad, good = write(BROKEN, "bad.spat"), write(UGLY, "good.spat")
    result = call("fmt", bad, good)
    assert result.exit_code == 1
    assert "error[SPAT" in result.output
    assert bad.read_text() == BROKEN
    assert good.read_text() != UGLY


def test_fmt_writes_through_links(write, tmp_path):
    path = write(UGLY)
    link = tmp_path / "link.spat"
    link.symlink_to(path)
    assert call("fmt", link).exit_code == 0
    assert link.is_symlink()
    assert path.read_text() != UGLY


def test_fmt_does_not_touch_the_library():
    before = call("fmt", "--diff", "std/local")
    assert before.exit_code == 0


# ------------------------------------------------------------------ explain


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_page(code):
    result = call("explain", str(code))
    assert result.exit_code == 0
    assert result.output.startswith(str(code))
    assert "```" not in result.output


def test_codes_in_any_case_and_near_misses():
    assert call("explain", "spat012").output == call("explain", "SPAT012").output
    result = call("explain", "SPAT998")
    assert result.exit_code == 2
    assert "did you mean SPAT" in result.output


def test_explain_a_program(write):
    result = call("explain", write(PER_HEAD), "-n", 1000, "--heads", 4, "--set", "w=100")
    assert result.exit_code == 0, result.output
    for word in ("1,000", "100", "full", "partial"):
        assert word in result.output


# ------------------------------------------------------------------ parameters


def test_parameters_by_set(write):
    path = write(LOCAL)
    assert call("explain", path, "-n", 64, "--set", "window=16").exit_code == 0
    for wrong in ("window", "window=", "window=x", "=3", "window=[", "window=99999999999999999999"):
        result = call("explain", path, "--set", wrong)
        assert result.exit_code == 2, wrong
        assert "Traceback" not in result.output
    assert "did you mean 'window'" in call("explain", path, "--set", "windw=3").output
    assert "set twice" in call("explain", path, "--set", "window=1", "--set", "window=2").output
    assert "--heads" in call("explain", path, "--set", "heads=2").output
    assert call("explain", path, "--set", "window=-3").exit_code == 2
    assert call("explain", path, "--set", "window=2.5").exit_code == 2
    assert call("explain", path, "--heads", 0).exit_code == 2
    assert call("explain", path, "-n", 0).exit_code == 2
    assert call("explain", path, "--heads", 4, "--kv-heads", 3).exit_code == 2
    assert call("explain", path, "--pattern", "locale").exit_code == 1


# ------------------------------------------------------------------ show


def test_tensors_of_a_command(write, tmp_path):
    path = write(TENSORS)
    np.savez(tmp_path / "t.npz", doc=np.zeros((1, 32), int), flag=np.ones(32, bool))
    given = call("show", path, "-n", 32, "--heads", 1, "--tensors", tmp_path / "t.npz")
    assert given.exit_code == 0, given.output
    assert "51.6 %" in given.output
    assert call("show", path, "-n", 32, "--heads", 1).output != given.output
    np.savez(tmp_path / "u.npz", dog=np.zeros(3))
    assert "dog" in call("show", path, "-n", 32, "--tensors", tmp_path / "u.npz").output
    np.savez(tmp_path / "w.npz", doc=np.zeros((1, 31), int))
    assert call("show", path, "-n", 32, "--tensors", tmp_path / "w.npz").exit_code == 2
    assert call("show", path, "-n", 32, "--tensors", tmp_path / "nowhere.npz").exit_code == 2


def test_show_in_the_terminal(write):
    result = call("show", write(PER_HEAD), "-n", 32, "--heads", 4)
    assert result.exit_code == 0, result.output
    assert "heads 0, 2" in result.output
    assert "heads 1, 3" in result.output
    assert "█" in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("n", [40, 3000])
def test_show_to_a_file(write, tmp_path, suffix, n):
    output = tmp_path / f"x.{suffix}"
    result = call("show", write(PER_HEAD), "-n", n, "--heads", 2, "-o", output)
    assert result.exit_code == 0, result.output
    assert output.stat().st_size > 1000


def test_show_of_the_last_queries(write):
    result = call("show", write(LOCAL), "-n", 32, "--queries", 4, "--heads", 1)
    assert result.exit_code == 0, result.output
    assert "28 " in result.output
    assert call("show", write(LOCAL), "-n", 32, "--queries", 33).exit_code == 2


def test_show_refuses_what_it_cannot_write(write, tmp_path):
    path = write(LOCAL)
    assert call("show", path, "-o", tmp_path / "x.gif").exit_code == 2
    assert call("show", path, "-n", 16, "-o", tmp_path / "no" / "x.png").exit_code == 2


# ------------------------------------------------------------------ compile and verify


def test_compile_writes_a_module_and_keeps_what_is_not_ours(write, tmp_path):
    path, output = write(LOCAL), tmp_path / "local_attention.py"
    assert call("compile", path, "-o", output).exit_code == 2
    result = call("compile", path, "-o", output, "--heads", 2)
    assert result.exit_code == 0, result.output
    compile(output.read_text(), str(output), "exec")
    assert call("compile", path, "-o", output, "--heads", 4).exit_code == 0
    output.write_text("print('mine')\n")
    result = call("compile", path, "-o", output, "--heads", 2)
    assert result.exit_code == 2
    assert output.read_text() == "print('mine')\n"
    assert call("compile", path, "-o", output, "--heads", 2, "--force").exit_code == 0
    assert "mine" not in output.read_text()


def test_compile_to_a_place_that_is_none(write, tmp_path):
    path = write(LOCAL)
    assert call("compile", path, "--heads", 2, "-o", tmp_path / "no" / "x.py").exit_code == 2
    assert call("compile", path, "--heads", 2, "-o", tmp_path / "x.txt").exit_code == 2
    assert call("compile", write(BROKEN), "--heads", 2, "-o", tmp_path / "x.py").exit_code == 1
    assert not (tmp_path / "x.py").exists()


def test_verify_prints_every_error(write):
    result = call("verify", write(PER_HEAD), "-n", 70, "--heads", 2, "--dtype", "float64")
    assert result.exit_code == 0, result.output
    for word in ("out", "lse", "dq", "dk", "dv", "allowed"):
        assert word in result.output


def test_verify_of_a_wrong_backend_fails(write, monkeypatch):
    from patternc import verification

    report = verification.Report("p", "torch", "n = 4", (verification.Comparison("out", 1.0, 0.1),), "cell (3, 1)")
    monkeypatch.setattr(verification, "verify", lambda *args, **options: report)
    result = call("verify", write(LOCAL), "-n", 16)
    assert result.exit_code == 1
    assert "cell (3, 1)" in result.output


def test_wrong_calls_of_verify(write):
    path = write(LOCAL)
    for wrong in (
        ["--device", "cuda:77"], ["--device", "toaster"], ["--backend", "nope"], ["--dtype", "int8"],
        ["-n", 10**7], ["--queries", 600], ["--head-dim", 0],
    ):  # fmt: skip
        result = call("verify", path, *wrong)
        assert result.exit_code == 2, wrong
        assert "Traceback" not in result.output


# ------------------------------------------------------------------ list and doctor


def test_list_of_the_library_and_of_a_folder(write):
    result = call("list")
    assert result.exit_code == 0
    assert "std/local" in result.output
    assert "local(window: tokens = 4096)" in result.output
    assert "A sliding window" in result.output
    path = write(LOCAL)
    write(BROKEN, "b.spat")
    result = call("list", path.parent)
    assert result.exit_code == 0
    assert "local(window: tokens = 4)" in result.output
    assert "does not parse: 1 error" in result.output
    assert call("list", path.parent / "nowhere").exit_code == 2


def test_doctor_names_versions_devices_and_backends():
    result = call("doctor")
    assert result.exit_code == 0, result.output
    for word in ("python", "torch", "triton", "numpy", "islpy", "lark", "cpu", "reference", "float64"):
        assert word in result.output
