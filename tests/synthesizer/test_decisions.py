"""Every line gets one disposition: policy for a cause, implied, held with its evidence, or not asked for."""

from __future__ import annotations

import pytest

from collector.errors import SourceError
from collector.evidence import PARTIES
from collector.flow import Signal
from synthesizer import Options
from synthesizer.decisions import Fate
from synthesizer.intent import Cause
from synthesizer.options import Declared
from tests.synthesizer.objects import deployment
from tests.synthesizer.traffic import Traffic, at, decisions, document, items, made, paths, place


def busy() -> Traffic:
    """Something of everything: intent, a scan, a refusal, metadata, a probe, an address nobody knows."""
    traffic = Traffic()
    web, db = traffic.pod("shop/web"), traffic.pod("shop/db")
    traffic.talk(web, db, 5432)
    traffic.talk(web, at("8.8.8.8"), 443)
    traffic.talk(web, at("169.254.169.254"), 80)
    traffic.talk(web, at("10.96.0.77"), 80)
    traffic.talk(place("host"), web, 8080)
    traffic.talk(at("203.0.113.7"), web, 8080)
    traffic.talk(web, place("kube-apiserver", "172.18.0.2"), 6443)
    traffic.talk(web, traffic.pod("kube-system/coredns", {"k8s-app": "kube-dns"}), 53, "UDP")
    traffic.add(db, web, 22, "TCP", Signal.DENIED, reason="POLICY_DENIED")
    scanner = traffic.pod("shop/scanner")
    for number in range(20):
        traffic.add(scanner, traffic.pod(f"shop/w{number:02}"), 9999, records=1)
    return traffic


def test_each_line_has_one_fate_and_a_cause() -> None:
    found = decisions(made(busy()))
    fates = {key: (decision.fate, decision.cause) for key, decision in found.items() if "scanner" not in key[0]}
    assert fates == {
        ("shop/web", "shop/db", 5432): (Fate.POLICY, Cause.OBSERVED),
        ("shop/web", "external 8.8.8.8", 443): (Fate.POLICY, Cause.OBSERVED),
        ("external 203.0.113.7", "shop/web", 8080): (Fate.POLICY, Cause.INTERNET),
        ("shop/web", "kube-apiserver 172.18.0.2", 6443): (Fate.POLICY, Cause.CONTROL_PLANE),
        ("shop/web", "kube-system/coredns", 53): (Fate.POLICY, Cause.DNS),
        ("own node", "shop/web", 8080): (Fate.IMPLIED, Cause.OBSERVED),
        ("shop/web", "cloud metadata 169.254.169.254", 80): (Fate.HELD, Cause.OBSERVED),
        ("shop/web", "unresolved 10.96.0.77", 80): (Fate.HELD, Cause.OBSERVED),
        ("shop/db", "shop/web", 22): (Fate.HELD, Cause.OBSERVED),
    }


def test_what_is_held_is_in_the_review_with_its_evidence() -> None:
    result = made(busy())
    review = {item.id: item for item in result.review}
    for decision in result.decisions.decisions:
        if decision.fate is Fate.HELD:
            assert review[decision.review].evidence["records"], decision.line.key
            assert review[decision.review].why


def test_a_line_between_namespaces_that_are_not_asked_for_is_left_alone() -> None:
    traffic = Traffic()
    inside = traffic.pod("kube-system/operator"), traffic.pod("kube-system/metrics")
    traffic.talk(*inside, 10_250)
    traffic.talk(traffic.pod("shop/web"), inside[1], 443)
    result = made(traffic)
    assert decisions(result)["kube-system/operator", "kube-system/metrics", 10_250].fate is Fate.NOT_ASKED
    assert {path.partition("/")[0] for path in paths(result)} == {"shop"}
    asked = made(traffic, options=Options(namespaces=("kube-system",)))
    assert decisions(asked)["kube-system/operator", "kube-system/metrics", 10_250].fate is Fate.POLICY
    assert {path.partition("/")[0] for path in paths(asked)} == {"kube-system"}


# -- accepting ------------------------------------------------------------------------------------------------------


def test_an_accepted_item_becomes_policy_and_leaves_the_review() -> None:
    traffic = busy()
    (asked,) = items(made(traffic), "cloud-metadata")
    result = made(traffic, options=Options(accepted=frozenset({asked.id})))
    decision = decisions(result)["shop/web", "cloud metadata 169.254.169.254", 80]
    assert (decision.fate, decision.cause) == (Fate.POLICY, Cause.ACCEPTED)
    assert items(result, "cloud-metadata") == []
    egress = document(result, "shop/networkpolicy-web.yaml")["egress"]
    assert {"ipBlock": {"cidr": "169.254.169.254/32"}} in [peer for rule in egress for peer in rule["to"]]


def test_accepting_one_item_accepts_no_other() -> None:
    traffic = busy()
    before = made(traffic)
    (asked,) = items(before, "cloud-metadata")
    after = made(traffic, options=Options(accepted=frozenset({asked.id})))
    assert {item.id for item in after.review} == {item.id for item in before.review} - {asked.id}


def test_what_cannot_be_accepted_stays_held_whatever_the_user_says() -> None:
    traffic = busy()
    (asked,) = items(made(traffic), "unresolved")
    assert not asked.acceptable
    result = made(traffic, options=Options(accepted=frozenset({asked.id})))
    assert items(result, "unresolved") == [asked]


