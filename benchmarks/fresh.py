"""What a fresh process pays once: seconds to compile a pattern and to make its first plan, modules loaded on the way.

`python -m benchmarks.fresh` prints them as JSON; torch and triton are there before. `plans` runs it several times.
"""

from __future__ import annotations

import json
import time

import torch  # noqa: F401 (what is measured starts after it)
import triton.language  # noqa: F401

PATTERN, TOKENS = "std/longnet", 16384


def main() -> None:
    start = time.perf_counter()
    import patternc  # its loading is measured

    compiled = patternc.compile(PATTERN, heads=8)
    compile_ = time.perf_counter() - start
    compiled.plan(TOKENS)
    plan = time.perf_counter() - start - compile_
    print(json.dumps({"pattern": PATTERN, "n": TOKENS, "seconds": compile_, "seconds_first_plan": plan}))


if __name__ == "__main__":
    main()
