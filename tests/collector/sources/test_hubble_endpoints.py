"""Hubble's endpoints: pod before reserved label before address, and nothing but valid names in an identity."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.endpoints import ADDRESS, Endpoint, entity
from collector.patterns import Patterns
from collector.sources import hubble_endpoints
from collector.sources.hubble_endpoints import HubbleEndpoint, SeenEnd, SeenEnds, parse

NAMESPACE = "k8s:io.kubernetes.pod.namespace=shop"


def seen_end(opener: bool = False, address: str = "10.0.0.1", **fields: Any) -> SeenEnd:
    """An endpoint with these fields, parsed."""
    return parse(msgspec.convert(fields, HubbleEndpoint), address, opener)


def who(opener: bool = False, **fields: Any) -> Endpoint:
    return seen_end(opener, **fields).endpoint


def pod(labels: tuple[tuple[str, str], ...] = (), **fields: Any) -> Endpoint:
    return Endpoint("pod", namespace="shop", labels=labels, **fields)


# -- pods ------------------------------------------------------------------------------------------------------------


def test_a_pod_is_cluster_namespace_stable_labels_and_account() -> None:
    labels = [
        "k8s:app=web",
        "k8s:pod-template-hash=6b746f74dc",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
        "k8s:io.cilium.k8s.policy.cluster=east",
        "k8s:io.cilium.k8s.policy.serviceaccount=web",
        NAMESPACE,
    ]
    found = seen_end(
        labels=labels, pod_name="web-6b746f74dc-9rcxx", ID=7, workloads=[{"name": "web", "kind": "Deployment"}]
    )
    assert found.endpoint == pod((("app", "web"),), cluster="east", service_account="web")
    assert (found.pod, found.address, found.local) == ("web-6b746f74dc-9rcxx", "10.0.0.1", True)
    assert found.owners == ("Deployment/web",)


def test_the_identity_is_the_same_on_every_node() -> None:
    """Only the pod's own node tells `ID` and `workloads`."""
    labels = ["k8s:app=web", NAMESPACE]
    here = who(
        labels=labels, pod_name="web-0", namespace="shop", ID=7, workloads=[{"name": "web", "kind": "StatefulSet"}]
    )
    assert here == who(labels=labels, pod_name="web-0", namespace="shop")


def test_fields_win_over_labels() -> None:
    labels = ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=other", "k8s:io.cilium.k8s.policy.cluster=west"]
    assert who(namespace="shop", cluster_name="east", labels=labels) == pod((("app", "web"),), cluster="east")


def test_a_pod_without_labels_is_known_by_its_name() -> None:
    """Field-masked exports."""
    assert who(namespace="shop", pod_name="web-6b746f74dc-9rcxx") == pod(workload="web")


def test_a_name_is_no_guess_where_labels_are() -> None:
    assert who(namespace="shop", pod_name="web-6b746f74dc-9rcxx", labels=["k8s:app=api"]) == pod((("app", "api"),))


@pytest.mark.parametrize("label", ["reserved:world", "reserved:host", "reserved:kube-apiserver"])
def test_a_pod_with_a_reserved_label_is_a_pod(label: str) -> None:
    """Captures show pods labelled `reserved:world` while their identity is being worked out."""
    assert who(namespace="shop", pod_name="web-6b746f74dc-9rcxx", labels=[label], identity=2) == pod(workload="web")


def test_labels_without_a_namespace_are_no_pod() -> None:
    assert who(labels=["k8s:app=web"]) is ADDRESS
    assert who(labels=["k8s:app=web", "reserved:host"]) == entity("host")


def test_a_namespace_alone_is_no_pod() -> None:
    assert who(namespace="shop") is ADDRESS


def test_labels_without_a_pod_name_are_the_proxy_speaking_for_the_pod() -> None:
    """Its address is the node's, and must not become one of the pod's addresses."""
    found = seen_end(namespace="shop", labels=["k8s:app=web"])
    assert found.endpoint == pod((("app", "web"),))
    assert (found.pod, found.address, found.name) == ("", "", "")


