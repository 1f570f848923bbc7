"""What the device costs, in the numbers that the passes weigh against each other.

The unit of all costs is the *pair*: the time in which a kernel computes one query against one key in a full tile, at
head_dim 128 in bfloat16. Only ratios matter. "Measured" is on one NVIDIA H200 with 16 heads at n = 16,384, forward;
"fitted" is measured, too, by benchmarks/costs.py, whose samples and prices are in benchmarks/results/costs.json.
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
log-sum-exp: some 10 · head_dim bytes. Measured as 290 by the bytes, fitted as 503 with kernels that are started one
after the other; between 150 and 600 no layout of the patterns in benchmarks/ changes."""

PARTIAL = 1.25
"""Pairs for each pair of a partial tile: the mask is computed too. Fitted as 1.08 for masks that compare, such as a
window's, and 1.56 for one with a modulus: between them no layout of the patterns in benchmarks/ changes."""

LISTED = 1.4
"""Pairs for each pair of a tile whose tokens on one side come from a list: their positions are loaded first, and then
rows one by one. Fitted as 1.44, with keys in a list; backward as 1.06."""

TERM = 60.0
"""Pairs per query of each term in a launch: its tables are read, and its keys are not loaded by descriptors, as those
of a launch of one term are. Fitted as 155. From 90 on, keys of every 4th and of neighbouring tokens would share a term
in benchmarks/suite/hier.spat, with two columns in a tile, which is slower."""

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
