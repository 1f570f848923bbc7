"""Results of the benchmarks as files in results/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from patternc.bench import record

RESULTS = Path(__file__).parent / "results"


def write(name: str, found: Mapping[str, Any], device: torch.device | None = None) -> Path:
    """Writes `found` to results/<name>.json, under what made it; the caller runs as `python -m benchmarks.…`."""
    RESULTS.mkdir(exist_ok=True)
    return record.write(RESULTS / f"{name}.json", {**record.provenance(device), **found})


def table(rows: Sequence[Mapping[str, Any]]) -> str:
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
