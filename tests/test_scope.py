"""An observation that was filtered speaks for the namespaces that it asked for, and for no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector import store
from collector.errors import SourceError
from collector.patterns import Patterns
from collector.quality import Quality
from leastway import scope
from synthesizer.options import Options


def asked_for(*filters: tuple[str, ...]) -> Quality:
    found = Quality()
    for namespaces in filters:
        part = Quality()
        part.narrowed(namespaces)
        found.merge(part)
    return found


def test_without_a_filter_nothing_changes() -> None:
    options = Options(namespaces=("shop",))
    assert scope.within(options, Quality()) is options
    assert scope.sentence(Quality()) == ""


@pytest.mark.parametrize(
    ("filters", "wanted", "left"),
    [
        ([("shop",)], (), ("shop",)),
        ([("shop", "web"), ("shop", "data")], (), ("data", "shop", "web")),
        ([("shop", "web")], ("web", "other"), ("web",)),
        ([("shop", "kube-system")], (), ("shop",)),  # a filter of the observation asks for no policy there
        ([("kube-system",)], ("kube-system",), ("kube-system",)),
    ],
)
def test_only_what_was_asked_for_and_is_wanted_gets_policies(
    filters: list[tuple[str, ...]], wanted: tuple[str, ...], left: tuple[str, ...]
) -> None:
    assert scope.within(Options(namespaces=wanted), asked_for(*filters)).namespaces == left


@pytest.mark.parametrize(("asked", "wanted"), [("kube-system", ()), ("shop", ("web",))])
def test_nothing_left_is_an_error_and_not_everything(asked: str, wanted: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match=f"only flows of {asked} were asked for"):
        scope.within(Options(namespaces=wanted), asked_for((asked,)))


def test_the_store_remembers_it(tmp_path: Path) -> None:
    patterns = Patterns()
    patterns.quality.narrowed(("web", "shop"))
    store.save(patterns, tmp_path)
    assert store.quality(tmp_path).scope == {"shop", "web"}
    assert "shop, web" in scope.sentence(store.quality(tmp_path))
