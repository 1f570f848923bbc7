"""Clocks: how long the device computes a call, or how long a caller waits for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

Result = TypeVar("Result")
Reading = Callable[[], float]
"""Milliseconds, to be asked for when the clock has settled."""

COVER_BYTES = 1 << 28
"""Bytes that are written between calls: more than any cache holds."""
COVER_MS = 2.5
"""How long the device is kept busy before a call, so that the host has queued all of the call before it begins; several
times what the host needs for a call."""


class Clock(Protocol):
    """Times calls one after the other."""

    def timed(self, run: Callable[[], Result], *, wait: bool = False) -> tuple[Result, Reading]:
        """The result of a call and its milliseconds on the device; with `wait`, those that a caller waits for it."""

    def settle(self) -> None:
        """Lets all calls end."""


class HostClock:
    """For devices on which a call returns when it is done."""

    def timed(self, run: Callable[[], Result], *, wait: bool = False) -> tuple[Result, Reading]:
        begin = time.perf_counter()
        result = run()
        taken = (time.perf_counter() - begin) * 1e3
        return result, lambda: taken

    def settle(self) -> None:
        """Nothing runs any more."""


class CudaClock:
    """For CUDA devices: events around a call that is queued behind a write through all caches."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cover = torch.empty(COVER_BYTES, dtype=torch.uint8, device=device)
        self._fills = 1
        runs = [self.timed(lambda: self._cover.fill_(1))[1] for _ in range(5)]
        self.settle()
        self._fills = max(1, math.ceil(COVER_MS / min(read() for read in runs)))

    def timed(self, run: Callable[[], Result], *, wait: bool = False) -> tuple[Result, Reading]:
        if wait:
            return self._waited(run)
        for _ in range(self._fills):
            self._cover.fill_(1)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = run()
        stop.record()
        return result, lambda: start.elapsed_time(stop)

    def _waited(self, run: Callable[[], Result]) -> tuple[Result, Reading]:
        self.settle()
        begin = time.perf_counter()
        result = run()
        self.settle()
        taken = (time.perf_counter() - begin) * 1e3
        return result, lambda: taken

    def settle(self) -> None:
        torch.cuda.synchronize(self.device)


def clock_of(device: torch.device) -> Clock:
    """The clock for a device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
