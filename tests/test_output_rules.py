"""The eight rules of the output, over every sample story and over generated traffic.

1 sound, 2 tight, 3 stable, 4 safe to render, 5 least surprise, 6 honest, 7 nothing asked, nothing broken, 8 churn-free.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.endpoints import is_stable, valid_label, valid_namespace, valid_object_name
from collector.flow import Signal
from leastway import observation
from leastway.verify.causes import CAUSES
from leastway.verify.judge import Judge
from leastway.verify.proof import prove
from synthesizer import Options, Synthesis, synthesize
from synthesizer.decisions import Fate
from synthesizer.inventory import Inventory, parse
from synthesizer.options import SYSTEM_NAMESPACES, Mesh
from synthesizer.party import Outside, Place
from synthesizer.workload import Workload
from tests.goldens import STORIES, run
from tests.synthesizer.objects import Document, deployment, namespace, node, service
from tests.synthesizer.traffic import End, Traffic, at, place

Json = dict[str, Any]


class Outcome(NamedTuple):
    """What was written, why, and how the judge found it."""

    texts: dict[str, str]
    result: Synthesis
    inventory: Inventory
    options: Options
    proof: Json

    def documents(self, kind: str) -> list[Json]:
        """The written objects of one kind, read back from their text."""
        found = [yaml.safe_load(text) for path, text in self.texts.items() if path.endswith(".yaml")]
        return [document for document in found if document["kind"] == kind]

    def network_rules(self) -> Iterator[tuple[Json, str, Json]]:
        """(policy, direction, rule) of every NetworkPolicy."""
        for policy in self.documents("NetworkPolicy"):
            for direction in ("ingress", "egress"):
                for rule in policy["spec"].get(direction, ()):
                    yield policy, direction, rule

    def blocks(self) -> Iterator[Json]:
        """Every ipBlock."""
        for _, direction, rule in self.network_rules():
            for peer in rule["from" if direction == "ingress" else "to"]:
                if "ipBlock" in peer:
                    yield peer["ipBlock"]


# -- where the outcomes come from -----------------------------------------------------------------------------------


@cache
def story(name: str) -> Outcome:
    """A sample story; some of its traffic stays a question, nothing is accepted."""
    made = run(name)
    texts = {path: text for path, text in made.files.items() if path.endswith(".yaml")}
    return Outcome(texts, made.synthesis, made.inventory, made.options, made.proof)


NAMES = ("shop/web", "shop/api", "shop/db", "data/db", "data/cache", "kube-system/metrics")
OBJECTS: list[Document] = [
    *(
        deployment(ref.partition("/")[2], {"app": ref.partition("/")[2]}, namespace=ref.partition("/")[0])
        for ref in NAMES[:4]
    ),
    deployment("idle", {"app": "idle"}),
    service("api", {"app": "api"}, {"port": 80, "targetPort": 8080}, clusterIP="10.96.0.9"),
    node("n", "192.168.1.5", "10.244.0.0/24"),
    namespace("shop", {"istio-injection": "enabled"}),
]
PLACES: tuple[End, ...] = (
    at("8.8.8.8"),
    at("2001:4860::8"),
    at("10.20.30.40"),
    at("169.254.169.254"),
    at("10.96.0.9"),
    at("10.244.0.77"),
    at("192.168.1.5"),
    place("host", "192.168.1.5"),
    place("health"),
    place("kube-apiserver", "192.168.1.2"),
    place("remote-node", "192.168.1.6"),
    place("ingress"),
    at("169.254.20.10"),
    at("fe80::1"),
)
PODS = len(NAMES)
ENDS = PODS + len(PLACES)
Contact = tuple[int, int, int, str, int]  # source, destination, port, how, times
HOWS = ("talk", "http", "mtls", "udp", "denied", "unanswered")
CONTACTS = st.lists(
    st.tuples(
        st.integers(0, ENDS - 1),
        st.integers(0, ENDS - 1),
        st.sampled_from((53, 80, 443, 5432, 6443, 8080)),
        st.sampled_from(HOWS),
        st.sampled_from((1, 3)),
    ).filter(lambda contact: contact[0] < PODS or contact[1] < PODS),
    min_size=1,
    max_size=25,
)
PROFILES = st.sampled_from(
    [Options(), Options(cni="cilium"), Options(cni="calico"), Options(mesh="sidecar"), Options(mesh="ambient")]
)


def _traffic(contacts: list[Contact]) -> Traffic:
    traffic = Traffic()
    ends = [traffic.pod(ref, service_account=ref.partition("/")[2]) for ref in NAMES] + list(PLACES)
    for source, destination, port, how, times in contacts:
        ends_of = ends[source], ends[destination], port
        if how == "talk":
            traffic.talk(*ends_of, times=times)
        elif how == "udp":
            traffic.talk(*ends_of, "UDP", times=times)
        elif how == "denied":
            traffic.add(*ends_of, "TCP", Signal.DENIED, 100, reason="POLICY_DENIED")
        elif how == "unanswered":
            traffic.add(*ends_of, "TCP", Signal.OPENED, times)
        elif destination < PODS and source < PODS:
            account = ends[source].endpoint
            principal = f"cluster.local/ns/{account.namespace}/sa/{account.service_account}"
            if how == "http":
                traffic.call(*ends_of, "GET /items", f"POST /items/{port}", principal=principal)
            else:
                traffic.talk(*ends_of, times=times, mtls=True, principal=principal, origin="istio-json")
    return traffic


def generated(contacts: list[Contact], options: Options, inventoried: bool) -> Outcome:
    """Policies for generated traffic, judged."""
    inventory = parse(OBJECTS) if inventoried else Inventory.empty()
    traffic = _traffic(contacts)
    result = synthesize(traffic.patterns, inventory, options)
    judge = Judge(
        observation.world(inventory, result.workloads, result.decisions, options),
        [manifest.document for manifest in result.manifests],
        cni=options.cni,
        mesh=options.mesh,
        trust_domain=options.trust_domain,
    )
    proof = prove(judge, observation.observed(result.decisions, inventory, options), minimality=False)
    return Outcome({m.path: m.text for m in result.manifests}, result, inventory, options, proof)


Check = Callable[[Outcome], None]


# -- the rules ------------------------------------------------------------------------------------------------------


def sound(outcome: Outcome) -> None:
    assert outcome.proof["denied"] == []
    assert outcome.proof["sound"]
    assert outcome.proof["allowed"] == outcome.proof["observed"]


def tight(outcome: Outcome) -> None:
    beyond = outcome.proof["over_permission"]
    assert set(beyond["by_cause"]) <= set(CAUSES) - {"other"}, beyond["examples"]
    assert sum(beyond["by_cause"].values()) == beyond["total"]


def stable_text(outcome: Outcome) -> None:
    names = [
        (kind, d["metadata"]["namespace"], d["metadata"]["name"]) for kind in _KINDS for d in outcome.documents(kind)
    ]
    assert len(set(names)) == len(names)
    for _, where, name in names:
        assert valid_namespace(where)
        assert valid_object_name(name)
    for path, text in outcome.texts.items():
        assert re.fullmatch(r"[a-z0-9.-]+/[a-z0-9.-]+\.yaml", path)
        assert ".." not in path
        assert not re.search(r"\d{4}-\d\d-\d\dT|\d+ (connection|flow|record|request)", text), path


_KINDS = ("NetworkPolicy", "AuthorizationPolicy", "PeerAuthentication")
_TOP = {"apiVersion", "kind", "metadata", "spec"}


def safe(outcome: Outcome) -> None:
    for manifest in outcome.result.manifests:
        documents = list(yaml.safe_load_all(outcome.texts[manifest.path]))
        assert documents == [manifest.document]
        if manifest.kind == "Kustomization":
            assert set(manifest.document) == {"apiVersion", "kind", "resources"}
            continue
        assert set(manifest.document) == _TOP
        assert set(manifest.document["metadata"]) == {"name", "namespace", "labels"}
        assert outcome.texts[manifest.path].isascii()


def unsurprising(outcome: Outcome) -> None:
    for policy in outcome.documents("NetworkPolicy"):
        types = policy["spec"]["policyTypes"]
        assert types
        assert {d.capitalize() for d in ("ingress", "egress") if d in policy["spec"]} <= set(types)
    for _, direction, rule in outcome.network_rules():
        assert rule["ports"]
        assert all(isinstance(port["port"], int) and 0 < port["port"] < 65536 for port in rule["ports"])
        assert all("endPort" not in port for port in rule["ports"])
        for peer in rule["from" if direction == "ingress" else "to"]:
            if "ipBlock" in peer:
                assert set(peer) == {"ipBlock"}
            else:
                assert set(peer) == {"namespaceSelector", "podSelector"}
                assert set(peer["namespaceSelector"]["matchLabels"]) == {"kubernetes.io/metadata.name"}
                assert peer["podSelector"]["matchLabels"]
    for block in outcome.blocks():
        network = ipaddress.ip_network(block["cidr"])  # strict: no host bits
        if network.version == 6 and network.prefixlen:
            assert network.prefixlen == 128
        if network.prefixlen == network.max_prefixlen:
            owner = outcome.inventory.owner_of_address(str(network.network_address))
            assert owner in ("", "link-local", "metadata"), block
            assert outcome.result.workloads.by_address.get(str(network.network_address)) is None
    for policy in outcome.documents("AuthorizationPolicy"):
        spec = policy["spec"]
        assert spec.get("action", "ALLOW") == "ALLOW"
        for rule in spec.get("rules", ()):
            assert set(rule) <= {"from", "to"}
            (to,) = rule["to"]
            assert to["operation"]["ports"]
            for path in to["operation"].get("paths", ()):
                assert "*" not in re.sub(r"\{\*\*?\}", "", path).removesuffix("*")
            for method in to["operation"].get("methods", ()):
                assert method
                assert "*" not in method
            if outcome.options.mesh == "ambient" and "targetRefs" not in spec:
                assert not {"methods", "paths"} & set(to["operation"])
            for source in rule.get("from", ()):
                assert source["source"]["principals"]


def honest(outcome: Outcome) -> None:
    review = {item.id: item for item in outcome.result.review}
    for decision in outcome.result.decisions.decisions:
        line = decision.line
        if line.standing.value in ("denied", "open"):
            assert decision.fate in (Fate.HELD, Fate.NOT_ASKED)
        if isinstance(line.destination, Outside) and line.destination.place is Place.METADATA:
            assert decision.fate is not Fate.POLICY
        if decision.fate is Fate.HELD:
            assert review[decision.review].why
            assert review[decision.review].evidence
    for block in outcome.blocks():
        for address in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200"):
            assert not _admits(block, address)


def _admits(block: Json, text: str) -> bool:
    address = ipaddress.ip_address(text)
    return address in ipaddress.ip_network(block["cidr"]) and not any(
        address in ipaddress.ip_network(apart) for apart in block.get("except", ())
    )


def unbroken(outcome: Outcome) -> None:
    options = outcome.options
    written = {path.partition("/")[0] for path in outcome.texts}
    if not options.namespaces:
        assert not written & SYSTEM_NAMESPACES
    active = {
        party.key
        for decision in outcome.result.decisions.decisions
        for party in (decision.line.source, decision.line.destination)
        if isinstance(party, Workload)
    }
    for where in written:
        unseen = {
            w.name
            for w in outcome.result.workloads.all
            if w.namespace == where and w.key not in active and not w.host_network
        }
        if f"{where}/networkpolicy-default-deny.yaml" in outcome.texts:
            assert not unseen
        elif unseen and any(path.startswith(f"{where}/networkpolicy-") for path in outcome.texts):
            told = [i for i in outcome.result.review if i.kind == "default-deny" and i.subject == where]
            assert told
            assert unseen <= {name for item in told for name in item.evidence["never_observed"]}  # type: ignore[attr-defined]


def churn_free(outcome: Outcome) -> None:
    for manifest in outcome.result.manifests:
        for selector in _selectors(manifest.document.get("spec", {})):
            for key, value in selector.items():
                assert is_stable(key) or key == "kubernetes.io/metadata.name"
                assert valid_label(key, value)
    for workload in outcome.result.workloads.all:
        own = outcome.inventory.selector_of(*workload.object_key)
        if own and workload.selectable:
            assert workload.selector == own
        assert set(workload.selector) <= set(workload.labels) or own


def _selectors(value: object) -> Iterator[dict[str, str]]:
    if isinstance(value, dict):
        if isinstance(value.get("matchLabels"), dict):
            yield value["matchLabels"]
        for inner in value.values():
            yield from _selectors(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _selectors(inner)


RULES: dict[str, Check] = {
    "sound": sound,
    "tight": tight,
    "stable": stable_text,
    "safe to render": safe,
    "least surprise": unsurprising,
    "honest": honest,
    "nothing asked, nothing broken": unbroken,
    "churn-free labels": churn_free,
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", STORIES)
def test_a_sample_story_keeps_the_rule(name: str, rule: str) -> None:
    RULES[rule](story(name))


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=40)
@given(CONTACTS, PROFILES, st.booleans())
def test_any_traffic_keeps_the_rule(rule: str, contacts: list[Contact], options: Options, inventoried: bool) -> None:
    RULES[rule](generated(contacts, options, inventoried))


# -- what a rule says besides ---------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(CONTACTS, PROFILES, st.integers(0, 1000))
def test_3_the_order_of_records_changes_no_byte(contacts: list[Contact], options: Options, seed: int) -> None:
    shuffled = list(contacts)
    random.Random(seed).shuffle(shuffled)
    assert generated(shuffled, options, True).texts == generated(contacts, options, True).texts


@settings(max_examples=40)
@given(CONTACTS, st.sampled_from([Options(), Options(mesh="sidecar")]))
def test_3_more_of_the_same_traffic_changes_no_byte(contacts: list[Contact], options: Options) -> None:
    """No counts in the YAML: twice as many connections where there were several already are the same policies."""
    several = [(*contact[:4], 3) for contact in contacts]
    assert generated(several + several, options, True).texts == generated(several, options, True).texts


def test_5_a_cluster_ip_becomes_the_pods_port_never_the_services() -> None:
    outcome = generated([(0, PODS + 4, 80, "talk", 3)], Options(), True)
    (rule,) = next(p for p in outcome.documents("NetworkPolicy") if p["metadata"]["name"] == "api")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8080}]


def test_6_ten_thousand_refusals_are_not_a_permission() -> None:
    outcome = generated([(0, 2, 5432, "denied", 3)] * 100, Options(), True)
    assert not any("ingress" in policy["spec"] for policy in outcome.documents("NetworkPolicy"))
    assert [item.kind for item in outcome.result.review if item.kind != "default-deny"] == ["denied"]


@pytest.mark.parametrize("mesh", ["none", "sidecar", "ambient"])
def test_7_a_system_namespace_is_written_only_by_name(mesh: Mesh) -> None:
    contacts: list[Contact] = [(0, 5, 443, "talk", 3)]
    assert not any(path.startswith("kube-system/") for path in generated(contacts, Options(mesh=mesh), False).texts)
    asked = Options(mesh=mesh, namespaces=("kube-system",))
    assert any(path.startswith("kube-system/") for path in generated(contacts, asked, False).texts)


@settings(max_examples=30)
@given(CONTACTS)
def test_2_no_pair_that_did_not_talk_may_talk_without_a_mesh(contacts: list[Contact]) -> None:
    """Over all pairs of workloads of our namespaces and all ports, unless DNS opens it to all or nothing isolates."""
    outcome = generated(contacts, Options(), False)
    assert set(outcome.proof["over_permission"]["by_cause"]) <= {"unisolated", "DNS", "CIDR widening"}
