"""What the device costs, in the numbers that the passes weigh against each other.

The unit of all costs is the *pair*: the time in which a kernel computes one query against one key in a full tile, at
head_dim 128 in bfloat16. Only ratios matter. "Measured" is on one NVIDIA H200 with 16 heads at n = 16,384, forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Objective = Literal["time", "padding"]
OBJECTIVES: tuple[Objective, ...] = ("time", "padding")

REFERENCE_LENGTH = 16384
"""Tokens at which layouts are compared, unless the program's grid says otherwise. The measured patterns have them."""

OPENING = 290.0
"""Pairs per query of one more launch: it reads the queries, reads and writes partial results in float32, and their
log-sum-exp: some 10 · head_dim bytes. Measured as 290 keys per query at head_dim 128."""

PARTIAL = 1.25
"""Pairs for each pair of a partial tile: the mask is computed too. Assumed, within what is measured: a causal window of
1,024 takes the time of 1,273 keys per query in full tiles, for 1,152 of which 256 are in partial tiles; if masks were
all that it costs beside, this would be 1.47."""

LISTED = 1.05
"""Pairs for each pair of a tile whose tokens on one side come from a list: their positions are loaded first. Assumed,
from one load of 4 bytes beside each row of 256."""

TERM = 24.0
"""Pairs per query of each term in a launch: its tables are read and its loop is entered once a tile. Assumed.
A kernel that drains its pipeline of loads at every loop loses more: measured, 375 TFLOP/s in place of 491 with some 9
tiles of 64 keys, which is 180 keys per query."""

FLAG_DENSITY = 1 / 16
"""Share of the tokens for which a truth value given at run time is assumed to hold, and for which a number given at run
time is assumed to equal another. Assumed: flags mark few tokens, and a list must win clearly or not be taken."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The prices under one objective: of time, or of nothing but pairs computed."""

    partial: float
    listed: float
    opening: float
    term: float
    margin: float
    """What share of the cost another arrangement than consecutive tokens in one term must save."""


PRICES: dict[Objective, Costs] = {
    "time": Costs(PARTIAL, LISTED, OPENING, TERM, 0.04),
    "padding": Costs(1.0, 1.0, 0.0, 0.0, 0.01),
}
