"""How a pattern is computed, in words and figures."""

from __future__ import annotations

from patternc import ir
from patternc.plan import Launch
from patternc.planning import Planned
from patternc.printer import text
from patternc.statistics import Statistics

MOST_CELLS = 1 << 22
"""Cells in partial tiles that are looked at for each launch; some 0.3 s. Figures that are estimated are marked."""


def explain(signature: str, program: ir.Program, planned: Planned) -> str:
    """Pattern → tiles → launches → balance, at the length of the plan."""
    plan, found = planned.plan, planned.statistics(MOST_CELLS)
    about = "" if found.exact else "≈ "
    kept = found.full_tiles + found.partial_tiles
    queries = f"{plan.n:,} tokens" if plan.n_q == plan.n else f"the last {plan.n_q:,} of {plan.n:,} tokens"
    lines = [
        f"{signature} on {queries}, {plan.heads} heads",
        "",
        f"pattern   {text(program.pattern)}",
        f"layout    consecutive tokens, tiles of {plan.tile_q} queries x {plan.tile_k} keys",
        f"tiles     {kept:,} computed: {found.full_tiles:,} full, {found.partial_tiles:,} partial; "
        f"{found.skipped_tiles:,} skipped",
        f"pairs     {about}{_rounded(found)} wanted (density {about}{found.density:.3g}), "
        f"{found.computed_pairs:,} computed: padding {about}{found.padding:.3g}",
    ]
    lines += [f"launch {i}  {_launch(launch)}" for i, launch in enumerate(plan.launches, 1)]
    lines.append(f"balance   imbalance {found.imbalance:.3f}; tables of {_size(found.plan_bytes)}")
    return "\n".join(lines)


def _rounded(found: Statistics) -> str:
    """The pairs wanted, to three digits if they are estimated."""
    return f"{found.wanted_pairs:,}" if found.exact else f"{float(f'{found.wanted_pairs:.3g}'):,.0f}"


def _launch(launch: Launch) -> str:
    heads = _ranges(launch.heads)
    rows = "" if launch.batch is None else f", batch rows {_ranges(launch.batch)}"
    tiles, runs = int(launch.by_query.count.sum()), launch.by_query.count.shape[0]
    return f"heads {heads}{rows}: {len(launch.by_query.rows) - 1:,} rows of queries, {tiles:,} tiles in {runs:,} runs"


def _ranges(numbers: tuple[int, ...]) -> str:
    """0, 1, 2, 5 as `0-2, 5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _size(count: int) -> str:
    return f"{count / 1024:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"
