"""`patternc verify`: a backend against the reference, on random inputs."""

from __future__ import annotations

import click

from patternc.cli.devices import usable
from patternc.cli.options import Choice, choice_options, file_argument, length_options, tensor_options
from patternc.cli.programs import compile_choice
from patternc.cli.progress import progress
from patternc.cli.tensors import check_names, read_npz
from patternc.cli.terminal import colour

SCORES_LIMIT = 2**28
"""Scores of all heads and batch rows together: some ten tensors of 2 GiB each, in float64, in the reference."""
_DTYPES = ("float16", "bfloat16", "float32", "float64")


@click.command("verify")
@file_argument
@choice_options(heads=4)
@length_options(length=512)
@tensor_options
@click.option(
    "--batch", type=click.IntRange(1, 4096), metavar="N", help="Batch rows; left out, those of the tensors, or 2."
)
@click.option(
    "--head-dim", type=click.IntRange(1, 1024), metavar="N", default=32, show_default=True, help="Of q, k and v."
)
@click.option("--backend", default="auto", show_default=True, metavar="NAME", help="The backend to judge.")
@click.option("--device", default="cpu", show_default=True, help="Such as cpu, cuda, cuda:1.")
@click.option("--dtype", type=click.Choice(_DTYPES), default="float32", show_default=True)
@click.pass_context
def command(
    ctx: click.Context, file: str, choice: Choice, length: int, queries: int | None, tensors: str | None, seed: int,
    batch: int | None, head_dim: int, backend: str, device: str, dtype: str,
) -> None:  # fmt: skip
    """Compare a backend with the reference on random inputs.

    Each error of outputs, lse and gradients is printed beside the one that is allowed; if one is too large, a cell that
    is wrong too. Exit 1 then.
    """
    compiled = compile_choice(file, choice, backend=backend)
    given = read_npz(tensors) if tensors is not None else {}
    check_names(given, compiled.program.tensors, tensors)
    rows = batch or max((t.shape[0] for t in given.values() if t.ndim > 1), default=2)
    scores = rows * choice.heads * (queries or length) * length
    if scores > SCORES_LIMIT:
        raise click.UsageError(
            f"the reference is dense: {scores:,} scores (batch {rows} × heads {choice.heads} × queries × keys) "
            f"are more than {SCORES_LIMIT:,}; take a smaller -n, or --queries"
        )
    import torch  # a slow import, which a wrong call does not pay

    from patternc.verification import verify

    with progress(f"{compiled.name}: forward and backward, {compiled.backend} and reference"):
        report = verify(
            compiled, n=length, n_q=queries, batch=rows, head_dim=head_dim, dtype=getattr(torch, dtype),
            device=usable(device), backend=None if backend == "auto" else backend, seed=seed,
            tensors={name: torch.from_numpy(array) for name, array in given.items()},
        )  # fmt: skip
    verdict = "ok" if report.ok else "failed"
    click.echo(report)
    click.echo(click.style(verdict, fg="green" if report.ok else "red", bold=True) if colour() else verdict)
    ctx.exit(0 if report.ok else 1)
