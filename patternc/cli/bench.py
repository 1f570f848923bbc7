"""`patternc bench`: patterns beside other attention on this machine, and a search for how their kernels run best."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patternc.cli.devices import usable
from patternc.cli.options import Choice, choice_options, tensor_options
from patternc.cli.programs import compile_choice, length_of
from patternc.cli.progress import progress
from patternc.cli.tensors import run_time_tensors

if TYPE_CHECKING:
    from patternc.bench.request import Request
    from patternc.bench.rows import Row
    from patternc.compiler import Compiled

_DTYPES = ("float16", "bfloat16", "float32")


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between."""

    name = "NAME,NAME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(name for name in str(value).split(",") if name)


@click.command("bench")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@choice_options(heads=16)
@click.option(
    "-n",
    "--length",
    type=click.IntRange(1, 2**31),
    metavar="N",
    help="Number of tokens; left out, what the grid says, or 16,384, on a CPU 2,048.",
)
@click.option(
    "--dim", type=click.IntRange(1, 1024), metavar="N", help="Channels of a head; left out, 128, on a CPU 64."
)
@click.option("--dtype", type=click.Choice(_DTYPES), help="Left out, bfloat16, on a CPU float32.")
@click.option("--device", help="Such as cpu, cuda, cuda:1; left out, cuda where it is there.")
@click.option("--backend", default="auto", show_default=True, metavar="NAME", help="Which one computes the patterns.")
@click.option("--peers", type=Names(), help="Of dense, causal, flex, flash; left out, all but causal, on a CPU dense.")
@click.option(
    "--repeats", type=click.IntRange(1, 10**6), metavar="N", help="How often each call is timed; left out, 50."
)
@click.option("--tune", is_flag=True, help="First search for tiles and options of kernels, and keep better ones.")
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the figures.")
@tensor_options
def command(
    files: tuple[str, ...], choice: Choice, length: int | None, dim: int | None, dtype: str | None, device: str | None,
    backend: str, peers: tuple[str, ...] | None, repeats: int | None, tune: bool, output: Path | None,
    tensors: str | None, seed: int,
) -> None:  # fmt: skip
    """Measure patterns beside dense attention and FlexAttention.

    All take turns on the same random inputs; figures are medians. `wanted` is the share of pairs that the pattern
    keeps, padding the pairs computed over these. Useful TFLOP/s count wanted pairs only; x roofline is their share of
    what a product of large matrices reaches here. x dense is the time of dense attention over ours.

    What --tune finds holds for the same device, versions and pattern, and is used by all later calls.
    """
    if tune and backend not in ("auto", "triton"):
        raise click.UsageError(f"--tune is for the triton backend, not for {backend}")
    if output is not None and not output.absolute().parent.is_dir():  # said before minutes of measuring
        raise click.UsageError(f"there is no folder {output.parent}")
    import torch  # a slow import, which other commands do not pay

    from patternc.bench import record, rows
    from patternc.bench.request import Request

    there = usable(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    asked = None if dtype is None else getattr(torch, dtype)
    request = Request.of(there, dim=dim, dtype=asked, peers=peers, repeats=repeats)
    patterns = [compile_choice(file, choice, backend="triton" if tune else backend) for file in files]
    found: list[Row] = []
    tried: dict[str, list[str]] = {}
    for compiled in patterns:
        n = length_of(compiled.program, length, request.length)
        arrays = run_time_tensors(compiled.program.tensors, tensors, n, heads=choice.heads, seed=seed)
        if tune:
            tried[compiled.name] = _tuned(request, compiled, n, arrays)
        with progress(f"{compiled.name} at n = {n:,}"):
            found.append(request.row(compiled, n, arrays))
    click.echo(rows.table(found))
    for row in found:
        for peer, reason in row.missing.items():
            click.echo(f"{row.pattern}: {peer}: {reason}")
    if output is not None:
        result: dict[str, Any] = {**record.provenance(there), "heads": choice.heads, "rows": [*map(asdict, found)]}
        record.write(output, result | ({"tuning": tried} if tune else {}))


def _tuned(request: Request, compiled: Compiled, n: int, arrays: dict[str, Any]) -> list[str]:
    """The forms that were tried, in words, which are printed too."""
    with progress(f"{compiled.name} at n = {n:,}, in several forms"):
        outcome = request.tune(compiled, n, arrays)
    words = [str(trial) for trial in outcome.trials]
    click.echo("\n".join(f"{compiled.name}: {one}" for one in words))
    click.echo(f"{compiled.name}: the best saves {1 - 1 / outcome.gain:.1%}: {outcome.best}")
    return words
