"""What the GPU tests found, as a file to be committed."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path

import pytest

import patternc


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="write the outcomes, the device and the versions to this JSON file")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--results") and not hasattr(config, "workerinput"):  # the controller hears of all tests
        config.pluginmanager.register(_Results(config.getoption("--results")))


class _Results:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, dict[str, object]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.tests[report.nodeid] = {"outcome": report.outcome, "seconds": round(report.duration, 3)}

    def pytest_sessionfinish(self) -> None:
        import torch  # the tests have imported it, or there is nothing to tell

        outcomes = [test["outcome"] for test in self.tests.values()]
        found = {
            "command": "tests/gpu/run.sh --results FILE",
            "date": time.strftime("%Y-%m-%d"),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor(),
            "versions": {
                "patternc": patternc.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
            "outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
            "tests": self.tests,
        }
        self.path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
