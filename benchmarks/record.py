"""Results as files: figures with the command that made them, the date, the device and the versions."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import patternc

RESULTS = Path(__file__).parent / "results"


def write(name: str, found: dict[str, Any]) -> Path:
    """Writes `found` to results/<name>.json, under what made it; the caller runs as `python -m benchmarks.…`."""
    record = {
        "command": command(),
        "date": time.strftime("%Y-%m-%d"),
        "device": device(),
        "versions": {
            "numpy": np.__version__,
            "patternc": patternc.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        **found,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n")
    return path


def command() -> str:
    """The call of the module that runs, with its arguments."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = Path(sys.argv[0]).name if spec is None else f"-m {spec.name}"
    return " ".join(["python", script, *map(shlex.quote, sys.argv[1:])])


def device() -> str:
    """The processor, and how many of its cores may be used."""
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with equal keys as text, numbers to the right."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
