"""Captures of the known applications, each made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.known.applications import Application
from tests.e2e.known.judging import Captured

Capture = Callable[[Callable[[], Application]], Captured]


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """`capture(sock_shop)` → where its inventory and captures are."""
    made: dict[str, Captured] = {}

    def of(application: Callable[[], Application]) -> Captured:
        name = application.__name__
        if name not in made:
            made[name] = Captured(*application().write(tmp_path_factory.mktemp(name)))
        return made[name]

    return of
