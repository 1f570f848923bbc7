"""The arguments and options that commands share: which program, with which values, at which size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from patternc.cli.values import Value, parse_assignment
from patternc.machine import OBJECTIVES

Function = Callable[..., Any]


class Assignment(click.ParamType[tuple[str, Value]]):
    """`NAME=VALUE` as a pair."""

    name = "NAME=VALUE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Value]:
        if isinstance(value, tuple):
            return value
        try:
            return parse_assignment(str(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


class TileSize(click.ParamType[tuple[int, int]]):
    """`128x64`, queries by keys, or `64` for both."""

    name = "QxK"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().replace("×", "x").split("x")
        if len(sides) > 2 or not all(side.isdecimal() and 0 < int(side) < 2**31 for side in sides):
            return self.fail(f"{value!r} is no tile: write 128x64, queries by keys, or 64 for both", param, ctx)
        return int(sides[0]), int(sides[-1])


@dataclass(frozen=True)
class Choice:
    """Which pattern of a file is meant, and the values it gets."""

    pattern: str | None
    heads: int
    kv_heads: int | None
    layer: int
    params: dict[str, Value]


def _as_params(ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, Value], ...]) -> dict[str, Value]:
    params = dict(pairs)
    if len(params) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise click.BadParameter(f"{twice!r} is set twice", ctx, param)
    return params


_POSITIVE = click.IntRange(1, 2**31)
_HEADS = click.IntRange(1, 4096)


def file_argument(function: Function) -> Function:
    return click.argument("file", metavar="FILE")(function)


_PATTERN = click.option("--pattern", metavar="NAME", help="A pattern of the file; left out, its last one.")
_SET = click.option(
    "--set",
    "params",
    type=Assignment(),
    multiple=True,
    callback=_as_params,
    help="A parameter, such as window=1_024 or levels=[(64,1),(128,2)]; may be repeated.",
)
_KV_HEADS = click.option(
    "--kv-heads", type=_HEADS, metavar="N", help="Number of key heads; left out, as many as query heads."
)
_LAYER = click.option(
    "--layer", type=click.IntRange(0, 2**31), metavar="N", default=0, show_default=True, help="Layer, from 0."
)


def _heads(default: int | None) -> Callable[[Function], Function]:
    text, needed = "Number of query heads.", default is None
    return click.option(
        "--heads", type=_HEADS, metavar="N", default=default, required=needed, show_default=not needed, help=text
    )


def choice_options(*, heads: int | None) -> Callable[[Function], Function]:
    """`--pattern --set --heads --kv-heads --layer`, given to the command as one `choice`; `heads` is the default
    number of heads, None where it must be said."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def call(
            pattern: str | None, heads: int, kv_heads: int | None, layer: int, params: dict[str, Value], **others: Any
        ) -> Any:
            return function(choice=Choice(pattern, heads, kv_heads, layer, params), **others)

        command: Function = call
        for option in (_LAYER, _KV_HEADS, _heads(heads), _SET, _PATTERN):
            command = option(command)
        return command

    return decorate


_QUERIES = click.option(
    "--queries", type=_POSITIVE, metavar="N", help="Number of queries, the last ones; left out, all."
)
_TENSORS = click.option(
    "--tensors",
    type=click.Path(exists=True, dir_okay=False),
    help="Run-time tensors, an .npz file with one array for each; left out, they are drawn.",
)
_SEED = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), metavar="N", default=0, show_default=True, help="Of what is drawn."
)


def length_options(*, length: int | None) -> Callable[[Function], Function]:
    """`-n/--length` and `--queries`; `length` is the default, None for "what the grid says, or 16,384"."""
    text = "Number of tokens." if length else "Number of tokens; left out, what the grid says, or 16,384."

    def decorate(function: Function) -> Function:
        size = click.option(
            "-n", "--length", type=_POSITIVE, metavar="N", default=length, show_default=bool(length), help=text
        )
        return size(_QUERIES(function))

    return decorate


def tensor_options(function: Function) -> Function:
    """`--tensors` and `--seed`."""
    return _TENSORS(_SEED(function))


OBJECTIVE = click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    default="time",
    show_default=True,
    help="What layouts are chosen for: the least time, or the fewest pairs computed.",
)
