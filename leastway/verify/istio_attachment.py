"""Where an Istio policy attaches: its selector, its targets, and whether it is enforced at all.

Invariant: what the API server or Istio's webhook refuses is an error that names the field.
Source: istio/api type/v1beta1/selector.proto, istio pkg/config/validation.
"""

from __future__ import annotations

from typing import Any

from leastway.verify.errors import PolicyError
from leastway.verify.reading import labels, mapping, optional, sequence, text

TARGETS = frozenset(
    {
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    }
)
MOST_TARGETS = 16  # of one policy (istio/api, the validation of `targetRefs`)
DRY_RUN = "istio.io/dry-run"
LABEL = 63  # characters of a label's value
# Go's strconv.ParseBool
TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def match_labels(value: object, where: str) -> tuple[tuple[str, str], ...]:
    """The pairs of an Istio selector, sorted."""
    found = labels(optional(value, where, ("matchLabels",)).get("matchLabels"), f"{where}.matchLabels")
    for key, item in found.items():
        if not key or "*" in key + item or len(item) > LABEL:
            shown = f"{key}={item}"[:80]
            raise PolicyError(f"{shown!r} is no label", f"{where}.matchLabels", "a selector knows no wildcards")
    return tuple(sorted(found.items()))


def read_targets(spec: dict[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    """The kinds and names of `targetRefs`, or of the one `targetRef`, in a policy's own namespace."""
    found = list(sequence(spec.get("targetRefs"), f"{where} spec.targetRefs"))
    if spec.get("targetRef") is not None:
        if found:
            raise PolicyError("targetRef and targetRefs exclude each other", where)
        found.append(spec["targetRef"])
    if len(found) > MOST_TARGETS:
        raise PolicyError(f"more than {MOST_TARGETS} targetRefs", where)
    if found and spec.get("selector") is not None:
        raise PolicyError("selector and targetRefs exclude each other", where)
    return tuple(_target(item, f"{where} spec.targetRefs[{i}]") for i, item in enumerate(found))


def _target(value: object, where: str) -> tuple[str, str]:
    target = mapping(value, where, ("group", "kind", "name", "namespace"))
    kind = text(target.get("kind"), f"{where}.kind")
    group = text(target.get("group", ""), f"{where}.group")
    if (group or "core", kind) not in TARGETS:
        raise PolicyError(f"cannot target a {kind[:40]!r} of group {group[:60]!r}", f"{where}.kind")
    if text(target.get("namespace", ""), f"{where}.namespace"):
        raise PolicyError("cannot target another namespace", f"{where}.namespace", "Istio rejects it")
    name = text(target.get("name"), f"{where}.name")
    if not name:
        raise PolicyError("a target needs a name", f"{where}.name")
    return kind, name


def read_dry_run(annotations: dict[str, Any], action: str, where: str, existing: bool) -> bool:
    """Whether a policy is only a dry run. (A wrong annotation that got past the webhook is no dry run.)"""
    found = annotations.get(DRY_RUN)
    if found is not None and not existing:
        if action not in ("ALLOW", "DENY"):
            raise PolicyError(f"{DRY_RUN} belongs to actions ALLOW and DENY", where, "Istio rejects it")
        if found not in TRUE and found not in _FALSE:
            raise PolicyError(f"{DRY_RUN} is neither true nor false", where, "Istio rejects it")
    return found in TRUE
