"""`patternc compile`: a pattern as a Python module that needs torch only, or torch and triton."""

from __future__ import annotations

from pathlib import Path

import click

from patternc.cli.options import Choice, choice_options, file_argument
from patternc.cli.programs import compile_choice
from patternc.cli.terminal import plain

_MARK = b"written by patternc"
"""In the first lines of every module that we write, in any case of letters."""


@click.command("compile")
@file_argument
@choice_options(heads=None)
@click.option(
    "--backend",
    type=click.Choice(["torch", "triton"]),
    default="torch",
    show_default=True,
    help="What computes: torch on any device, or kernels for CUDA devices.",
)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Module to write.")
@click.option("--force", is_flag=True, help="Overwrite a file that patternc did not write.")
def command(file: str, choice: Choice, backend: str, output: Path, force: bool) -> None:
    """Write a pattern as a Python module that needs torch only, or torch and triton.

    Its class Attention is an nn.Module that takes what a compiled pattern takes, with the same results.
    """
    if output.suffix != ".py":
        raise click.UsageError(f"a Python module ends in .py, not as {output.name!r}")
    if output.exists() and not force and not _is_ours(output):
        raise click.UsageError(f"{output} exists and was not written by patternc; --force overwrites it")
    compile_choice(file, choice, backend=backend).save(output)
    click.echo(f"{plain(str(output))} written", err=True)


def _is_ours(path: Path) -> bool:
    """Whether we wrote the file; an empty one is nobody's work."""
    with path.open("rb") as file:
        head = file.read(400)
    return not head or _MARK in head.lower()