@pytest.mark.parametrize(
    ("label", "pair"),
    [
        ("k8s:app=web", ("app", "web")),
        ("any:app=web", ("app", "web")),
        ("container:app=web", ("app", "web")),
        ("unspec:app=web", ("app", "web")),
        ("app=web", ("app", "web")),
        ("k8s:app=", ("app", "")),
        ("k8s:app", ("app", "")),
        ("k8s:example.com/app=web", ("example.com/app", "web")),
    ],
)
def test_forms_of_a_label(label: str, pair: tuple[str, str]) -> None:
    assert who(namespace="shop", labels=[label]) == pod((pair,))


@pytest.mark.parametrize("label", ["cidr:10.0.0.0/8", "cidrgroup:x", "fqdn:a.example", "gen:app=web"])
def test_labels_of_other_sources_do_not_make_a_pod(label: str) -> None:
    assert who(namespace="shop", labels=[label]) is ADDRESS


@pytest.mark.parametrize("text", ["Shop", "sh op", "shop\n", "../shop", "{{x}}", "s" * 64, '"'])
def test_names_that_kubernetes_would_refuse_are_left_out(text: str) -> None:
    assert who(namespace=text, pod_name="web-0", labels=["k8s:app=web"]) is ADDRESS
    account = "k8s:io.cilium.k8s.policy.serviceaccount="
    if len(text) < 64:
        found = seen_end(
            namespace="shop",
            pod_name=text,
            labels=["k8s:app=web", f"k8s:app2={text}\x00", account + text],
            cluster_name=text,
            workloads=[{"name": text, "kind": "Deployment"}, {"name": "web", "kind": text + "!"}],
        )
        assert found.endpoint == pod((("app", "web"),))
        assert (found.pod, found.owners) == ("", ())


def test_null_fields_are_absent_ones() -> None:
    nulls: dict[str, Any] = dict.fromkeys(HubbleEndpoint.__struct_fields__)
    assert who(**nulls) is ADDRESS
    assert who(
        **(nulls | {"namespace": "shop", "pod_name": "db-0", "workloads": [{"name": None, "kind": None}]})
    ) == pod(workload="db")


# -- reserved entities and addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "opener", "responder"),
    [
        (["host"], "host", "host"),
        (["remote-node"], "remote-node", "remote-node"),
        (["kube-apiserver"], "kube-apiserver", "kube-apiserver"),
        (["host", "kube-apiserver"], "host", "kube-apiserver"),
        (["kube-apiserver", "remote-node"], "remote-node", "kube-apiserver"),
        (["host", "remote-node"], "host", "host"),
        (["health"], "health", "health"),
        (["health", "remote-node"], "remote-node", "remote-node"),
        (["ingress"], "ingress", "ingress"),
        (["ingress", "host"], "host", "ingress"),
        (["init"], "init", "init"),
        (["unmanaged"], "unmanaged", "unmanaged"),
        (["kube-apiserver", "world"], "kube-apiserver", "kube-apiserver"),
    ],
)
def test_reserved_labels_in_any_order(labels: list[str], opener: str, responder: str) -> None:
    """A probe from the control plane's node is a probe; a call to that node is one to the API server."""
    for order in itertools.permutations(f"reserved:{label}" for label in labels):
        assert who(True, labels=list(order)) == entity(opener)
        assert who(False, labels=list(order)) == entity(responder)


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (1, "host"),
        (3, "unmanaged"),
        (4, "health"),
        (5, "init"),
        (6, "remote-node"),
        (7, "kube-apiserver"),
        (8, "ingress"),
    ],
)
def test_reserved_identities_without_labels(identity: int, name: str) -> None:
    assert who(identity=identity) == entity(name)


def test_identities_of_remote_nodes_with_an_address_of_their_own() -> None:
    assert who(identity=33554433) == entity("remote-node")


@pytest.mark.parametrize("identity", [0, 2, 9, 10, 12, 255, 16777217, 50000])
def test_everything_else_is_an_address(identity: int) -> None:
    """The world, CIDR identities, and identities whose labels were masked."""
    assert who(identity=identity) is ADDRESS
    assert who(identity=identity, labels=["reserved:world", "cidr:1.1.1.1/32", "fqdn:a.example"]) is ADDRESS
    assert seen_end(identity=identity, address="1.1.1.1").name == "1.1.1.1"


