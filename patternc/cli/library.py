"""`patternc list`: the patterns of the library, or of files, with their parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from patternc import ast, files, parser
from patternc.cli.inputs import open_file
from patternc.cli.terminal import colour, plain
from patternc.errors import SpatError
from patternc.named_presets import first_sentence
from patternc.source import Source

_WIDTH = 100


@click.command("list")
@click.argument("places", metavar="[FILE|FOLDER]...", nargs=-1)
def command(places: tuple[str, ...]) -> None:
    """Show patterns with their parameters.

    They are those of the library `std/` and its presets, or of the given files and folders.
    """
    first = True
    for source in _sources(places):
        if not first:
            click.echo()
        first = False
        click.echo(_bold(plain(source.name)))
        for line in _describe(source):
            click.echo(line)


def _bold(text: str) -> str:
    return click.style(text, bold=True) if colour() else text


def _sources(places: tuple[str, ...]) -> Iterator[Source]:
    if not places:
        yield from map(files.read_library, sorted(files.library_names(), key=_presets_last))
    for place in places:
        if Path(place).is_dir():
            for path in sorted(Path(place).glob("*.spat")):
                yield open_file(str(path))
        else:
            yield open_file(place)


def _presets_last(name: str) -> tuple[int, str]:
    return name.count("/"), name


def _describe(source: Source) -> Iterator[str]:
    try:
        tree, diagnostics = parser.parse(source)
    except SpatError as error:
        tree, diagnostics = None, list(error.diagnostics)
    for item in tree.items if tree else ():
        if isinstance(item, ast.Pattern):
            yield from (f"  {line}" for line in signature(item))
    sentence = first_sentence(source.text)
    if sentence:
        yield from (f"    {line}" for line in click.wrap_text(plain(sentence), _WIDTH - 4).splitlines())
    errors = sum(d.severity == "error" for d in diagnostics)
    if errors:
        yield f"    does not parse: {errors} error{'s' * (errors > 1)}"


def signature(pattern: ast.Pattern) -> list[str]:
    """`name(p: type = default, …)` as written, on as many lines as needed."""
    parameters = [" ".join(plain(p.span.text.replace("\n", " ")).split()) for p in pattern.parameters]
    line, indent = f"{pattern.name.id}(", " " * (len(pattern.name.id) + 1)
    lines = []
    for i, parameter in enumerate(parameters):
        piece = parameter + ("," if i + 1 < len(parameters) else "")
        if line.strip() and len(line) + len(piece) > _WIDTH - 4 and not line.endswith("("):
            lines.append(line.rstrip())
            line = indent
        line += piece + (" " if piece.endswith(",") else "")
    return [*lines, line + ")"] if parameters else [pattern.name.id]
