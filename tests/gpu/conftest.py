"""Where the GPU tests run; what they found, as a file to be committed."""

from __future__ import annotations

import json
import platform
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from kernels_started import kernels_started

import patternc

NEEDED = ("torch", "triton")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="write the outcomes, the device and the versions to this JSON file")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "memcheck: run by memcheck.py; all together start every kind of kernel")
    config.addinivalue_line(
        "markers", "xdist_group: tests that pytest-xdist gives to one process, with --dist loadgroup"
    )
    if config.getoption("--results") and not hasattr(config, "workerinput"):  # the controller hears of all tests
        config.pluginmanager.register(_Results(config.getoption("--results")))


@pytest.fixture(autouse=True, scope="session")
def _cuda() -> None:
    import torch  # every module of these tests has imported it

    if not torch.cuda.is_available():
        pytest.skip("GPU tests need a CUDA device")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest-xdist, one process runs all tests of a named pattern, and compiles its kernels once."""
    for item in items:
        given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if isinstance(given.get("name"), str):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {given['name']}"))


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Modules may import torch and triton: where one is missing, they are not imported."""
    if all(find_spec(name) for name in NEEDED):
        return None
    return _Skipped.from_parent(parent, path=module_path)


class _Skipped(pytest.Module):
    def collect(self) -> list[pytest.Item]:
        pytest.skip(f"GPU tests need {' and '.join(NEEDED)}")


class _Results:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, dict[str, object]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            test = report.nodeid.partition("@")[0]  # pytest-xdist appends the group
            self.tests[test] = {"outcome": report.outcome, "seconds": round(report.duration, 3)}

    def pytest_sessionfinish(self) -> None:
        import torch  # the tests have imported them, or there is nothing to tell
        import triton

        outcomes = [test["outcome"] for test in self.tests.values()]
        found = {
            "command": "tests/gpu/run.sh --results FILE",
            "date": time.strftime("%Y-%m-%d"),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor(),
            "versions": {
                "patternc": patternc.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "triton": triton.__version__,
            },
            "outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
            "tests": self.tests,
        }
        if kernels := kernels_started():  # by this process, which starts none where others run the tests
            found["kernels"] = kernels
        self.path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
