"""Programs of the flex backend, for its tests."""

from __future__ import annotations

from typing import Any

import fifteen
import numpy as np
import torch
from fifteen import CASES, EXAMPLES, HALVED, ON_GRIDS, Case

import patternc
from patternc.backends.flex import Flex, FlexArtifact

ALL = [*CASES, *ON_GRIDS, *HALVED]
BOUNDED = [*ON_GRIDS, *HALVED]


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


def drawn_tensors(case: Case, n: int) -> dict[str, np.ndarray]:
    return {} if case in BOUNDED else fifteen.tensors_of(case, n)
