"""What was tuned for a program as a table in its saved module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from patternc.backends.triton_adapter import version
from patternc.backends.triton_options import PASSES, Form, Options
from patternc.backends.triton_tuned import Key

_COLUMNS = "# device, larger head dimension, bits of the dtype: queries and keys of a tile, options by pass"


def tuned_source(found: Mapping[Key, Form]) -> str:
    """The constant TUNED, a `triton_saved.SavedForms`; nothing for no forms. What is found is checked, see
    `triton_tuned`: of texts there is the device's name alone."""
    if not found:
        return ""
    lines = [f"        {line}," for line in _entries(found)]
    head = ["TUNED = SavedForms(", f"    {version()!r},  # of Triton", "    {", f"        {_COLUMNS}"]
    return "\n".join([*head, *lines, "    },", ")"])


def _entries(found: Mapping[Key, Form]) -> Iterator[str]:
    for key in sorted(found, key=lambda key: (key.device, key.dim, key.bits)):
        form = found[key]
        options = ", ".join(f'"{name}": {_options(form.options[name])}' for name in PASSES if name in form.options)
        rest = f", {{{options}}}" if options else ""
        yield f"({key.device!a}, {key.dim:d}, {key.bits:d}): Form(({form.tile[0]:d}, {form.tile[1]:d}){rest})"


def _options(own: Options) -> str:
    numbers = [own.warps, own.stages, *([] if own.registers is None else [own.registers])]
    return f"Options({', '.join(f'{number:d}' for number in numbers)})"
