"""How a pattern is computed, in words and figures: what was chosen, against what, and what it saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from patternc import ir
from patternc.analysis.tiles import TooMuchWorkError
from patternc.arrangement import HeadClass, Term
from patternc.layout_words import amount, layouts_words, ranges, ways_words
from patternc.passes.balance import PROCESSORS
from patternc.passes.estimate import Way
from patternc.passes.layout import Story, Trial
from patternc.passes.nature import is_set
from patternc.passes.row_classes import classes_of
from patternc.plan import CONSECUTIVE, Launch, Layout, Plan, Work
from patternc.planning import Planned
from patternc.printer import text
from patternc.rewrite import walk
from patternc.statistics import Consecutive, Statistics, imbalance, plan_bytes

MOST_CELLS = 1 << 22
"""Cells in partial tiles that are looked at for each term: a bound on time. Figures that are estimated are marked."""
MOST_WORK = 1 << 26
"""Boxes and cells that are looked at to tell what consecutive tokens would cost: a bound on time."""
MOST_CLASSES = 8
"""Up to so many classes of rows are told one by one."""
OTHERS = 2
"""How many of the layouts that did not win are named, beside consecutive tokens."""


def explain(signature: str, planned: Planned, stories: Sequence[Story], objective: str) -> str:
    """Pattern → terms → layouts → tiles → launches → balance, at the length of the plan. `stories` say how the layouts
    of each class of heads were found, for the objective."""
    plan = planned.plan
    queries = f"{plan.n:,} tokens" if plan.n_q == plan.n else f"the last {plan.n_q:,} of {plan.n:,} tokens"
    heads = _count(plan.heads, "head")
    tiles = f"in tiles of {plan.tile_q} queries x {plan.tile_k} keys"
    lines = [f"{' '.join(signature.split())} on {queries}, {heads}, {tiles}"]
    kinds = _alike(planned.arrangement.classes, stories)
    for kind in kinds:
        lines += ["", *_labelled(_section(planned, kind, objective, alone=len(kinds) == 1))]
    lines += ["", *_labelled(_schedule(plan, planned))]
    return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Kind:
    """Classes of heads that are arranged in the same way; `story` and `terms` are those of the first."""

    classes: tuple[HeadClass, ...]
    story: Story

    @property
    def heads(self) -> tuple[int, ...]:
        return tuple(sorted(h for own in self.classes for h in own.heads))

    @property
    def terms(self) -> tuple[Term, ...]:
        return self.classes[0].terms


def _alike(classes: Sequence[HeadClass], stories: Sequence[Story]) -> list[Kind]:
    """Classes whose terms have the same layouts at the same cost."""
    found: dict[object, list[tuple[HeadClass, Story]]] = {}
    for own, story in zip(classes, stories, strict=True):
        layouts = tuple((term.queries, term.keys) for term in own.terms)
        costs = [round(cost) for cost in (story.plain, *(trial.cost for trial in story.trials[:1]))]
        key = layouts, story.radices, story.n, tuple(costs)
        found.setdefault(key, []).append((own, story))
    return [Kind(tuple(own for own, _ in kind), kind[0][1]) for kind in found.values()]


Lines = Iterator[tuple[str, str]]
"""Labels and texts; a label is empty where its text goes on."""


def _labelled(lines: Lines) -> list[str]:
    return [f"{label:<9} {words}".rstrip() for label, words in lines]


# ------------------------------------------------------------------ a class of heads


def _section(planned: Planned, kind: Kind, objective: str, *, alone: bool) -> Lines:
    several = len(kind.classes) > 1
    if not alone or several:
        yield "heads", ranges(kind.heads) + (f", of {len(kind.classes)} kinds" if several else "")
    yield "pattern", text(planned.arrangement.program.pattern if several else kind.classes[0].pattern)
    yield "radices", ", ".join(_radices(kind.story)) or "none"
    if len(kind.terms) > 1:
        sums = "which add up" if not is_set(kind.classes[0].pattern) else "which are disjoint"
        yield "terms", f"{len(kind.terms)}, {sums}" + (f"; of head {kind.classes[0].heads[0]}" if several else "")
    for i, term in enumerate(kind.terms, 1):
        yield ("layout" if len(kind.terms) == 1 else f"  term {i}"), _term_words(term)
    if kind.terms == (Term(kind.classes[0].pattern),) and not all(way.plain for way in _won(kind.story)):
        yield "", "at this length the lanes of other layouts would not fill their tiles"
    else:
        yield from _cost(kind.story, objective)
    yield from _figures(planned, kind)
    yield from _shards(planned, kind)


def _won(story: Story) -> Sequence[Way]:
    return story.trials[0].ways if story.trials else ()


def _radices(story: Story) -> Iterator[str]:
    names = {"q": "queries", "k": "keys", "kq": "queries and keys"}
    for radix in story.radices:
        yield f"{radix.stride:,} ({names[radix.sides]})"


def _term_words(term: Term) -> str:
    sides = (("queries", term.listed_queries), ("keys", term.listed_keys))
    lists = "; ".join(f"{side}: {text(listed)}" for side, listed in sides if listed is not None)
    return layouts_words(term.queries, term.keys) + (f" ({lists})" if lists else "")


def _cost(story: Story, objective: str) -> Lines:
    """What won, against what, by how much."""
    if not story.n:
        yield "", story.reason
        return
    unit = "weighed by time, " if objective == "time" else ""
    chosen = any(isinstance(node, ir.Top | ir.Sample) for arm in story.arms for node in walk(arm))
    unit = f"pairs per query ({unit}at n = {story.n:,}{', where all that may be selected counts' * chosen})"
    won, *others = story.trials
    if all(way.plain for way in won.ways):
        yield "cost", f"≈ {amount(story.plain)} {unit}; {story.reason}"
    else:
        yield "cost", f"≈ {amount(won.cost)} {unit}"
        factor = amount(story.plain / max(won.cost, 1e-9))
        yield "", f"≈ {amount(story.plain)} in consecutive tokens, {factor} times as many"
    for words, cost in _others(won, others):
        yield "", f"≈ {amount(cost)} with {words}"


def _others(won: Trial, others: Sequence[Trial]) -> list[tuple[str, float]]:
    """The best of the layouts that did not win, and their cost, each said once."""
    known = {_layouts(won.ways), frozenset([(CONSECUTIVE, CONSECUTIVE)])}
    found: list[tuple[str, float]] = []
    for trial in others:
        if _layouts(trial.ways) not in known:
            known.add(_layouts(trial.ways))
            found.append((ways_words(trial.ways), trial.cost))
    return found[:OTHERS]


def _layouts(ways: Sequence[Way]) -> frozenset[tuple[Layout, Layout]]:
    return frozenset((way.queries.layout, way.keys.layout) for way in ways)


def _figures(planned: Planned, kind: Kind) -> Lines:
    """Pairs, and the tiles of the layouts beside those of consecutive tokens."""
    part = planned.of_heads(kind.heads)
    consecutive = Consecutive(part.plan, part.meanings, part.xp)
    found = part.statistics(MOST_CELLS)
    about = "" if found.exact else "≈ "
    share = float(f"{found.density * planned.plan.heads / len(kind.heads):.3g}")
    yield "pairs", f"{about}{_rounded(found)} wanted (density {about}{share:g}), {found.computed_pairs:,} computed"
    here = _tiles_words(found.full_tiles, found.partial_tiles, found.padding, about)
    before = None if _plain(kind) else _consecutive_tiles(kind, consecutive)
    if before is None:
        yield "tiles", here
        return
    area = planned.plan.tile_q * planned.plan.tile_k
    yield "tiles", f"{here}, as laid out"
    padding = sum(before) * area / max(1, found.wanted_pairs)
    yield "", f"{_tiles_words(*before, padding, about)}, in consecutive tokens"


def _tiles_words(full: int, partial: int, padding: float, about: str) -> str:
    return f"{full + partial:,}: {full:,} full, {partial:,} partial; padding {about}{padding:.3g}"


def _rounded(found: Statistics) -> str:
    """The pairs wanted, to three digits if they are estimated."""
    return f"{found.wanted_pairs:,}" if found.exact else f"{float(f'{found.wanted_pairs:.3g}'):,.0f}"


def _plain(kind: Kind) -> bool:
    return all(term == Term(own.pattern) for own in kind.classes for term in own.terms)


def _consecutive_tiles(kind: Kind, known: Consecutive) -> tuple[int, int] | None:
    """The full and the partial tiles of the heads in consecutive tokens; None if finding out takes long."""
    known.counter.limit = known.counter.boxes + known.counter.cells + MOST_WORK
    try:
        return known.counts(kind.heads)
    except TooMuchWorkError:
        return None


def _shards(planned: Planned, kind: Kind) -> Lines:
    """Parts of the sequence that need nothing of each other, if there is more than one."""
    launches = planned.of_heads(kind.heads).plan.launches
    if any(axis.lanes == 1 for x in launches for axis in (x.queries, *(term.keys for term in x.terms))):
        return
    found = import_module("patternc.passes.shards").shards(launches)  # imports networkx
    if found is not None and len(found.groups) > 1:
        yield "shards", f"{len(found.groups):,} that need no keys of each other: {found.words}"


# ------------------------------------------------------------------ the plan


def _schedule(plan: Plan, planned: Planned) -> Lines:
    for i, launch in enumerate(plan.launches, 1):
        yield f"launch {i}", _launch(launch)
        yield "", _row_classes(launch, planned.xp)
    yield "balance", f"imbalance {imbalance(plan, planned.xp):.3f} on {PROCESSORS} processors{_cuts(plan)}"
    yield "tables", _size(plan_bytes(plan))


def _launch(launch: Launch) -> str:
    rows = "" if launch.batch is None else f", batch rows {ranges(launch.batch)}"
    terms = f", {len(launch.terms)} terms" if len(launch.terms) > 1 else ""
    tiles = sum(int(term.by_query.count.sum()) for term in launch.terms)
    runs = sum(term.by_query.count.shape[0] for term in launch.terms)
    heads = f"head{'s' * (len(launch.heads) > 1)} {ranges(launch.heads)}{rows}{terms}"
    work = f"{_count(launch.queries.tiles, 'row')} of queries, {_count(tiles, 'tile')} in {_count(runs, 'run')}"
    return f"{heads}: {work}"


def _row_classes(launch: Launch, xp: Any) -> str:
    """The classes of its rows of queries: in each of which every row has the runs of the one before, moved along."""
    counts, lanes = classes_of(launch, xp), launch.queries.lanes
    each = counts[: len(counts) // lanes]
    if lanes > 1 and len(each) <= MOST_CLASSES and counts == each * lanes and sum(each) == launch.queries.per_lane:
        return f"{_classes_words(each)} in each of {lanes:,} lanes"
    return _classes_words(counts)


def _classes_words(counts: Sequence[int]) -> str:
    if len(counts) > 1 and max(counts) == 1:
        return "no row is like the one before"
    if len(counts) > MOST_CLASSES:
        return f"{len(counts):,} classes of rows, the largest of {_count(max(counts), 'row')}"
    each = f": {', '.join(f'{count:,}' for count in counts)}" if len(counts) > 1 else ""
    return f"{_count(len(counts), 'class')} of rows{each}"


def _count(number: int, word: str) -> str:
    plural = "es" if word.endswith("s") else "s"
    return f"{number:,} {word}{plural * (number != 1)}"


def _cuts(plan: Plan) -> str:
    """How many rows are cut, and into how many pieces."""
    words = ""
    for side, works in (
        ("queries", [launch.by_query for launch in plan.launches]),
        ("keys", [work for launch in plan.launches for work in launch.by_key or ()]),
    ):
        rows, pieces = (sum(counts) for counts in zip(*map(_cut_rows, works), strict=True)) if works else (0, 0)
        if rows:
            words += f"; {_count(rows, 'row')} of {side} cut into {pieces:,} pieces"
    return words


def _cut_rows(work: Work | None) -> tuple[int, int]:
    """The rows that have several items, and these."""
    counts: dict[int, int] = {}
    for row in [] if work is None else work.row.tolist():
        counts[row] = counts.get(row, 0) + 1
    cut = [count for count in counts.values() if count > 1]
    return len(cut), sum(cut)


def _size(count: int) -> str:
    return f"{count / 1024:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"
