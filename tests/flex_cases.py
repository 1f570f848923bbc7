"""Programs of the flex backend, for its tests."""

from __future__ import annotations

from typing import Any

import patternc
from patternc.backends.flex import Flex, FlexArtifact


def artifact_of(text: str, heads: int = 1, kv_heads: int | None = None, **params: Any) -> FlexArtifact:
    compiled = patternc.compile(text, heads=heads, **params)
    return Flex().emit(compiled.program, heads, kv_heads or heads)
