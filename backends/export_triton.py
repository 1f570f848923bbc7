"""Saved modules of the triton backend: one readable file that needs torch and triton only.

It holds the kernels of every structure that the pattern can take, the pattern as generated functions, and of this
package those definitions that make plans and start kernels, as they are here. Any length can be planned, and none needs
kernels that are not there, because launches are made complete (triton_complete).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

from patternc.analysis.row_keys import is_steady
from patternc.arrangement import Arrangement, Term
from patternc.backends import export
from patternc.backends.export_embed import embed_needed
from patternc.backends.export_kernels import IMPORTS, Kernels
from patternc.backends.export_printer import Blocked
from patternc.backends.export_reach import names_of, uses_of
from patternc.backends.export_tuned import tuned_source
from patternc.backends.triton_artifact import key_of
from patternc.backends.triton_mask import LONGEST, MaskSource, UnsupportedPatternError
from patternc.backends.triton_masks import Group, Masks, groups, structure_of_group
from patternc.backends.triton_module import source
from patternc.backends.triton_notes import READING
from patternc.backends.triton_reasons import against
from patternc.backends.triton_structure import Structure
from patternc.backends.triton_tuned import found_for
from patternc.plan import Layout

_ABOUT = """
Written by patternc; needs torch and triton only. The class to use, `Attention`, stands at the end; the
kernels come first, one set for each structure that the launches of this pattern can have. Between them
stands what makes plans and starts kernels, and the pattern.
"""
_HOMES = (
    "patternc.analysis.numbers", "patternc.analysis.relation", "patternc.backends.torch_saved",
    "patternc.backends.inputs", "patternc.plan", "patternc.backends.triton_structure",
    "patternc.backends.triton_op", "patternc.backends.triton_executor", "patternc.backends.triton_saved",
    "patternc.backends.triton_drawn", "patternc.backends.triton_options",
)  # fmt: skip
"""Where the words of the generated text are defined."""
_GIVEN = {
    ("patternc.backends.triton_module", "module"): "module",
    ("patternc.backends.triton_namespace", "NAMESPACE"): "NAMESPACE",
}
"""What the generated text defines in place of files of this package."""
_RULE = "# " + "=" * 66
_NARROW, _WIDE = 1, LONGEST + 1
"""Lengths for which masks are printed: kernels may compute with 32 bits, or not."""


def save(path: Path, arrangement: Arrangement, kv_heads: int, program_text: str) -> Path:
    """Writes the module of an arranged program. The file appears whole or not at all; OSError if it cannot be written,
    ValueError if there are no kernels for the program."""
    return export.write(path, module_source(arrangement, kv_heads, program_text))


def module_source(arrangement: Arrangement, kv_heads: int, program_text: str) -> str:
    """The whole module; `program_text` is shown in its header."""
    made = Parts(Masks.of(arrangement))
    for reason in against(made.masks):
        raise ValueError(f"the triton backend cannot run {arrangement.program.name}: {reason}")
    pattern = export.pattern_source(arrangement, made.left)
    masks = made.masks_text()
    tuned = tuned_source(found_for(key_of(arrangement.program, arrangement.heads, kv_heads)))
    end = export.module_class(arrangement, kv_heads, _runner(made, kv_heads, tuned))
    written = (pattern, masks, tuned, _MODULE, end)
    made.kernels.taken |= uses_of(written)
    kernels = "\n\n\n".join(made.kernels_text())
    carried = embed_needed([kernels, *written], _HOMES, _GIVEN)
    first = export.header(_ABOUT, arrangement, kv_heads, program_text)
    imports = "\n".join(dict.fromkeys([*carried.imports.splitlines(), *IMPORTS.splitlines()]))
    first = f"{first}\n\nfrom __future__ import annotations\n\n{imports}"
    reading = "\n".join(f"# {line}".rstrip() for line in READING.strip("\n").split("\n"))
    rest = "\n\n".join([
        f"{_RULE} the kernels\n#\n{reading}\n\n\n{kernels}\n\n",
        carried.text,
        f"{_RULE} the pattern\n\n{pattern}",
        "\n\n".join(part for part in (masks, made.table_text(), tuned) if part) + f"\n\n\n{_MODULE}",
        end,
    ])  # fmt: skip
    return _named(first, rest)


def _runner(made: Parts, kv_heads: int, tuned: str) -> str:
    """The expression of what the module's class calls."""
    options = ["    tuned=TUNED.on,"] if tuned else []
    options += [f'    enqueued=DrawnPlans(MASKS, {kv_heads}, ""),'] if made.drawn else []
    options += ["    steady=True,"] if is_steady(made.masks.arrangement.program) else []
    names = tuple(t.name for t in made.masks.arrangement.program.tensors)
    executor = [f"    NAMESPACE, PATTERN, MASKS, {kv_heads},", *options]
    return "\n".join(["SavedAttention(known(KernelExecutor(", *executor, f")), {names!r})"])


def _named(first: str, rest: str) -> str:
    """Both, and in between a name that no other module has."""
    digest = hashlib.sha256(f"{first}{rest}".encode()).hexdigest()[:16]
    space = f'NAMESPACE = "patternc_saved_{digest}"\n"""Where PyTorch\'s operators of this module lie."""'
    return f"{first}\n\n{space}\n\n\n{rest}"


_MODULE = '''
def module(structure):
    """The kernels of a structure."""
    return kernels_of(structure, KERNELS)
'''.lstrip("\n")


