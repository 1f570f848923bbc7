"""Runs saved modules where nothing but torch can be imported: `python saved_modules.py folder`.

For every `x.py` of the folder there is `x.pt`: calls of its `Attention` with what they must give, bit for bit.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class Blocked(MetaPathFinder):
    """Refuses everything that a saved module must do without."""

    names = ("islpy", "lark", "matplotlib", "networkx", "numpy", "patternc", "rich", "triton")

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"{fullname} is blocked")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def check(path: Path) -> None:
    import torch  # after the blocker is in place

    attention = load(path).Attention()
    for call in torch.load(path.with_suffix(".pt"), weights_only=True):
        found = run(attention, call["inputs"], call["tensors"], call["direction"])
        for name, f, e in zip(("out", "lse", "dq", "dk", "dv"), found, call["expected"], strict=True):
            assert torch.equal(f, e), f"{path.stem}: {name} at n = {call['inputs'][1].shape[2]} has other bits"


def run(attention: Any, inputs: list[Any], tensors: dict[str, Any], direction: Any) -> list[Any]:
    """Output, lse, dq, dk, dv of one call, with dropout under a fixed seed."""
    import torch

    torch.manual_seed(0)
    inputs = [t.detach().requires_grad_() for t in inputs]
    out, lse = attention(*inputs, return_lse=True, dropout_p=0.1, **tensors)
    return [out.detach(), lse.detach(), *torch.autograd.grad(out, inputs, direction)]


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocked())
    modules = sorted(Path(sys.argv[1]).glob("*.py"))
    for path in modules:
        check(path)
    blocked = [name for name in Blocked.names if name in sys.modules]
    assert not blocked, f"imported in spite of the block: {blocked}"
    print(f"{len(modules)} modules have the same bits")
