"""`patternc show`: a pattern as a picture, in the terminal or in a file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import click

from patternc.cli.options import (
    OBJECTIVE,
    Choice,
    TileSize,
    choice_options,
    file_argument,
    length_options,
    tensor_options,
)
from patternc.cli.programs import compile_choice, length_of
from patternc.cli.progress import progress
from patternc.cli.tensors import run_time_tensors
from patternc.cli.terminal import colour
from patternc.cli.values import write_value
from patternc.compiler import TILE, Compiled
from patternc.machine import Objective
from patternc.show import halfblocks
from patternc.show.picture import Picture, size_text

FIGURE_SIDE = 512
"""Display cells along the side of a panel in a file, at most."""
FORMATS = (".png", ".svg")


@click.command("show")
@file_argument
@choice_options(heads=8)
@length_options(length=None)
@tensor_options
@click.option(
    "--head", "only", type=click.IntRange(min=0), metavar="H", multiple=True, help="A head to show; left out, all."
)
@click.option(
    "--across",
    type=click.IntRange(min=1, max=8),
    metavar="N",
    help="Panels beside each other, in smaller cells if they must; left out, what fits.",
)
@click.option("--tile", type=TileSize(), help="Side of a tile in tokens; left out, what fits. With --layout, 128x64.")
@click.option("--layout", "layouts", is_flag=True, help="Show each term in its layout, tile by tile, beside its cells.")
@OBJECTIVE
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A .png or .svg file to write.")
def command(
    file: str, choice: Choice, length: int | None, queries: int | None, tensors: str | None, seed: int,
    only: tuple[int, ...], across: int | None, tile: tuple[int, int] | None, layouts: bool, objective: Objective,
    output: Path | None,
) -> None:  # fmt: skip
    """Draw a pattern in the terminal or into a file.

    Queries run down, keys to the right; there is one panel for each class of heads. Tiles are coloured by what they
    cost: skipped, full (no mask is needed) or partial. Where there are more tokens than room, a display cell stands for
    a square of cells and is shaded by the share that is kept. With --heads 8 --across 4, the classes of eight heads
    stand side by side.

    With --layout, there are two panels for each term: its cells in the order of the tokens, and in the order in which
    the chosen layout takes them into tiles, lane by lane.
    """
    if output is not None and output.suffix.lower() not in FORMATS:
        raise click.UsageError(f"a picture ends in .png or .svg, not as {output.name!r}")
    compiled = compile_choice(file, choice)
    n = length_of(compiled.program, length)
    arrays = run_time_tensors(compiled.program.tensors, tensors, n, heads=choice.heads, seed=seed)
    if layouts:
        _show_layouts(compiled, choice, n, queries, arrays, only, tile or TILE, objective, output)
        return
    if tile is not None and tile[0] != tile[1]:
        raise click.UsageError(f"tiles of a picture are squares; found {tile[0]}x{tile[1]}, which needs --layout")
    width = shutil.get_terminal_size().columns
    side = FIGURE_SIDE if output is not None else halfblocks.side_limit(width, across or 1)
    from patternc.show.compute import MOST_SELECTED, Sight  # NumPy, which a wrong call does not pay

    square = None if tile is None else tile[0]
    sight = Sight(compiled.program, n, queries or n, choice.heads, arrays, side=side, tile=square, only=only)
    if sight.selected > MOST_SELECTED:
        click.echo(f"choosing among {sight.selected:,} pairs of positions: this takes minutes", err=True)
    with progress(f"{compiled.name} at n = {size_text(n)}", total=len(sight.classes)) as step:
        panels = []
        for heads in sight.classes:
            panels.append(sight.panel(heads))
            step()
    size = _size(n, choice, f"tiles of {size_text(sight.tile)}")
    picture = sight.picture(compiled.name, parameters_text(compiled, choice), size, panels)
    if output is None:
        click.echo("\n".join(halfblocks.lines(picture, width, colour=_colours())), color=True)
    else:
        _write(picture, output, across)


def _show_layouts(
    compiled: Compiled, choice: Choice, n: int, queries: int | None, arrays: dict[str, Any], only: tuple[int, ...],
    tile: tuple[int, int], objective: Objective, output: Path | None,
) -> None:  # fmt: skip
    """Pictures of the terms of a plan."""
    from patternc.planning import planned as plan  # as above
    from patternc.show import permuted, permuted_lines

    permuted.check_length(n)
    arrangement = compiled.arrangement(tile=tile, objective=objective)
    planned = plan(arrangement, n, queries or n, arrays, "cpu", tile)
    pairs = list(permuted.pairs(planned.plan, planned.meanings, only))
    size = _size(n, choice, f"tiles of {tile[0]} × {tile[1]}")
    picture = permuted.picture(compiled.name, parameters_text(compiled, choice), size, planned.plan, pairs)
    if output is None:
        width = shutil.get_terminal_size().columns
        click.echo("\n".join(permuted_lines.lines(picture, pairs, width, colour=_colours())), color=True)
        return
    from patternc.show import permuted_figure  # matplotlib, which the terminal does not pay

    permuted_figure.write(picture, pairs, output)
    click.echo(f"{output} written", err=True)


def _write(picture: Picture, output: Path, across: int | None) -> None:
    from patternc.show import figure  # matplotlib, which the terminal does not pay

    figure.write(picture, output, across)
    click.echo(f"{output} written", err=True)


def _colours() -> int:
    """How many colours standard output has."""
    if not colour():
        return 0
    return 2**24 if os.environ.get("COLORTERM") in ("truecolor", "24bit") else 256


def parameters_text(compiled: Compiled, choice: Choice) -> str:
    """The values of the parameters, set or by default."""
    words = []
    for parameter in compiled.pattern.definition.node.parameters:
        name = parameter.name.id
        if name in choice.params:
            words.append(f"{name} = {write_value(choice.params[name])}")
        elif parameter.default is not None:
            words.append(f"{name} = {' '.join(parameter.default.span.text.split())}")
    return ", ".join(words)


def _size(n: int, choice: Choice, tiles: str) -> str:
    words = [f"n = {size_text(n)}", f"{choice.heads} head{'s' * (choice.heads > 1)}"]
    words += [f"layer {choice.layer}"] if choice.layer else []
    return " · ".join([*words, tiles])
