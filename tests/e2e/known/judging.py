"""What `leastway verify` says of hand-written policies over an application's capture, and how a test states it.

Invariant: a case names every connection that its policies break, each with the policy that isolates and with what the
nearest rule has instead; `verify` must name these and no other.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, NamedTuple

from tests.cli.conftest import invoke


class Broken(NamedTuple):
    """One broken connection. `policy` is the title of one that isolates or denies; `nearest` must be in what `verify`
    calls the nearest rule, and "" says that there is none."""

    source: str
    destination: str
    port: int
    policy: str
    nearest: str
    protocol: str = "TCP"
    request: str = ""


class Case(NamedTuple):
    """Hand-written YAML, and what it breaks. `said` is in the text that a person reads."""

    name: str
    policies: str
    broken: list[Broken]
    said: str = ""


class Captured(NamedTuple):
    """Where an application's inventory and captures are."""

    inventory: Path
    captures: list[Path]


def verified(captured: Captured, policies: str, folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, proof, and the text of the same run without JSON."""
    path = folder / "policies.yaml"
    path.write_text(policies)
    arguments: tuple[str | Path, ...] = (
        "verify",
        path,
        *captured.captures,
        "--inventory",
        captured.inventory,
        *options,
    )
    result, read = invoke(*arguments, "--format", "json"), invoke(*arguments)
    assert result.stdout, result.stderr
    assert result.exit_code == read.exit_code
    return result.exit_code, json.loads(result.stdout), read.stdout


def check(captured: Captured, case: Case, folder: Path, *options: str) -> None:
    """`verify` exits with 3 and names what the case says is broken, why, and nothing else."""
    code, proof, text = verified(captured, case.policies, folder, *options)
    assert (code, proof["sound"]) == (3, False), text
    found = {
        (e["from"], e["to"], e["port"], e["protocol"], f"{e['method']} {e['path']}".strip()): e for e in proof["denied"]
    }
    expected = {(b.source, b.destination, b.port, b.protocol, b.request): b for b in case.broken}
    assert sorted(found) == sorted(expected), text
    for key, broken in expected.items():
        entry = found[key]
        assert broken.policy in entry["policies"], entry
        assert broken.policy in entry["because"], entry
        if broken.nearest:
            assert broken.nearest in entry["nearest"], entry
        else:
            assert entry["nearest"] == "", entry
    assert text.startswith(f"NOT SOUND: {len(expected)} "), text
    flat = " ".join(text.split())
    assert case.said in flat, text
    for broken in case.broken[:5]:
        assert f"{broken.source} → {broken.destination} {broken.port}/{broken.protocol}" in flat, text


def network(ref: str, spec: str) -> str:
    """A NetworkPolicy document: `namespace/name` and its spec in YAML."""
    return _document("networking.k8s.io/v1", "NetworkPolicy", ref, spec)


def access(ref: str, spec: str) -> str:
    """An AuthorizationPolicy document."""
    return _document("security.istio.io/v1", "AuthorizationPolicy", ref, spec)


def _document(version: str, kind: str, ref: str, spec: str) -> str:
    namespace, _, name = ref.partition("/")
    head = f"---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n"
    return head + indent(dedent(spec).strip("\n"), "  ") + "\n"
