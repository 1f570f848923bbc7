"""Saved modules: one readable file that needs torch only.

It holds the pattern as a generated function, those definitions of the planner and of the tile executor that it needs,
as they are in this package, and a `torch.nn.Module`. It makes plans for any length, as a program in memory does, with
the same bits.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from patternc import ir, plan
from patternc.analysis.evaluate import Sharing, shared
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.backends.export_embed import embed_needed
from patternc.backends.export_printer import Blocked, print_pattern, print_uniform, tensors_of
from patternc.rewrite import walk

_HOMES = (
    "patternc.analysis.numbers", "patternc.analysis.relation", "patternc.backends.torch_saved",
    "patternc.backends.inputs", "patternc.plan", "patternc.backends.torch_run",
)  # fmt: skip
"""Where the words of the generated text are defined."""

_MODULE = '''
RUNNER = {runner}


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
    return write(path, module_source(arrangement, kv_heads, program_text))


def write(path: Path, text: str) -> Path:
    """Writes a file, through links, which appears whole or not at all; OSError if it cannot be."""
    target = Path(os.path.realpath(path))
    _check_target(target)
    handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(scratch, 0o666 & ~_umask())
        os.replace(scratch, target)
    except BaseException:
        os.unlink(scratch)
        raise
    return path


def _check_target(target: Path) -> None:
    """A file takes the place of another, or of none; never that of a folder, a device or a file kept from writing."""
    if not target.parent.is_dir():
        raise OSError(errno.ENOENT, "there is no such folder", str(target.parent))
    if not target.exists():
        return
    if not target.is_file():
        raise OSError(errno.EISDIR if target.is_dir() else errno.EINVAL, "this is no file", str(target))
    if not os.access(target, os.W_OK):
        raise OSError(errno.EACCES, "the file is kept from writing", str(target))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def module_source(arrangement: Arrangement, kv_heads: int, program_text: str) -> str:
    """The whole module; `program_text` is shown in its header."""
    pattern = pattern_source(arrangement)
    end = module_class(arrangement, kv_heads, f"Runner(PATTERN, kv_heads={kv_heads})")
    carried = embed_needed([pattern, end], _HOMES)
    parts = [
        header(_ABOUT, arrangement, kv_heads, program_text),
        f"from __future__ import annotations\n\n{carried.imports}\n",
        carried.text,
        f"# {'=' * 66} the pattern\n\n{pattern}",
        end,
    ]
    return "\n\n".join(parts)


_ABOUT = """
Written by patternc; needs torch only. The class to use, `Attention`, stands at the end, and the pattern
above it; what comes before that, as far as the pattern needs it, makes plans and executes them.
"""


def header(about: str, arrangement: Arrangement, kv_heads: int, program_text: str) -> str:
    """The first lines of a module: what it is, and the program that it was made from."""
    return "\n".join([
        *(f"# {line}" for line in about.strip().split("\n")),
        "#",
        f"# {_word(arrangement.program.name)} for {arrangement.heads} query heads and {kv_heads} key heads:",
        "#",
        *comment(program_text),
        "",
    ])  # fmt: skip


def module_class(arrangement: Arrangement, kv_heads: int, runner: str) -> str:
    """The last lines: the class to use; `runner` is the expression of what it calls."""
    names = ", ".join(t.name for t in arrangement.program.tensors)
    tensors = f"\n    The run-time tensors are {names}." if names else ""
    return _MODULE.format(runner=runner, heads=arrangement.heads, kv_heads=kv_heads, tensors=tensors).lstrip("\n")


def comment(text: str) -> list[str]:
    """Lines of a comment that show a text of any origin: no character of it can end the comment."""
    lines = re.split(r"\r\n|\r|\n", text)
    shown = ("".join(c if c.isprintable() else "?" for c in line.expandtabs(4)) for line in lines)
    return [f"#     {line}".rstrip() for line in shown]


def _word(name: str) -> str:
    return re.sub(r"\W", "?", name)


# ------------------------------------------------------------------ the pattern


Left = Callable[[Term], Sequence[Blocked]]
"""The covers and selections of a term that others than its function want to see."""


def pattern_source(arrangement: Arrangement, left: Left | None = None) -> str:
    """The generated part: functions of patterns and sets, and the constant PATTERN that says which heads have which."""
    printed = _Functions(left)
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

    def __init__(self, left: Left | None) -> None:
        self.texts: list[str] = []
        self._names: dict[tuple[int, bool], str] = {}
        self._sharing = Sharing()
        self._left = left

    def name(self, pattern: ir.Pattern, docstring: str, kind: str = "pattern") -> str:
        """The name of the function of a pattern."""
        return self._name(pattern, docstring, kind, None)

    def term(self, term: Term, docstring: str) -> str:
        """The name of the function of a term."""
        left = self._left and [
            (self._shared(node), tuple(map(self._shared, sizes))) for node, sizes in self._left(term)
        ]
        return self._name(term.pattern, docstring, "term", left or None)

    def _name(self, pattern: ir.Pattern, docstring: str, kind: str, left: Sequence[Blocked] | None) -> str:
        own = self._shared(pattern)
        key = id(own), left is not None
        if key not in self._names:
            self._names[key] = f"{kind}_{sum(text.startswith(f'def {kind}_') for text in self.texts)}"
            self.texts.append(print_pattern(own, self._names[key], docstring, left))
        return self._names[key]

    def _shared(self, node: ir.Node) -> Any:
        return shared(node, self._sharing)


def _head_class(own: HeadClass, printed: _Functions) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """The heads of a class and the lines that say what they have."""
    whole = printed.name(own.pattern, f"M of {heads_in_words(own.heads)}.")
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
    who = f"Term {number} of {heads_in_words(own.heads)}"
    arguments = [printed.term(term, f"{who}: M."), _layout(term.queries), _layout(term.keys)]
    for side in ("queries", "keys"):
        wanted = getattr(term, f"listed_{side}")
        if wanted is not None:
            arguments.append(f"listed_{side}={printed.name(wanted, f'{who}: whether its {side} are listed.', side)}")
    return f"SavedTerm({', '.join(arguments)})"


def _layout(layout: plan.Layout) -> str:
    return "LISTED" if layout.listed else f"Layout({layout.stride}, {layout.width})"


def _samples(pattern: ir.Pattern) -> bool:
    return any(isinstance(node, ir.Sample) for node in walk(pattern))


def heads_in_words(members: tuple[int, ...]) -> str:
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
