"""How a pattern is computed, in words and figures."""

from __future__ import annotations

from patternc import ir
from patternc.plan import Launch
from patternc.planning import Planned
from patternc.printer import text


def explain(signature: str, program: ir.Program, planned: Planned) -> str:
    """Pattern → tiles → launches → balance, at the length of the plan."""
    plan, found = planned.plan, planned.statistics()
    kept = found.full_tiles + found.partial_tiles
    queries = f"{plan.n:,} tokens" if plan.n_q == plan.n else f"the last {plan.n_q:,} of {plan.n:,} tokens"
    lines = [
        f"{signature} on {queries}, {plan.heads} heads",
        "",
        f"pattern   {text(program.pattern)}",
        f"layout    consecutive tokens, tiles of {plan.tile_q} queries x {plan.tile_k} keys",
        f"tiles     {kept:,} computed: {found.full_tiles:,} full, {found.partial_tiles:,} partial; "
        f"{found.skipped_tiles:,} skipped",
        f"pairs     {found.wanted_pairs:,} wanted (density {found.density:.4g}), {found.computed_pairs:,} computed: "
        f"padding {found.padding:.3g} (backward {found.padding_backward:.3g})",
    ]
    lines += [f"launch {i}  {_launch(launch)}" for i, launch in enumerate(plan.launches, 1)]
    lines.append(f"balance   imbalance {found.imbalance:.3f}; tables of {_size(found.plan_bytes)}")
    return "\n".join(lines)


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
