"""`patternc fmt`: the one layout of a program."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from pathlib import Path

import click

from patternc import format as formatter
from patternc.cli.inputs import STDIN, open_file, status
from patternc.cli.terminal import colour, plain
from patternc.errors import SpatError, render


@click.command("fmt")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Lay out programs in place.

    `-` reads standard input and writes standard output. A file that has syntax errors is reported and left alone.
    """
    if STDIN in files and len(files) > 1:
        raise click.UsageError("'-' stands alone")
    result = 0
    for name in files:
        try:
            changed = _format_one(name, check=check, diff=diff)
            result = max(result, int(check and changed))
        except SpatError as error:
            result = max(result, status(error))
            click.echo(render(error.diagnostics, colour=colour(err=True)), err=True)
    ctx.exit(result)


def _format_one(name: str, *, check: bool, diff: bool) -> bool:
    """Lays out one file; whether that changes it."""
    source = open_file(name)
    new = formatter.format(source)
    changed = new != source.text
    if diff:
        _print_diff(source.name, source.text, new)
    if check:
        if changed:
            click.echo(f"{plain(name)} would change", err=True)
    elif not diff and name == STDIN:
        sys.stdout.buffer.write(new.encode())
        sys.stdout.buffer.flush()
    elif not diff and changed:
        if source.path is None:
            raise click.UsageError(f"{name} belongs to the library: it is not laid out in place")
        write_atomically(source.path, new)
        click.echo(f"{plain(name)} laid out", err=True)
    return changed


def _print_diff(name: str, old: str, new: str) -> None:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), f"{name} (now)", f"{name} (laid out)", lineterm="")
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        style = styles.get(line[:1]) if colour() else None
        click.echo(click.style(plain(line), fg=style) if style else plain(line))


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file's content in one step; its permissions stay, and a failure leaves the old content."""
    mode = path.stat().st_mode & 0o7777 if path.exists() else None
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask() if mode is None else mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
