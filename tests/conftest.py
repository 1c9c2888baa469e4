"""What all tests share: one hypothesis profile, the length of the comparisons with other implementations, and the real
captures where they are at hand."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
CAPTURES = ROOT.parent / "shared" / "captures"

# Derandomised, so that a commit's result is its own; no deadline, for the machines that run this are shared.
settings.register_profile(
    "leastway", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("leastway")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--oracle-rounds N`."""
    text = "compare the judge with Envoy and network-config-analyzer on N times as many random worlds (default 1)"
    parser.addoption("--oracle-rounds", type=int, default=1, metavar="N", help=text)


@pytest.fixture(scope="session")
def oracle_rounds(pytestconfig: pytest.Config) -> int:
    """How many times over to compare the judge with other implementations."""
    return max(1, int(pytestconfig.getoption("--oracle-rounds")))


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of captures from real clusters. They are not ours to publish, so they are not in the repository."""
    if not CAPTURES.is_dir():
        pytest.skip("the captures from real clusters are not beside this checkout (../shared/captures)")
    return CAPTURES


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders called `locked` cannot be listed, not even by root."""
    look = os.scandir

    def refused(path: str | Path) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refused)
