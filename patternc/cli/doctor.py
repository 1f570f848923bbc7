"""`patternc doctor`: versions, devices, and which backends can run on them."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import click

from patternc import ir
from patternc.backends import base, triton_cache, triton_tuned

_PACKAGES = ("patternc", "torch", "triton", "numpy", "islpy", "lark", "networkx", "matplotlib")
_OPTIONAL = ("triton",)
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_CAUSAL = ir.Program("causal", ir.Where(ir.Compare("<=", ir.Var("k"), ir.Var("q"))))


@click.command("doctor")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Report versions, devices, backends, the cache and what was tuned.

    For each backend and device: which dtypes run, or why none does. Exit 1 if nothing runs.
    """
    missing = False
    click.echo("versions")
    for name, text in _versions():
        missing |= text == "not installed" and name not in _OPTIONAL
        click.echo(f"  {name:<11} {text}")
    if missing:
        ctx.exit(1)
    devices = _devices()
    click.echo("\ndevices")
    for device, description, _ in devices:
        click.echo(f"  {device:<11} {description}")
    click.echo("\nbackends")
    kinds = {device.partition(":")[0]: present for device, _, present in devices}
    able = False
    for name in base.names():
        for line, good in _backend(name, kinds):
            able |= good
            click.echo(f"  {line}")
    click.echo("\nsources of kernels, which may be deleted at any time")
    click.echo(f"  {triton_cache.described()}")
    click.echo("\ntuned kernels, by patternc bench --tune")
    click.echo(f"  {triton_tuned.described()}")
    if not able:
        ctx.exit(1)


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()} ({sys.platform}, {platform.machine()})"
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _devices() -> list[tuple[str, str, bool]]:
    """Devices that torch knows of, what they are, and whether they are there."""
    import torch  # a slow import, which no other command pays

    devices = [("cpu", f"{torch.get_num_threads()} threads", True)]
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        devices.append((f"cuda:{i}", f"{properties.name}, {memory}, sm_{properties.major}{properties.minor}", True))
    if not torch.cuda.is_available():
        devices.append(("cuda", "none", False))
    if torch.backends.mps.is_available():
        devices.append(("mps", "Apple GPU", True))
    return devices


def _backend(name: str, kinds: dict[str, bool]) -> Iterator[tuple[str, bool]]:
    """One line for each kind of device: which dtypes run, or why none does; and whether any does."""
    import torch  # as above

    try:
        backend = base.load(name)
    except ValueError as error:
        yield f"{name:<11} {error}", False
        return
    for kind, present in kinds.items():
        if not present:
            yield f"{name:<11} {kind:<6} no: there is no such device here", False
            continue
        against = {dtype: backend.supports(_CAUSAL, kind, getattr(torch, dtype)) for dtype in _DTYPES}
        good = [dtype for dtype, reasons in against.items() if not reasons]
        why = "; ".join(dict.fromkeys(reason for reasons in against.values() for reason in reasons))
        yield f"{name:<11} {kind:<6} {', '.join(good) or 'no'}{f' ({why})' if why else ''}", bool(good)
