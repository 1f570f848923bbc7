"""patternc: a compiler for attention patterns.

    import patternc

    attention = patternc.compile("std/local", heads=8, window=1024)
    out = attention(q, k, v)                                          # (B, H, N, D), like SDPA

Everything is imported when it is first used: torch only when tensors are.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from patternc.compiler import Compiled, compile
    from patternc.errors import Diagnostic, SpatError
    from patternc.judgement import check
    from patternc.library import Pattern, load
    from patternc.verification import verify

_HOME = {
    "Compiled": "patternc.compiler",
    "Diagnostic": "patternc.errors",
    "Pattern": "patternc.library",
    "SpatError": "patternc.errors",
    "check": "patternc.judgement",
    "compile": "patternc.compiler",
    "load": "patternc.library",
    "verify": "patternc.verification",
}

__all__ = ["Compiled", "Diagnostic", "Pattern", "SpatError", "check", "compile", "load", "verify"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("patternc")
    if name not in _HOME:
        raise AttributeError(f"module 'patternc' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
