"""What `patternc bench --tune` found: for a program on a device, tiles and options of kernels that beat the usual ones.

They lie in one JSON file in the user's cache, in the private folder of triton_cache. It is read with suspicion: a file
that another could have written, or that holds anything but what is written here, is ignored, and `problem` says why. An
entry counts for the same device, versions, program, head dimension and dtype only.

`tuned(device, program, dim, bits)` is asked once by each executor: `device` is the device's name, `program` the
executor's key, `dim` the larger head dimension and `bits` those of the dtype.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from patternc.backends.triton_cache import private_folder
from patternc.backends.triton_options import PASSES, Form, Options

FORMAT = 1
MOST_BYTES = 1 << 20
MOST_ENTRIES = 2000
"""The oldest ones give way."""
MOST_LETTERS = 256
"""Of the name of a device."""
DIMS = range(1, 257)
BITS = (16, 32)
SIDES = range(16, 257)
WARPS = (1, 2, 4, 8, 16)
STAGES = range(1, 9)
REGISTERS = range(24, 256)


@dataclass(frozen=True)
class Key:
    """What an entry is for."""

    device: str
    program: str
    dim: int
    bits: int


class _UntrustedError(Exception):
    """Why the file is ignored."""


_tried: list[Form] = []


def tuned(device: str, program: str, dim: int, bits: int) -> Form | None:
    """What was found best; None if nothing better than the usual was."""
    if _tried:
        return _tried[-1]
    return _entries().get(Key(device, program, dim, bits))


def found_for(program: str) -> Mapping[Key, Form]:
    """What was found best for a program on any device; entries are for the versions that are installed."""
    return {key: form for key, form in _entries().items() if key.program == program}


@contextmanager
def trying(found: Form) -> Iterator[None]:
    """Inside, `tuned` is this for all programs. What was planned or compiled before is not planned anew."""
    _tried.append(found)
    try:
        yield
    finally:
        _tried.pop()


def keep(key: Key, found: Form) -> Path:
    """Writes an entry, in place of the one that it had; OSError if that cannot be done. A file that is not to be
    trusted is replaced."""
    entries = {k: v for k, v in _entries().items() if k != key} | {key: found}
    kept = list(entries.items())[-MOST_ENTRIES:]
    text = json.dumps({"format": FORMAT, "versions": versions(), "entries": [_written(*one) for one in kept]}, indent=1)
    path = store()
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix="tuned", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        raise
    _read.cache_clear()
    return path


def store() -> Path:
    """The file, which need not be there. OSError if there is no folder for it."""
    return private_folder().parent / "tuned.json"


def described() -> str:
    """Where it is and what it holds, in words; or why it is not used."""
    try:
        path = store()
    except OSError as error:
        return f"none: {error}"
    entries, problem = _read(path)
    if problem:
        return f"{path} is ignored: {problem}"
    return f"{path} ({len(entries)} entr{'y' if len(entries) == 1 else 'ies'})"


@cache
def versions() -> dict[str, str]:
    """Entries hold for these alone."""
    found = {}
    for name in ("patternc", "torch", "triton"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# ------------------------------------------------------------------ reading


def _entries() -> Mapping[Key, Form]:
    try:
        return _read(store())[0]
    except OSError:
        return {}  # without a folder nothing is kept


@cache
def _read(path: Path) -> tuple[Mapping[Key, Form], str]:
    """The entries that hold here, and why the file is ignored, if it is. A process reads it once."""
    try:
        found = json.loads(_text(path))
        return _checked(found), ""
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, RecursionError, _UntrustedError) as error:
        return {}, str(error) or type(error).__name__


def _text(path: Path) -> str:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe would be waited for
    with os.fdopen(os.open(path, flags), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise _UntrustedError("it is no plain file")
        if os.name == "posix" and (about.st_uid != os.geteuid() or about.st_mode & 0o022):
            raise _UntrustedError("others may write it")
        if about.st_size > MOST_BYTES:
            raise _UntrustedError(f"it has {about.st_size:,} bytes, more than {MOST_BYTES:,}")
        return file.read(MOST_BYTES + 1).decode()


def _checked(found: Any) -> dict[Key, Form]:
    """The entries of a file of our versions; none of others."""
    if not isinstance(found, dict) or found.keys() != {"format", "versions", "entries"}:
        raise _UntrustedError("it does not have the keys format, versions, entries")
    if found["format"] != FORMAT or found["versions"] != versions():
        return {}
    if not isinstance(found["entries"], list):
        raise _UntrustedError("its entries are no list")
    return dict(_entry(one) for one in found["entries"])


def _entry(one: Any) -> tuple[Key, Form]:
    match one:
        case {
            "device": str(device),
            "program": str(program),
            "dim": dim,
            "bits": bits,
            "tile": [q, k],
            "options": dict(options),
            **rest,
        } if not rest and options.keys() <= set(PASSES) and all(_is_side(side) for side in (q, k)):
            if len(device) <= MOST_LETTERS and _is_one_of(dim, DIMS) and _is_one_of(bits, BITS):
                read = {name: _options(own) for name, own in options.items()}
                return Key(device, program, dim, bits), Form((q, k), read)
    raise _UntrustedError(f"an entry is not as it is written: {str(one)[:80]}")


def _is_side(side: Any) -> bool:
    return _is_one_of(side, SIDES) and side.bit_count() == 1


def _is_one_of(value: object, allowed: Container[int]) -> bool:
    return type(value) is int and value in allowed  # True is no 1 here


def _options(own: Any) -> Options:
    match own:
        case {"warps": warps, "stages": stages, "registers": registers, **rest} if not rest:
            limited = registers is None or _is_one_of(registers, REGISTERS)
            if _is_one_of(warps, WARPS) and _is_one_of(stages, STAGES) and limited:
                return Options(warps, stages, registers)
    raise _UntrustedError(f"options are not as they are written: {str(own)[:80]}")


def _written(key: Key, found: Form) -> dict[str, Any]:
    options = {name: asdict(own) for name, own in found.options.items()}
    return {**asdict(key), "tile": list(found.tile), "options": options}