@dataclass
class Parts:
    """The masks and kernels of an arrangement while they are written down."""

    masks: Masks
    kernels: Kernels = field(default_factory=Kernels)
    _texts: dict[str, int] = field(default_factory=dict)

    def left(self, term: Term) -> list[Blocked]:
        """The relations that the mask of a term asks for cells."""
        own = next(own for own in self.masks.arrangement.classes if term in own.terms)
        found = self.masks.source(own.heads[0], own.terms.index(term), _NARROW)
        return [(relation.node, relation.sizes) for relation in found.relations]

    @property
    def drawn(self) -> bool:
        """Whether the device may make plans: there are run-time tensors, and nothing is counted (see triton_drawn)."""
        classes = self.masks.arrangement.classes
        sources = (self.masks.source(own.heads[0], i, _NARROW) for own in classes for i in range(len(own.terms)))
        return bool(self.masks.arrangement.program.tensors) and not any(source.relations for source in sources)

    # -------------------------------------------------------------- masks

    def masks_text(self) -> str:
        """The constant MASKS."""
        lines = ["MASKS = SavedMasks(", "    PATTERN,", "    (", *self._head_masks(), "    ),", ")"]
        return "\n".join(lines)

    def _head_masks(self) -> Iterator[str]:
        for own in self.masks.arrangement.classes:
            narrow, wide = (list(self._term_masks(own.heads[0], len(own.terms), n)) for n in (_NARROW, _WIDE))
            yield f"        HeadMasks({own.heads!r}, ("
            yield from (f"            {line}," for line in narrow)
            if narrow == wide:
                yield "        )),"
            else:
                yield "        ), ("
                yield from (f"            {line}," for line in wide)
                yield "        )),"

    def _term_masks(self, head: int, terms: int, n: int) -> Iterator[str]:
        for term in range(terms):
            try:
                yield self._mask(self.masks.source(head, term, n))
            except UnsupportedPatternError:
                yield "None"

    def _mask(self, source: MaskSource) -> str:
        number = self._texts.setdefault(source.text, len(self._texts))
        tensors = "".join(f"ReadTensor({t.name!a}, {len(t.dims)}, {t.batched}), " for t in source.tensors)
        options = [f"numbers={source.numbers!r}"] if source.numbers else []
        options += [f"tensors=({tensors.rstrip(' ')})"] if tensors else []
        options += [f"relation_count={len(source.relations)}"] if source.relations else []
        options += ["bag=True"] if source.bag else []
        return f"SavedMask({', '.join([str(number), *options])})"

    # -------------------------------------------------------------- kernels

    def kernels_text(self) -> Iterator[str]:
        """The kernels of all structures, each with a comment that says what it is for."""
        for number, one in enumerate(self._sets):
            text, one.called = self.kernels.add(source(one.structure), number)
            yield "\n".join([*one.described(number), "", "", text])

    @cached_property
    def _sets(self) -> list[KernelSet]:
        found: dict[Structure, KernelSet] = {}
        for wide in (False, True):
            for group in groups(self.masks.arrangement):
                try:
                    structure = structure_of_group(self.masks, group, _WIDE if wide else _NARROW)
                except UnsupportedPatternError:
                    continue
                one = found.setdefault(structure, KernelSet(structure, wide))
                one.users += [group] if wide == one.wide else []
        return list(found.values())

    def table_text(self) -> str:
        """The constant KERNELS."""
        return "\n".join(["KERNELS = {", *(line for one in self._sets for line in one.entry()), "}"])


@dataclass
class KernelSet:
    """The kernels of a structure, and the terms that they are for."""

    structure: Structure
    wide: bool
    """They are for more than LONGEST keys alone."""
    users: list[Group] = field(default_factory=list)
    called: dict[str, str] = field(default_factory=dict)
    """What its own source's names are in the text."""

    def described(self, number: int) -> Iterator[str]:
        """The comment above the kernels."""
        yield f"# {'-' * 66} kernels {number}"
        yield "#"
        if self.wide:
            yield f"# For more than {LONGEST} keys, where some number needs 64 bits."
        for group in self.users:
            queries = _ordered(*(own for own, _ in group.layouts))
            yield f"# Of {export.heads_in_words(group.heads)}: queries {queries}, and in one online softmax"
            for i, (term, (_, keys)) in enumerate(zip(group.terms, group.layouts, strict=True)):
                yield f"#     term {term}, keys {_ordered(keys)}, by {self.called[f'mask{i}']}"

    def entry(self) -> Iterator[str]:
        """The lines of the table."""
        s, group = self.structure, self.users[0]
        flags = {f.name: getattr(s, f.name) for f in fields(s) if f.name not in ("masks", "title")}
        yield "    Structure("
        yield f"        MASKS.of({group.heads[0]}, {group.terms!r}, bag={s.bag}{', wide=True' if self.wide else ''}),"
        yield f"        {', '.join(f'{name}={value!r}' for name, value in flags.items())},"
        yield "    ): SimpleNamespace("
        yield from (f"        {name}={self.called[name]}," for name in sorted(_entries(source(s))))
        yield "    ),"


def _entries(text: str) -> frozenset[str]:
    """The kernels that launches start: what a source defines and does not use itself."""
    return frozenset(name for name in names_of(text) - uses_of([text]) if not name.isupper())


def _ordered(*layouts: Layout) -> str:
    """The order in which tokens are taken, in words."""
    if layouts[0].listed:
        return "in a list"
    stride, width = layouts[0].stride, max(layout.width for layout in layouts)
    if stride == 1:
        return "one after the other"
    return f"{stride} apart" if width == 1 else f"in boxes of {width} columns, with lines of {stride} tokens"