@pytest.mark.parametrize(
    ("unnamed", "fields"),
    [
        (True, {"identity": 256}),
        (True, {"identity": 16777215}),
        (True, {"pod_name": "web-0"}),
        (True, {"pod_name": "web-0", "identity": 2, "labels": ["reserved:world"]}),
        (True, {"workloads": [{"name": "web", "kind": "Deployment"}]}),
        (True, {"labels": ["k8s:app=web"]}),
        (True, {"pod_name": "web-0", "namespace": "not\na namespace", "labels": ["k8s:app=web"]}),
        (False, {}),
        (False, {"identity": 2}),
        (False, {"identity": 255}),
        (False, {"identity": 16777216, "labels": ["cidr:1.1.1.1/32", "reserved:world"]}),
        (False, {"labels": ["reserved:world"]}),
        (False, {"pod_name": "web-0", "namespace": "shop"}),
        (False, {"identity": 6, "pod_name": "web-0"}),
    ],
)
def test_a_pod_of_which_only_the_address_is_told_is_sighted(unnamed: bool, fields: dict[str, Any]) -> None:
    """It stays an address, which an inventory may know, but is nothing outside of the cluster."""
    patterns = Patterns()
    ends = SeenEnds(patterns)
    ends.sight(ends[json.dumps(fields).encode(), "10.0.0.1"][0], 2)
    sighted = patterns.sightings.get(entity("unmanaged"))
    assert (sighted is not None and dict(sighted.pods.items()) == {"|10.0.0.1": 2}) == unnamed
    assert (who(**fields) is ADDRESS) or not unnamed


def test_a_reserved_label_that_nobody_knows_is_an_address() -> None:
    assert who(labels=["reserved:surprise"]) is ADDRESS


@given(
    st.lists(
        st.sampled_from(["k8s:app=web", NAMESPACE, "reserved:host", "reserved:kube-apiserver", "reserved:world"])
        | st.sampled_from(["reserved:remote-node", "cidr:10.0.0.0/8", "k8s:tier=back", "gen:x", "", "=", ":", "k8s:="]),
        max_size=6,
        unique=True,
    ),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_the_order_of_labels_says_nothing(labels: list[str], random: Any, opener: bool) -> None:
    shuffled = labels[:]
    random.shuffle(shuffled)
    assert who(opener, labels=labels) == who(opener, labels=shuffled)


# -- named ports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "ports"),
    [
        ("http.TCP.8080", ("http/TCP/8080",)),
        ("dns.UDP.53_dns-tcp.TCP.53_x.SCTP.9", ("dns/UDP/53", "dns-tcp/TCP/53", "x/SCTP/9")),
        ("http.TCP.0_a.TCP.65536_b.ICMP.8_c.TCP.x_d.TCP._e.TCP.-1_.TCP.80_nonsense_", ()),
        ("a.TCP." + "9" * 5000, ()),
        ("a/b.TCP.80_{{x}}.TCP.81_longer-than-fifteen.TCP.82_http.TCP.00080", ("http/TCP/80",)),
        ("", ()),
    ],
)
def test_named_ports(value: str, ports: tuple[str, ...]) -> None:
    labels = ["k8s:app=web", NAMESPACE, f"gen:io.cilium.k8s.named-ports={value}"]
    assert seen_end(pod_name="web-0", labels=labels).ports == ports


@pytest.mark.parametrize("digits", ["\u00b2", "\u2460", "1\u00b2", "\u0663"])
def test_digits_that_are_no_numbers_are_left_out(digits: str) -> None:
    """`str.isdigit` takes a superscript two for a digit, and `int` raises."""
    labels = ["k8s:app=web", NAMESPACE, f"gen:io.cilium.k8s.named-ports=a.TCP.{digits}_b.TCP.80"]
    assert seen_end(pod_name="web-0", labels=labels).ports == ("b/TCP/80",)


