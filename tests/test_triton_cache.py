"""The folder of generated sources: who may write there, what is believed of it, how it stays small."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from patternc.backends import triton_cache
from patternc.cli.doctor import command

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are those of POSIX")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache; the folder of sources in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    known = set(sys.modules)
    yield tmp_path / "patternc" / "kernels"
    for name in set(sys.modules) - known:
        if name.startswith("patternc_"):
            del sys.modules[name]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# ------------------------------------------------------------------ whose it is


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/do/not/count")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert triton_cache.folder() == tmp_path / ".cache" / "patternc" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert triton_cache.folder() == tmp_path / "other" / "patternc" / "kernels"


def test_the_tests_leave_nothing_in_that_of_the_user() -> None:
    """What this process and those that it starts write goes with the run."""
    own = Path(os.environ["XDG_CACHE_HOME"])
    assert own.name.startswith("patternc-tests-")
    assert triton_cache.folder() == own / "patternc" / "kernels"
    assert Path(os.environ["MPLCONFIGDIR"]).parent == own


@posix
def test_it_is_private_from_the_start(home: Path) -> None:
    old = os.umask(0)
    try:
        path = triton_cache.file_of("patternc_a", "a = 1\n")
    finally:
        os.umask(old)
    assert path == home / "patternc_a.py"
    assert (mode(home), mode(home.parent), mode(path)) == (0o700, 0o700, 0o600)


@posix
def test_an_open_folder_is_closed(home: Path) -> None:
    home.mkdir(parents=True)
    home.chmod(0o777)
    home.parent.chmod(0o775)
    assert triton_cache.file_of("patternc_a", "a = 1\n").parent == home
    assert (mode(home), mode(home.parent)) == (0o700, 0o700)


@posix
def test_a_link_is_not_followed(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    home.parent.mkdir()
    home.symlink_to(elsewhere)
    path = triton_cache.file_of("patternc_a", "a = 1\n")
    assert path.read_text() == "a = 1\n"
    assert list(elsewhere.iterdir()) == []
    assert mode(path.parent) == 0o700


@posix
def test_the_folder_of_another_user_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    triton_cache.file_of("patternc_a", "a = 1\n")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert triton_cache.file_of("patternc_a", "a = 1\n").parent != home
    assert "belongs to another user" in triton_cache.described()


def test_without_a_home_there_is_a_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere))
    path = triton_cache.file_of("patternc_a", "a = 1\n")
    assert path.read_text() == "a = 1\n"
    assert triton_cache.file_of("patternc_b", "b = 1\n").parent == path.parent
    assert "a temporary folder for each process" in triton_cache.described()


BINARIES = """
import os, sys
from patternc.backends import triton_cache
made = triton_cache.module_of("a = 1")
print(made.__file__, os.environ.get("TRITON_CACHE_DIR"), sep="\\n")
"""


@pytest.mark.parametrize("usable", [True, False])
def test_binaries_of_triton_find_a_place_too(tmp_path: Path, usable: bool) -> None:
    """In a process of its own, for Triton is told once; the temporary folder ends with the process."""
    base = tmp_path / "home"
    base.mkdir() if usable else base.write_text("")
    environment = {name: value for name, value in os.environ.items() if name not in ("TRITON_CACHE_DIR", "TRITON_HOME")}
    environment |= {"HOME": str(base), "XDG_CACHE_HOME": ""}
    done = subprocess.run([sys.executable, "-c", BINARIES], env=environment, capture_output=True, text=True, check=True)
    source, binaries = done.stdout.split("\n")[:2]
    if usable:
        assert (Path(source).parent, binaries) == (base / ".cache" / "patternc" / "kernels", "None")
    else:
        assert Path(binaries).parent == Path(source).parent
        assert not Path(source).parent.exists()


# ------------------------------------------------------------------ what is believed


def test_equal_files_stay_and_others_are_replaced(home: Path) -> None:
    path = triton_cache.file_of("patternc_a", "a = 1\n")
    before = path.stat().st_ino
    os.utime(path, (1, 1))
    assert triton_cache.file_of("patternc_a", "a = 1\n").stat().st_ino == before
    assert path.stat().st_mtime > time.time() - 60
    path.write_text("a = 2\n")
    assert triton_cache.file_of("patternc_a", "a = 1\n").read_text() == "a = 1\n"
    assert [p.name for p in home.iterdir()] == ["patternc_a.py"]


@posix
def test_a_file_that_is_a_link_is_replaced(home: Path, tmp_path: Path) -> None:
    path = triton_cache.file_of("patternc_a", "a = 1\n")
    target = tmp_path / "target.py"
    target.write_text("a = 1\n")
    path.unlink()
    path.symlink_to(target)
    assert not triton_cache.file_of("patternc_a", "a = 1\n").is_symlink()
    assert target.read_text() == "a = 1\n"


def test_what_runs_is_the_text(home: Path) -> None:
    """Neither a file that was there before nor bytecode beside it has a say."""
    path = Path(str(triton_cache.module_of("a = 1\n").__file__))
    name = path.stem
    del sys.modules[name]
    path.write_text("a = 2\n")
    bytecode = Path(str(triton_cache.__cached__)).name.split(".", 1)[1]
    (home / "__pycache__").mkdir()
    (home / "__pycache__" / f"{name}.{bytecode}").write_bytes(b"nonsense")
    made = triton_cache.module_of("a = 1\n")
    assert made.a == 1
    assert made is triton_cache.module_of("a = 1\n")
    assert path.read_text() == "a = 1\n"


def test_a_module_that_fails_is_not_kept(home: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            triton_cache.module_of("1 // 0\n")


# ------------------------------------------------------------------ how it stays small


def test_the_least_recently_used_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_cache, "MOST_BYTES", 25)
    for i in range(3):
        path = triton_cache.file_of(f"patternc_{i}", f"a = {i}  \n")  # 8 bytes each
        os.utime(path, (100 + i, 100 + i))
    triton_cache.file_of("patternc_0", "a = 0  \n")
    triton_cache.file_of("patternc_3", "a = 3  \n")
    assert sorted(p.name for p in home.iterdir()) == ["patternc_0.py", "patternc_2.py", "patternc_3.py"]
    triton_cache.file_of("patternc_4", "a = 4" + " " * 100)
    assert [p.name for p in home.iterdir()] == ["patternc_4.py"]


def test_what_others_left_unfinished_goes(home: Path) -> None:
    home.mkdir(parents=True)
    for name, age in (("old.tmp", 7200), ("new.tmp", 1)):
        (home / name).write_text("half")
        os.utime(home / name, (time.time() - age,) * 2)
    triton_cache.file_of("patternc_a", "a = 1\n")
    assert sorted(p.name for p in home.iterdir()) == ["new.tmp", "patternc_a.py"]


def test_a_full_disk_leaves_nothing_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):  # in the temporary folder too
            triton_cache.file_of("patternc_full", "a = 1\n")
    assert list(home.iterdir()) == []


MANY = """
import sys
from patternc.backends import triton_cache
triton_cache.MOST_BYTES = 2000
for i in range(300):
    text = f"a = {i % 30}  # " + "x" * 80
    assert triton_cache.module_of(text).a == i % 30
    del sys.modules[triton_cache.module_of(text).__name__]
"""


def test_processes_at_the_same_time(home: Path) -> None:
    """Several write, read and remove the same files; each always gets its own text."""
    running = [subprocess.Popen([sys.executable, "-c", MANY], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    assert all(p.suffix == ".py" for p in home.iterdir())
    assert sum(p.stat().st_size for p in home.iterdir()) <= 2000 + 3 * 100


def test_threads_at_the_same_time(home: Path) -> None:
    """None is given what another one has only begun."""
    text = "import time\ntime.sleep(0.05)\nends = [True]\n"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: triton_cache.module_of(text).ends, range(8)))
    assert all(ends is found[0] for ends in found)


def test_the_doctor_tells(home: Path) -> None:
    triton_cache.file_of("patternc_a", "#" * (3 << 20))
    result = CliRunner().invoke(command)
    assert f"{home} (1 file, 3.0 of 64 MiB)" in result.output
