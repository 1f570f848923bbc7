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
    from patternc.by_head import per_head
    from patternc.compiler import Compiled, compile
    from patternc.errors import Diagnostic, SpatError
    from patternc.fitting import Fit, fit
    from patternc.judgement import check
    from patternc.library import Pattern, load
    from patternc.named_presets import Choice, choose, preset, presets
    from patternc.verification import verify

_HOME = {
    "Choice": "patternc.named_presets",
    "Compiled": "patternc.compiler",
    "Diagnostic": "patternc.errors",
    "Fit": "patternc.fitting",
    "Pattern": "patternc.library",
    "SpatError": "patternc.errors",
    "check": "patternc.judgement",
    "choose": "patternc.named_presets",
    "compile": "patternc.compiler",
    "fit": "patternc.fitting",
    "load": "patternc.library",
    "per_head": "patternc.by_head",
    "preset": "patternc.named_presets",
    "presets": "patternc.named_presets",
    "verify": "patternc.verification",
}

__all__ = [
    "Choice", "Compiled", "Diagnostic", "Fit", "Pattern", "SpatError", "check", "choose", "compile", "fit", "load",
    "per_head", "preset", "presets", "verify",
]  # fmt: skip


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