def test_an_id_is_the_same_next_week() -> None:
    again = busy()
    again.talk(again.pod("shop/more"), again.pod("shop/less"), 80)
    before = {item.id: item.kind for item in made(busy()).review}
    after = {item.id: item.kind for item in made(again).review}
    assert before.items() <= after.items()


# -- the internet at large ------------------------------------------------------------------------------------------


def crawler() -> Traffic:
    traffic = Traffic()
    web = traffic.pod("shop/web")
    for number in range(PARTIES + 100):
        traffic.talk(web, at(f"8.{number // 250}.{number % 250}.9"), 443)
    return traffic


def test_more_addresses_than_the_evidence_holds_are_a_question() -> None:
    result = made(crawler())
    (asked,) = items(result, "internet-egress")
    assert asked.acceptable
    assert "egress" not in document(result, "shop/networkpolicy-web.yaml")


def test_accepted_the_internet_is_allowed_without_the_private_ranges() -> None:
    traffic = crawler()
    (asked,) = items(made(traffic), "internet-egress")
    result = made(traffic, options=Options(accepted=frozenset({asked.id})))
    (rule,) = document(result, "shop/networkpolicy-web.yaml")["egress"]
    (peer,) = rule["to"]
    assert peer["ipBlock"]["cidr"] == "0.0.0.0/0"
    assert "10.0.0.0/8" in peer["ipBlock"]["except"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 443}]


def test_accepted_the_internet_is_that_of_the_families_seen() -> None:
    traffic = Traffic()
    web = traffic.pod("shop/web")
    for number in range(PARTIES + 100):
        traffic.talk(web, at(f"2600:9000::{number:x}"), 443)
    (asked,) = items(made(traffic), "internet-egress")
    result = made(traffic, options=Options(accepted=frozenset({asked.id})))
    (rule,) = document(result, "shop/networkpolicy-web.yaml")["egress"]
    assert [peer["ipBlock"]["cidr"] for peer in rule["to"]] == ["::/0"]


def test_a_private_address_beside_the_internet_keeps_its_own_rule() -> None:
    """The database on premises is one address, and has nothing to do with the question."""
    traffic = crawler()
    kept = [f"10.77.{n}.5" for n in range(40)]
    for address in kept:
        traffic.talk(traffic.pod("shop/web"), at(address), 443)
    (rule,) = document(made(traffic), "shop/networkpolicy-web.yaml")["egress"]
    blocks = {peer["ipBlock"]["cidr"] for peer in rule["to"]}
    assert blocks
    assert blocks <= {f"{address}/32" for address in kept}


# -- declaring ------------------------------------------------------------------------------------------------------


def declare(*wanted: Declared) -> Options:
    return Options(declared=wanted)


def test_what_is_declared_is_taken_literally() -> None:
    """Whoever writes 0.0.0.0/0 means all of it; only an accepted observation is narrowed to the internet."""
    wanted = Declared(source="shop/web", destination="0.0.0.0/0", port=8443)
    (rule,) = [
        r
        for r in document(made(talking(), options=declare(wanted)), "shop/networkpolicy-web.yaml")["egress"]
        if r["ports"] == [{"protocol": "TCP", "port": 8443}]
    ]
    assert rule["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0"}}]


def talking() -> Traffic:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432)
    return traffic


def test_a_declared_connection_is_allowed_at_both_ends_in_a_rule_of_its_own() -> None:
    options = declare(Declared("shop/db", "shop/web", 8443), Declared("shop/web", "10.50.0.0/16", 1521))
    result = made(talking(), options=options)
    web, db = (document(result, f"shop/networkpolicy-{name}.yaml") for name in ("web", "db"))
    assert [rule["ports"][0]["port"] for rule in web["ingress"]] == [8443]
    assert [rule["ports"][0]["port"] for rule in web["egress"]] == [1521, 5432]
    assert web["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.50.0.0/16"}}]
    assert [rule["ports"][0]["port"] for rule in db["egress"]] == [8443]


@pytest.mark.parametrize(
    ("source", "destination"), [("shop/web", "shop/nobody"), ("nonsense", "shop/web"), ("10.0.0.0/8", "9.9.9.9")]
)
def test_a_declared_end_that_nobody_knows_is_an_error_that_says_which(source: str, destination: str) -> None:
    with pytest.raises(SourceError, match="declared intent 1"):
        made(talking(), options=declare(Declared(source, destination, 80)))


@pytest.mark.parametrize("ends", [("shop/bare", "shop/db"), ("shop/web", "shop/bare")])
def test_a_declared_workload_that_nothing_can_select_never_opens_its_whole_namespace(ends: tuple[str, str]) -> None:
    traffic = talking()
    traffic.talk(traffic.pod("shop/bare", {}), traffic.pod("shop/web"), 8080)
    result = made(traffic, options=declare(Declared(*ends, 7000)))
    for name in ("web", "db"):
        spec = document(result, f"shop/networkpolicy-{name}.yaml")
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            for peer in rule.get("from", rule.get("to")):
                assert peer["podSelector"], rule
    assert any("7000" in item.what for item in items(result, "unselectable"))


def test_a_declared_workload_need_not_have_been_seen() -> None:
    idle = deployment("idle", {"app": "idle"})
    result = made(talking(), idle, options=declare(Declared("shop/idle", "shop/db", 5432)))
    (rule,) = document(result, "shop/networkpolicy-idle.yaml")["egress"][:1]
    assert rule["ports"] == [{"protocol": "TCP", "port": 5432}]
