"""`patternc explain`: the page of a message's code, or what is computed of a program."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from patternc.cli.options import OBJECTIVE, Choice, TileSize, choice_options, length_options, tensor_options
from patternc.cli.programs import compile_choice, length_of
from patternc.cli.progress import progress
from patternc.cli.tensors import run_time_tensors
from patternc.cli.terminal import colour
from patternc.compiler import TILE
from patternc.errors import Code
from patternc.machine import Objective

_TILE = "x".join(map(str, TILE))
_CODE = re.compile(r"SPAT[-_ ]?\w*", re.IGNORECASE)


@click.command("explain")
@click.argument("subject", metavar="FILE|CODE")
@choice_options(heads=8)
@length_options(length=None)
@tensor_options
@click.option("--tile", type=TileSize(), default=_TILE, show_default=True, help="Queries by keys of a tile.")
@OBJECTIVE
def command(
    subject: str, choice: Choice, length: int | None, queries: int | None, tensors: str | None, seed: int,
    tile: tuple[int, int], objective: Objective,
) -> None:  # fmt: skip
    """Explain a program, or a code such as SPAT012.

    For a program: the layouts of its tiles and what they save, what is computed at a length, and which heads share a
    schedule.
    """
    if _CODE.fullmatch(subject) and not Path(subject).exists():
        click.echo(for_terminal(page(subject), colour=colour()))
        return
    compiled = compile_choice(subject, choice)
    n = length_of(compiled.program, length)
    arrays: dict[str, Any] = run_time_tensors(compiled.program.tensors, tensors, n, heads=choice.heads, seed=seed)
    with progress(f"{compiled.name} at n = {n:,}"):
        text = compiled.explain(n, queries, tile=tile, objective=objective, **arrays)
    click.echo(text)


def page(code: str) -> str:
    """The page of a code. Raises click.UsageError, with near ones, for a code that does not exist."""
    wanted = code.upper().replace("-", "").replace("_", "").replace(" ", "")
    known = [str(c) for c in Code]
    if wanted not in known:
        near = get_close_matches(wanted, known, n=3)
        raise click.UsageError(f"There is no code {code!r}" + (f"; did you mean {' or '.join(near)}?" if near else "."))
    pages = re.split(r"(?m)^(?=## )", files("patternc").joinpath("codes.md").read_text(encoding="utf-8"))
    found = next((text for text in pages if re.match(rf"## .*\b{wanted}\b", text)), None)
    assert found is not None, f"codes.md has no page for {wanted}"
    return found.strip()


def for_terminal(markdown: str, *, colour: bool) -> str:
    """A page without its marks: headings bold where there is colour, programs indented under what becomes of them."""
    lines: list[str] = []
    inside = False
    for line in markdown.splitlines():
        if line.startswith("```"):
            if not inside:
                _, *words = line.split()
                values = ", ".join(word for word in words if "=" in word)
                verdict = "refused" if "wrong" in words else "accepted"
                lines.append(f"{verdict}{f', with {values}' if values else ''}:")
            inside = not inside
        elif line.startswith("#"):
            heading = line.lstrip("# ")
            lines.append(click.style(heading, bold=True) if colour else heading)
        else:
            lines.append(f"    {line}" if inside else line)
    return "\n".join(lines)
