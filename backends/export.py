"""Saved modules: one readable file that needs torch only.

It holds the pattern as a generated function, the source of the planner and of the tile executor as they are in this
package, and a `torch.nn.Module`. It makes plans for any length, as a program in memory does, with the same bits.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from patternc import ir, plan
from patternc.analysis import box_arithmetic, boxes, elementwise, enclosures, launches, numbers, relation, tiles
from patternc.analysis.evaluate import Sharing, shared
from patternc.backends import (
    inputs,
    torch_arrays,
    torch_dropout,
    torch_function,
    torch_masks,
    torch_passes,
    torch_pieces,
    torch_run,
    torch_saved,
    torch_schedule,
)
from patternc.backends.export_embed import embed
from patternc.backends.export_printer import print_pattern, print_uniform, tensors_of
from patternc.backends.torch_program import is_bag
from patternc.rewrite import walk
from patternc.specialise import of_head

_CARRIED = (
    plan, elementwise, numbers, enclosures, box_arithmetic, boxes, tiles, relation, launches, inputs, torch_arrays,
    torch_dropout, torch_schedule, torch_masks, torch_pieces, torch_passes, torch_function, torch_run, torch_saved,
)  # fmt: skip

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


def save(path: Path, program: ir.Program, heads: int, kv_heads: int, program_text: str) -> Path:
    """Writes the module of a program. The file appears whole or not at all; OSError if it cannot be."""
    text = module_source(program, heads, kv_heads, program_text)
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


def module_source(program: ir.Program, heads: int, kv_heads: int, program_text: str) -> str:
    """The whole module; `program_text` is shown in its header."""
    carried = embed(_CARRIED)
    names = ", ".join(t.name for t in program.tensors)
    tensors = f"\n    The run-time tensors are {names}." if names else ""
    parts = [
        _header(program, heads, kv_heads, program_text),
        f"from __future__ import annotations\n\n{carried.imports}\n",
        carried.text,
        f"# {'=' * 66} the pattern\n\n{pattern_source(program, heads)}",
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


def pattern_source(program: ir.Program, heads: int) -> str:
    """The generated part: pattern functions, and the constant PATTERN that says which heads have which."""
    functions, classes = [], []
    for number, (pattern, members) in enumerate(_head_classes(program, heads)):
        name = f"pattern_{number}"
        functions.append(print_pattern(pattern, name, f"M of {_heads(members)}."))
        drawn = [(h,) for h in members] if _samples(pattern) else [members]  # the hash of `sample` takes the head
        classes += [(own, f"HeadClass({own!r}, {name}, {tuple(tensors_of(pattern))!a})") for own in drawn]
    lines = [
        "PATTERN = SavedPattern(",
        f"    heads={heads},",
        f"    bag={is_bag(program.pattern)},",
        "    head_classes=(",
        *(f"        {text}," for _, text in sorted(classes)),
        "    ),",
        "    tensors=run_time_tensors,",
        "    grids=grids,",
        ")",
    ]
    return "\n\n".join([*functions, _tensors(program), _grids(program), "\n".join(lines) + "\n"])


def _samples(pattern: ir.Pattern) -> bool:
    return any(isinstance(node, ir.Sample) for node in walk(pattern))


def _head_classes(program: ir.Program, heads: int) -> Iterable[tuple[ir.Pattern, tuple[int, ...]]]:
    """The different patterns of the heads, n still open, and who has each."""
    sharing = Sharing()
    members: dict[int, list[int]] = {}
    patterns: dict[int, ir.Pattern] = {}
    for h in range(heads):
        own = shared(of_head(program, h).pattern, sharing)
        members.setdefault(id(own), []).append(h)
        patterns[id(own)] = own
    return [(pattern, tuple(members[key])) for key, pattern in patterns.items()]


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
