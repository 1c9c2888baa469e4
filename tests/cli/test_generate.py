"""`leastway generate`: what is written, what is said, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leastway import pipeline
from tests.cli.cluster import CAPTURE
from tests.cli.conftest import Run


def test_policies_report_and_review_are_written(policies: Path) -> None:
    written = {path.relative_to(policies).as_posix() for path in policies.rglob("*") if path.is_file()}
    assert {
        "leastway.json",
        "REVIEW.md",
        "shop/networkpolicy-api.yaml",
        "shop/networkpolicy-default-deny.yaml",
    } <= written


def test_the_first_line_is_the_result(run: Run, tmp_path: Path, capture: Path, inventory: Path) -> None:
    result = run("generate", capture, "--inventory", inventory, "-o", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith("SOUND: 2 of 2 observed connections allowed")
    assert "1 denied" in result.stdout


def test_the_detected_mesh_is_told_on_stderr(run: Run, tmp_path: Path, capture: Path) -> None:
    result = run("generate", capture, "-o", tmp_path)
    assert "mesh none" in result.stderr
    assert "mesh none" not in result.stdout
    assert "mesh" not in run("generate", capture, "-o", tmp_path, "--mesh", "none").stderr


def test_json_holds_the_proof_that_was_written(run: Run, tmp_path: Path, capture: Path, inventory: Path) -> None:
    result = run("generate", capture, "--inventory", inventory, "-o", tmp_path, "--format", "json")
    told = json.loads(result.stdout)
    assert told["proof"] == json.loads((tmp_path / "leastway.json").read_text())["proof"]
    assert told["proof"]["sound"] is True
    assert "shop/networkpolicy-web.yaml" in told["written"]
    assert told["review"] == {"denied": 1}


def test_a_second_run_changes_nothing(run: Run, tmp_path: Path, capture: Path, inventory: Path) -> None:
    arguments = ("generate", capture, "--inventory", inventory, "-o", tmp_path, "--format", "json")
    first = json.loads(run(*arguments).stdout)
    second = json.loads(run(*arguments).stdout)
    assert second["written"] == []
    assert second["unchanged"] == first["written"]


def test_policies_of_traffic_that_ceased_are_removed(run: Run, tmp_path: Path, capture: Path) -> None:
    run("generate", capture, "-o", tmp_path)
    assert (tmp_path / "shop/networkpolicy-db.yaml").exists()
    shorter = tmp_path / "shorter.jsonl"
    shorter.write_text("".join(f"{line}\n" for line in CAPTURE.splitlines() if '"k8s:app=db"' not in line))
    told = json.loads(run("generate", shorter, "-o", tmp_path, "--format", "json").stdout)
    assert told["removed"] == ["shop/networkpolicy-db.yaml"]
    assert not (tmp_path / "shop/networkpolicy-db.yaml").exists()


def test_standard_input_is_an_input(run: Run, tmp_path: Path) -> None:
    assert run("generate", "-", "-o", tmp_path, stdin=CAPTURE).exit_code == 0
    assert (tmp_path / "shop/networkpolicy-api.yaml").exists()


def test_unsound_policies_are_written_but_exit_with_3(
    run: Run, tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> pipeline.Run:
        found = real(*args, **kwargs)  # type: ignore[arg-type]  # handed through as they are
        entry = {"from": "shop/web", "to": "shop/api", "protocol": "TCP", "port": 8080, "method": "", "path": ""}
        entry |= {"outcome": "deny", "layer": "networkpolicy", "because": "a test says so", "nearest": ""}
        found.proof.update(sound=False, denied=[entry])
        return found

    real = pipeline.generate
    monkeypatch.setattr(pipeline, "generate", broken)
    result = run("generate", capture, "-o", tmp_path)
    assert result.exit_code == 3
    assert result.stdout.startswith("NOT SOUND")
    assert "a test says so" in result.stdout
    assert "do not apply" in result.stderr
    assert (tmp_path / "shop/networkpolicy-api.yaml").exists()


def test_an_accepted_id_that_matches_nothing_is_told(run: Run, tmp_path: Path, capture: Path) -> None:
    result = run("generate", capture, "-o", tmp_path, "--accept", "lw-0000000000")
    assert result.exit_code == 0
    assert "--accept lw-0000000000 matches no review item" in result.stderr


def test_an_accepted_id_takes_its_item_in(run: Run, tmp_path: Path, capture: Path) -> None:
    told = json.loads(run("generate", capture, "-o", tmp_path, "--format", "json").stdout)
    assert told["review"]
    items = json.loads((tmp_path / "leastway.json").read_text())["review"]
    name = next(item["id"] for item in items if item["acceptable"])
    result = run("generate", capture, "-o", tmp_path, "--accept", name)
    assert "--accept" not in result.stderr
    left = json.loads((tmp_path / "leastway.json").read_text())["review"]
    assert name not in {item["id"] for item in left}


def test_bad_lines_are_shown_with_file_line_and_reason(run: Run, tmp_path: Path) -> None:
    capture = tmp_path / "flows.jsonl"
    lines = CAPTURE.splitlines()
    capture.write_text("\n".join([*lines[:3], "{broken}", *lines[3:]]))
    result = run("generate", capture, "-o", tmp_path / "out", "--max-bad-lines", "50%")
    assert result.exit_code == 0
    assert f"{capture}:4 " in result.stderr


@pytest.mark.parametrize(("limit", "code"), [("1%", 1), ("0.01", 1), ("1", 1), ("10", 0), ("10%", 0), ("0.1", 0)])
def test_more_bad_lines_than_the_limit_exit_with_1_after_the_work(
    run: Run, tmp_path: Path, limit: str, code: int
) -> None:
    capture = tmp_path / "flows.jsonl"
    capture.write_text(f"{CAPTURE}\n{{broken}}\n")  # one of 22
    result = run("generate", capture, "-o", tmp_path / "out", "--max-bad-lines", limit)
    assert result.exit_code == code
    assert (tmp_path / "out/shop/networkpolicy-api.yaml").exists()


def test_the_trust_domain_is_the_one_of_the_meshs_settings(
    run: Run, tmp_path: Path, capture: Path, inventory: Path
) -> None:
    mesh = tmp_path / "mesh.json"
    meta = {"name": "istio", "namespace": "istio-system"}
    settings = {"trustDomain": "td-1", "trustDomainAliases": ["old"]}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"mesh": json.dumps(settings)}}
    mesh.write_text(json.dumps(config))
    out = tmp_path / "out"
    both = ("--inventory", inventory, "--inventory", mesh)
    for given, domain in (((), "td-1"), (("--trust-domain", "td-2"), "td-2")):
        assert run("generate", capture, *both, "-o", out, "--mesh", "sidecar", *given).exit_code == 0
        assert f"{domain}/ns/shop/sa/" in (out / "shop/authorizationpolicy-api.yaml").read_text()
        assert json.loads((out / "leastway.json").read_text())["options"]["trust_domain"] == domain
        assert run("verify", out, capture, *both).exit_code == 0
    ends = ("--from", "shop/web", "--to", "shop/api", "--port", "8080", "--principal", "old/ns/shop/sa/web")
    assert run("can", out, *both, "--trust-domain", "td-2", *ends).exit_code == 0


@pytest.mark.parametrize("name", ['a b"', "Cluster.Local", "", "x\ny", "spiffe://x"])
def test_what_is_no_trust_domain_is_a_usage_error(run: Run, capture: Path, name: str) -> None:
    result = run("generate", capture, "-o", "x", f"--trust-domain={name}")
    assert result.exit_code == 2
    assert "--trust-domain" in result.stderr


@pytest.mark.parametrize("value", ["many", "101%", "-1", "nan%"])
def test_a_wrong_limit_is_a_usage_error_that_names_the_option(run: Run, capture: Path, value: str) -> None:
    result = run("generate", capture, "-o", "x", f"--max-bad-lines={value}")
    assert result.exit_code == 2
    assert "--max-bad-lines" in result.stderr


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_no_connection_writes_nothing_and_exits_with_1(run: Run, tmp_path: Path, content: str) -> None:
    capture = tmp_path / "empty.jsonl"
    capture.write_text(content)
    result = run("generate", capture, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"no connection was observed — {capture}" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_capture_is_one_line(run: Run, tmp_path: Path) -> None:
    result = run("generate", tmp_path / "nowhere.jsonl", "-o", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("leastway: no such file")
    assert len(result.stderr.splitlines()) == 1


def test_a_scheduler_without_its_engine_is_a_usage_error(run: Run, tmp_path: Path, capture: Path) -> None:
    result = run("generate", capture, "-o", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:8786")
    assert result.exit_code == 2
    assert "--engine dask" in result.stderr


def test_without_an_output_folder_it_is_a_usage_error(run: Run, capture: Path) -> None:
    result = run("generate", capture)
    assert result.exit_code == 2
    assert "--output" in result.stderr


def test_a_declared_connection_becomes_policy(run: Run, tmp_path: Path, capture: Path, inventory: Path) -> None:
    wanted = tmp_path / "declared.yaml"
    wanted.write_text("- {from: shop/web, to: shop/db, port: 5432, because: monthly report}\n")
    result = run("generate", capture, "--inventory", inventory, "-o", tmp_path / "out", "--declared", wanted)
    assert result.exit_code == 0
    assert "5432" in (tmp_path / "out/shop/networkpolicy-web.yaml").read_text()


def test_a_namespace_that_nobody_is_known_in_empties_no_folder(run: Run, tmp_path: Path, capture: Path) -> None:
    run("generate", capture, "-o", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = run("generate", capture, "-o", tmp_path, "--namespace", "shp")
    assert result.exit_code == 1
    assert "--namespace shp" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_namespace_beside_a_known_one_is_told(run: Run, tmp_path: Path, capture: Path) -> None:
    result = run("generate", capture, "-o", tmp_path, "--namespace", "shop", "--namespace", "shp")
    assert result.exit_code == 0
    assert "--namespace shp" in result.stderr
    assert (tmp_path / "shop/networkpolicy-api.yaml").exists()


def test_a_second_run_does_not_read_what_the_first_wrote(run: Run, tmp_path: Path, capture: Path) -> None:
    (tmp_path / "flows.jsonl").write_bytes(capture.read_bytes())
    for output in (tmp_path / "policies", tmp_path):
        first, second = (run("generate", tmp_path, "-o", output) for _ in range(2))
        assert (first.exit_code, second.exit_code) == (0, 0), second.stderr
        assert " 0 written" in second.stdout


def test_nothing_readable_does_not_claim_that_work_was_done(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    result = run("generate", tmp_path / "notes.txt", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "no known format" in result.stderr
    assert "work is done" not in result.stderr


def test_a_capture_without_verdicts_is_told_what_it_lacks(run: Run, capture: Path, tmp_path: Path) -> None:
    """An export whose field mask leaves the verdict out holds connections, and yet none may be used."""
    masked = tmp_path / "masked.jsonl"
    masked.write_text(capture.read_text().replace('"verdict"', '"no_verdict"'))
    result = run("generate", masked, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "records: no verdict" in result.stderr
    assert not (tmp_path / "out").exists()
