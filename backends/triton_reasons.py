"""Why kernels cannot be generated for a program."""

from __future__ import annotations

from collections.abc import Iterator

from patternc import ir
from patternc.analysis.meanings import trivial
from patternc.backends.triton_mask import UnsupportedPatternError
from patternc.backends.triton_masks import Masks


def reasons(program: ir.Program, heads: int) -> list[str]:
    """The reasons against a program, judged by its first heads without looking for layouts."""
    return list(dict.fromkeys(_found(program, heads)))


def _found(program: ir.Program, heads: int) -> Iterator[str]:
    return against(Masks.of(trivial(program, heads)))


def against(masks: Masks) -> Iterator[str]:
    """The reason why masks cannot be printed, if there is one."""
    try:
        reason = masks.refused()
    except UnsupportedPatternError as error:
        reason = str(error)
    if reason:
        yield reason
