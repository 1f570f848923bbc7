"""Generated source as modules, and the folder in the user's cache where it lies.

Triton, tracebacks and profilers read the source of kernels from files. A file is named after a hash of its text, and
what lies there under that name is compared, never trusted: the text in memory is what runs. The folder may be deleted
at any time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from threading import Lock
from types import MappingProxyType, ModuleType
from typing import Any

MOST_BYTES = 64 << 20
"""What files may take together before the least recently used ones are removed: some thousand modules."""
_FORGOTTEN = 3600.0
"""Seconds after which an unfinished file belongs to a process that died."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_MAKING = Lock()
"""Another thread may ask for a module that is not finished."""


def module_of(text: str, given: Mapping[str, Any] = _NOTHING) -> ModuleType:
    """The module with this source; the same one for the same text. It uses the names `given` without defining them."""
    name = "patternc_" + hashlib.sha256(text.encode()).hexdigest()[:24]
    with _MAKING:
        return sys.modules[name] if name in sys.modules else _made(name, text, given)


def _made(name: str, text: str, given: Mapping[str, Any]) -> ModuleType:
    _shelter_binaries()
    path = file_of(name, text)
    spec = spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    made = module_from_spec(spec)
    made.__file__ = str(path)
    made.__dict__.update(given)
    sys.modules[name] = made  # triton looks functions up by their module
    try:
        exec(compile(text, str(path), "exec"), made.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return made


def file_of(name: str, text: str) -> Path:
    """A file with this text in the cache; where that cannot be written, in a folder of this process."""
    with suppress(OSError):
        return _kept(private_folder(), name, text)
    return _kept(Path(_temporary().name), name, text)


def folder() -> Path:
    """Where sources lie: below XDG_CACHE_HOME or ~/.cache. FileNotFoundError if there is no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
    return base / "patternc" / "kernels"


def private_folder() -> Path:
    """The same, made if need be and open to the user alone. OSError if that cannot be had."""
    path = folder()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for own in (path.parent, path):
        found = own.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise PermissionError(f"{own} is no folder of its own")
        if os.name == "posix" and found.st_uid != os.geteuid():
            raise PermissionError(f"{own} belongs to another user")
        if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
            own.chmod(0o700)
    return path


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """A private folder for as long as the process runs."""
    return tempfile.TemporaryDirectory(prefix="patternc-")


@cache
def _shelter_binaries() -> None:
    """Triton keeps its binaries below the home folder; where that cannot be written, it is told of another place."""
    home = Path(os.path.expanduser(os.environ.get("TRITON_HOME") or "~"), ".triton", "cache")
    exists = next(path for path in (home, *home.parents) if path.exists())
    if not exists.is_dir() or not os.access(exists, os.W_OK):
        os.environ.setdefault("TRITON_CACHE_DIR", str(Path(_temporary().name, "triton")))


def _kept(home: Path, name: str, text: str) -> Path:
    """The file, as it is if it has the text already, else written whole: others see the old one or the new one."""
    path, data = home / f"{name}.py", text.encode()
    if _holds(path, data):
        with suppress(OSError):
            os.utime(path)  # it is in use
        return path
    handle, scratch = tempfile.mkstemp(dir=home, prefix=name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        raise
    _tidy(home, path)
    return path


def _holds(path: Path, data: bytes) -> bool:
    try:
        return not path.is_symlink() and path.read_bytes() == data
    except OSError:
        return False


# ------------------------------------------------------------------ what it holds


def _tidy(home: Path, newest: Path) -> None:
    """Removes what other processes left unfinished, and the files least recently used where there is too much."""
    for path, found in _files(home, ".tmp"):
        if found.st_mtime < time.time() - _FORGOTTEN:
            path.unlink(missing_ok=True)
    files = sorted(_files(home, ".py"), key=lambda item: item[1].st_mtime)
    excess = sum(found.st_size for _, found in files) - MOST_BYTES
    for path, found in files:
        if excess <= 0:
            return
        if path != newest:
            path.unlink(missing_ok=True)
            excess -= found.st_size


def _files(home: Path, suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
    for path in home.glob(f"*{suffix}"):
        with suppress(FileNotFoundError):  # removed by another process meanwhile
            yield path, path.lstat()


def described() -> str:
    """Where the folder is and what it holds, in words; or why there is none."""
    try:
        home = private_folder()
    except OSError as error:
        return f"none, but a temporary folder for each process: {error}"
    sizes = [found.st_size for _, found in _files(home, ".py")]
    return f"{home} ({len(sizes)} file{'s' * (len(sizes) != 1)}, {sum(sizes) / 2**20:.1f} of {MOST_BYTES >> 20} MiB)"
