"""`leastway diff`: connections, not text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.goldens import SAMPLES


@pytest.fixture
def changed(policies: Path, tmp_path: Path) -> Path:
    """The generated policies, but web may call 8081 instead of 8080."""
    folder = tmp_path / "new"
    shutil.copytree(policies, folder)
    for path in folder.glob("shop/networkpolicy-*.yaml"):
        path.write_text(path.read_text().replace("8080", "8081"))
    return folder


def test_the_same_policies_written_differently_do_not_differ(
    run: Run, policies: Path, inventory: Path, tmp_path: Path
) -> None:
    joined = tmp_path / "all.yaml"
    joined.write_text(
        "---\n".join(path.read_text() for path in sorted(policies.rglob("networkpolicy-*.yaml"), reverse=True))
    )
    result = run("diff", policies, joined, "--inventory", inventory)
    assert result.exit_code == 0
    assert result.stdout == "no difference: both let the same connections through\n"


def test_connections_are_listed_by_what_became_of_them(
    run: Run, policies: Path, changed: Path, inventory: Path
) -> None:
    result = run("diff", policies, changed, "--inventory", inventory)
    assert result.exit_code == 0
    assert "1 connection newly allowed, 1 newly denied" in result.stdout
    assert "+ shop/web → shop/api 8081/TCP" in result.stdout
    assert "- shop/web → shop/api 8080/TCP" in result.stdout


def test_of_the_denied_the_observed_ones_are_named(
    run: Run, policies: Path, changed: Path, inventory: Path, capture: Path
) -> None:
    result = run("diff", policies, changed, "--inventory", inventory, capture, "--format", "json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    (broken,) = told["observed"]
    assert (broken["from"], broken["to"], broken["port"]) == ("shop/web", "shop/api", 8080)
    assert told["denied"]["total"] == 1


def test_what_was_denied_before_is_not_newly_denied(
    run: Run, policies: Path, changed: Path, inventory: Path, capture: Path
) -> None:
    result = run("diff", changed, policies, "--inventory", inventory, capture, "--format", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["observed"] == []


def test_a_snapshot_that_holds_the_old_policies_does_not_keep_them_in_force(
    run: Run, policies: Path, changed: Path, inventory: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshot"
    shutil.copytree(policies / "shop", snapshot)
    shutil.copy(inventory, snapshot)
    (snapshot / "kustomization.yaml").unlink()
    (changed / "shop/networkpolicy-web.yaml").unlink()
    result = run("diff", policies, changed, "--inventory", snapshot)
    assert "- shop/web → shop/api 8080/TCP" in result.stdout


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        ('- "/reviews/{*}"', '- "/review/{*}"', "GET /reviews/"),
        ('methods: ["GET"]', 'methods: ["POST"]', "GET /reviews/"),
        ("sa/bookinfo-productpage", "sa/default", "GET /reviews/"),
        ('ports: ["9080"]', 'ports: ["80"]', "GET /reviews/"),
    ],
)
def test_of_the_denied_requests_the_observed_ones_are_named(
    run: Run, tmp_path: Path, old: str, new: str, lost: str
) -> None:
    story = SAMPLES / "bookinfo"
    before, after = story / "expected", tmp_path / "new"
    shutil.copytree(before, after)
    path = after / "bookinfo/authorizationpolicy-reviews-v2.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    arguments = ("--inventory", story / "inventory.yaml", story / "access-log.jsonl")
    result = run("diff", before, after, *arguments, "--format", "json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert told["observed"]
    for entry in told["observed"]:
        assert (entry["from"], entry["to"]) == ("bookinfo/productpage-v1", "bookinfo/reviews-v2")
        assert f"{entry['method']} {entry['path']}".startswith(lost)
    assert told["denied"]["total"] > 0
    assert {c["to"] for c in told["denied"]["connections"]} == {"bookinfo/reviews-v2"}
    back = run("diff", after, before, *arguments)
    assert back.exit_code == 0
    assert "0 of the observed connections would be newly denied" in back.stdout


def test_without_an_inventory_it_is_a_usage_error(run: Run, policies: Path) -> None:
    result = run("diff", policies, policies)
    assert result.exit_code == 2
    assert "--inventory" in result.stderr
