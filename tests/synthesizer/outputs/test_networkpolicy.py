"""NetworkPolicy as written: isolation always explicit, peers and ports always both, nothing by Service or name."""

from __future__ import annotations

from typing import Any

import pytest

from synthesizer.intent import BlockPeer, Cause, Direction, NetworkIntent, PodPeer, Port, Rule, Target
from synthesizer.outputs import manifest
from synthesizer.render import Renderer

RENDERER = Renderer()
WEB = PodPeer("shop", (("app", "web"), ("tier", "front")))


def spec(target: Target, directions: tuple[Direction, ...], *rules: Rule) -> dict[str, Any]:
    found: dict[str, Any] = manifest(NetworkIntent(target, directions, rules), RENDERER).document["spec"]
    return found


def test_a_rule_names_the_namespace_by_the_label_that_the_control_plane_sets_and_the_pods_in_one_peer() -> None:
    rule = Rule("ingress", Cause.OBSERVED, (WEB,), (Port("TCP", 5432),))
    assert spec(Target("shop", "db", (("app", "db"),)), ("ingress",), rule) == {
        "podSelector": {"matchLabels": {"app": "db"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [
                    {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
                        "podSelector": {"matchLabels": {"app": "web", "tier": "front"}},
                    }
                ],
                "ports": [{"protocol": "TCP", "port": 5432}],
            }
        ],
    }


def test_blocks_carry_their_exceptions() -> None:
    blocks = (BlockPeer("0.0.0.0/0", ("10.0.0.0/8", "192.168.0.0/16")), BlockPeer("2001:db8::1/128"))
    rule = Rule("egress", Cause.OBSERVED, blocks, (Port("TCP", 443), Port("UDP", 443)))
    assert spec(Target("shop", "db", (("app", "db"),)), ("egress",), rule)["egress"] == [
        {
            "to": [
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}},
                {"ipBlock": {"cidr": "2001:db8::1/128"}},
            ],
            "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "UDP", "port": 443}],
        }
    ]


@pytest.mark.parametrize("directions", [("ingress", "egress"), ("ingress",), ("egress",)])
def test_isolation_is_said_even_without_a_rule_and_no_direction_is_left_as_an_empty_list(
    directions: tuple[Direction, ...],
) -> None:
    assert spec(Target("shop", "default-deny"), directions) == {
        "podSelector": {},
        "policyTypes": [direction.capitalize() for direction in directions],
    }


def test_an_empty_selector_of_a_peer_means_all_pods_of_its_namespace_and_is_written_out() -> None:
    rule = Rule("ingress", Cause.DECLARED, (PodPeer("other", ()),), (Port("TCP", 80),))
    (peer,) = spec(Target("shop", "db"), ("ingress",), rule)["ingress"][0]["from"]
    assert peer == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}},
        "podSelector": {},
    }


def test_each_rule_says_its_cause_in_a_comment() -> None:
    rules = [Rule("ingress", cause, (WEB,), (Port("TCP", 80),)) for cause in Cause]
    intent = NetworkIntent(Target("shop", "db", (("app", "db"),)), ("ingress",), tuple(rules))
    text = manifest(intent, RENDERER).text
    assert [line.strip() for line in text.splitlines() if "#" in line] == [f"# {cause.value}" for cause in Cause]
