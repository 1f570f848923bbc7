"""Contenders in turns on the same inputs: medians of the forward and of the backward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from warnings import catch_warnings

import torch

from patternc.bench.clocks import Clock
from patternc.bench.contenders import Contender

WARM = 3
"""Turns before those that count."""
LEAST = 3
"""Turns that count, at least, however long they take."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: so many turns, or fewer when they take longer than so many seconds together."""

    repeats: int
    seconds: float


@dataclass
class Times:
    """Of one contender, a number for each turn."""

    forward: list[float] = field(default_factory=list)
    """Milliseconds."""
    backward: list[float] = field(default_factory=list)
    """Milliseconds, of dq, dk and dv together."""
    host: list[float] = field(default_factory=list)
    """Microseconds until a forward call returned."""

    def medians(self) -> tuple[float, float, float]:
        """Of forward, backward and host."""
        return statistics.median(self.forward), statistics.median(self.backward), statistics.median(self.host)


def tried(contender: Contender, given: Sequence[torch.Tensor]) -> list[torch.Tensor] | str:
    """The output and the gradients of one call, or why there are none. What PyTorch raises when it compiles or runs out
    of memory are RuntimeErrors; Triton has errors of its own."""
    try:
        return _once(contender, given)
    except _failures() as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def _failures() -> tuple[type[Exception], ...]:
    if find_spec("triton") is None:
        return (RuntimeError,)
    return RuntimeError, import_module("triton.errors").TritonError


def _once(contender: Contender, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    *inputs, d_out = given
    leaves = [t.detach().requires_grad_() for t in inputs]
    out = contender.attention(*leaves)
    gradients = torch.autograd.grad(out, leaves, d_out)
    return [out.detach(), *gradients]


def difference(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    """The largest difference of outputs and gradients, relative to the largest value of each."""
    pairs = zip(a, b, strict=True)
    return max(float((x.float() - y.float()).abs().max() / y.float().abs().max()) for x, y in pairs)


def waits(contender: Contender, given: Sequence[torch.Tensor]) -> bool:
    """Whether a forward call waits for a CUDA device: what the host does then counts, too. It has run before."""
    *inputs, _ = given
    if inputs[0].device.type != "cuda":
        return False
    mode = torch.cuda.get_sync_debug_mode()
    with catch_warnings(action="ignore"):  # torch calls this a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            contender.attention(*(t.detach().requires_grad_() for t in inputs))
        except RuntimeError:
            return True
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    return False


def alternated(
    contenders: Sequence[Contender],
    given: Sequence[torch.Tensor],
    clock: Clock,
    effort: Effort,
    waiting: Container[str] = (),
) -> dict[str, Times]:
    """Times by name. `given` are q, k, v and the gradient of the output; forward calls of those `waiting` are timed as
    their caller sees them, all others as the device does."""
    times = {contender.name: Times() for contender in contenders}
    begin = time.monotonic()
    for turn in range(-WARM, effort.repeats):
        if turn >= LEAST and time.monotonic() - begin > effort.seconds:
            break
        for contender in contenders:
            taken = _turn(contender, given, clock, contender.name in waiting)
            if turn >= 0:
                own = times[contender.name]
                for found, value in zip((own.forward, own.backward, own.host), taken, strict=True):
                    found.append(value)
    return times


def _turn(contender: Contender, given: Sequence[torch.Tensor], clock: Clock, wait: bool) -> tuple[float, float, float]:
    """Milliseconds of the passes, and microseconds of the host. Each backward pass has a forward pass of its own:
    compiled attention lets go of what it saved."""
    *inputs, d_out = given
    leaves = [t.detach().requires_grad_() for t in inputs]
    queued: list[float] = []

    def forward() -> torch.Tensor:
        start = time.perf_counter()
        out = contender.attention(*leaves)
        queued.append((time.perf_counter() - start) * 1e6)
        return out

    out, of_forward = clock.timed(forward, wait=wait)
    _, of_backward = clock.timed(lambda: torch.autograd.grad(out, leaves, d_out))
    clock.settle()
    return of_forward(), of_backward(), queued[0]


def matmul_rate(device: torch.device, dtype: torch.dtype, clock: Clock, repeats: int = 20) -> float:
    """TFLOP/s of a large product of square matrices: the roofline."""
    side = 8192 if device.type == "cuda" else 1024
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, device=device, dtype=dtype, generator=generator) for _ in range(2))
    readings = [clock.timed(lambda: a @ b)[1] for _ in range(WARM + repeats)]
    clock.settle()
    ms = statistics.median(read() for read in readings[WARM:])
    return 2 * side**3 / ms / 1e9
