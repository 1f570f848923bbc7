"""Modules of PyTorch around compiled patterns."""

from patternc.nn.self_attention import SelfAttention

__all__ = ["SelfAttention"]
