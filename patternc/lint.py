"""Warnings about what a pattern means: true for every length, head, layer, run-time tensor and value of a parameter.

A candidate is first tried in a few small worlds, in plain Python; what survives is put to isl. A clean program never
imports islpy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations

from patternc import ast, ir
from patternc.analysis.concrete import Evaluator
from patternc.analysis.worlds import Check, holds, small_worlds, spent
from patternc.errors import Code, Diagnostic, Related
from patternc.rewrite import children, walk
from patternc.source import Span

MAX_ARMS = 32
"""Arms of a union that are compared."""
MAX_GROUPS = 24
"""Groups of arms of `+` whose overlap is asked for."""
MAX_WORK = 150_000
"""Nodes of all candidates that are tried, shared ones each time they occur, and conditions that are evaluated for
them: a bound on time."""
MAX_PROOFS = 24
"""Candidates of one pattern that are put to isl."""
_CORNERS = (("first", "first"), ("last", "last"), ("last", "first"), ("first", "last"))
"""Cells (query, key) that exist at every n."""

Path = tuple[ir.Scalar, ...]
"""The sizes of the blocks around a pattern."""


def lint(program: ir.Program, pattern: ast.Pattern) -> list[Diagnostic]:
    """The warnings about one pattern; `program` has parameters without values. What its text only calls is not judged
    here: other patterns are judged by themselves."""
    return _Linter(program, pattern).run()


@dataclass(frozen=True, slots=True)
class _Context:
    """A pattern within the program and the blocks that lead to it."""

    path: Path
    node: ir.Pattern


class _Linter:
    def __init__(self, program: ir.Program, pattern: ast.Pattern) -> None:
        self.program, self.pattern = program, pattern
        self.worlds = small_worlds(program)
        self.contexts = list(_contexts(program.pattern))
        self.work, self.proofs = MAX_WORK, 0
        self.whole: Evaluator | None = None
        self.sizes: dict[int, int] = {}
        """Of each node, by id, how many nodes it has as a tree."""
        _measure(program.pattern, self.sizes)

    def run(self) -> list[Diagnostic]:
        if not self.worlds:  # no small world fits: nothing can be tried
            return []
        found = [*self._conditions(), *self._unions(), *self._sums()]
        meant = isinstance(self.pattern.body, ast.Name)  # `full`, `empty`, or another pattern, which is judged itself
        if not meant and not any(d.code == Code.CONSTANT_CONDITION for d in found):
            found += [*self._empty_rows(), *self._full()]
        return found

    def _within(self, span: Span) -> bool:
        own = self.pattern.span
        return span.source is own.source and own.start <= span.start and span.end <= own.end

    def _in_path(self, path: Path, node: ir.Pattern) -> ir.Program:
        for size in reversed(path):
            node = ir.Blocks(size, node)
        return ir.Program(self.program.name, node, self.program.tensors, self.program.grids)

    def _survives(self, check: Check, about: Iterable[ir.Node], *programs: ir.Program) -> bool:
        """Whether the claim holds in all small worlds, and is to be proved; False when too much has been asked. The
        programs are made of nodes of this one that it is `about`."""
        self.work -= sum(self.sizes[id(node)] for node in about)
        if self.work < 0 or self.proofs == MAX_PROOFS:
            return False
        survives = holds(check, [self._evaluator(p) for p in programs], self.worlds)
        self.work -= spent(self.worlds)
        self.proofs += survives
        return survives

    def _evaluator(self, program: ir.Program) -> Evaluator:
        if program is not self.program:
            return Evaluator(program)
        self.whole = self.whole or Evaluator(program)
        return self.whole

    # ------------------------------------------------------------------ constant conditions

    def _conditions(self) -> Iterator[Diagnostic]:
        groups: dict[Span, list[tuple[Path, ir.Scalar]]] = {}
        for context in self.contexts:
            if isinstance(context.node, ir.Where):
                for atom in _atoms(context.node.condition):
                    if self._within(atom.span):
                        groups.setdefault(atom.span, []).append((context.path, atom))
        for span, atoms in groups.items():
            for truth in (True, False):
                if all(self._is_constant(path, atom, truth) for path, atom in atoms):
                    yield _constant(span, truth)

    def _is_constant(self, path: Path, atom: ir.Scalar, truth: bool) -> bool:
        program = self._in_path(path, ir.Where(atom))
        tried = self._survives(_is_full if truth else _is_empty, [atom], program)
        return tried and (_somewhere(program) if truth else _nowhere(program))

    # ------------------------------------------------------------------ unions and sums

    def _unions(self) -> Iterator[Diagnostic]:
        for context in self.contexts:
            if isinstance(context.node, ir.Union) and len(context.node.args) <= MAX_ARMS:
                yield from self._redundant(context.path, context.node.args)

    def _redundant(self, path: Path, arms: tuple[ir.Pattern, ...]) -> Iterator[Diagnostic]:
        """From the last arm to the first, so that of two equal ones the later is told of. Arms with one place are those
        of a comprehension."""
        kept, places = list(arms), Counter(a.span for a in arms)
        for arm in reversed(arms):
            others = [a for a in kept if a is not arm]
            if self._within(arm.span) and places[arm.span] == 1 and others and self._is_contained(path, arm, others):
                kept = others
                yield _redundant(arm, others)

    def _is_contained(self, path: Path, arm: ir.Pattern, others: list[ir.Pattern]) -> bool:
        inner, outer = self._in_path(path, arm), self._in_path(path, ir.Union(tuple(others)))
        return self._survives(_is_inside, [arm, *others], inner, outer) and _is_contained(inner, outer)

    def _sums(self) -> Iterator[Diagnostic]:
        for context in self.contexts:
            if isinstance(context.node, ir.Sum):
                overlapping = self._overlapping(context.path, context.node.args)
                if overlapping:
                    yield _counted(context.node.span, overlapping)

    def _overlapping(self, path: Path, arms: tuple[ir.Pattern, ...]) -> tuple[ir.Pattern, ...] | None:
        """The largest group of arms that have a cell in common at every n; the arms are those of `+`."""
        if len({a.span for a in arms}) < len(arms) or not all(self._within(a.span) for a in arms):
            return None  # arms of a `sum` have one place
        groups = (g for size in range(len(arms), 1, -1) for g in combinations(arms, size))
        for group, _ in zip(groups, range(MAX_GROUPS), strict=False):
            program = self._in_path(path, ir.Product(tuple(ir.Support(a) for a in group)))
            for q, k in _CORNERS:
                if self._survives(partial(_has_cell, q, k), group, program) and _somewhere(program, q, k):
                    return group
        return None

    # ------------------------------------------------------------------ whole patterns

    def _empty_rows(self) -> Iterator[Diagnostic]:
        for q, words in (("first", "row 0"), ("last", "the last row")):
            if self._claim(partial(_has_empty_row, q)) and _nowhere(self.program, q):
                message = f"{words} of `{self.program.name}` has no key, whatever n is"
                yield self._about(Code.EMPTY_ROWS, message, "a row without keys gives 0")
                return

    def _full(self) -> Iterator[Diagnostic]:
        if self._claim(_is_full) and _somewhere(self.program):
            message = f"`{self.program.name}` lets every query attend every key: its density is 100 % at every n"
            yield self._about(Code.ALWAYS_FULL, message, "the same as `full`")

    def _claim(self, check: Check) -> bool:
        return self._survives(check, [self.program.pattern], self.program)

    def _about(self, code: Code, message: str, label: str) -> Diagnostic:
        return Diagnostic(code, message, self.pattern.name.span, label)


# ------------------------------------------------------------------ what there is to judge


def _contexts(node: ir.Pattern, path: Path = ()) -> Iterator[_Context]:
    """Every pattern in it, once for each space; bodies of families hang on their variable and are left out."""
    seen: set[tuple[Path, int]] = set()
    stack: list[tuple[Path, ir.Pattern]] = [(path, node)]
    while stack:
        path, node = stack.pop()
        if (path, id(node)) in seen:
            continue
        seen.add((path, id(node)))
        yield _Context(path, node)
        match node:
            case ir.Union(args) | ir.Sum(args) | ir.Product(args):
                stack += [(path, a) for a in reversed(args)]
            case ir.Complement(a) | ir.Support(a):
                stack.append((path, a))
            case ir.Choose(_, then, orelse):
                stack += [(path, orelse), (path, then)]
            case ir.Blocks(size, body):
                stack.append(((*path, size), body))
            case ir.Cover(_, body):
                stack.append((path, body))
            case ir.Top(of=of) | ir.Sample(of=of):
                stack.append((path, of))


def _atoms(condition: ir.Scalar) -> Iterable[ir.Scalar]:
    """The comparisons in a condition that hang on no quantified variable."""
    return (x for x in walk(condition) if isinstance(x, ir.Compare) and not _is_bound(x))


def _measure(node: ir.Node, sizes: dict[int, int]) -> int:
    """The nodes of a tree; shared ones count each time they occur."""
    if id(node) not in sizes:
        sizes[id(node)] = 1 + sum([_measure(child, sizes) for child in children(node)])
    return sizes[id(node)]


def _is_bound(node: ir.Scalar) -> bool:
    return any(isinstance(x, ir.Var) and "#" in x.name for x in walk(node))


# ------------------------------------------------------------------ small worlds


def _is_full(cell: Callable[..., int], n: int) -> bool:
    return all(cell(0, q, k) for q in range(n) for k in range(n))


def _is_empty(cell: Callable[..., int], n: int) -> bool:
    return not any(cell(0, q, k) for q in range(n) for k in range(n))


def _is_inside(cell: Callable[..., int], n: int) -> bool:
    return all(cell(1, q, k) or not cell(0, q, k) for q in range(n) for k in range(n))


def _at(edge: str, n: int) -> int:
    return 0 if edge == "first" else n - 1


def _has_cell(q: str, k: str, cell: Callable[..., int], n: int) -> bool:
    return bool(cell(0, _at(q, n), _at(k, n)))


def _has_empty_row(q: str, cell: Callable[..., int], n: int) -> bool:
    return not any(cell(0, _at(q, n), k) for k in range(n))


# ------------------------------------------------------------------ proofs


def _somewhere(program: ir.Program, q: str = "any", k: str = "any") -> bool:
    from patternc.analysis import proofs, solver  # slow imports: only for what small worlds let pass

    return proofs.somewhere(solver.Subject((program,), patient=False), q, k).proved


def _nowhere(program: ir.Program, q: str = "any") -> bool:
    from patternc.analysis import proofs, solver

    return proofs.nowhere(solver.Subject((program,), patient=False), q).proved


def _is_contained(inner: ir.Program, outer: ir.Program) -> bool:
    from patternc.analysis import proofs, solver

    return proofs.contained(solver.Subject((inner, outer), patient=False)).proved


# ------------------------------------------------------------------ words


def _constant(span: Span, truth: bool) -> Diagnostic:
    message = f"`{span.text}` is always {'true' if truth else 'false'}"
    return Diagnostic(Code.CONSTANT_CONDITION, message, span, f"{'holds' if truth else 'fails'} for every q and k")


def _redundant(arm: ir.Pattern, others: list[ir.Pattern]) -> Diagnostic:
    same = next((o for o in others if o == arm), None)
    if same is None:
        label = "its cells are all in the other arms" if len(others) > 1 else "its cells are all in the other arm"
        related: tuple[Related, ...] = ()
    else:
        label, related = "the same again", (Related(same.span, "already here"),)
    return Diagnostic(Code.REDUNDANT_ARM, "this arm of the union adds nothing", arm.span, label, related)


def _counted(span: Span, arms: tuple[ir.Pattern, ...]) -> Diagnostic:
    return Diagnostic(
        Code.COUNTED_TWICE, f"the arms of this `+` overlap: keys are counted up to {len(arms)} times", span,
        "makes a bag", tuple(Related(a.span, "counts them") for a in arms if not span.start <= a.span.start < span.end),
        hints=("`|` counts every key once; `sum(…)` says that counting twice is meant",),
    )  # fmt: skip