# -- the memory of ends ---------------------------------------------------------------------------------------------


def raw(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_addresses_are_kept_in_their_one_form() -> None:
    ends = SeenEnds(Patterns())
    addresses = {
        text: ends[raw(identity=2), text][False].address
        for text in ("10.0.0.1", "::ffff:10.0.0.1", "2001:DB8:0::1", "nowhere", "", "10.0.0.1/8", "1" * 5000)
    }
    assert list(addresses.values()) == ["10.0.0.1", "10.0.0.1", "2001:db8::1", "", "", "", ""]


def test_the_same_bytes_at_another_address_are_another_end() -> None:
    ends = SeenEnds(Patterns())
    one, two = (ends[raw(labels=["reserved:world"]), address][False] for address in ("1.1.1.1", "2.2.2.2"))
    assert (one.name, two.name) == ("1.1.1.1", "2.2.2.2")
    assert ends[raw(labels=["reserved:world"]), "1.1.1.1"][False] is one


def test_the_same_bytes_in_the_other_role_may_be_another_entity() -> None:
    ends, bytes_ = SeenEnds(Patterns()), raw(labels=["reserved:kube-apiserver", "reserved:host"])
    assert ends[bytes_, "172.18.0.2"][True].endpoint == entity("host")
    assert ends[bytes_, "172.18.0.2"][False].endpoint == entity("kube-apiserver")


@pytest.mark.parametrize("data", [b"", b"null", b"{}"])
def test_an_end_of_which_nothing_is_told_is_an_address_and_masked(data: bytes) -> None:
    patterns = Patterns()
    ends = SeenEnds(patterns)
    found = ends[data, ""][False]
    ends.sight(found, 3)
    assert found.endpoint is ADDRESS
    assert dict(patterns.quality.masked.items()) == {"labels": 3, "IP": 3}
    assert patterns.sightings == {}


@pytest.mark.parametrize("data", [b"7", b"[]", b'{"labels":"x"}', b'{"identity":"x"}'])
def test_what_is_no_endpoint_raises(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        SeenEnds(Patterns())[data, ""]


def test_sightings_count_records() -> None:
    patterns = Patterns()
    ends = SeenEnds(patterns)
    labels = ["k8s:app=web", NAMESPACE, "gen:io.cilium.k8s.named-ports=http.TCP.8080"]
    local = raw(ID=1, pod_name="web-0", labels=labels, workloads=[{"name": "web", "kind": "StatefulSet"}])
    ends.sight(ends[local, "10.0.0.1"][True], 2)
    ends.sight(ends[raw(identity=1), "172.18.0.2"][True], 4)
    ends.sight(ends[raw(identity=1), ""][True], 8)
    web, host = patterns.sightings[pod((("app", "web"),))], patterns.sightings[entity("host")]
    assert dict(web.pods.items()) == {"web-0|10.0.0.1": 2}
    assert dict(web.owners.items()) == {"StatefulSet/web": 2}
    assert dict(web.ports.items()) == {"http/TCP/8080": 2}
    assert dict(web.origins.items()) == {"hubble": 2}
    assert dict(host.pods.items()) == {"|172.18.0.2": 4}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubble_endpoints, "CACHE", 3)
    ends = SeenEnds(Patterns())
    for number in range(5):
        ends[raw(identity=2), f"10.0.0.{number}"]
    ends.forget()
    assert not ends
    assert ends.endpoints == {}


def test_labels_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubble_endpoints, "LABELLED", 3)
    monkeypatch.setattr(hubble_endpoints, "MOST_LABELS", 2)
    ends = SeenEnds(Patterns())
    for number in range(9):
        labels = ["k8s:io.kubernetes.pod.namespace=shop", f"k8s:app=a{number}"]
        for more in ([], ["k8s:tier=x"]):
            raw = msgspec.json.encode({"namespace": "shop", "labels": [*labels, *more]})
            assert ends[raw, "10.0.0.1"][0].endpoint == who(namespace="shop", labels=[*labels, *more])
    assert 0 < len(ends.labels) <= 3
    assert all(len(labels) <= 2 for labels in ends.labels)
