"""The search for a counterexample: small lengths, some heads and layers, a few kinds of run-time tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patternc import ir
from patternc.analysis.concrete import Evaluator, GiveUpError, NoValueError, World
from patternc.analysis.properties import Failure, Property, cell_failure, row_failure, wrong_density
from patternc.analysis.worlds import Elements
from patternc.rewrite import walk

if TYPE_CHECKING:
    from patternc.analysis.solver import Point

LENGTHS = tuple(range(1, 11))
HEADS = (1, 8)
LAYERS = tuple(range(8))
STEPS = 60_000
"""Conditions evaluated in one search, before it is given up."""
MAX_LENGTH = 2**48
"""Longest counterexample: all its numbers fit in 64 bits with room to spare."""
DRAWS = 4
"""Kinds of run-time tensors: all 0, rising, and two random ones."""


@dataclass(frozen=True)
class Free:
    """What a program leaves open beside n."""

    heads: bool
    layer: bool
    tensors: bool

    @staticmethod
    def of(programs: Sequence[ir.Program]) -> Free:
        nodes = [node for p in programs for node in walk(p)]
        names = {node.name for node in nodes if isinstance(node, ir.Var)}
        sampled = any(isinstance(node, ir.Sample) for node in nodes)  # draws by h, which it does not name
        return Free(bool(names & {"h", "heads"}) or sampled, "layer" in names, any(p.tensors for p in programs))


@dataclass(frozen=True, slots=True)
class Case:
    """One length, number of heads, layer and kind of tensors."""

    n: int
    heads: int
    layer: int
    elements: Elements

    def world(self, h: int, steps: int) -> World:
        return World(self.n, self.heads, h, self.layer, read=self.elements, steps=steps)


class Search:
    """Looks for a failure of a property of a program."""

    def __init__(self, program: ir.Program, wanted: Property, given: Mapping[str, int]) -> None:
        programs = (program,) if wanted.other is None else (program, wanted.other)
        self.wanted, self.given = wanted, given
        self.free = Free.of(programs)
        self.kinds = {t.name: t.element for p in programs for t in p.tensors}
        self.evaluators = [Evaluator(p) for p in programs]
        self.steps = STEPS

    # ------------------------------------------------------------------ cases

    def cases(self) -> Iterator[Case]:
        given, free = self.given, self.free
        for n in (given["n"],) if "n" in given else LENGTHS:
            for heads in (given["heads"],) if "heads" in given else HEADS if free.heads else (1,):
                for layer in (given["layer"],) if "layer" in given else LAYERS if free.layer else (0,):
                    for draw in range(DRAWS if free.tensors else 1):
                        yield Case(n, heads, layer, Elements(self.kinds, n, draw))

    def run(self) -> str | None:
        """The sentence of the first counterexample; None if none is found within the budget."""
        try:
            for case in self.cases():
                sentence = self.in_case(case)
                if sentence is not None:
                    return sentence
        except GiveUpError:
            pass  # the search is over, without a result
        return None

    def in_case(self, case: Case) -> str | None:
        """The sentence of the first failure in this case. GiveUpError when the budget is spent."""
        try:
            return self._density(case) if self.wanted.name == "density" else self._rows(case)
        except NoValueError:
            return None

    def _heads(self, case: Case) -> range:
        return range(case.heads if self.free.heads else 1)

    def _rows(self, case: Case) -> str | None:
        for h in self._heads(case):
            matrices = [self._matrix(e, case, h) for e in self.evaluators]
            columns = list(zip(*matrices[0], strict=True)) if self.wanted.name == "symmetric" else []
            for q, row in enumerate(matrices[0]):
                failure = row_failure(self.wanted, q, row, columns[q] if columns else (), matrices[-1][q])
                if failure is not None:
                    return self.told(failure, case, h)
        return None

    def _density(self, case: Case) -> str | None:
        heads = self._heads(case)
        kept = sum(1 for h in heads for row in self._matrix(self.evaluators[0], case, h) for m in row if m)
        density = kept / (len(heads) * case.n**2)
        failure = None if self.wanted.accepts(density) else wrong_density(density, self.wanted)
        return self.told(failure, case, None) if failure else None

    def _matrix(self, evaluator: Evaluator, case: Case, h: int) -> list[list[int]]:
        world = case.world(h, self.steps)
        matrix = evaluator.matrix(world)
        self.steps = world.steps
        return matrix

    # ------------------------------------------------------------------ candidates

    def confirm(self, point: Point) -> str | None:
        """The sentence of a candidate for a counterexample, if it is one."""
        v = point.values
        if v["n"] > MAX_LENGTH:
            return None
        case = Case(v["n"], v["heads"], v["layer"], Elements(self.kinds, v["n"], known=point.elements))
        world = case.world(v["h"], STEPS)
        try:
            if "k" in v:
                failure = self._cell(world, v["q"], v["k"])
            else:
                failure = row_failure(self.wanted, v["q"], self.evaluators[0].row(world, v["q"]))
        except (NoValueError, GiveUpError):
            return None
        return self.told(failure, case, v["h"]) if failure else None

    def _cell(self, world: World, q: int, k: int) -> Failure | None:
        mine, others = self.evaluators[0], self.evaluators[-1]
        back = mine.multiplicity(world, k, q) if self.wanted.name == "symmetric" else 0
        other = others.multiplicity(world, q, k) if self.wanted.name == "equals" else 0
        return cell_failure(self.wanted, q, k, mine.multiplicity(world, q, k), back, other)

    # ------------------------------------------------------------------ words

    def told(self, failure: Failure, case: Case, h: int | None) -> str:
        sentence = failure.told(place(case.n, case.heads, h if self.free.heads else None, self._layer(case)))
        named = self._named(failure, case, h)
        return f"{sentence} ({named})" if named else sentence

    def _layer(self, case: Case) -> int | None:
        return case.layer if self.free.layer else None

    def _named(self, failure: Failure, case: Case, h: int | None) -> str:
        """The elements of tensors that the failure hangs on."""
        if failure.query is None or failure.key is None or not self.free.tensors:
            return ""
        case.elements.log.clear()
        self._cell(case.world(h or 0, STEPS), failure.query, failure.key)
        return case.elements.named


def place(n: int, heads: int, h: int | None, layer: int | None) -> str:
    """`at n = 4, head 1 of 2, layer 5`; heads and layer where they matter."""
    parts = [f"at n = {n}"]
    if h is not None:
        parts.append(f"head {h} of {heads}")
    if layer is not None:
        parts.append(f"layer {layer}")
    return ", ".join(parts)
