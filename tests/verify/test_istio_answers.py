"""Random policy sets and what Istio's own code answers, recorded: the judge must say the same.

`istio_answers.jsonl` has a set a line, drawn by us, with questions to one pod. The answers are those of the code of
istio.io/istio at eed52ebb66ad: `pilot/pkg/security/authz/builder` makes the Envoy RBAC of sidecars and waypoints,
`pilot/pkg/serviceregistry/ambient` what ztunnel is sent, `pilot/pkg/model` says which policies a waypoint has. RBAC and
ztunnel's rules were evaluated as Envoy's documentation and ztunnel's src/rbac.rs have it.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from leastway.verify.can import answer
from leastway.verify.judge import Judge
from leastway.verify.reading import Document
from tests.verify.kit import judge, namespace, pod, service

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).with_suffix("").parent / "istio_answers.jsonl").read_text().splitlines()
]
MEMBER = {"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"}
PORTS = [{"name": name, "port": port} for name, port in (("tcp-x", 9000), ("http-x", 80), ("http-y", 8080))]
THINGS = [
    *(namespace(name, **MEMBER) for name in ("a", "b", "a-b")),
    pod("a/web", {"app": "web", "v": "1"}, "10.0.0.1", serviceAccountName="web"),
    service("a/web", {"app": "web"}, *PORTS),
]


def judging(one: dict[str, Any]) -> Judge:
    policies: list[Document] = [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": policy["kind"],
            "metadata": dict(zip(("namespace", "name"), policy["name"].split("/"), strict=True)),
            "spec": policy["spec"],
        }
        for policy in one["policies"]
    ]
    own, *aliases = one["trustDomains"]
    mode = "sidecar" if one["mode"] == "sidecar" else "ambient"
    return judge(one.get("things", THINGS), policies, mesh=mode, trust_domain=own, aliases=aliases)


@pytest.mark.parametrize("one", RECORDED, ids=[f"{one['mode']}-{i}" for i, one in enumerate(RECORDED)])
def test_every_answer_is_istios(one: dict[str, Any]) -> None:
    of = judging(one)
    for asked, theirs in one["asked"]:
        ours = answer(of, asked)
        assert ours["verdict"] == theirs, (ours, one["trustDomains"], one["policies"])


def test_there_are_enough_of_each_kind() -> None:
    found = Counter((one["mode"], theirs) for one in RECORDED for _, theirs in one["asked"])
    assert len(found) == 6
    assert min(found.values()) >= 50, found
