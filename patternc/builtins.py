"""The names that every program knows without declaring them, and how each is called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in function. Arguments pass by position, or by name where `named` is set."""

    parameters: tuple[str, ...]
    required: int
    """How many of the parameters, the first ones, must be given."""
    text: str
    """The call as the language's page writes it."""
    named: bool = False
    variadic: bool = False
    """More arguments of the last kind may follow."""


FUNCTIONS: dict[str, BuiltIn] = {
    "abs": BuiltIn(("x",), 1, "abs(x)"),
    "min": BuiltIn(("a", "b"), 2, "min(a, b, …)", variadic=True),
    "max": BuiltIn(("a", "b"), 2, "max(a, b, …)", variadic=True),
    "clamp": BuiltIn(("x", "lo", "hi"), 3, "clamp(x, lo, hi)", named=True),
    "cdiv": BuiltIn(("a", "b"), 2, "cdiv(a, b)", named=True),
    "log2": BuiltIn(("x",), 1, "log2(x)"),
    "len": BuiltIn(("list",), 1, "len(list)"),
    "support": BuiltIn(("A",), 1, "support(A)"),
    "top": BuiltIn(("m", "by", "of"), 2, "top(m, by = score, of = A)", named=True),
    "sample": BuiltIn(("m", "of", "seed"), 1, "sample(m, of = A, seed = s)", named=True),
}
"""`of` is `full` and `seed` is 0 unless given."""

COMPREHENSIONS: dict[str, str] = {
    "any": "any(condition for x in list)",
    "all": "all(condition for x in list)",
    "union": "union(A for x in list)",
    "sum": "sum(A for x in list)",
}
"""What takes `element for names in iterable`; several values, `union(A, B)`, will do as well."""

PATTERNS = ("causal", "full", "diagonal", "empty")
POSITIONS = ("q", "k")
NUMBERS = ("h", "heads", "layer", "n")
BATCH = "batch"
"""Leads the dims of a tensor and stands nowhere else."""

NAMES = frozenset((*FUNCTIONS, *COMPREHENSIONS, *PATTERNS, *POSITIONS, *NUMBERS, BATCH))
"""All of them; no declaration may bear one."""

RESERVED_PARAMETERS = frozenset(
    [
        "source",
        "pattern",
        "heads",
        "kv_heads",
        "layer",
        "backend",
        "q",
        "k",
        "v",
        "scale",
        "dropout_p",
        "return_lse",
        "n",
        "n_q",
        "device",
        "objective",
    ]
)
"""Arguments of `patternc.compile`, of the compiled object's call or of its methods: a pattern's parameters and
tensors pass beside them by name."""

LENGTHS = ("n", "heads", "layer")
"""What `at` of a check may fix."""

FLAGS = ("causal", "nonempty", "symmetric", "set")
BOUNDS = ("row", "density")
PROPERTIES = (*FLAGS, *BOUNDS, "equals")

FOREIGN: dict[str, str] = {
    "true": "write `True`",
    "false": "write `False`",
    "None": "there is no `None`; `empty` is the pattern without pairs, `inf` means no limit",
    "none": "there is no `None`; `empty` is the pattern without pairs, `inf` means no limit",
    "infinity": "write `inf`",
    "math": "there are no modules of Python; `inf`, `log2` and the like stand by themselves",
    "np": "there are no modules of Python; `abs`, `min`, `clamp` and the like stand by themselves",
    "torch": "there are no modules of Python; a run-time tensor is a parameter such as `doc: int[batch, n]`",
    "range": "write a half-open range: `x in a..b`",
    "ceil": "`cdiv(a, b)` divides and rounds up",
    "floor": "`a // b` divides and rounds down",
    "divmod": "write `a // b` and `a % b`",
    "mod": "write `a % b`",
    "pow": "write `a ** b`",
    "xor": "write `a ^ b`",
    "log": "`log2(x)` is the logarithm, rounded up",
    "exists": "write `any(… for x in …)`",
    "forall": "write `all(… for x in …)`",
    "intersection": "write `A & B`",
    "random": "`sample(m, of = A, seed = 0)` chooses m keys in every row",
    "topk": "`top(m, by = score, of = A)` chooses the m best keys of every row",
    "dense": "`full` is the pattern of all pairs",
    "head": "the head is called `h`",
    "num_heads": "the number of heads is called `heads`",
    "nheads": "the number of heads is called `heads`",
    "seq_len": "the number of keys is called `n`",
    "seqlen": "the number of keys is called `n`",
    "query": "the query's position is called `q`",
    "key": "the key's position is called `k`",
    "q_idx": "the query's position is called `q`",
    "kv_idx": "the key's position is called `k`",
    "b": "the batch row has no name: a tensor's leading `batch` axis is implicit",
    "layer_idx": "the layer is called `layer`",
}
"""Names that people bring along from elsewhere, and what to write instead."""
