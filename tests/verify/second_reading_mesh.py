"""A second reading of AuthorizationPolicy at a sidecar, over raw manifests: the judge's answers are compared with it.

Written from Istio's API and documentation, two-valued: what an external authoriser answers is a choice that is played
through, and so is whether this Istio can have two of them at one workload (older ones deny everything then). Fields:
principals, namespaces, serviceAccounts, ipBlocks, ports, methods, paths, their negations, and conditions on the same.
Templates, hosts and JWT claims are left to Envoy and to Istio's tables. It imports nothing of ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from itertools import product
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


def outcome(policies: Iterable[Document], space: str, labels: dict[str, str], call: Call) -> str:
    """allow, deny or undefined, at a workload."""
    near = [p for p in policies if _about(p, space, labels)]
    by_action = {
        action: [p for p in near if p["spec"].get("action", "ALLOW") == action]
        for action in ("CUSTOM", "DENY", "ALLOW")
    }
    providers = {p["spec"]["provider"]["name"] for p in by_action["CUSTOM"]}
    choices = product((True, False), (True, False) if len(providers) > 1 else (False,))
    answers = {_passes(by_action, call, granted, refused) for granted, refused in choices}
    if len(answers) > 1:
        return "undefined"
    return "allow" if True in answers else "deny"


def _passes(by_action: dict[str, list[Document]], call: Call, granted: bool, refused: bool) -> bool:
    if refused or (any(_matches(p, call) for p in by_action["CUSTOM"]) and not granted):
        return False
    if any(_matches(p, call) for p in by_action["DENY"]):
        return False
    return not by_action["ALLOW"] or any(_matches(p, call) for p in by_action["ALLOW"])


def _about(policy: Document, space: str, labels: dict[str, str]) -> bool:
    wanted = policy["spec"].get("selector", {}).get("matchLabels", {})
    return policy["metadata"]["namespace"] in (space, ROOT) and wanted.items() <= labels.items()


def _matches(policy: Document, call: Call) -> bool:
    return any(_rule(rule, policy, call) for rule in policy["spec"].get("rules", ()))


def _rule(rule: Document, policy: Document, call: Call) -> bool:
    alone = policy["spec"].get("action", "ALLOW") == "ALLOW"
    operations = [dict(entry["operation"]) for entry in rule.get("to", ())]
    if not call.method:
        if alone and any(key in operation for operation in operations for key in HTTP_ONLY):
            return False
        operations = [{k: v for k, v in operation.items() if k not in HTTP_ONLY} for operation in operations]
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
