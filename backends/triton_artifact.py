"""A program in memory as generated kernels."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib import import_module

import torch

from patternc import ir
from patternc.analysis.row_keys import is_steady
from patternc.backends.inputs import check_heads
from patternc.backends.torch_program import IrPattern
from patternc.backends.triton_backend import device_name
from patternc.backends.triton_executor import Enqueued, KernelAttention, KernelExecutor
from patternc.backends.triton_masks import Masks, structures, title_of
from patternc.backends.triton_module import source
from patternc.backends.triton_op import known
from patternc.backends.triton_options import Form
from patternc.backends.triton_tuned import tuned
from patternc.passes.arranged import arranged
from patternc.printer import text


def executor(program: ir.Program, heads: int, kv_heads: int) -> KernelExecutor:
    """The one for this program and these heads."""
    check_heads(heads, kv_heads)
    key = key_of(program, heads, kv_heads)
    pattern = IrPattern(program, heads, arranged)
    title = title_of(program, text(program))
    masks = Masks.of(pattern.arrangement)
    enqueued = _drawn(masks, kv_heads, title) if program.tensors else None
    made = known(
        KernelExecutor(key, pattern, masks, kv_heads, title, partial(tuned_on, key), enqueued, is_steady(program))
    )
    assert isinstance(made, KernelExecutor)
    return made


def _drawn(masks: Masks, kv_heads: int, title: str) -> Enqueued:
    """Plans of run-time tensors; most programs have none, and what makes these takes a while to load."""
    made: Enqueued = import_module("patternc.backends.triton_drawn").DrawnPlans(masks, kv_heads, title)
    return made


def key_of(program: ir.Program, heads: int, kv_heads: int) -> str:
    """What the program is known by for these heads."""
    digest = hashlib.sha256(f"{heads} {kv_heads}\n{text(program)}".encode()).hexdigest()
    return f"{program.name} {digest[:32]}"


def tuned_on(program: str, device: torch.device, dim: int, bits: int) -> Form | None:
    """What was tuned for a device; see `triton_tuned`."""
    return tuned(device_name(device), program, dim, bits)


class TritonArtifact(KernelAttention):
    """A program as generated kernels; see `base.Artifact`."""

    def __init__(self, program: ir.Program, heads: int, kv_heads: int) -> None:
        super().__init__(executor(program, heads, kv_heads), [t.name for t in program.tensors])
        self.program = program
        masks = self.executor.masks
        assert isinstance(masks, Masks)
        self.masks = masks
        if reason := masks.refused():
            raise ValueError(f"the triton backend cannot run {program.name}: {reason}")

    @property
    def source(self) -> str:
        """The modules of kernels; at every length some of them run, and no others."""
        return "\n\n".join(source(s) for s in structures(self.masks, self.executor.title))
