"""Saved modules: one readable file that needs torch only.

It holds the pattern as a generated function, the source of the planner and of the tile executor as they are in this
package, and a `torch.nn.Module`. It makes plans for any length, as a program in memory does, with the same bits.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from patternc import ir, plan
from patternc.analysis import (
    axes,
    box_arithmetic,
    boxes,
    elementwise,
    enclosures,
    numbers,
    relation,
    strips,
    tiles,
)
from patternc.analysis.evaluate import Sharing, shared
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.backends import (
    inputs,
    torch_arrays,
    torch_dropout,
    torch_function,
    torch_fused,
    torch_masks,
    torch_passes,
    torch_pieces,
    torch_places,
    torch_products,
    torch_run,
    torch_saved,
    torch_schedule,
    torch_strips,
    torch_unread,
)
from patternc.backends.export_embed import embed
from patternc.backends.export_printer import print_pattern, print_uniform, tensors_of
from patternc.rewrite import walk

_CARRIED = (
    plan, elementwise, numbers, enclosures, box_arithmetic, boxes, axes, strips, tiles, relation,
    import_module("patternc.passes.tiles"), import_module("patternc.passes.merge"), inputs, torch_arrays, torch_dropout,
    torch_places, torch_strips, torch_schedule, torch_masks, torch_pieces, torch_unread, torch_products, torch_fused,
    torch_passes, torch_function, torch_run, torch_saved,
)  # fmt: skip
"""The package `passes` has functions under the names of these two of its files."""

_MODULE = '''
RUNNER = Runner(PATTERN, kv_heads={kv_heads})


class Attention(torch.nn.Module):
    """Attention under the pattern, with {heads} query heads and {kv_heads} key heads.

    q is (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v); the queries are the last N_q of the N positions. The
    result is (B, H, N_q, D_v), and with `return_lse` also the rows' log-sum-exp (B, H, N_q). `scale` is 1/√D unless
    given. A row without keys gives 0 and -inf. Wrong arguments are TypeError or ValueError.{tensors}
    """

    def forward(self, q, k, v, *, scale=None, dropout_p=0.0, return_lse=False, **tensors):
        return RUNNER(q, k, v, scale=scale, dropout_p=dropout_p, return_lse=return_lse, tensors=tensors)
'''


def save(path: Path, arrangement: Arrangement, kv_heads: int, program_text: str) -> Path:
    """Writes the module of an arranged program. The file appears whole or not at all; OSError if it cannot be."""
    text = module_source(arrangement, kv_heads, program_text)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(scratch, 0o666 & ~_umask())
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def module_source(arrangement: Arrangement, kv_heads: int, program_text: str) -> str:
    """The whole module; `program_text` is shown in its header."""
    program, heads = arrangement.program, arrangement.heads
    carried = embed(_CARRIED)
    names = ", ".join(t.name for t in program.tensors)
    tensors = f"\n    The run-time tensors are {names}." if names else ""
    parts = [
        _header(program, heads, kv_heads, program_text),
        f"from __future__ import annotations\n\n{carried.imports}\n",
        carried.text,
        f"# {'=' * 66} the pattern\n\n{pattern_source(arrangement)}",
        _MODULE.format(heads=heads, kv_heads=kv_heads, tensors=tensors).lstrip("\n"),
    ]
    return "\n\n".join(parts)


def _header(program: ir.Program, heads: int, kv_heads: int, program_text: str) -> str:
    return "\n".join([
        "# Written by patternc; needs torch only. The class to use, `Attention`, stands at the end, and the pattern",
        "# above it; what comes before that makes plans and executes them, and is the same in every module.",
        "#",
        f"# {_word(program.name)} for {heads} query heads and {kv_heads} key heads:",
        "#",
        *comment(program_text),
        "",
    ])  # fmt: skip


def comment(text: str) -> list[str]:
    """Lines of a comment that show a text of any origin: no character of it can end the comment."""
    lines = re.split(r"\r\n|\r|\n", text)
    shown = ("".join(c if c.isprintable() else "?" for c in line.expandtabs(4)) for line in lines)
    return [f"#     {line}".rstrip() for line in shown]


def _word(name: str) -> str:
    return re.sub(r"\W", "?", name)


# ------------------------------------------------------------------ the pattern


def pattern_source(arrangement: Arrangement) -> str:
    """The generated part: functions of patterns and sets, and the constant PATTERN that says which heads have which."""
    printed = _Functions()
    classes = [item for own in arrangement.classes for item in _head_class(own, printed)]
    lines = [
        "PATTERN = SavedPattern(",
        f"    heads={arrangement.heads},",
        "    head_classes=(",
        *(line for _, text in sorted(classes) for line in text),
        "    ),",
        "    tensors=run_time_tensors,",
        "    grids=grids,",
        ")",
    ]
    program = arrangement.program
    return "\n\n".join([*printed.texts, _tensors(program), _grids(program), "\n".join(lines) + "\n"])


class _Functions:
    """Printed patterns, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._names: dict[int, str] = {}
        self._sharing = Sharing()

    def name(self, pattern: ir.Pattern, docstring: str, kind: str = "pattern") -> str:
        """The name of the function of a pattern."""
        own = shared(pattern, self._sharing)
        if id(own) not in self._names:
            self._names[id(own)] = f"{kind}_{sum(text.startswith(f'def {kind}_') for text in self.texts)}"
            self.texts.append(print_pattern(own, self._names[id(own)], docstring))
        return self._names[id(own)]


