"""The main job on captures of real clusters: proven policies, no traceback, and no reply that became a rule."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

EPHEMERAL = 32768
# Folder: connections that policies must let through, and the exit code: 1 where a file of notes lies beside the flows.
FOLDERS = {
    "hubble/found": (6, 1),
    "hubble/hubble-otel": (10, 0),
    "hubble/tke-guide": (1, 0),
    "istio/found": (5, 0),
    "istio/kiali": (10, 0),
    "envoy/skywalking": (2, 1),
}
# Bookinfo in two clusters (its pages, and somebody's curl from a pod of ratings), and Prometheus in one of them.
BOOKINFO = {
    ("bookinfo/productpage-v1.kind-kind", "bookinfo/details-v1", 9080),
    ("bookinfo/productpage-v1.kind-kind", "bookinfo/reviews-v1.kind-kind", 9080),
    ("bookinfo/productpage-v1.kind-kind", "bookinfo/reviews-v2", 9080),
    ("bookinfo/productpage-v1.kind-kind", "bookinfo/reviews-v3", 9080),
    ("bookinfo/ratings-v1", "bookinfo/productpage-v1", 9080),
    ("bookinfo/ratings-v1.kind-kind", "bookinfo/productpage-v1.kind-kind", 9080),
    ("istio-system/prometheus", "bookinfo/reviews-v1", 15090),
}


def generate(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`leastway generate` in a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "leastway", "generate", *map(str, arguments), "-o", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "leastway.json").read_text())
    return found


def ports(value: object) -> set[int]:
    """Every port that a policy names, wherever."""
    if isinstance(value, dict):
        own = {int(value["port"])} if str(value.get("port", "")).isdigit() else set()
        own |= {int(port) for port in value.get("ports", ()) if isinstance(port, str) and port.isdigit()}
        return own.union(*map(ports, value.values()))
    return set().union(*map(ports, value)) if isinstance(value, list) else set()


def pods_addresses(folder: Path) -> set[str]:
    """Addresses that Hubble gives for ends with a pod's name."""
    found = set()
    for file in folder.glob("*.json*"):
        for line in file.read_text().splitlines():
            flow = json.loads(line).get("flow", {}) if line[:1] == "{" and line[-1:] == "}" else {}
            ends = (end for end in ("source", "destination") if flow.get(end, {}).get("pod_name"))
            found |= {flow["IP"][end] for end in ends if "IP" in flow}
    return found


@pytest.mark.parametrize("cni", ["generic", "cilium"])
@pytest.mark.parametrize("name", FOLDERS)
def test_policies_are_proven_and_replies_are_no_rules(captures: Path, tmp_path: Path, name: str, cni: str) -> None:
    observed, code = FOLDERS[name]
    done = generate(tmp_path, captures / name, "--cni", cni)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    proof = report(tmp_path)["proof"]
    assert proof["sound"]
    assert proof["observed"] == proof["allowed"] >= observed
    policies = [yaml.safe_load(file.read_text()) for file in tmp_path.glob("*/*policy*.yaml")]
    assert {port for policy in policies for port in ports(policy) if port >= EPHEMERAL} == set()
    blocks = json.dumps(policies)
    assert [ip for ip in pods_addresses(captures / name) if f'"{ip}/' in blocks] == []


def test_the_connections_of_bookinfo_are_the_ones_that_are_let_through(captures: Path, tmp_path: Path) -> None:
    assert generate(tmp_path, captures / "hubble/hubble-otel").returncode == 0
    evidence = [entry for entries in report(tmp_path)["evidence"].values() for entry in entries]
    assert {(e["from"], e["to"], e["port"]) for e in evidence if e["protocol"] == "TCP" and e["port"] != 53} == BOOKINFO


@pytest.mark.parametrize("name", ["hubble/hubble-otel", "istio/kiali"])
def test_the_order_of_records_changes_no_byte(captures: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "reversed"
    folder.mkdir()
    for file in sorted((captures / name).glob("*.*")):
        lines = file.read_text().splitlines()
        (folder / file.name).write_text("\n".join(reversed(lines)))
    written = []
    for number, source in enumerate((captures / name, folder)):
        out = tmp_path / str(number)
        assert generate(out, source).returncode == 0
        files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.yaml")}
        written.append((files, report(out)["proof"]))
    assert written[0] == written[1]
    assert written[0][1]["observed"] > 0
