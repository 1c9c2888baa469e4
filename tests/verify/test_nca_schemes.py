"""network-config-analyzer's scheme queries on NetworkPolicy that no other table here asks, re-authored.

A comparison is named as its folder below `tests/k8s_testcases/example_policies` and its query; those on IPv4 blocks are
asked once more about IPv6 ("ipv6 twin"), as NCA has them as `ipv6-` files. NCA states how many
differences it finds; here that is one relation of two policy sets, which must hold over every pod and every boundary of
every block, at the ports named and their neighbours. The rest of the schemes count redundancies, empty selectors and
pods that nothing captures, which are no verdicts; Calico's own policy kinds are not judged. Exceptions that lie outside
their block, which the API server refuses, are left out.
"""

from __future__ import annotations

import ipaddress
from itertools import product
from typing import Any, NamedTuple

import pytest

from leastway.verify.judge import Judge, Question
from leastway.verify.networkpolicy import Cni
from leastway.verify.reading import Document
from tests.verify.kit import judge, namespace, pod
from tests.verify.npguard_cases import ANY, EVERYWHERE, about, block, chosen, into, onto, peer

PODS = {
    "kube-system/plugin": {"app": "file-plugin", "tier": "frontend"}, "kube-system/calico": {"tier": "frontend"},
    "kube-system/fluentd": {"app": "kube-fluentd"}, "kube-system/bare": {},
    "default/agent": {"app": "skydive", "tier": "frontend"}, "default/other": {"app": "x"},
    "dummy/dns": {"k8s-app": "kube-dns"}, "plain/pod": {},
}  # fmt: skip
SPACES = {"kube-system": "kubeSystem", "default": "defaultNameSpace", "dummy": "dummy", "plain": ""}
THINGS = [namespace(name, **({"unique-label": text} if text else {})) for name, text in SPACES.items()]
THINGS += [pod(ref, labels, f"172.16.0.{number}") for number, (ref, labels) in enumerate(PODS.items(), 1)]
INSIDE = ("10.0.0.0/8", "172.21.0.0/16", "172.30.0.0/16")
RANGE_A, B, C = "4f10:d80:1a00:ffff:ffff:ffff:ffff:ffff/126", "a000:800::/32", "a000:a00::/32"
EDGES = [
    "0.0.0.1", "9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0", "127.255.255.255", "128.0.0.0",
    "172.20.255.255", "172.21.0.0", "172.21.255.255", "172.22.0.0", "172.29.255.255", "172.30.0.0", "172.30.127.255",
    "172.30.128.0", "172.30.255.255", "172.31.0.0", "172.31.255.255", "172.32.0.0", "191.255.255.255", "192.0.0.0",
    "255.255.255.254", "::1", "4f10:d80:1a00:ffff:ffff:ffff:ffff:fffb", "4f10:d80:1a00:ffff:ffff:ffff:ffff:fffc",
    "4f10:d80:1a01::", "7fff:ffff::", "8000::", "a000:7ff:ffff::", "a000:800::", "a000:801::", "a000:a00:7fff::",
    "a000:a00:8000::", "a000:a01::", "ffff::",
]  # fmt: skip


def kube(*rules: Document, name: str = "p") -> Document:
    """A policy about all of kube-system's ingress."""
    return about(f"kube-system/{name}", ANY, "I", ingress=list(rules))


def both(*peers: Document) -> Document:
    return about("kube-system/p", ANY, "IE", ingress=[into("", *peers)], egress=[onto("", *peers)])


def dns(cidr: str, *excepts: str) -> Document:
    return into("UDP 53", block(cidr, *excepts))


def high(*rules: Document) -> Document:
    """A policy about egress of the tier in front."""
    return about("kube-system/p", chosen("tier:frontend"), "E", egress=list(rules))


KUBES, HALF = INSIDE[1:], "192.0.0.0/2"
LOW = block("128.0.0.0/2", *KUBES)
HIGH = high(onto("53,54", block("128.0.0.0/1", *KUBES)))
ORIGINAL, ORIGINAL_6 = kube(dns("0.0.0.0/0", *INSIDE)), kube(dns("::/0", RANGE_A, B, C))
SKYDIVE, LABELLED = chosen("app:skydive"), chosen("unique-label")
FRONT, HAS_APP = peer(chosen("tier:frontend")), peer(chosen("app"))


class Comparison(NamedTuple):
    name: str
    first: Document
    second: Document
    relation: str


