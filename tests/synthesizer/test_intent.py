"""Permissions → the fewest rules that say exactly them, causes kept apart."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from synthesizer.intent import BlockPeer, Cause, Peer, PodPeer, Port, Rule, fewest_rules, peer_key

PEERS: tuple[Peer, ...] = (
    PodPeer("shop", (("app", "a"),)),
    PodPeer("shop", (("app", "b"),)),
    PodPeer("other", (("app", "a"),)),
    PodPeer("shop", ()),
    BlockPeer("9.9.9.9/32"),
    BlockPeer("0.0.0.0/0", ("10.0.0.0/8",)),
)
PORTS = (Port("TCP", 80), Port("TCP", 443), Port("UDP", 53), Port("UDP", 80))
PAIRS = st.dictionaries(
    st.tuples(st.sampled_from(PEERS), st.sampled_from(PORTS)),
    st.sampled_from([Cause.OBSERVED, Cause.DECLARED, Cause.DNS]),
)
A, B = PEERS[:2]
HTTP, HTTPS = PORTS[:2]


def expanded(rules: tuple[Rule, ...]) -> list[tuple[tuple[Peer, Port], Cause]]:
    return [(pair, rule.cause) for rule in rules for pair in product(rule.peers, rule.ports)]


@given(PAIRS)
def test_the_rules_say_exactly_what_was_permitted_each_thing_once_and_for_its_own_cause(
    pairs: dict[tuple[Peer, Port], Cause],
) -> None:
    found = expanded(fewest_rules(pairs, "ingress"))
    assert len(found) == len(pairs)
    assert dict(found) == pairs


@given(PAIRS)
def test_never_more_rules_than_peers_or_ports_of_a_cause(pairs: dict[tuple[Peer, Port], Cause]) -> None:
    rules = fewest_rules(pairs, "egress")
    for cause in set(pairs.values()):
        peers = {peer for (peer, _), why in pairs.items() if why is cause}
        ports = {port for (_, port), why in pairs.items() if why is cause}
        assert len([rule for rule in rules if rule.cause is cause]) <= min(len(peers), len(ports))


@given(PAIRS)
def test_the_order_of_permissions_does_not_matter(pairs: dict[tuple[Peer, Port], Cause]) -> None:
    turned = dict(reversed(pairs.items()))
    assert fewest_rules(turned, "ingress") == fewest_rules(pairs, "ingress")
    for rule in fewest_rules(pairs, "ingress"):
        assert list(rule.peers) == sorted(rule.peers, key=peer_key)
        assert list(rule.ports) == sorted(rule.ports)


def test_peers_with_the_same_ports_share_a_rule() -> None:
    pairs = dict.fromkeys(product((A, B), (HTTP, HTTPS)), Cause.OBSERVED)
    assert fewest_rules(pairs, "ingress") == (Rule("ingress", Cause.OBSERVED, (A, B), (HTTP, HTTPS)),)


def test_ports_with_the_same_peers_share_a_rule_where_that_needs_fewer() -> None:
    """By peers it would take three rules: A alone at 80, B at both, C alone at 443."""
    third = PodPeer("shop", (("app", "c"),))
    pairs = dict.fromkeys([(A, HTTP), (B, HTTP), (B, HTTPS), (third, HTTPS)], Cause.OBSERVED)
    assert [(rule.peers, rule.ports) for rule in fewest_rules(pairs, "ingress")] == [
        ((A, B), (HTTP,)),
        ((B, third), (HTTPS,)),
    ]


def test_one_permission_of_another_cause_stays_a_rule_of_its_own() -> None:
    rules = fewest_rules({(A, HTTP): Cause.OBSERVED, (B, HTTP): Cause.DECLARED}, "ingress")
    assert [(rule.cause, rule.peers) for rule in rules] == [(Cause.DECLARED, (B,)), (Cause.OBSERVED, (A,))]


def test_no_permission_is_no_rule() -> None:
    assert fewest_rules({}, "ingress") == ()
