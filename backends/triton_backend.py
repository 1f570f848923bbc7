"""The triton backend: kernels generated for a pattern, for NVIDIA GPUs.

Their source depends on the pattern's structure, never on the length; a new length makes a new plan. Outputs, lse and
gradients are the same bits each time. Without a GPU, TRITON_INTERPRET=1 runs them in Triton's interpreter, for tests.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from patternc import ir
from patternc.backends.base import CHANNELS
from patternc.backends.triton_adapter import interpreting, look_ahead, missing

if TYPE_CHECKING:
    import torch

    from patternc.backends.triton_artifact import TritonArtifact

__all__ = ["TritonKernels"]

DTYPES = ("torch.float16", "torch.bfloat16", "torch.float32")
OLDEST_DEVICE = (8, 0)
"""The first compute capability with tensor cores for bfloat16."""
HEADS_TRIED = 2
"""A pattern is printed for so many heads to see whether it can be: heads differ in numbers, seldom in operators."""


class TritonKernels:
    """Generated kernels, forward and backward."""

    name = "triton"
    most_channels = CHANNELS

    def supports(self, program: ir.Program, device: str, dtype: torch.dtype) -> list[str]:
        reasons = device_reasons(device)
        if str(dtype) not in DTYPES:
            reasons.append(f"kernels compute in float16, bfloat16 and float32, not {str(dtype).removeprefix('torch.')}")
        if str(dtype) == "torch.bfloat16" and interpreting():
            reasons.append("Triton's interpreter has no products of bfloat16")
        if not reasons:  # only now is Triton imported
            reasons += import_module("patternc.backends.triton_reasons").reasons(program, HEADS_TRIED)
        return reasons

    def emit(self, program: ir.Program, heads: int, kv_heads: int) -> TritonArtifact:
        if reason := missing():
            raise ValueError(reason)
        if not interpreting() and import_module("torch").cuda.is_available():
            look_ahead()
        made: TritonArtifact = import_module("patternc.backends.triton_artifact").TritonArtifact(
            program, heads, kv_heads
        )
        return made


def device_name(device: torch.device) -> str:
    """The name under which what was tuned for a device is kept."""
    return str(import_module("torch").cuda.get_device_name(device)) if device.type == "cuda" else device.type


def device_reasons(device: str) -> list[str]:
    """Why kernels do not run on a kind of device, if they do not."""
    if device == "cpu" and not interpreting():
        return ["kernels run on CUDA devices; on a CPU only with TRITON_INTERPRET=1"]
    if device not in ("cpu", "cuda"):
        return [f"kernels run on CUDA devices, not on {device}"]
    if reason := missing():
        return [reason]
    if device == "cuda":
        return _capability_reasons()
    return []


def _capability_reasons() -> list[str]:
    cuda = import_module("torch").cuda
    if not cuda.is_available():
        return ["there is no CUDA device"]
    found = cuda.get_device_capability()
    if found < OLDEST_DEVICE:
        return [f"kernels need compute capability 8.0; found {found[0]}.{found[1]}"]
    return []