def higher(ports: str, width: int) -> Document:
    """The slightly different ones: the second exception is `width` bits wide on port 54."""
    return high(onto("53", LOW), onto("54", block("128.0.0.0/2", "172.21.0.0/16", f"172.30.0.0/{width}")),
                onto(ports, block(HALF)), onto("54", block(HALF)))  # fmt: skip


COMPARISONS = [
    Comparison("andOrCombinations np1_and_np2_not_equiv", kube(into("53,54", FRONT, HAS_APP)),
               kube(into("53", FRONT), into("54", HAS_APP)), "contains"),
    Comparison("typoNotInTests contains_specific_policies_1_in_2", kube(into("", peer(chosen("app!=helmm")))),
               kube(into("", FRONT)), "contains"),
    Comparison("testcase10 allow-all-wep-traffic-kube-system_equiv", both(EVERYWHERE, peer(ANY)), both(peer(ANY, ANY)),
               "equals"),
    Comparison("testcase10 allow-all-traffic-kube-system_supset_allow-wep-kube-system", both(),
               both(EVERYWHERE, peer(ANY)), "contains"),
    Comparison("testcase10 all-wep-traffic-kube-system_supset-some-namespaces", both(EVERYWHERE, peer(ANY)),
               both(peer(spaces=LABELLED)), "contains"),
    Comparison("testcase10 kube-system-with-some-namespaces-supset-with-podSelector", both(peer(spaces=LABELLED)),
               both(peer(SKYDIVE, LABELLED)), "contains"),
    Comparison("testcase10 kube-system-with-some-namespaces-podSelector-equiv-default-podSelector",
               both(peer(SKYDIVE, LABELLED)), both(peer(SKYDIVE, chosen("unique-label:defaultNameSpace"))), "equals"),
    Comparison("withIpBlock2 compare_equiv_policies_all_addresses, with redundancy", kube(into("", block("0.0.0.0/0"))),
               kube(into("", block("0.0.0.0/0")), into("", block("20.0.0.0/2"))), "equals"),
    Comparison("withIpBlock2 compare_equiv_policies_all_addresses, in two", kube(into("", block("0.0.0.0/0"))),
               kube(into("", block("0.0.0.0/1")), into("", block("128.0.0.0/1"))), "equals"),
    Comparison("withIpBlock2 compare_equiv_policies_original_and_versions, written differently", ORIGINAL,
               kube(dns("0.0.0.0/0", *INSIDE[:2], "172.30.0.0/17", "172.30.128.0/17")), "equals"),
    Comparison("withIpBlock2 compare_equiv_policies_original_and_versions, in two", ORIGINAL,
               kube(dns("0.0.0.0/1", INSIDE[0]), dns("128.0.0.0/1", *KUBES)), "equals"),
    Comparison("withIpBlock2 redundancy_in_specific_policies, by except", ORIGINAL,
               kube(dns("0.0.0.0/0", *INSIDE), dns("0.0.0.0/0", INSIDE[0], "172.0.0.0/8")), "equals"),
    Comparison("withIpBlock2 containment_specific_np2", kube(dns("0.0.0.0/0", *INSIDE[:2], "172.30.0.0/17")), ORIGINAL,
               "contains"),
    Comparison("withIpBlock2 ipv6-compare_equiv_policies_original_and_versions, written differently", ORIGINAL_6,
               kube(dns("::/0", RANGE_A, B, "a000:a00::/33", "a000:a00:8000::/33")), "equals"),
    Comparison("withIpBlock2 ipv6-compare_equiv_policies_original_and_versions, in two", ORIGINAL_6,
               kube(dns("::/1", RANGE_A), dns("8000::/1", B, C)), "equals"),
    Comparison("withIpBlock2 ipv6-redundancy_in_specific_policies, by except", ORIGINAL_6,
               kube(dns("::/0", RANGE_A, B, C), dns("::/0", RANGE_A, "a000::/16")), "equals"),
    Comparison("withIpBlock2 ipv6-containment_specific_np2", kube(dns("::/0", RANGE_A, B, "a000:a00::/33")), ORIGINAL_6,
               "contains"),
    Comparison("withIpBlock2 mixed-ipv4-ipv6-comparison", kube(into("", block("0.0.0.0/0"))),
               kube(into("", block("::/0"))), "differs"),
    Comparison("withIpBlock2 compare_two_equiv_multiple_ports", HIGH,
               high(onto("53", LOW), onto("54", LOW), onto("54", block("128.0.0.0/5")), onto("53", block(HALF)),
                    onto("54", block(HALF))), "equals"),
    Comparison("withIpBlock2 containment_specific_np3", HIGH, high(onto("53", LOW), onto("54", LOW),
                                                                   onto("53", block(HALF))), "contains"),
    Comparison("withIpBlock2 containment_specific_np5_1", HIGH, higher("53", 15), "contains"),
    Comparison("withIpBlock2 containment_specific_np5_2", higher("53", 17), HIGH, "contains"),
    Comparison("withIpBlock2 containment_specific_np5_3", higher("53,70", 17), HIGH, "contains"),
    Comparison("withIpBlock2 equiv_check_slighlty_different_policies, 1 and 2", higher("53", 15), higher("53", 17),
               "contained"),
]  # fmt: skip


