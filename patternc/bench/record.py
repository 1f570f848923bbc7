"""Results as files: figures with the command that made them, the date, the device and the versions."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import patternc

OPTIONAL = ("triton", "flash-attn-4")
"""Packages whose version is told where they are installed."""


def provenance(device: torch.device | None = None) -> dict[str, Any]:
    """What made a result, on the device (the processor, unless given)."""
    return {
        "command": command(),
        "date": time.strftime("%Y-%m-%d"),
        "device": describe(torch.device("cpu") if device is None else device),
        "versions": {
            "numpy": version("numpy"),
            "patternc": patternc.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            **_optional(),
        },
    }


def _optional() -> dict[str, str]:
    found = {}
    for name in OPTIONAL:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write(path: Path, found: Mapping[str, Any]) -> Path:
    """Writes a result as JSON; OSError if that cannot be done."""
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8", newline="\n")
    return path


def command() -> str:
    """The call of the program that runs, with its arguments."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = Path(sys.argv[0]).name
    if spec is not None:
        script = f"python -m {spec.name}"
    elif script.endswith(".py"):
        script = f"python {script}"
    return " ".join([script, *map(shlex.quote, sys.argv[1:])])


def describe(device: torch.device) -> str:
    """The GPU's name, or the processor and how many of its cores may be used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
