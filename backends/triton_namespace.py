"""Where PyTorch's operators of this process lie. A saved module has a namespace of its own in its place."""

from __future__ import annotations

NAMESPACE = "patternc"
