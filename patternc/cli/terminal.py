"""What the user sees: colours where they are wanted, and one line for a failure."""

from __future__ import annotations

import os
import sys

import click


def colour(*, err: bool = False) -> bool:
    """Whether the output may be coloured: a terminal that can, and nobody who set NO_COLOR (https://no-color.org)."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def plain(text: str) -> str:
    """Text that comes from files or arguments, without its control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def say_error(message: str) -> None:
    """`error: …` on standard error, on one line."""
    text = plain("; ".join(line.strip() for line in message.splitlines() if line.strip()))
    click.echo(f"{click.style('error', fg='red', bold=True) if colour(err=True) else 'error'}: {text}", err=True)