def _head_class(own: HeadClass, printed: _Functions) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """The heads of a class and the lines that say what they have."""
    whole = printed.name(own.pattern, f"M of {_heads(own.heads)}.")
    terms = [_term(term, number, own, printed) for number, term in enumerate(own.terms)]
    parts = [
        own.pattern,
        *(p for t in own.terms for p in (t.pattern, t.listed_queries, t.listed_keys) if p is not None),
    ]
    tensors = tuple(sorted({name for part in parts for name in tensors_of(part)}))
    drawn = any(_samples(part) for part in parts)  # the hash of `sample` takes the head
    for heads in [(h,) for h in own.heads] if drawn else [own.heads]:
        lines = [
            f"        HeadClass({heads!r}, {whole}, (",
            *(f"            {t}," for t in terms),
            f"        ), {tensors!a}),",
        ]
        yield heads, lines


def _term(term: Term, number: int, own: HeadClass, printed: _Functions) -> str:
    who = f"Term {number} of {_heads(own.heads)}"
    arguments = [printed.name(term.pattern, f"{who}: M.", "term"), _layout(term.queries), _layout(term.keys)]
    for side in ("queries", "keys"):
        wanted = getattr(term, f"listed_{side}")
        if wanted is not None:
            arguments.append(f"listed_{side}={printed.name(wanted, f'{who}: whether its {side} are listed.', side)}")
    return f"SavedTerm({', '.join(arguments)})"


def _layout(layout: plan.Layout) -> str:
    return "LISTED" if layout.listed else f"Layout({layout.stride}, {layout.width})"


def _samples(pattern: ir.Pattern) -> bool:
    return any(isinstance(node, ir.Sample) for node in walk(pattern))


def _heads(members: tuple[int, ...]) -> str:
    return f"head{'s' * (len(members) > 1)} {', '.join(map(str, members))}"


def _tensors(program: ir.Program) -> str:
    items = [f"Declared({t.name!a}, {t.element!a}, {_extents(t.dims)}, batched={t.batched})" for t in program.tensors]
    return _listing("run_time_tensors", "The run-time tensors at a length.", items)


def _grids(program: ir.Program) -> str:
    return _listing("grids", "The grids that n must fill.", [_extents(grid.extents) for grid in program.grids])


def _extents(nodes: tuple[ir.Scalar, ...]) -> str:
    """A tuple of integers that depend on n alone."""
    shown = [repr(n.value) if isinstance(n, ir.Const) else f"as_int({print_uniform(n)})" for n in nodes]
    return f"({', '.join(shown)}{',' * (len(shown) == 1)})"


def _listing(name: str, docstring: str, items: list[str]) -> str:
    body = ["    return [", *(f"        {item}," for item in items), "    ]"] if items else ["    return []"]
    return "\n".join([f"def {name}(n):", f'    """{docstring}"""', *body]) + "\n"
