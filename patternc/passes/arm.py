"""Arms of a pattern as the search for layouts sees them: what is left of one when a side of it is listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from patternc import fold, ir
from patternc.passes.estimate import Listing, Side, Way
from patternc.passes.nature import Dims, is_set, is_total, sides
from patternc.passes.radices import Radix, block_sizes, radices
from patternc.plan import LISTED
from patternc.rewrite import walk
from patternc.source import NOWHERE


@dataclass(frozen=True, eq=False)
class Arm:
    """A part of a pattern. `queries` and `keys` are the sets that these sides are confined to, where a list of the
    tokens in it may serve; `factors` are all sets whose intersection the arm is."""

    pattern: ir.Pattern
    factors: tuple[ir.Pattern, ...]
    queries: Listing | None
    keys: Listing | None
    radices: frozenset[Radix]
    blocks: frozenset[int]

    _rests: dict[frozenset[str], ir.Pattern] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By the sides that are listed."""

    def rest(self, way: Way) -> ir.Pattern | None:
        """What remains to be asked of tokens that are in the lists of the way; None if the lists are not the arm's."""
        lists = way.queries.listed, way.keys.listed
        if lists == (None, None):
            return self.pattern
        if any(asked and asked is not own for asked, own in zip(lists, (self.queries, self.keys), strict=True)):
            return None
        listed = {name for name, asked in zip("qk", lists, strict=True) if asked}
        key = frozenset(listed)
        if key not in self._rests:
            kept = [f for f in self.factors if not any(_confines(f, side) for side in listed)]
            self._rests[key] = conjoined(kept)
        return self._rests[key]

    @property
    def listings(self) -> tuple[Listing, ...]:
        return tuple(listing for listing in (self.queries, self.keys) if listing is not None)

    @property
    def lists(self) -> tuple[tuple[Side | None, Side | None], ...]:
        """Listed sides that may serve it: of queries, of keys."""
        q, k = (None if listed is None else Side(LISTED, listed) for listed in (self.queries, self.keys))
        every = ((q, None), (None, k), (q, k))
        return tuple(pair for pair in dict.fromkeys(every) if pair != (None, None))


def arms_of(patterns: Sequence[ir.Pattern], tensors: Dims) -> tuple[Arm, ...]:
    """The arms with these patterns."""
    listings: dict[ir.Pattern, Listing] = {}

    def listing(found: tuple[ir.Pattern, ...], side: str) -> Listing | None:
        confined = _confined(found, side)
        return None if confined is None else listings.setdefault(confined, Listing(confined))

    made = []
    for pattern in patterns:
        found = tuple(factors(pattern, tensors))
        sets = listing(found, "q"), listing(found, "k")
        made.append(Arm(pattern, found, *sets, radices(pattern), block_sizes(pattern)))
    return tuple(made)


def factors(pattern: ir.Pattern, tensors: Dims) -> Iterator[ir.Pattern]:
    """Patterns whose product it is."""
    match pattern:
        case ir.Product(args):
            for arg in args:
                yield from factors(arg, tensors)
        case ir.Where(ir.And(conditions) as condition) if is_total(condition, tensors):
            yield from (fold.where(c, pattern.span) for c in conditions)
        case _:
            yield pattern


def conjoined(patterns: list[ir.Pattern]) -> ir.Pattern:
    """Their product, with neighbouring conditions in one set builder."""
    parts: list[ir.Pattern] = []
    for p in patterns:
        last = parts[-1] if parts else None
        if isinstance(p, ir.Where) and isinstance(last, ir.Where):
            parts[-1] = fold.where(fold.conjunction([last.condition, p.condition], last.span), last.span)
        else:
            parts.append(p)
    return fold.product(parts, parts[0].span if parts else NOWHERE)


def _confined(found: tuple[ir.Pattern, ...], side: str) -> ir.Pattern | None:
    """The set that one side is confined to, if a list of it may serve: it has a radix, or is known at run time."""
    own = [f for f in found if _confines(f, side)]
    if not any(radices(f) or _is_indexed(f, side) for f in own):
        return None
    return fold.product(own, own[0].span)


def _confines(factor: ir.Pattern, side: str) -> bool:
    """Whether it is a set of tokens of the side; a bag has multiplicities, which a list would lose."""
    return sides(factor) == {side} and is_set(factor)


def _is_indexed(node: ir.Node, side: str) -> bool:
    return any(isinstance(x, ir.Read) and side in sides(x) for x in walk(node))
