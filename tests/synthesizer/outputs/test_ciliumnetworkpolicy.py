"""CiliumNetworkPolicy as written: entities and ports, and never a rule that names neither."""

from __future__ import annotations

from typing import Any

import pytest

from collector.errors import RenderError
from synthesizer.intent import Cause, EntityIntent, EntityPeer, NetworkIntent, Port, Rule, Target
from synthesizer.outputs import ciliumnetworkpolicy, manifest
from synthesizer.render import Renderer

RENDERER = Renderer()
WEB = Target("shop", "web", (("app", "web"),))
API = EntityPeer("kube-apiserver")


def spec(*rules: Rule) -> dict[str, Any]:
    found: dict[str, Any] = manifest(EntityIntent(WEB, rules), RENDERER).document["spec"]
    return found


def test_rules_say_which_entities_and_which_ports() -> None:
    out = Rule("egress", Cause.CONTROL_PLANE, (API,), (Port("TCP", 6443),))
    into = Rule("ingress", Cause.OBSERVED, (API, EntityPeer("remote-node")), (Port("TCP", 9443), Port("UDP", 9443)))
    assert spec(out, into) == {
        "endpointSelector": {"matchLabels": {"app": "web"}},
        "ingress": [
            {
                "fromEntities": ["kube-apiserver", "remote-node"],
                "toPorts": [
                    {"ports": [{"port": "9443", "protocol": "TCP"}, {"port": "9443", "protocol": "UDP"}]},
                ],
            }
        ],
        "egress": [
            {"toEntities": ["kube-apiserver"], "toPorts": [{"ports": [{"port": "6443", "protocol": "TCP"}]}]},
        ],
    }


def test_a_direction_without_rules_is_not_isolated_by_it() -> None:
    assert "ingress" not in spec(Rule("egress", Cause.OBSERVED, (API,), (Port("TCP", 6443),)))


def test_no_entry_has_more_ports_than_cilium_takes() -> None:
    ports = tuple(Port("TCP", number) for number in range(1000, 1100))
    (rule,) = spec(Rule("egress", Cause.OBSERVED, (API,), ports))["egress"]
    sizes = [len(entry["ports"]) for entry in rule["toPorts"]]
    assert max(sizes) == ciliumnetworkpolicy.MOST_PORTS
    assert [int(port["port"]) for entry in rule["toPorts"] for port in entry["ports"]] == list(range(1000, 1100))


def test_the_file_is_named_after_the_workload_and_the_cause_stands_over_each_rule() -> None:
    rule = Rule("egress", Cause.CONTROL_PLANE, (API,), (Port("TCP", 6443),))
    made = manifest(EntityIntent(WEB, (rule,)), RENDERER)
    assert made.path == "shop/ciliumnetworkpolicy-web.yaml"
    assert "    # control plane\n    - toEntities:" in made.text


def test_a_networkpolicy_cannot_name_an_entity() -> None:
    rule = Rule("egress", Cause.OBSERVED, (API,), (Port("TCP", 6443),))
    with pytest.raises(RenderError, match="kube-apiserver"):
        manifest(NetworkIntent(WEB, ("egress",), (rule,)), RENDERER)