def twin(value: Any) -> Any:
    """A policy with every IPv4 block as an IPv6 block of the same bits at the front."""
    if isinstance(value, dict):
        return {key: twin(item) for key, item in value.items()}
    if isinstance(value, list):
        return [twin(item) for item in value]
    first, slash, width = value.partition("/") if isinstance(value, str) else ("", "", "")
    return (
        f"{high_bits(ipaddress.IPv4Address(first))}/{width}" if slash and first[0].isdigit() and "." in first else value
    )


def high_bits(address: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(int(address) << 96)


TWINS = [
    row._replace(name=f"{row.name} (ipv6 twin)", first=twin(row.first), second=twin(row.second))
    for row in COMPARISONS
    if twin(row.first) != row.first and twin(row.second) != row.second
]
EDGES += [str(high_bits(ipaddress.IPv4Address(edge))) for edge in EDGES if ":" not in edge]
EDGES += [str(ipaddress.IPv6Address((int(ipaddress.IPv4Address(edge)) + 1 << 96) - 1)) for edge in EDGES if "." in edge]


def allowed(of: Judge) -> set[tuple[str, str, str, int]]:
    """Everything that is allowed between pods, and pods and boundary addresses."""
    ends = [*PODS, *EDGES]
    asked = (
        Question(source, destination, protocol, port)
        for source, destination in product(ends, ends)
        if source != destination and {source, destination} & PODS.keys() and {source, destination} & IN_KUBE
        for protocol, port in product(("TCP", "UDP"), (53, 54, 55, 70))
    )
    return {(q.source, q.destination, q.protocol, q.port) for q in asked if of.ask(q).allowed}


IN_KUBE = {ref for ref in PODS if ref.startswith("kube-system/")}


@pytest.mark.parametrize("cni", ["generic", "cilium"])
@pytest.mark.parametrize("row", COMPARISONS + TWINS, ids=[row.name for row in COMPARISONS + TWINS])
def test_relation(row: Comparison, cni: Cni) -> None:
    first, second = (allowed(judge(THINGS, [policy], cni=cni)) for policy in (row.first, row.second))
    relations = {
        "equals": first == second, "contains": first > second, "contained": first < second,
        "differs": not (first <= second or first >= second),
    }  # fmt: skip
    assert relations[row.relation], (sorted(first - second)[:5], sorted(second - first)[:5])


def test_port_names_that_the_pods_have_not_or_under_another_protocol_match_nothing() -> None:
    """namedPorts `test-named-ports-warnings`: NCA warns of such names; what they open is nothing."""
    ports = [{"name": "tiller", "containerPort": 44134, "protocol": "TCP"}]
    things = [namespace("kube-system"), namespace("dummy", **{"unique-label": "dummy"})]
    things += [
        pod("kube-system/helm", {"app": "helm"}, "172.16.1.1", ports=ports),
        pod("kube-system/front", {"tier": "frontend"}, "172.16.1.2"),
        pod("dummy/server", {}, "172.16.1.3", ports=[{"name": "metrics", "containerPort": 9153, "protocol": "TCP"}]),
    ]
    dummy = peer(spaces=chosen("unique-label:dummy"))
    rules = [into("TCP tbd", FRONT), into("UDP tiller", FRONT)]
    egress = [onto("TCP tiller,TCP metrics,UDP metrics", dummy)]
    of = judge(things, [about("kube-system/p", chosen("app:helm"), "IE", ingress=rules, egress=egress)])
    reached = {
        (source, destination, protocol, port)
        for source, destination in (("kube-system/front", "kube-system/helm"), ("kube-system/helm", "dummy/server"))
        for protocol, port in product(("TCP", "UDP"), (80, 9153, 44134))
        if of.ask(Question(source, destination, protocol, port)).allowed
    }
    assert reached == {("kube-system/helm", "dummy/server", "TCP", 9153)}
