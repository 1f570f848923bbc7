"""Options of the test run, how hypothesis behaves in it, and goldens: files that hold what the compiler said when a
person last looked at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; must be set before torch is imported

if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # without a GPU; must be set before triton is imported

import pytest
from hypothesis import HealthCheck, Phase, settings


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked as exhaustive, unless it is asked for."""
    left_out = [] if config.getoption("--exhaustive") else [i for i in items if i.get_closest_marker("exhaustive")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


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
