"""A callback for Lightning: how dense the patterns of a model are, and schedules that change them.

schedule = ProgressiveSparsity(model, over="window", start=4096, end=256, steps=1000, multiple=128)
trainer = Trainer(callbacks=[PatternCallback(n=8192, schedules=[schedule])])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from patternc.compiler import Compiled
from patternc.nn import ProgressiveSparsity, SelfAttention
from patternc.nn.held import Patterned

__all__ = ["PatternCallback"]


class PatternCallback(Callback):
    """Steps schedules after each step of the optimiser, and logs densities with each batch; they are counted anew
    whenever a pattern has changed.

    Logged are, for n tokens, `pattern/density` (pairs kept over all pairs, of all patterns of the module together),
    `pattern/density/<module>` for each module that has one, and `pattern/<parameter>` for each schedule. Patterns with
    run-time tensors have no density of their own and are left out, unless `tensors` has them by name.

    Where the schedules stand is part of the checkpoints: training that is resumed goes on from there. ValueError for a
    length below 1, or if no pattern of the module can be counted.
    """

    def __init__(
        self,
        n: int,
        schedules: Sequence[ProgressiveSparsity] = (),
        tensors: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        if n < 1:
            raise ValueError(f"n is a number of tokens, at least 1; found {n}")
        self.n, self.schedules, self.tensors = n, list(schedules), dict(tensors or {})
        self._steps = 0
        self._counted: tuple[dict[str, Compiled], dict[str, float]] = {}, {}

    # ------------------------------------------------------------------ hooks

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks that there is something to count."""
        if not any(True for _ in self._countable(pl_module)):
            kind = type(pl_module).__name__
            raise ValueError(f"{kind} has no pattern whose density is known without run-time tensors")
        self._steps = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Logs what this batch is computed with."""
        found = dict(self._countable(pl_module))
        if found != self._counted[0]:
            self._counted = found, self._densities(found)
        pl_module.log_dict(self._counted[1] | self._values(), batch_size=1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Steps the schedules, once for each step that the optimiser has taken since."""
        for _ in range(trainer.global_step - self._steps):
            for schedule in self.schedules:
                schedule.step()
        self._steps = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """Where the schedules stand."""
        return {"schedules": [schedule.state_dict() for schedule in self.schedules]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up schedules where others stood; ValueError if there were more or fewer."""
        states = state_dict["schedules"]
        if len(states) != len(self.schedules):
            raise ValueError(f"the checkpoint has {len(states)} schedules; found {len(self.schedules)}")
        for schedule, state in zip(self.schedules, states, strict=True):
            schedule.load_state_dict(state)

    # ------------------------------------------------------------------ figures

    def _countable(self, module: torch.nn.Module) -> Iterator[tuple[str, Compiled]]:
        """The compiled patterns whose run-time tensors are given, by the names of their modules."""
        for name, part in module.named_modules():
            if isinstance(part, Patterned | SelfAttention):
                compiled = part.compiled
                if all(tensor.name in self.tensors for tensor in compiled.program.tensors):
                    yield name, compiled

    def _densities(self, found: Mapping[str, Compiled]) -> dict[str, float]:
        counted: dict[Compiled, float] = {}
        for compiled in found.values():
            if compiled not in counted:
                tensors: dict[str, Any] = {t.name: self.tensors[t.name] for t in compiled.program.tensors}
                counted[compiled] = compiled.stats(self.n, **tensors).density
        heads = sum(compiled.heads for compiled in found.values())
        total = sum(counted[compiled] * compiled.heads for compiled in found.values()) / heads
        return {"pattern/density": total} | {f"pattern/density/{name}": counted[c] for name, c in found.items()}

    def _values(self) -> dict[str, float]:
        return {f"pattern/{schedule.over}": float(schedule.value) for schedule in self.schedules}
