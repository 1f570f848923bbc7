"""Work in several processes at once, of which one at a time measures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol


class Job(Protocol):
    """A picklable function that prepares what the name says, calls `turn`, which returns when the process is the only
    one at work, measures, and returns what it found."""

    def __call__(self, name: str, turn: Callable[[], None], /) -> Any: ...


def in_turns(job: Job, names: Sequence[str], seconds: float) -> Iterator[tuple[str, Any]]:
    """Names with what their jobs found, in order. None is begun to be measured after so many seconds, and jobs that are
    not prepared after half of them are left out, and so are those that fail, which say why on standard error."""
    begin = time.monotonic()
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # there are as many processes as cores already
    running = {name: _started(job, name) for name in names}
    ready = []
    try:
        for name, (pipe, process) in running.items():
            if not pipe.poll(max(0.0, begin + seconds / 2 - time.monotonic())):
                print(f"{name}: not prepared in time", flush=True)
                process.terminate()
            elif _answer(name, pipe) is not None:
                ready.append(name)
        print(f"{len(ready)} of {len(names)} prepared after {time.monotonic() - begin:.0f} s", flush=True)
        for name in ready:
            if time.monotonic() - begin > seconds:
                print(f"out of time; left out from {name}", flush=True)
                break
            pipe, _ = running[name]
            pipe.send("go")
            found = _answer(name, pipe)
            if found is not None:
                yield name, found
    finally:
        for pipe, process in running.values():
            pipe.close()
            process.terminate()
            process.join()


def _started(job: Job, name: str) -> tuple[Connection, SpawnProcess]:
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(job, name, there), name=name)
    process.start()
    there.close()
    return here, process


def _work(job: Job, name: str, parent: Connection) -> None:
    def turn() -> None:
        parent.send("ready")
        parent.recv()

    parent.send(job(name, turn))


def _answer(name: str, pipe: Connection) -> Any:
    """What a process sends; None if it has ended."""
    try:
        return pipe.recv()
    except EOFError:
        print(f"{name}: failed", flush=True)
        return None
