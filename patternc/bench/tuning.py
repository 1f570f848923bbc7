"""The search for tiles and options with which a program's Triton kernels run best on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from patternc.backends import base
from patternc.backends.triton_artifact import executor
from patternc.backends.triton_backend import device_name
from patternc.backends.triton_options import PASSES, Form, Options
from patternc.backends.triton_plans import tile_of
from patternc.backends.triton_tuned import Key, keep, trying, tuned
from patternc.bench.clocks import Clock, clock_of
from patternc.bench.contenders import Size, inputs, ours
from patternc.bench.measure import Effort, alternated, tried
from patternc.compiler import Compiled

TILES = ((64, 64), (128, 64), (64, 128), (128, 128), (64, 32), (32, 64), (32, 32))
OPTIONS = {
    "forward": (*(Options(*one) for one in ((4, 2), (4, 3), (4, 4), (8, 2), (8, 3))), Options(4, 1, 168)),
    "backward_queries": tuple(Options(warps, stages) for warps, stages in ((4, 1), (4, 2), (4, 3), (8, 2))),
    "backward_keys": tuple(Options(warps, stages) for warps, stages in ((4, 1), (4, 2), (4, 3), (8, 2))),
}
MARGIN = 0.02
"""What share of the time a form must save to be taken in place of another; two runs of one form differ by less."""
EFFORT = Effort(20, 5.0)


@dataclass(frozen=True)
class Spent:
    """Milliseconds of the passes."""

    forward: float
    backward: float

    def of(self, name: str | None) -> float:
        """What a choice for a pass is judged by; both together for what all passes share."""
        match name:
            case None:
                return self.forward + self.backward
            case "forward":
                return self.forward
        return self.backward


Measure = Callable[[Form], Spent | str]
"""The time of a form, or why it does not run."""


@dataclass(frozen=True)
class Trial:
    """A form and its time, or why it does not run."""

    form: Form
    spent: Spent | str

    def __str__(self) -> str:
        q, k = self.form.tile
        words = "; ".join([f"tiles {q}x{k}", *(f"{name} {_said(own)}" for name, own in self.form.options.items())])
        if isinstance(self.spent, str):
            return f"{words}: {self.spent}"
        return f"{words}: {self.spent.forward:.4g} ms forward, {self.spent.backward:.4g} ms backward"


def _said(own: Options) -> str:
    limit = f", {own.registers} registers" if own.registers else ""
    return f"{own.warps} warps, {own.stages} stage{'s' * (own.stages > 1)}{limit}"


@dataclass(frozen=True)
class Outcome:
    """What a search found: the trials in order, the usual form first, and the best of them."""

    trials: tuple[Trial, ...]
    best: Trial

    @property
    def gain(self) -> float:
        """The usual time over the best one, forward and backward together."""
        usual = self.trials[0].spent
        assert isinstance(usual, Spent)
        assert isinstance(self.best.spent, Spent)
        return usual.of(None) / self.best.spent.of(None)


def search(
    measure: Measure,
    usual: Form,
    tiles: Iterable[tuple[int, int]] = TILES,
    options: Mapping[str, Iterable[Options]] = OPTIONS,
) -> Outcome:
    """Tries tiles, then options of one pass after the other, each with the best of what was found before.

    RuntimeError if the usual form does not run.
    """
    trials: list[Trial] = []

    def best_of(best: Trial, forms: Iterable[Form], name: str | None) -> Trial:
        for form in forms:
            if any(trial.form == form for trial in trials):
                continue
            trials.append(Trial(form, measure(form)))
            if _better(trials[-1].spent, best.spent, name):
                best = trials[-1]
        return best

    first = measure(usual)
    if isinstance(first, str):
        raise RuntimeError(f"the usual form does not run: {first}")
    trials.append(Trial(usual, first))
    best = best_of(trials[0], [replace(usual, tile=tile) for tile in tiles], None)
    for name in PASSES:
        found = best.form
        forms = [replace(found, options={**found.options, name: own}) for own in options.get(name, ())]
        best = best_of(best, forms, name)
    return Outcome(tuple(trials), best)


def _better(new: Spent | str, old: Spent | str, name: str | None) -> bool:
    if isinstance(new, str) or isinstance(old, str):
        return False
    return new.of(name) < old.of(name) * (1 - MARGIN)


def usual_form(size: Size) -> Form:
    """What runs when nothing was found."""
    return Form(tile_of(size.dim, 8 * size.dtype.itemsize))


def measured(compiled: Compiled, size: Size, tensors: Mapping[str, Any], clock: Clock) -> Measure:
    """Times forms of a pattern on random inputs."""
    given, number = inputs(compiled.heads, compiled.kv_heads, size), count()

    def measure(form: Form) -> Spent | str:
        with trying(form):
            contender = ours(another(compiled, next(number)), tensors)
            result = tried(contender, given)
            if isinstance(result, str):
                return result
            found = alternated([contender], given, clock, EFFORT)[contender.name]
        forward, backward, _ = found.medians()
        return Spent(forward, backward)

    return measure


def another(compiled: Compiled, number: int) -> Compiled:
    """The same pattern under another name: one that is there already keeps its plans and kernels."""
    program = replace(compiled.program, name=f"{compiled.program.name}_{number}")
    return Compiled(compiled.pattern, program, compiled.heads, compiled.kv_heads, compiled.layer, "triton")


def key_of(compiled: Compiled, size: Size) -> Key:
    """What the pattern's entry is kept under; a size has one head dimension."""
    key = executor(compiled.program, compiled.heads, compiled.kv_heads).key
    return Key(device_name(size.device), key, size.dim, 8 * size.dtype.itemsize)


def tune(compiled: Compiled, size: Size, tensors: Mapping[str, Any]) -> Outcome:
    """Searches, and keeps the best form; the usual one only in place of another. Raises as `search` does; ValueError if
    the triton backend does not run the pattern, OSError if the form cannot be kept."""
    reasons = base.load("triton").supports(compiled.program, size.device.type, size.dtype)
    if reasons:
        raise ValueError(f"only kernels of the triton backend are tuned, and it cannot run here: {'; '.join(reasons)}")
    outcome = search(measured(compiled, size, tensors, clock_of(size.device)), usual_form(size))
    key = key_of(compiled, size)
    if outcome.best is not outcome.trials[0] or tuned(key.device, key.program, key.dim, key.bits) is not None:
        keep(key, outcome.best.form)
    return outcome
