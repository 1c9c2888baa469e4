"""The stage of the tests about direction: a scene with two pods."""

from __future__ import annotations

import pytest

from tests.e2e.hostile.scene import End, Scene


@pytest.fixture
def s() -> Scene:
    return Scene()


@pytest.fixture
def web(s: Scene) -> End:
    return s.pod("shop/web")


@pytest.fixture
def api(s: Scene) -> End:
    return s.pod("shop/api", labels={"app": "api"})
