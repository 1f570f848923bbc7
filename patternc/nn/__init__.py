"""Modules of PyTorch around compiled patterns, and attention to caches and packed sequences."""

from patternc.nn.attention import PatternAttention
from patternc.nn.block_weights import block_weights
from patternc.nn.caches import KVCache, PagedCache
from patternc.nn.masks import key_padding_mask
from patternc.nn.multihead import MultiheadAttention
from patternc.nn.packed import attend_packed
from patternc.nn.pages import attend_paged
from patternc.nn.schedules import ProgressiveSparsity
from patternc.nn.self_attention import SelfAttention

__all__ = [
    "KVCache", "MultiheadAttention", "PagedCache", "PatternAttention", "ProgressiveSparsity", "SelfAttention",
    "attend_packed", "attend_paged", "block_weights", "key_padding_mask",
]  # fmt: skip
