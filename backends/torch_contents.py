"""Plans of run-time tensors, kept by what the tensors hold: the layers of a model get the same mask, one after another,
and the backward pass in a graph gets those of the forward pass."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch

from patternc.backends.torch_run import Ready

MOST_BYTES = 1 << 20
"""Tensors of a call beyond which nothing is kept: they are copied and compared."""
KEPT_PLANS = 4


def contents(tensors: Mapping[str, Any]) -> Hashable | None:
    """All that tensors hold, if they are on the CPU and small; arrays of other kinds are not looked into."""
    size, found = 0, []
    for name in sorted(tensors):
        t = tensors[name]
        if not isinstance(t, torch.Tensor) or t.device.type != "cpu" or (size := size + t.nbytes) > MOST_BYTES:
            return None
        data = t.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        found.append((name, t.dtype, tuple(t.shape), data))
    return tuple(found)


class ByContents:
    """The last few plans."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Ready] = OrderedDict()

    def find(
        self, key: tuple[Hashable, ...], tensors: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Ready]
    ) -> Ready:
        """The plan of these tensors and the call's other sizes, made unless it is kept. It is made of copies, for plans
        go on reading their tensors."""
        held = contents(tensors)
        if held is None:
            return make(tensors)
        whole = (key, held)
        if whole not in self._kept:
            self._kept[whole] = make({name: t.detach().clone() for name, t in tensors.items()})
        self._kept.move_to_end(whole)
        while len(self._kept) > KEPT_PLANS:
            self._kept.popitem(last=False)
        return self._kept[whole]
