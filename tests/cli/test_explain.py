"""`leastway explain`: the evidence behind a file, a namespace or all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Run
from tests.goldens import SAMPLES, STORIES


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


def test_several_paths_are_explained_once_each(run: Run, policies: Path, tmp_path: Path) -> None:
    file = policies / "shop/networkpolicy-api.yaml"
    text = run("explain", file, policies / "shop/networkpolicy-web.yaml", file).stdout
    assert [text.count(f"shop/networkpolicy-{name}.yaml") for name in ("api", "web")] == [1, 1]
    other = tmp_path / "other"
    shutil.copytree(policies, other)
    both = json.loads(run("explain", file, other / "shop/networkpolicy-api.yaml", "--format", "json").stdout)
    assert sorted(both) == sorted(str(f.resolve()) for f in (file, other / "shop/networkpolicy-api.yaml"))
    assert run("explain", file, tmp_path / "nowhere").exit_code == 1


def test_text_fits_and_what_can_be_copied_stays_whole(
    run: Run, policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run("explain", policies).stdout
    assert max(map(len, text.splitlines())) <= 80
    told = json.loads(run("explain", policies, "--format", "json").stdout)
    ids = {sample for entries in told.values() for entry in entries for sample in entry["samples"][:2]}
    assert ids
    assert ids <= set(text.split())


def test_a_file_without_evidence_says_what_it_is_for(run: Run, policies: Path) -> None:
    assert "it isolates" in run("explain", policies / "shop/networkpolicy-default-deny.yaml").stdout


def test_look_ups_are_explained_where_their_rule_is(run: Run, policies: Path) -> None:
    """Nobody was seen asking in this capture, so the line says why the rule is there all the same."""
    text = run("explain", policies / "shop/networkpolicy-allow-dns.yaml").stdout
    assert all(part in text for part in ("kube-system/k8s-app=kube-dns", "UDP 53", "TCP 53", "cuts name look-ups off"))
    assert "53" not in run("explain", policies / "shop/networkpolicy-web.yaml").stdout.replace("5432", "")


@pytest.mark.parametrize("story", STORIES)
def test_every_file_that_opens_something_shows_a_line_for_each_port(run: Run, story: str) -> None:
    folder = SAMPLES / story / "expected"
    for path in sorted(folder.glob("*/*.yaml")):
        if path.name == "kustomization.yaml":
            continue
        spec = yaml.safe_load(path.read_text())["spec"]
        lines = run("explain", path).stdout.splitlines()
        rules = [*(spec.get("ingress") or ()), *(spec.get("egress") or ()), *(spec.get("rules") or ())]
        if not rules:
            assert "it isolates" in lines[1], path
        for rule in rules:
            ports = {str(port["port"]) for port in rule.get("ports", ())}
            ports |= {port for to in rule.get("to", ()) for port in to.get("operation", {}).get("ports", ())}
            shown = {word for text in lines[1:] for word in text.split() if word in ports}
            assert shown == ports or ("targetRefs" in spec and shown), path


def test_declared_and_accepted_rules_say_whose_word_they_rest_on(
    run: Run, capture: Path, inventory: Path, tmp_path: Path
) -> None:
    declared = tmp_path / "declared.yaml"
    declared.write_text("- {from: shop/db, to: shop/web, port: 80, because: the nightly report}\n")
    first = tmp_path / "first"
    assert run("generate", capture, "--inventory", inventory, "-o", first).exit_code == 0
    items = json.loads((first / "leastway.json").read_text())["review"]
    accepted = next(item["id"] for item in items if item["kind"] == "denied" and item["acceptable"])
    folder = tmp_path / "second"
    arguments = ("--inventory", inventory, "-o", folder, "--declared", declared, "--accept", accepted)
    assert run("generate", capture, *arguments).exit_code == 0
    text = " ".join(run("explain", folder).stdout.split())
    assert "declared: the nightly report" in text
    assert "accepted in review" in text


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


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": null}', '{"options": {}, "files": 1, "evidence": [], "review": 2}']
)
def test_a_leastway_json_of_another_make_is_one_line(run: Run, capture: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "leastway.json").write_text(text)
    (tmp_path / "policy.yaml").write_text("kind: ConfigMap\n")
    result = run("explain", tmp_path)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "no leastway.json of ours" in result.stderr
    assert run("verify", tmp_path, capture).exit_code == 0


def test_a_file_that_leastway_did_not_write_is_one_line(run: Run, policies: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(policies, folder)
    (folder / "shop/mine.yaml").write_text("kind: ConfigMap\n")
    result = run("explain", folder / "shop/mine.yaml")
    assert result.exit_code == 1
    assert "shop/mine.yaml" in result.stderr


def test_a_path_that_is_not_there_is_one_line(run: Run, tmp_path: Path) -> None:
    assert run("explain", tmp_path / "nowhere").exit_code == 1
