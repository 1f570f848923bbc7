"""Modules of PyTorch around compiled patterns."""

from patternc.nn.attention import PatternAttention
from patternc.nn.multihead import MultiheadAttention
from patternc.nn.schedules import ProgressiveSparsity
from patternc.nn.self_attention import SelfAttention

__all__ = ["MultiheadAttention", "PatternAttention", "ProgressiveSparsity", "SelfAttention"]
