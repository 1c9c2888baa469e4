"""`leastway explain`: the evidence behind a file, a namespace or all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.conftest import Run


def test_a_file_shows_who_how_often_when_and_samples(run: Run, policies: Path) -> None:
    result = run("explain", policies / "shop/networkpolicy-api.yaml")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for part in ("from shop/web TCP 8080 observed", "to shop/db TCP 5432", "2026-03-02 08:01:00", "flow-web-api-8080-"):
        assert part in text


def test_a_folder_shows_every_file(run: Run, policies: Path) -> None:
    for folder in (policies, policies / "shop"):
        told = json.loads(run("explain", folder, "--format", "json").stdout)
        assert {"shop/networkpolicy-api.yaml", "shop/networkpolicy-default-deny.yaml"} <= set(told)
        assert told["shop/networkpolicy-web.yaml"][0]["to"] == "shop/api"


def test_a_file_without_evidence_says_what_it_is_for(run: Run, policies: Path) -> None:
    assert "it isolates" in run("explain", policies / "shop/networkpolicy-default-deny.yaml").stdout


def test_addresses_that_share_their_evidence_share_a_row(run: Run, policies: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(policies, folder)
    report = json.loads((folder / "leastway.json").read_text())
    entry = report["evidence"]["shop/networkpolicy-web.yaml"][0]
    entries = [{**entry, "to": f"external 198.51.100.{number}"} for number in range(9)]
    report["evidence"]["shop/networkpolicy-web.yaml"] = entries
    (folder / "leastway.json").write_text(json.dumps(report))
    text = " ".join(run("explain", folder / "shop/networkpolicy-web.yaml").stdout.split())
    assert "6 more" in text
    assert "198.51.100.7" not in text


def test_text_from_traffic_cannot_steer_the_terminal(run: Run, policies: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(policies, folder)
    report = json.loads((folder / "leastway.json").read_text())
    report["evidence"]["shop/networkpolicy-web.yaml"][0]["to"] = "\x1b[2J[red]evil\u202e\n"
    (folder / "leastway.json").write_text(json.dumps(report))
    result = run("explain", folder / "shop/networkpolicy-web.yaml")
    assert "[red]evil" in result.stdout
    assert not {"\x1b", "\u202e"} & set(result.stdout)


def test_a_folder_that_leastway_did_not_write_is_one_line(run: Run, tmp_path: Path) -> None:
    result = run("explain", tmp_path)
    assert result.exit_code == 1
    assert "no leastway.json" in result.stderr


def test_a_file_that_leastway_did_not_write_is_one_line(run: Run, policies: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(policies, folder)
    (folder / "shop/mine.yaml").write_text("kind: ConfigMap\n")
    result = run("explain", folder / "shop/mine.yaml")
    assert result.exit_code == 1
    assert "shop/mine.yaml" in result.stderr


def test_a_path_that_is_not_there_is_one_line(run: Run, tmp_path: Path) -> None:
    assert run("explain", tmp_path / "nowhere").exit_code == 1
