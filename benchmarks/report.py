"""The tables of README.md and docs/, and the plot, from the files in results/.

`python -m benchmarks.report` prints the tables and draws docs/attention-gpu.svg; nothing is measured. A test
holds the pages against it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.record import RESULTS

PICTURE = Path(__file__).parent.parent / "docs" / "attention-gpu.svg"
SHOWN = {
    "longformer": "Longformer: window, first tokens",
    "dilated_window16": "window ±4096 with dilation 16",
    "strided_st": "Sparse Transformer: window and every 128th",
    "hier": "three scales: all, every 4th, every 16th key",
    "longnet": "LongNet, over the pairs it keeps",
    "neighborhood13": "13 × 13 neighbourhood on a 128 × 128 grid",
}
"""Patterns whose padding README.md tells, and what they are called there."""
SMALL = ("strided_st",)
"""Those whose padding in tiles of 64 × 64 is told too."""
COLOURS = {"ours": "#3b6ea5", "flex": "#c8553d", "flash": "#e0a458", "dense": "#9a9a9a"}
NAMES = {"ours": "patternc", "flex": "FlexAttention", "flash": "FlexAttention, FLASH", "dense": "dense"}


def result(name: str) -> dict[str, Any]:
    """A file in results/; FileNotFoundError if it was not measured."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others figures."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _digits(value: float) -> str:
    """Three digits."""
    return f"{value:#.3g}".rstrip(".")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


# ------------------------------------------------------------------ tables


def padding() -> str:
    """Pairs computed over pairs wanted, in tiles of 128 × 64."""
    by_name = {row["pattern"]: row for row in result("padding")["rows"]}
    rows = [
        (label, _digits(by_name[name]["consecutive 128x64"]), _chosen(by_name[name])) for name, label in SHOWN.items()
    ]
    return markdown(("pattern", "consecutive tokens", "chosen layouts"), rows)


def _chosen(row: Mapping[str, Any]) -> str:
    more = f" ({_digits(row['time 64x64'])} in tiles of 64 × 64)" if row["pattern"] in SMALL else ""
    return _digits(row["time 128x64"]) + more


def cpu() -> str:
    """The torch backend beside dense attention with a mask."""
    rows = [
        (row["pattern"], _percent(row["wanted"]), *(f"{row[f'{way} ratio']:.1f} ×" for way in ("forward", "backward")))
        for row in result("attention-cpu")["rows"]
    ]
    return markdown(("pattern", "pairs kept", "forward", "backward"), rows)


def gpu() -> str:
    """The triton backend beside FlexAttention and dense attention."""
    rows = result("attention-gpu")["rows"]
    return markdown(
        ("pattern", "pairs kept", "padding", *(f"{way}{x}" for way in ("forward", "backward") for x in GPU_COLUMNS)),
        [
            (
                row["pattern"],
                _percent(row["wanted"]),
                _digits(row["padding"]),
                *(cell for way in ("forward", "backward") for cell in _gpu_cells(row[way])),
            )
            for row in rows
        ],
    )


GPU_COLUMNS = (", ms", " × FlexAttention", " × dense", ", of roofline")


def _gpu_cells(one: Mapping[str, Any]) -> list[str]:
    peers = one["peers"]
    beside = [f"{peers[peer]['ratio']:.2f} ×" if peer in peers else "–" for peer in ("flex", "dense")]
    return [_digits(one["ms"]), *beside, f"{100 * one['roofline']:.0f} %"]


def decoding() -> str:
    """Steps of decoding on the device, and how many times faster they are than dense attention."""
    by_place = {(row["pattern"], row["n"], row["contender"]): row for row in result("decoding")["rows"]}
    patterns, lengths = (list(dict.fromkeys(place[i] for place in by_place)) for i in (0, 1))
    rows = [(name, *(_step(by_place, name, n) for n in lengths)) for name in patterns]
    return markdown(("pattern", *(f"{n:,} tokens" for n in lengths)), rows)


def _step(by_place: Mapping[tuple[str, int, str], Mapping[str, Any]], name: str, n: int) -> str:
    ours, dense = (by_place[name, n, contender]["device_us"] for contender in ("ours", "dense"))
    return f"{ours:.0f} µs, {_digits(dense / ours)} ×"


FIRST_CALLS = {
    "cold": "nothing is on disk",
    "warm": "a fresh process, kernels on disk",
    "read": "the same after Triton has read its files",
    "next": "another pattern, kernels on disk",
    "length": "another length",
}


def first_call() -> str:
    """Seconds until the first output, and parts of them."""
    rows = result("first-call")["rows"]
    parts = [
        (label, *(f"{row[kind]['total']:.3f}" for row in rows), *(_parts(row[kind]) for row in rows[:1]))
        for kind, label in FIRST_CALLS.items()
    ]
    return markdown(("first output", *(row["pattern"] for row in rows), f"of it, {rows[0]['pattern']}"), parts)


def _parts(found: Mapping[str, float]) -> str:
    told = ("compile", "load", "plan", "find", "start")
    return ", ".join(f"{name} {found[name]:.3f}" for name in told if found[name] >= 0.001)


TABLES = {
    "padding": padding, "attention-cpu": cpu, "attention-gpu": gpu, "decoding": decoding, "first-call": first_call,
}  # fmt: skip
"""By the name of the file that they are made from."""


# ------------------------------------------------------------------ the plot


def draw(found: Mapping[str, Any]) -> Figure:
    """Milliseconds of all contenders for each pattern, forward and backward, on logarithmic scales."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, way in zip(figure.subplots(2, 1, sharex=True), ("forward", "backward"), strict=True):
        _bars(axes, found["rows"], way)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(NAMES), fontsize=9)
    figure.suptitle(
        f"{found['device']}, {found['n']:,} tokens, {found['heads']} heads of {found['head_dim']}, {found['dtype']}",
        fontsize=10,
    )
    return figure


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]], way: str) -> None:
    names = [name for name in NAMES if name == "ours" or any(name in row[way]["peers"] for row in rows)]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        there = [(x, _ms(row[way], name)) for x, row in enumerate(rows)]
        places = [x + (i - (len(names) - 1) / 2) * width for x, ms in there if ms is not None]
        heights = [ms for _, ms in there if ms is not None]
        axes.bar(places, heights, width, color=COLOURS[name], label=NAMES[name])
    axes.set_yscale("log")
    axes.set_ylabel(f"{way}, ms")
    axes.set_xticks(range(len(rows)), [row["pattern"] for row in rows], rotation=30, ha="right")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _ms(one: Mapping[str, Any], name: str) -> float | None:
    if name == "ours":
        return float(one["ms"])
    return float(one["peers"][name]["ms"]) if name in one["peers"] else None


def main() -> None:
    """Prints the tables and draws the picture."""
    for name, table in TABLES.items():
        print(f"{name}\n\n{table()}\n")
    with mpl.rc_context({"svg.hashsalt": "patternc", "svg.fonttype": "none"}):  # the same bytes each time
        draw(result("attention-gpu")).savefig(PICTURE, metadata={"Date": None})
    print(PICTURE)


if __name__ == "__main__":
    main()
