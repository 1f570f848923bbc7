"""The masks of a program in memory: for each term of its heads a printed function, and the cells that covers and
selections hold at a length. A saved module has its own (triton_saved)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from patternc import ir
from patternc.analysis.evaluate import Meaning, Sharing
from patternc.analysis.meanings import Meanings
from patternc.analysis.relation import Relation
from patternc.arrangement import Arrangement
from patternc.backends.triton_complete import terms_beside
from patternc.backends.triton_mask import LONGEST, MaskSource, mask_function
from patternc.backends.triton_mask_patterns import Relation as Printed
from patternc.backends.triton_mask_tables import INT32, MOST_KEYS
from patternc.backends.triton_structure import Mask, Structure, structure_of
from patternc.plan import Layout
from patternc.rewrite import walk
from patternc.specialise import specialise

_SET = "MASK_of_set"


@dataclass(frozen=True, eq=False)
class Masks:
    """See `triton_plans.Masks`. Functions are printed when they are first asked for."""

    arrangement: Arrangement
    _made: dict[tuple[int, int, int], MaskSource]

    @classmethod
    def of(cls, arrangement: Arrangement) -> Masks:
        return cls(arrangement, {})

    def meanings(self, n: int, n_q: int, tensors: Mapping[str, Any], xp: Any) -> Meanings:
        return Meanings(self.arrangement, n=n, n_q=n_q, tensors=tensors, xp=xp)

    def source(self, head: int, term: int, n: int) -> MaskSource:
        """The function of a term of a head, for n keys at least."""
        number, own = next((i, c) for i, c in enumerate(self.arrangement.classes) if head in c.heads)
        longest = LONGEST if n <= LONGEST else MOST_KEYS
        key = (number, term, longest)
        if key not in self._made:
            tensors = self.arrangement.program.tensors
            self._made[key] = mask_function(own.terms[term].pattern, "MASK", tensors, longest)
        return self._made[key]

    def mask(self, source: MaskSource, bag: bool) -> Mask:
        """What kernels are generated with."""
        return Mask(kernel_text(source, bag), source.arguments, bag)

    def relations(self, source: MaskSource, meaning: Meaning, n: int, n_q: int) -> list[Relation]:
        return relations_of(source, meaning, n, n_q)

    def refused(self) -> str | None:
        """Why a head has no masks, if one has none; UnsupportedPatternError is such a reason too."""
        for own in self.arrangement.classes:
            for term in range(len(own.terms)):
                for number in self.source(own.heads[0], term, 1).numbers:
                    if number not in INT32:
                        return f"the number {number} in the pattern exceeds 32 bits"
        return None


@dataclass(frozen=True)
class Group:
    """Terms of a class of heads that launches compute together; see `triton_complete`."""

    heads: tuple[int, ...]
    terms: tuple[int, ...]
    layouts: tuple[tuple[Layout, Layout], ...]
    """Of queries and of keys, one pair for each term."""


def groups(arrangement: Arrangement) -> Iterator[Group]:
    """Those of all heads."""
    for own in arrangement.classes:
        layouts = [(term.queries, term.keys) for term in own.terms]
        for together in dict.fromkeys(tuple(terms_beside(layouts, queries)) for queries, _ in layouts):
            yield Group(own.heads, together, tuple(layouts[t] for t in together))


def structure_of_group(masks: Masks, group: Group, n: int = 1, title: str = "") -> Structure:
    """That of launches of a group, for n keys at least. Small tiles may turn one that is `boxed` into one that is not;
    nothing else changes with the length or the tiles."""
    sources = [masks.source(group.heads[0], term, n) for term in group.terms]
    bag = any(source.bag for source in sources)
    sides = zip(*group.layouts, strict=True)
    return structure_of([masks.mask(source, bag) for source in sources], *sides, title=title)


def structures(masks: Masks, title: str = "") -> list[Structure]:
    """All that a program takes at lengths up to `triton_mask.LONGEST`."""
    return list(dict.fromkeys(structure_of_group(masks, group, title=title) for group in groups(masks.arrangement)))


def kernel_text(source: MaskSource, bag: bool) -> str:
    """The function as generated modules have it, with the words that it calls; of a set, as multiplicities if `bag`."""
    imports = f"from patternc.backends.triton_words import {', '.join(source.words)}\n\n\n" if source.words else ""
    if not bag or source.bag:
        return imports + source.text
    names = ", ".join(["q", "k", "n", "h", *(a.name for a in source.arguments)])
    inner = source.text.replace("def MASK(", f"def {_SET}(")
    return f"{imports}{inner}\n\n@triton.jit\ndef MASK({names}):\n    return tl.where({_SET}({names}), 1, 0)\n"


def title_of(program: ir.Program, text: str) -> str:
    """A header that cannot end the text that it stands in."""
    safe = text.encode("ascii", "backslashreplace").decode().replace("\\", "/").replace('"', "'")
    return f"{program.name}\n\n{safe}"


# ------------------------------------------------------------------ relations


def relations_of(source: MaskSource, meaning: Meaning, n: int, n_q: int) -> list[Relation]:
    """The covers and selections that a function asks for cells: those of the meaning, else new ones."""
    return [_relation(printed, meaning, n, n_q) for printed in source.relations]


def _relation(printed: Printed, meaning: Meaning, n: int, n_q: int) -> Relation:
    whole: Any = printed.node
    for size in reversed(printed.sizes):
        whole = ir.Blocks(size, whole)
    is_open = any(isinstance(node, ir.Var) and node.name == "n" for node in walk(whole))
    bound = specialise(whole, {"n": n}) if is_open else whole
    sharing = Sharing()
    sharing.visit(meaning.pattern)
    node, sizes = _innermost(sharing.visit(bound))
    if (id(node), sizes) not in meaning.relations:
        meaning = Meaning(
            bound, n=n, n_q=n_q, h=meaning.h, tables=meaning.tables, xp=meaning.xp, counter=meaning.counter
        )
        node, sizes = _innermost(meaning.pattern)
    return meaning.relations[id(node), sizes]


def _innermost(node: Any) -> tuple[ir.Pattern, tuple[int, ...]]:
    """The pattern inside nested blocks, and their sizes."""
    sizes: tuple[int, ...] = ()
    while isinstance(node, ir.Blocks):
        assert isinstance(node.size, ir.Const)
        sizes, node = (*sizes, int(node.size.value)), node.body
    return node, sizes
