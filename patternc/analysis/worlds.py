"""Small worlds, with made-up parameters and run-time tensors, in which a claim can be seen to be false."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from patternc import ir
from patternc.analysis.concrete import Evaluator, GiveUpError, NoValueError, Value, World
from patternc.analysis.hashing import mix
from patternc.rewrite import walk

COUNT = 24
"""Worlds in which a claim is tried."""
STEPS = 5_000
"""Conditions evaluated in one world."""
_LENGTHS = (5, 4, 12, 1, 3, 2, 6, 8, 9)
_NUMBERS = (1, 2, 1, 3, 4, 2, 0, 5, 8, 16, 1, 3)

MAX_NAMED = 6
"""Elements of tensors that a counterexample names."""

Check = Callable[[Callable[..., int], int], bool]
"""A claim about `cell(i, q, k)`, the multiplicity of the i-th program, at a length n."""


@dataclass(slots=True)
class Elements:
    """Run-time tensors made up as they are read; `log` keeps what was."""

    kinds: Mapping[str, str]
    n: int
    draw: int = 0
    known: Mapping[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)
    log: dict[tuple[str, tuple[int, ...]], Value] = field(default_factory=dict)

    def __call__(self, tensor: str, index: tuple[int, ...]) -> Value:
        value = self._made(tensor, index)
        self.log[tensor, index] = value
        return value

    def _made(self, tensor: str, index: tuple[int, ...]) -> Value:
        kind = self.kinds[tensor]
        if (tensor, index) in self.known:
            number = self.known[tensor, index]
        elif self.draw <= 1:
            number = self.draw * (index[-1] if index else 1)
        else:
            x = mix(self.draw)
            for i in (*tensor.encode(), *index):
                x = mix((x * 31 + i) & 0xFFFFFFFF)
            number = x % (self.n + 1) if kind == "int" else x % 2 if kind == "bool" else x % 64 - 32
        return number >= 1 if kind == "bool" else number / 8 if kind == "float" else number

    @property
    def named(self) -> str:
        """`doc[0] = 1, doc[3] = 1`, if that is short."""
        if not 0 < len(self.log) <= MAX_NAMED:
            return ""
        cells = sorted(self.log.items())
        return ", ".join(
            f"{name}[{', '.join(map(str, at))}] = {v}" if at else f"{name} = {v}" for (name, at), v in cells
        )


def small_worlds(program: ir.Program) -> list[World]:
    """Worlds that differ in length, heads, layer, parameters and run-time tensors, the same ones in every run."""
    kinds = {t.name: t.element for t in program.tensors}
    parameters = {x.name: x.type for x in walk(program) if isinstance(x, ir.Param)}
    return [w for i in range(COUNT) if (w := _world(program, kinds, parameters, i)) is not None]


def _world(program: ir.Program, kinds: dict[str, str], parameters: dict[str, str], i: int) -> World | None:
    values = {name: _value(name, kind, i) for name, kind in parameters.items()}
    n, heads = _LENGTHS[i % len(_LENGTHS)], (4, 1, 2, 8)[i % 4]
    world = World(n, heads, mix(i) % heads, i % 7, values, unknown=_unknown(i), steps=STEPS)
    for grid in program.grids:
        try:
            world.n = int(math.prod(Evaluator.number(extent, world) for extent in grid.extents))
        except (NoValueError, OverflowError, ValueError):  # inf or NaN are no length
            return None
    world.read = Elements(kinds, world.n, i % 4)
    return world if 1 <= world.n <= 64 else None


def _value(name: str, kind: str, i: int) -> Value:
    x = mix(crc32(name.encode()) + 77 * i)
    match kind:
        case "bool":
            return x % 2 == 1
        case "float":
            return (x % 100 + 1) / 100
        case "tokens" if i % 8 == 7:
            return math.inf
        case "int" if x % 16 == 0:
            return -1
    return _NUMBERS[(x >> 4) % len(_NUMBERS)]


def _unknown(i: int) -> Callable[[str, str, int, int], Value]:
    def unknown(key: str, kind: str, q: int, k: int) -> Value:
        return _value(f"{key} {q} {k}", kind, i)

    return unknown


def holds(check: Check, programs: Sequence[Evaluator], worlds: Sequence[World]) -> bool:
    """Whether the claim holds in every world in which the programs have a value, and there is one. A claim that takes
    too long is taken to be false."""
    for world in worlds:
        world.steps = STEPS
    tried = 0
    for outcome in (_outcome(check, programs, world) for world in worlds):
        if outcome is False:
            return False
        tried += outcome is True
    return tried > 0


def spent(worlds: Sequence[World]) -> int:
    """The conditions that the last claim took."""
    return sum(STEPS - max(0, world.steps) for world in worlds)


def _outcome(check: Check, programs: Sequence[Evaluator], world: World) -> bool | None:
    world.rows.clear()
    try:
        return check(lambda i, q, k: programs[i].multiplicity(world, q, k), world.n)
    except NoValueError:
        return None
    except GiveUpError:
        return False
