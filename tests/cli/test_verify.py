"""`leastway verify`: the same judge for generated and for hand-written policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

BREAKING = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
    - from: [{podSelector: {matchLabels: {app: api}}}]
      ports: [{port: 5433}]
"""


@pytest.fixture
def handwritten(tmp_path: Path) -> Path:
    """A policy that names the right peer and the wrong port."""
    path = tmp_path / "db.yaml"
    path.write_text(BREAKING)
    return path


def test_generated_policies_get_the_proof_that_generate_wrote(
    run: Run, policies: Path, capture: Path, inventory: Path
) -> None:
    result = run("verify", policies, capture, "--inventory", inventory, "--format", "json")
    assert result.exit_code == 0
    proof = json.loads(result.stdout)
    profiles = proof.pop("profiles")
    assert proof == json.loads((policies / "leastway.json").read_text())["proof"]
    assert {cni: found["sound"] for cni, found in profiles.items()} == {"cilium": True, "calico": True}


def test_what_a_policy_would_break_is_listed_with_the_policy_and_the_nearest_rule(
    run: Run, handwritten: Path, capture: Path, inventory: Path
) -> None:
    result = run("verify", handwritten, capture, "--inventory", inventory, "--format", "json")
    assert result.exit_code == 3
    proof = json.loads(result.stdout)
    assert proof["sound"] is False
    (denied,) = proof["denied"]
    assert (denied["from"], denied["to"], denied["port"]) == ("shop/api", "shop/db", 5432)
    assert "NetworkPolicy shop/db" in denied["because"]
    assert "5433" in denied["nearest"]


def test_the_first_line_of_the_text_is_the_result(run: Run, handwritten: Path, capture: Path, inventory: Path) -> None:
    result = run("verify", handwritten, capture, "--inventory", inventory)
    assert result.exit_code == 3
    assert result.stdout.startswith("NOT SOUND: 1 observed connection would be denied")
    assert "shop/api → shop/db" in result.stdout


@pytest.mark.parametrize(("budget", "code"), [("0", 3), ("1000000", 0)])
def test_over_permission_has_a_budget(
    run: Run, tmp_path: Path, capture: Path, inventory: Path, budget: str, code: int
) -> None:
    empty = tmp_path / "policies"
    empty.mkdir()
    result = run("verify", empty, capture, "--inventory", inventory, "--max-over-permission", budget)
    assert result.exit_code == code
    assert ("--max-over-permission is 0" in result.stderr) == (code == 3)


def test_a_folder_without_policies_is_told(run: Run, tmp_path: Path, capture: Path) -> None:
    result = run("verify", tmp_path, capture)
    assert result.exit_code == 0
    assert "no policy was found" in result.stderr


def test_policies_that_cannot_be_judged_are_named(run: Run, tmp_path: Path, capture: Path) -> None:
    path = tmp_path / "cilium.yaml"
    path.write_text(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x, namespace: shop}\nspec: {}\n"
    )
    assert "CiliumNetworkPolicy shop/x" in run("verify", path, capture).stderr


def test_options_of_the_run_that_wrote_the_policies_are_the_defaults(
    run: Run, tmp_path: Path, capture: Path, inventory: Path
) -> None:
    folder = tmp_path / "out"
    given = ("--inventory", inventory, "--cni", "calico", "--namespace", "shop")
    run("generate", capture, *given, "-o", folder, "--mesh", "sidecar")
    proof = json.loads(run("verify", folder, capture, "--inventory", inventory, "--format", "json").stdout)
    assert (proof["cni"], proof["mesh"]) == ("calico", "sidecar")
    said = run(
        "verify", folder, capture, "--inventory", inventory, "--format", "json", "--cni", "cilium", "--mesh", "none"
    )
    proof = json.loads(said.stdout)
    assert (proof["cni"], proof["mesh"]) == ("cilium", "none")


def test_istio_policies_are_never_judged_as_if_there_were_no_mesh(
    run: Run, tmp_path: Path, capture: Path, inventory: Path
) -> None:
    path = tmp_path / "deny.yaml"
    path.write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: d, namespace: shop}\nspec: {}\n"
    )
    result = run("verify", path, capture, "--inventory", inventory)
    assert "mesh sidecar" in result.stderr
    assert result.exit_code == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            BREAKING.replace("ingress:", "ingres:"),
            "ingres",
        ),
        ("a: [", "not YAML"),
    ],
)
def test_policies_that_cannot_be_read_are_one_line(
    run: Run, tmp_path: Path, capture: Path, text: str, problem: str
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    result = run("verify", path, capture)
    assert result.exit_code == 1
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_policies_that_are_not_there_are_one_line(run: Run, tmp_path: Path, capture: Path) -> None:
    result = run("verify", tmp_path / "nowhere", capture)
    assert result.exit_code == 1
    assert "nowhere" in result.stderr


def test_a_capture_without_connections_is_no_proof(run: Run, tmp_path: Path, policies: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert run("verify", policies, empty).exit_code == 1


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("120", 120), ("", 100), ("nonsense", 100), ("7", 40)])
def test_text_fits_and_names_stay_whole(
    run: Run,
    handwritten: Path,
    capture: Path,
    inventory: Path,
    columns: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = run("verify", handwritten, capture, "--inventory", inventory)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("NOT SOUND: 1 ")
    assert all(len(text) <= width for text in lines)
    words = set(result.stdout.split())
    assert {"shop/api", "shop/db", "5432/TCP"} <= words
    assert "because shop/db is isolated for ingress by NetworkPolicy shop/db, and no rule" in " ".join(
        result.stdout.split()
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "nosuch", "CAPTURE"),
        ("diff", "nosuch", "nosuch"),
        ("can", "nosuch", "--from", "a/b", "--to", "a/b", "--port", "80"),
    ],
)
def test_a_path_that_does_not_exist_is_told_with_what_to_do(
    run: Run, capture: Path, inventory: Path, arguments: tuple[str, ...]
) -> None:
    asked = [str(capture) if text == "CAPTURE" else text for text in arguments]
    result = run(*asked, "--inventory", inventory)
    assert result.exit_code == 1
    assert result.stderr.count("nosuch") == 1
    assert "no such file or folder — nosuch — " in result.stderr
    missing = run("verify", inventory, capture, "--inventory", "nosuch")
    assert missing.exit_code == 1
    assert "nosuch — check the path" in missing.stderr
