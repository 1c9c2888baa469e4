"""NetworkPolicy: the rows of the specification that implementations get wrong, one test each."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from leastway.verify.errors import PolicyError
from leastway.verify.judge import Judge, Question
from leastway.verify.networkpolicy import read_network_policy
from leastway.verify.soundness import Observed, replay
from leastway.verify.world import NamedPort, Subject, World
from tests.verify.kit import expression, judge, labels, namespace, outcome, pod, policy, within

NODE, OTHER_NODE = "192.168.0.1", "192.168.0.2"
THINGS = [
    namespace("a", team="red"),
    namespace("b"),
    pod("a/web", {"app": "web"}, "10.0.0.1", host=NODE, ports=[{"name": "http", "containerPort": 8080}]),
    pod(
        "a/db", {"app": "db", "tier": ""}, "10.0.0.2", host=OTHER_NODE, ports=[{"name": "http", "containerPort": 5432}]
    ),
    pod("b/web", {"app": "web"}, "10.0.1.1", host=OTHER_NODE),
    pod("b/agent", {"app": "agent"}, OTHER_NODE, host=OTHER_NODE, hostNetwork=True),
]
WEB = labels(app="web")


def ingress(*rules: Any, **spec: Any) -> Judge:
    return judge(THINGS, [policy("a/p", podSelector=WEB, policyTypes=["Ingress"], ingress=list(rules))], **spec)


class TestDefaults:
    def test_egress_only_policy_without_types_isolates_ingress_too(self) -> None:
        of = judge(THINGS, [policy("a/p", podSelector=WEB, egress=[{}])])
        assert outcome(of, "a/db", "a/web") == "deny"
        assert outcome(of, "a/web", "a/db") == "allow"

    @pytest.mark.parametrize("egress", [None, []])
    def test_no_egress_rules_without_types_do_not_isolate_egress(self, egress: list[Any] | None) -> None:
        of = judge(THINGS, [policy("a/p", podSelector=WEB, egress=egress)])
        assert outcome(of, "a/web", "a/db") == "allow"

    def test_egress_rules_are_ignored_when_the_types_name_ingress_only(self) -> None:
        of = judge(THINGS, [policy("a/p", podSelector=WEB, policyTypes=["Ingress"], egress=[{"ports": [{"port": 1}]}])])
        assert outcome(of, "a/web", "a/db") == "allow"

    def test_missing_pod_selector_selects_the_whole_namespace(self) -> None:
        of = judge(THINGS, [policy("a/p", policyTypes=["Ingress"])])
        assert outcome(of, "b/web", "a/db") == "deny"
        assert outcome(of, "a/db", "b/web") == "allow"


class TestPeers:
    def test_empty_from_admits_the_outside_but_all_pods_does_not(self) -> None:
        assert outcome(ingress({"from": []}), "203.0.113.1", "a/web") == "allow"
        assert outcome(ingress({}), "203.0.113.1", "a/web") == "allow"
        pods = ingress({"from": [{"namespaceSelector": {}}]})
        assert outcome(pods, "203.0.113.1", "a/web") == "deny"
        assert outcome(pods, "b/web", "a/web") == "allow"

    def test_pod_selector_alone_stays_in_the_policys_namespace(self) -> None:
        assert outcome(ingress({"from": [{"podSelector": {}}]}), "b/web", "a/web") == "deny"
        assert outcome(ingress({"from": [{"podSelector": {}}]}), "a/db", "a/web") == "allow"

    def test_selectors_of_one_entry_are_anded_and_entries_are_ored(self) -> None:
        both = {"namespaceSelector": within("b"), "podSelector": labels(app="db")}
        assert outcome(ingress({"from": [both]}), "b/web", "a/web") == "deny"
        split = [{"namespaceSelector": within("b")}, {"podSelector": labels(app="db")}]
        assert outcome(ingress({"from": split}), "b/web", "a/web") == "allow"

    def test_not_in_holds_for_an_absent_key(self) -> None:
        assert (
            outcome(ingress({"from": [{"podSelector": expression("tier", "NotIn", "x")}]}), "a/db", "a/web") == "allow"
        )
        absent = ingress({"from": [{"namespaceSelector": {}, "podSelector": expression("tier", "NotIn", "x")}]})
        assert outcome(absent, "b/web", "a/web") == "allow"

    def test_an_empty_value_is_not_an_absent_key(self) -> None:
        everywhere = {"namespaceSelector": {}, "podSelector": labels(tier="")}
        assert outcome(ingress({"from": [everywhere]}), "a/db", "a/web") == "allow"
        assert outcome(ingress({"from": [everywhere]}), "b/web", "a/web") == "deny"

    def test_the_namespace_name_label_is_implied_and_cannot_be_faked(self) -> None:
        things = [namespace("a", **{"kubernetes.io/metadata.name": "b"}), *THINGS[2:]]
        of = judge(things, [policy("a/p", podSelector=WEB, ingress=[{"from": [{"namespaceSelector": within("b")}]}])])
        assert outcome(of, "a/db", "a/web") == "deny"
        assert outcome(of, "b/web", "a/web") == "allow"


class TestBlocks:
    BLOCK: ClassVar[dict[str, Any]] = {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.1.0/24"]}}]}

    @pytest.mark.parametrize(("cni", "expected"), [("generic", "allow"), ("calico", "allow"), ("cilium", "deny")])
    def test_a_pods_address_in_a_block(self, cni: str, expected: str) -> None:
        assert outcome(ingress(self.BLOCK, cni=cni), "a/db", "a/web") == expected
        assert outcome(ingress(self.BLOCK, cni=cni), "10.0.0.2", "a/web") == expected

    def test_an_exception_is_not_in_the_block(self) -> None:
        assert outcome(ingress(self.BLOCK), "b/web", "a/web") == "deny"
        assert outcome(ingress(self.BLOCK), "10.9.9.9", "a/web") == "allow"

    def test_all_of_one_family_leaves_the_other_closed(self) -> None:
        of = ingress({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]})
        assert outcome(of, "203.0.113.1", "a/web") == "allow"
        assert outcome(of, "2001:db8::1", "a/web") == "deny"
        assert outcome(of, "::ffff:203.0.113.1", "a/web") == "allow"

    def test_host_bits_are_dropped(self) -> None:
        assert (
            outcome(ingress({"from": [{"ipBlock": {"cidr": "203.0.113.7/24"}}]}), "203.0.113.200", "a/web") == "allow"
        )

    def test_a_node_is_in_a_block_for_generic_and_never_for_cilium(self) -> None:
        everyone = {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
        assert outcome(ingress(everyone), OTHER_NODE, "a/web") == "allow"
        assert outcome(ingress(everyone, cni="cilium"), OTHER_NODE, "a/web") == "deny"
        assert outcome(ingress(everyone, cni="cilium"), "remote-node", "a/web") == "deny"

    def test_a_workload_whose_address_is_not_known_is_undefined(self) -> None:
        things = [*THINGS, pod("a/new", {"app": "new"})]
        of = judge(things, [policy("a/p", podSelector=WEB, ingress=[self.BLOCK])])
        assert outcome(of, "a/new", "a/web") == "undefined"
        assert outcome(of, "a/new", "a/web", source_address="10.0.0.77") == "allow"


class TestPorts:
    def test_no_protocol_means_tcp(self) -> None:
        of = ingress({"ports": [{"port": 80}]})
        assert outcome(of, "a/db", "a/web", 80, "TCP") == "allow"
        assert outcome(of, "a/db", "a/web", 80, "UDP") == "deny"

    def test_no_port_means_every_port_of_the_protocol(self) -> None:
        of = ingress({"ports": [{}]})
        assert outcome(of, "a/db", "a/web", 65535) == "allow"
        assert outcome(of, "a/db", "a/web", 80, "SCTP") == "deny"

    def test_an_empty_list_of_ports_means_every_port_of_every_protocol(self) -> None:
        missing: list[Any] | None = None
        for ports in ([], missing):
            of = ingress({"ports": ports})
            assert [outcome(of, "a/db", "a/web", 9, protocol) for protocol in ("TCP", "UDP", "SCTP")] == ["allow"] * 3

    def test_end_port_is_inclusive(self) -> None:
        of = ingress({"ports": [{"port": 80, "endPort": 90}]})
        assert [outcome(of, "a/db", "a/web", p) for p in (79, 80, 90, 91)] == ["deny", "allow", "allow", "deny"]

    def test_a_name_is_resolved_on_the_destination(self) -> None:
        of = judge(
            THINGS, [policy("a/p", podSelector={}, policyTypes=["Egress"], egress=[{"ports": [{"port": "http"}]}])]
        )
        assert outcome(of, "a/web", "a/db", 5432) == "allow"
        assert outcome(of, "a/web", "a/db", 8080) == "deny"
        assert outcome(of, "a/db", "a/web", 8080) == "allow"
        assert outcome(of, "a/web", "203.0.113.1", 8080) == "deny"
        assert outcome(of, "a/web", "b/web", 8080) == "deny"

    def test_a_name_matches_only_its_own_protocol(self) -> None:
        of = ingress({"ports": [{"port": "http", "protocol": "UDP"}]})
        assert outcome(of, "a/db", "a/web", 8080, "UDP") == "deny"

    def test_a_name_on_a_workload_known_from_traffic_alone_is_undefined(self) -> None:
        world = World()
        world.add_subject(Subject("a", "x", {"app": "x"}, inventoried=False))
        world.add_subject(Subject("a", "y", {"app": "y"}, ports=(NamedPort("", "TCP", 80),), inventoried=False))
        of = Judge(world, [policy("a/p", podSelector={}, ingress=[{"ports": [{"port": "http"}]}])])
        assert outcome(of, "a/x", "a/y") == "undefined"

    def test_other_protocols_are_undefined_where_a_policy_isolates(self) -> None:
        assert outcome(ingress({}), "a/db", "a/web", 0, "ICMP") == "undefined"
        assert outcome(ingress({}), "a/web", "b/web", 0, "ICMP") == "allow"


class TestNodes:
    def test_the_own_node_is_always_let_in_and_others_are_not(self) -> None:
        of = ingress()
        assert outcome(of, NODE, "a/web") == "allow"
        assert outcome(of, "host", "a/web") == "allow"
        assert outcome(of, OTHER_NODE, "a/web") == "deny"

    def test_an_unknown_node_may_be_the_own_one(self) -> None:
        things = [*THINGS, pod("a/new", {"app": "web"}, "10.0.0.9")]
        of = judge(things, [policy("a/p", podSelector=WEB, ingress=[])])
        assert outcome(of, OTHER_NODE, "a/new") == "undefined"

    def test_the_own_node_is_known_by_each_of_its_addresses(self) -> None:
        addresses = [{"address": "FD00:20:0::1"}, {"address": NODE}, {"address": "n1"}]
        node = {"kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": addresses}}
        of = judge([*THINGS, node], [policy("a/p", podSelector=WEB, ingress=[])])
        assert outcome(of, "fd00:20::1", "a/web") == "allow"
        assert outcome(of, OTHER_NODE, "a/web") == "deny"

    def test_a_pod_without_status_is_on_the_node_that_it_names(self) -> None:
        node = {"kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": [{"address": NODE}]}}
        things = [pod("a/new", {"app": "web"}, nodeName="n1"), node, *THINGS]
        of = judge(things, [policy("a/p", podSelector=WEB, ingress=[])])
        assert outcome(of, NODE, "a/new") == "allow"
        assert outcome(of, OTHER_NODE, "a/new") == "deny"

    def test_host_network_pods_without_a_known_node_may_be_on_the_own_one(self) -> None:
        agent = pod("b/anywhere", {"app": "agent"}, hostNetwork=True)
        of = judge([*THINGS, agent], [policy("a/p", podSelector=WEB, ingress=[])])
        assert outcome(of, "b/anywhere", "a/web") == "undefined"
        assert outcome(of, "b/agent", "a/web") == "deny"

    @pytest.mark.parametrize(("cni", "expected"), [("generic", "undefined"), ("calico", "deny"), ("cilium", "deny")])
    def test_policy_towards_the_own_node_is_the_networks_choice(self, cni: str, expected: str) -> None:
        of = judge(THINGS, [policy("a/p", podSelector=WEB, policyTypes=["Egress"])], cni=cni)
        assert outcome(of, "a/web", NODE) == expected
        assert outcome(of, "a/web", OTHER_NODE) == "deny"

    @pytest.mark.parametrize(
        ("kind", "spec", "expected"),
        [
            ("Deployment", {}, "allow"),  # one replica, by default
            ("Deployment", {"replicas": 1}, "allow"),
            ("Deployment", {"replicas": 3}, "undefined"),
            ("DaemonSet", {}, "undefined"),
        ],
    )
    def test_a_workload_reaches_itself_for_certain_if_it_is_one_pod(
        self, kind: str, spec: dict[str, Any], expected: str
    ) -> None:
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {}}
        thing = {"kind": kind, "metadata": {"name": "w", "namespace": "a"}, "spec": {"template": template, **spec}}
        of = judge([*THINGS, thing], [policy("a/p", podSelector={}, policyTypes=["Ingress"])])
        assert outcome(of, "a/w", "a/w") == expected
        assert outcome(of, "a/web", "a/w") == "deny"
        observed = replay(of, [Observed("a/w", "a/w", "TCP", 80)])  # seen on the wire, so it was another pod
        assert not observed.sound

    def test_a_pod_reaches_itself_whatever_policy_says(self) -> None:
        of = judge(THINGS, [policy("a/p", podSelector={}, policyTypes=["Ingress", "Egress"])])
        assert outcome(of, "a/web", "a/web") == "allow"
        assert outcome(of, "a/web", "a/db") == "deny"

    def test_host_network_pods_are_undefined_only_where_the_readings_differ(self) -> None:
        selecting = [policy("b/p", podSelector={}, policyTypes=["Ingress", "Egress"])]
        assert outcome(judge(THINGS, selecting), "b/agent", "a/web") == "undefined"
        assert outcome(judge(THINGS, selecting, cni="calico"), "b/agent", "a/web") == "allow"
        inward = [policy("b/p", podSelector={}, policyTypes=["Ingress"])]
        assert outcome(judge(THINGS, inward), "b/agent", "b/web") == "allow"  # it is on the same node
        by_label = [policy("a/p", podSelector=WEB, ingress=[{"from": [{"namespaceSelector": {}}]}])]
        assert outcome(judge(THINGS, by_label), "b/agent", "a/web") == "undefined"
        assert outcome(judge(THINGS, by_label, cni="cilium"), "b/agent", "a/web") == "deny"
        assert outcome(judge(THINGS, []), "b/agent", "a/web") == "allow"

    def test_entities_are_judged_by_their_address_if_it_is_known(self) -> None:
        of = ingress({"from": [{"ipBlock": {"cidr": "172.20.0.0/16"}}]})
        assert outcome(of, "kube-apiserver", "a/web") == "undefined"
        assert outcome(of, "kube-apiserver", "a/web", source_address="172.20.0.1") == "allow"
        assert outcome(of, "kube-apiserver", "a/web", source_address="172.21.0.1") == "deny"
        assert outcome(ingress({}), "kube-apiserver", "a/web") == "allow"


class TestMessages:
    def test_an_allow_names_the_rule(self) -> None:
        of = ingress({"ports": [{"port": 1}]}, {"ports": [{"port": 80}]})
        assert "NetworkPolicy a/p ingress rule 1" in of.ask(Question("a/db", "a/web", port=80)).because

    def test_a_deny_names_the_isolating_policies(self) -> None:
        verdict = ingress().ask(Question("a/db", "a/web", port=80))
        assert verdict.policies == ("NetworkPolicy a/p",)
        assert verdict.direction == "ingress"
        assert "NetworkPolicy a/p" in verdict.because

    def test_an_unknown_end_is_an_error_with_near_names(self) -> None:
        with pytest.raises(PolicyError, match="a/web"):
            ingress().ask(Question("a/wep", "a/db"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"podSelektor": {}}, "unknown field 'podSelektor'"),
        ({"ingress": [{"form": []}]}, r"unknown field 'form'.*spec\.ingress\[0\]"),
        ({"ingress": [{"from": [{}]}]}, r"a peer needs.*from\[0\]"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]}, "cannot be combined"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]}, "not a CIDR"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/255.0.0.0"}}]}]}, "'10.0.0.0/255.0.0.0' is not a CIDR"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/0.255.255.255"}}]}]}, "not a CIDR"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/08"}}]}]}, "not a CIDR"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "fe80::1%eth0/64"}}]}]}, "not a CIDR"),
        ({"egress": [{"to": [{"ipBlock": {"cidr": "::/0", "except": ["::1/0064"]}}]}]}, "'::1/0064' is not a CIDR"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]}, "strictly within"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}, "strictly within"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}}]}]}, "strictly within"),
        ({"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]}, "less than port"),
        ({"ingress": [{"ports": [{"port": "http", "endPort": 79}]}]}, "numeric port"),
        ({"ingress": [{"ports": [{"endPort": 79}]}]}, "needs a port"),
        ({"ingress": [{"ports": [{"port": 0}]}]}, "not a port number"),
        ({"ingress": [{"ports": [{"port": "80"}]}]}, "port name"),
        ({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}, "is not one of TCP"),
        ({"policyTypes": ["ingress"]}, "neither Ingress nor Egress"),
        ({"policyTypes": ["Ingress", "Egress", "Egress"]}, "more than two policy types"),
        ({"podSelector": {"matchLabels": {"a": 1}}}, "expected text, got a number"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}, "is not one of In"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "needs values"),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["1"]}]}},
            "forbids values",
        ),
        ({"ingress": {}}, "expected a list"),
        ({"ingress": ["x"]}, "expected a mapping"),
    ],
)
def test_what_the_api_server_rejects_is_an_error_that_names_the_field(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyError, match=said) as error:
        read_network_policy(policy("a/p", **spec))
    assert "a/p" in str(error.value)


def test_calicos_staged_policy_reads_as_the_policy_it_stages() -> None:
    staged = policy("a/p", podSelector=WEB, policyTypes=["Ingress"], stagedAction="Set")
    staged |= {"apiVersion": "projectcalico.org/v3", "kind": "StagedKubernetesNetworkPolicy"}
    assert outcome(judge(THINGS, [staged]), "a/db", "a/web") == "deny"
    for action in ("Delete", "Ignore"):  # a staged deletion would read as a policy that isolates the namespace
        with pytest.raises(PolicyError, match=action):
            judge(THINGS, [{**staged, "spec": {"stagedAction": action}}])


def test_policies_of_other_kinds_are_named_not_ignored() -> None:
    other = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "c", "namespace": "a"}}
    assert judge(THINGS, [other]).policies.unjudged == ("CiliumNetworkPolicy a/c",)
