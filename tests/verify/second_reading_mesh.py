"""A second reading of Istio's policies at a sidecar and at ztunnel, over raw manifests, for comparison with the judge.

Written from Istio's API and documentation, two-valued: what an external authoriser answers is a choice that is played
through. Fields:
principals, namespaces, serviceAccounts, ipBlocks, ports, methods, paths, their negations, and conditions on the same.
PeerAuthentication with its inheritance and port levels. Templates, hosts and JWT claims are left to Envoy and to
Istio's tables. It imports nothing of ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple

Document = dict[str, Any]
ROOT = "istio-system"
HTTP_ONLY = ("methods", "notMethods", "paths", "notPaths")


class Call(NamedTuple):
    """What the destination's proxy sees; `method` "" is a TCP connection, `principal` "" plaintext."""

    principal: str
    address: str
    port: int
    method: str = ""
    path: str = ""


class Workload(NamedTuple):
    """Whom it is about. `ambient`: behind ztunnel instead of a sidecar."""

    space: str
    labels: dict[str, str]
    ambient: bool = False


def outcome(policies: Iterable[Document], at: Workload, call: Call) -> str:
    """allow, deny or undefined, at a workload in the mesh."""
    found = list(policies)
    mode = mutual_tls([p for p in found if p["kind"] == "PeerAuthentication"], at, call.port)
    if mode == "STRICT" and not call.principal:
        return "deny"
    if mode == "DISABLE" and not at.ambient:
        call = call._replace(principal="")
    near = [p for p in found if p["kind"] == "AuthorizationPolicy" and _about(p, at)]
    by_action = {
        action: [_reduced(p, at, call) for p in near if p["spec"].get("action", "ALLOW") == action]
        for action in ("CUSTOM", "DENY", "ALLOW")
    }
    if at.ambient:
        by_action["CUSTOM"] = []
    answers = {_passes(by_action, call, granted) for granted in (True, False)}
    if len(answers) > 1:
        return "undefined"
    return "allow" if True in answers else "deny"


def mutual_tls(policies: list[Document], at: Workload, port: int) -> str:
    """The mode in force at a port: the nearest policy that says one. Behind ztunnel the ports of a workload that
    inherits STRICT keep it unless one of them is PERMISSIVE (Istio's `convertedSelectorPeerAuthentications`)."""
    said = "PERMISSIVE"
    own = [p for p in policies if p["metadata"]["namespace"] == at.space]
    selecting = [p for p in own if "selector" in p["spec"]]
    levels = [
        [p for p in policies if p["metadata"]["namespace"] == ROOT],
        [p for p in own if "selector" not in p["spec"]],
        [p for p in selecting if p["spec"]["selector"]["matchLabels"].items() <= at.labels.items()],
    ]
    for level in levels:
        for policy in level:
            mode = policy["spec"].get("mtls", {}).get("mode", "UNSET")
            said = said if mode == "UNSET" else mode
    for policy in levels[2]:
        ports = policy["spec"].get("portLevelMtls", {})
        mode = ports.get(port, {}).get("mode", "UNSET")
        inherited = said == "STRICT" and policy["spec"].get("mtls", {}).get("mode", "UNSET") == "UNSET"
        if at.ambient and inherited and not any(level.get("mode") == "PERMISSIVE" for level in ports.values()):
            continue
        said = said if mode == "UNSET" else mode
    return said


def _reduced(policy: Document, at: Workload, call: Call) -> Document:
    """A policy as its proxy enforces it where there is no HTTP: an ALLOW loses rules, others lose fields.

    At ztunnel an operation that loses all its fields matches nothing, at a sidecar everything.
    """
    if call.method and not at.ambient:
        return policy
    kept = []
    for rule in policy["spec"].get("rules", ()):
        operations = [entry["operation"] for entry in rule.get("to", ())]
        if not any(key in operation for operation in operations for key in HTTP_ONLY):
            kept.append(rule)
        elif policy["spec"].get("action", "ALLOW") != "ALLOW":
            left = [{k: v for k, v in operation.items() if k not in HTTP_ONLY} for operation in operations]
            left = [operation for operation in left if operation or not at.ambient]
            if left:
                kept.append({**rule, "to": [{"operation": operation} for operation in left]})
    return {**policy, "spec": {**policy["spec"], "rules": kept}}


def _passes(by_action: dict[str, list[Document]], call: Call, granted: bool) -> bool:
    if not granted and any(_matches(p, call) for p in by_action["CUSTOM"]):
        return False
    if any(_matches(p, call) for p in by_action["DENY"]):
        return False
    return not by_action["ALLOW"] or any(_matches(p, call) for p in by_action["ALLOW"])


def _about(policy: Document, at: Workload) -> bool:
    wanted = policy["spec"].get("selector", {}).get("matchLabels", {})
    return policy["metadata"]["namespace"] in (at.space, ROOT) and wanted.items() <= at.labels.items()


def _matches(policy: Document, call: Call) -> bool:
    return any(_rule(rule, policy, call) for rule in policy["spec"].get("rules", ()))


def _rule(rule: Document, policy: Document, call: Call) -> bool:
    operations = [entry["operation"] for entry in rule.get("to", ())]
    sources = [entry["source"] for entry in rule.get("from", ())]
    own = policy["metadata"]["namespace"]
    return (
        (not sources or any(_all(source, own, call) for source in sources))
        and (not operations or any(_all(operation, own, call) for operation in operations))
        and all(_condition(entry, own, call) for entry in rule.get("when", ()))
    )


def _all(fields: Document, own: str, call: Call) -> bool:
    for key, values in fields.items():
        negated = key.startswith("not")
        name = key[3].lower() + key[4:] if negated else key
        if any(_one(name, value, own, call) for value in values) == negated:
            return False
    return True


def _condition(entry: Document, own: str, call: Call) -> bool:
    name = {
        "source.namespace": "namespaces",
        "source.principal": "principals",
        "source.ip": "ipBlocks",
        "destination.port": "ports",
    }[entry["key"]]
    held = not entry.get("values") or any(_one(name, value, own, call) for value in entry["values"])
    return held and not any(_one(name, value, own, call) for value in entry.get("notValues", ()))


def _one(name: str, value: str, own: str, call: Call) -> bool:
    space, account = (call.principal.split("/")[2], call.principal.split("/")[4]) if call.principal else ("", "")
    if name == "principals":
        return bool(call.principal) and _text(value, call.principal)
    if name == "namespaces":
        return bool(call.principal) and _text(value, space)
    if name == "serviceAccounts":
        return bool(call.principal) and (space, account) == tuple(value.split("/") if "/" in value else (own, value))
    if name == "ipBlocks":
        return ipaddress.ip_address(call.address) in ipaddress.ip_network(value)
    if name == "ports":
        return value == str(call.port)
    return _text(value, call.method if name == "methods" else call.path)


def _text(value: str, given: str) -> bool:
    """Exact, prefix `x*`, suffix `*x`, or present `*`."""
    if value == "*":
        return given != ""
    if value.endswith("*"):
        return given.startswith(value[:-1])
    return given.endswith(value[1:]) if value.startswith("*") else given == value
