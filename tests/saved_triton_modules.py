"""Runs saved modules of the triton backend, in Triton's interpreter or on a GPU, where nothing but torch, NumPy and
triton can be imported: `python saved_triton_modules.py folder device`.

For every `x.py` of the folder there is `x.pt`: calls of its `Attention`, and what the reference gives for them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from saved_modules import Blocked, load, run

NAMES = ("out", "lse", "dq", "dk", "dv")
WITHIN = {"cpu": {"rtol": 1e-4, "atol": 2e-5}, "cuda": {"rtol": 5e-4, "atol": 1e-4}}
"""Of float32; sums are longer on the GPU."""


class BlockedButTriton(Blocked):
    """The interpreter needs NumPy."""

    names = tuple(name for name in Blocked.names if name not in ("numpy", "triton"))


def check(module: ModuleType, calls: list[dict[str, Any]], device: str) -> None:
    import torch

    attention = module.Attention()
    for call in calls:
        tensors = {name: tensor.to(device) for name, tensor in call["tensors"].items()}
        found = run(attention, [t.to(device) for t in call["inputs"]], tensors, call["direction"].to(device))
        for name, f, e in zip(NAMES, found, call["expected"], strict=True):
            say = f"{module.__name__}: {name} at n = {call['inputs'][1].shape[2]}: {{}}".format
            torch.testing.assert_close(f.cpu(), e, **WITHIN[device], msg=say)


def main(folder: Path, device: str) -> None:
    import torch

    if device == "cpu":
        import triton_interpreter

        triton_interpreter.mend()
    paths = sorted(folder.glob("*.py"))
    modules = {path: load(path) for path in paths}  # all of them in one process, before any is called
    for path, module in modules.items():
        if device == "cpu":  # several tiles of a few tokens, and plans as a GPU makes them
            module.tile_of = lambda dim, bits: (16, 16)
            module.enqueued = lambda device: True
        check(module, torch.load(path.with_suffix(".pt"), weights_only=True), device)
    print(f"{len(modules)} modules agree with the reference")


if __name__ == "__main__":
    sys.meta_path.insert(0, BlockedButTriton())
    main(Path(sys.argv[1]), sys.argv[2])
    assert not [name for name in BlockedButTriton.names if name in sys.modules]
