"""The passes, each one file with one plain function, in their order.

Those of compiling map arrangements to arrangements, with the length still open. Those of planning run at each length:
the first makes a plan of multiplicities, the others plans of plans.
"""

from patternc.passes.arranged import COMPILING
from patternc.passes.balance import balance
from patternc.passes.merge import merge
from patternc.passes.tiles import tiles

__all__ = ["COMPILING", "PIPELINE", "PLANNING"]

PLANNING = (tiles, merge, balance)
PIPELINE = COMPILING + PLANNING
