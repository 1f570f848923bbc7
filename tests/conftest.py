"""Options of the test run, how hypothesis behaves in it, Triton's interpreter, and goldens: files that hold what the
compiler said when a person last looked at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import environment
import pytest
import triton_interpreter
from hypothesis import HealthCheck, Phase, settings

QUIET = pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:overflow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--examples", type=int, help="examples of the larger properties, 2,000 in CI; the others scale with them"
    )
    parser.addoption("--update-goldens", action="store_true", help="write the goldens anew instead of comparing")
    parser.addoption("--exhaustive", action="store_true", help="also run the cases that are left out for time")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)` asserts that the file at `path` holds `text`; with --update-goldens it writes it there."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-goldens"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        assert path.exists(), f"{path} does not exist: run pytest with --update-goldens and look at what it holds"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def interpreted() -> None:
    """Kernels of this process run in Triton's interpreter; else the test is skipped."""
    if environment.HAS_GPU:
        pytest.skip("this machine's GPU runs the kernels: tests/gpu")
    if os.environ["TRITON_INTERPRET"] != "1":
        pytest.skip("needs TRITON_INTERPRET=1")
    triton_interpreter.mend()


@pytest.fixture(scope="module")
def small_tiles(interpreted: None) -> Iterator[None]:
    """The same, and kernels in tiles of 32 × 32 tokens, so that a few tokens make several tiles."""
    from patternc.backends import triton_executor  # imports torch, which takes seconds and not every run needs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_executor, "tile_of", lambda dim, bits: (32, 32))
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked as exhaustive, unless it is asked for. The interpreter computes what masks leave out,
    with NumPy, which warns of it."""
    left_out = [] if config.getoption("--exhaustive") else [i for i in items if i.get_closest_marker("exhaustive")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    for item in items:
        if "interpreted" in getattr(item, "fixturenames", ()):
            item.add_marker(QUIET)


def pytest_configure(config: pytest.Config) -> None:
    """The same examples in every run, unless their number is given: then they are drawn anew."""
    config.addinivalue_line("markers", "exhaustive: one of many alike; run with --exhaustive")
    number = config.getoption("--examples")
    if number is not None:
        os.environ["PATTERNC_EXAMPLES"] = str(number)  # read where test modules set up their properties
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    phases = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]  # `explain` traces every line: minutes
    options = {"deadline": None, "suppress_health_check": checks, "phases": phases}
    settings.register_profile("patternc", derandomize=number is None, **options)
    settings.load_profile("patternc")
