"""Where the tokens of a strip stand on one side: R rows of so many slots, read from and added to tensors (S, N, …).

Places at equal distances are read through a view, and nothing is copied. Other places are gathered.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Affine:
    """Slot i of row r holds token start + r · row_step + i · slot_step. Tokens of a row are distinct."""

    start: int
    row_step: int
    slot_step: int
    rows: int
    slots: int

    def tokens(self, device: torch.device) -> torch.Tensor:
        """(R, slots) tokens."""
        rows, slots = torch.arange(self.rows, device=device), torch.arange(self.slots, device=device)
        return self.start + rows[:, None] * self.row_step + slots * self.slot_step

    def cut(self, rows: slice, slots: slice) -> Affine:
        """Some of the rows and slots."""
        start = self.start + rows.start * self.row_step + slots.start * self.slot_step
        return Affine(start, self.row_step, self.slot_step, rows.stop - rows.start, slots.stop - slots.start)

    def read(self, t: torch.Tensor) -> torch.Tensor:
        """(S, N, …) -> (S, R, slots, …), a view."""
        stream, token, *rest = t.stride()
        shape = (t.shape[0], self.rows, self.slots, *t.shape[2:])
        strides = (stream, self.row_step * token, self.slot_step * token, *rest)
        return t.as_strided(shape, strides, t.storage_offset() + self.start * token)

    def add(self, t: torch.Tensor, values: torch.Tensor) -> None:
        """Adds values (S, R, slots, …) in an order that depends on the places alone."""
        if self.row_step == 0 and self.rows > 1:
            self.cut(slice(0, 1), slice(0, self.slots)).add(t, values.sum(1, keepdim=True))
            return
        view, step = self.read(t), self._apart()
        for first in range(step):
            view[:, first::step].add_(values[:, first::step])

    def _apart(self) -> int:
        """A distance of rows at which no two rows, as far as there are some, share a token."""
        row, slot = abs(self.row_step), self.slot_step
        if row * (self.rows - 1) < slot:
            return 1
        return min(self.rows, (self.slots - 1) * slot // row + 1) if row else 1


@dataclass(frozen=True, eq=False)
class Picked:
    """The tokens of tiles."""

    table: torch.Tensor
    """(all tiles of the axis, tile): their tokens, counted from the first of the tensor; -1 in slots without one."""
    tiles: torch.Tensor
    """(R, J): the tiles of each row."""
    kept: torch.Tensor
    """(slots,): those of the J · tile slots that hold a token, in every row the same."""

    @property
    def rows(self) -> int:
        return self.tiles.shape[0]

    @property
    def slots(self) -> int:
        return self.kept.shape[0]

    def tokens(self, device: torch.device) -> torch.Tensor:
        """(R, slots) tokens."""
        return self.table[self.tiles].flatten(1)[:, self.kept].to(device)

    def cut(self, rows: slice, slots: slice) -> Picked:
        """Some of the rows and slots."""
        return Picked(self.table, self.tiles[rows], self.kept[slots])

    def read(self, t: torch.Tensor) -> torch.Tensor:
        """(S, N, …) -> (S, R, slots, …), a copy."""
        at = self.tokens(t.device).flatten()
        return t.index_select(1, at).view(t.shape[0], self.rows, self.slots, *t.shape[2:])

    def add(self, t: torch.Tensor, values: torch.Tensor) -> None:
        """Adds values (S, R, slots, …), row by row: tokens of a row are distinct, so that no order is left open."""
        for at, row in zip(self.tokens(t.device), values.unbind(1), strict=True):
            t[:, at] = t[:, at] + row


Places = Affine | Picked


def write(places: Places, t: torch.Tensor, values: torch.Tensor) -> None:
    """Puts values (S, R, slots, …) into places that are all distinct."""
    if isinstance(places, Affine):
        places.read(t).copy_(values)
    else:
        t[:, places.tokens(t.device).flatten()] = values.flatten(1, 2)
