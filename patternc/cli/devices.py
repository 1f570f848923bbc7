"""Devices by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def usable(name: str) -> torch.device:
    """The device; ValueError if this machine has none of that name."""
    import torch  # a slow import, which other commands do not pay

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # unknown; not built in; no such device
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from error
