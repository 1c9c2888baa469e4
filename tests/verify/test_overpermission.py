"""What is allowed beyond what was seen: counted exactly, each under the cause that explains it."""

from __future__ import annotations

from typing import Any

import pytest

from leastway.verify.judge import Judge
from leastway.verify.overpermission import OverPermission, over_permission
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed
from leastway.verify.world import NamedPort, Subject, World
from tests.verify.kit import access, labels, policy, within

DENY = policy("a/default-deny", podSelector={}, policyTypes=["Ingress", "Egress"])


def world(*names: str, account: str = "", ports: tuple[int, ...] = (80,)) -> World:
    """Workloads of namespace a, labelled app = name, each with one declared port."""
    found = World()
    for i, name in enumerate(names or ("web", "api", "db")):
        found.add_subject(
            Subject(
                "a",
                name,
                {"app": name, "team": "red"},
                service_account=account or name,
                ips=(f"10.0.0.{i + 1}",),
                ports=tuple(NamedPort("", "TCP", port) for port in ports),
                kind="Deployment",
            )
        )
    return found


def ingress(to: str, *rules: dict[str, Any]) -> Document:
    return policy(f"a/{to}", podSelector=labels(app=to), policyTypes=["Ingress"], ingress=list(rules))


def egress(of: str, *rules: dict[str, Any]) -> Document:
    return policy(f"a/{of}-out", podSelector=labels(app=of), policyTypes=["Egress"], egress=list(rules))


def peers(*names: str) -> list[dict[str, Any]]:
    return [{"podSelector": labels(app=name)} for name in names]


OUT = policy("a/out", podSelector={}, policyTypes=["Egress"], egress=[{}])
WEB_TO_DB = Observed("a/web", "a/db", "TCP", 80)


def measure(policies: list[Document], *observed: Observed, of: World | None = None, **options: Any) -> OverPermission:
    return over_permission(Judge(of or world(), policies, **options), observed)


def exact_pair(port: dict[str, Any]) -> list[Document]:
    """web may call db on a port, and nothing else anywhere."""
    return [
        DENY,
        ingress("db", {"from": peers("web"), "ports": [port]}),
        egress("web", {"to": peers("db"), "ports": [port]}),
    ]


def test_policies_that_allow_exactly_what_was_seen_have_none() -> None:
    found = measure(exact_pair({"port": 80}), WEB_TO_DB)
    assert (found.total, found.by_cause, found.by_workload, found.addresses) == (0, {}, {}, 0)


def test_nothing_isolated_counts_every_pair_class_and_the_outside() -> None:
    found = measure([], WEB_TO_DB)
    # Per destination: 3 sources on port 80 and on the rest of TCP, UDP and SCTP; 2 families of outside, in and out.
    pairs = 3 * 3 * 4 - 1
    outside_in = 3 * 4 * 2
    outside_out = 3 * 3 * 2
    assert found.total == pairs + outside_in + outside_out
    assert found.by_cause == {"unisolated": found.total}


def test_a_selector_that_matches_more_than_was_seen_is_bleed() -> None:
    rule = {"from": [{"podSelector": labels(team="red")}], "ports": [{"port": 80}]}
    found = measure([DENY, OUT, ingress("db", rule)], WEB_TO_DB)
    assert found.by_cause["selector bleed"] == 2  # api, and replicas of db itself
    assert any("a/api → a/db 80/TCP" in text for text in found.examples["selector bleed"])


def test_a_rule_for_all_pods_is_namespace_wide() -> None:
    found = measure([DENY, OUT, ingress("db", {"from": [{"podSelector": {}}], "ports": [{"port": 80}]})], WEB_TO_DB)
    assert found.by_cause["namespace-wide rule"] >= 2
    assert "selector bleed" not in found.by_cause


def test_ports_that_were_not_seen_from_a_known_partner_are_other() -> None:
    found = measure(exact_pair({"port": 80}) + exact_pair({"port": 443})[1:], WEB_TO_DB)
    names = {d["metadata"]["name"] for d in exact_pair({"port": 443})}
    assert names == {"default-deny", "db", "web-out"}
    both = [{"port": 80}, {"port": 443}]
    found = measure(
        [DENY, ingress("db", {"from": peers("web"), "ports": both}), egress("web", {"to": peers("db"), "ports": both})],
        WEB_TO_DB,
    )
    assert found.by_cause == {"other": 1}


def test_an_end_port_is_one_class_beyond_the_ports_seen_in_it() -> None:
    found = measure(exact_pair({"port": 80, "endPort": 90}), WEB_TO_DB)
    assert found.by_cause == {"endPort span": 1}


def test_a_block_counts_once_and_not_at_all_when_every_address_was_seen() -> None:
    def block(cidr: str) -> list[Document]:
        return [DENY, egress("web", {"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": 443}]})]

    seen = Observed("a/web", "203.0.113.7", "TCP", 443)
    assert measure(block("203.0.113.7/32"), seen).total == 0
    wide = measure(block("203.0.113.0/24"), seen)
    assert (wide.by_cause, wide.addresses, wide.by_workload) == ({"CIDR widening": 1}, 255, {"a/web": 1})


def test_blocks_are_counted_for_each_port_by_themselves() -> None:
    rules = [
        {"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}}], "ports": [{"port": 443}]},
        {"to": [{"ipBlock": {"cidr": "203.0.113.0/26"}}], "ports": [{"port": 80}]},
    ]
    found = measure([DENY, egress("web", *rules)])
    # 443: the first 128 addresses, whatever the second rule says of them; 80: the first 64.
    assert (found.by_cause, found.addresses) == ({"CIDR widening": 2}, 128 + 64)


@pytest.mark.parametrize(("cni", "number"), [("generic", 2), ("calico", 2), ("cilium", 0)])
def test_a_block_over_pod_addresses_counts_the_pods_where_the_cni_matches_them(cni: str, number: int) -> None:
    rule = {"from": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"port": 80}]}
    found = measure([DENY, OUT, ingress("db", rule)], WEB_TO_DB, cni=cni)
    pods = [text for text in found.examples.get("CIDR widening", []) if "a/api" in text or "a/db → a/db" in text]
    assert len(pods) == number


def test_dns_is_a_cause_of_its_own() -> None:
    rule = {"to": peers("db"), "ports": [{"port": 53, "protocol": "UDP"}]}
    opened = ingress("db", {"ports": [{"port": 53, "protocol": "UDP"}], "from": peers("web")})
    assert measure([DENY, egress("web", rule), opened]).by_cause == {"DNS": 1}


def test_declared_connections_are_told_apart() -> None:
    declared = Observed("a/web", "a/db", "TCP", 80, declared=True)
    assert measure(exact_pair({"port": 80}), declared).by_cause == {"declared intent": 1}


def test_what_was_held_for_review_is_beyond_what_was_seen() -> None:
    held = Observed("a/web", "a/db", "TCP", 80, held="R1")
    assert measure(exact_pair({"port": 80}), held).total == 1


def test_policies_that_were_in_force_already_are_told_apart() -> None:
    found = world()
    found.policies = exact_pair({"port": 80})[1:]
    assert measure([DENY], of=found).by_cause == {"pre-existing policy": 1}


def test_host_network_workloads_are_left_out_and_named() -> None:
    found = world()
    found.add_subject(Subject("a", "agent", {"app": "agent"}, host_network=True))
    assert measure(exact_pair({"port": 80}), WEB_TO_DB, of=found).left_out == ["a/agent"]
    assert measure(exact_pair({"port": 80}), WEB_TO_DB, of=found).total == 0


class TestMesh:
    def grant(self, **source: Any) -> Document:
        return access(
            "a/db",
            selector=labels(app="db"),
            rules=[{"from": [{"source": source}], "to": [{"operation": {"ports": ["80"]}}]}],
        )

    def at_db(self, found: OverPermission, cause: str) -> list[str]:
        return [text for text in found.examples.get(cause, []) if "→ a/db 80/TCP" in text]

    def test_workloads_that_share_an_account_share_its_permissions(self) -> None:
        shared = world(account="default")
        rule = self.grant(principals=["cluster.local/ns/a/sa/default"])
        found = measure([rule], WEB_TO_DB, of=shared, mesh="sidecar")
        assert self.at_db(found, "shared service account") == ["a/api → a/db 80/TCP", "a/db → a/db 80/TCP"]

    def test_distinct_accounts_are_exact(self) -> None:
        found = measure([self.grant(principals=["cluster.local/ns/a/sa/web"])], WEB_TO_DB, mesh="sidecar")
        assert not any(self.at_db(found, cause) for cause in found.examples)

    def test_a_namespace_in_a_rule_is_namespace_wide(self) -> None:
        found = measure([self.grant(namespaces=["a"])], WEB_TO_DB, mesh="sidecar")
        assert len(self.at_db(found, "namespace-wide rule")) == 2

    def requests(self, paths: list[str], *observed: Observed) -> dict[str, int]:
        operation = {"ports": ["80"], "methods": ["GET"], "paths": paths}
        rule = {"from": [{"source": {"principals": ["cluster.local/ns/a/sa/web"]}}], "to": [{"operation": operation}]}
        policies = [*exact_pair({"port": 80}), access("a/db", selector=labels(app="db"), rules=[rule])]
        return measure(policies, *observed, mesh="sidecar").by_cause

    def get(self, path: str, source: str = "a/web") -> Observed:
        return Observed(source, "a/db", "TCP", 80, "GET", path)

    def test_literal_paths_that_were_all_seen_are_exact(self) -> None:
        assert self.requests(["/x", "/y"], self.get("/x"), self.get("/y?q=1")) == {}

    def test_a_literal_path_that_was_not_seen_is_other(self) -> None:
        assert self.requests(["/x", "/y"], self.get("/x")) == {"other": 1}

    def both_call(self, account: str, *observed: Observed, **source: list[str]) -> dict[str, int]:
        """web and api both reach db:80; a rule opens GET /x there."""
        operation = {"operation": {"ports": ["80"], "methods": ["GET"], "paths": ["/x", "/y"]}}
        rule = {"to": [operation]} | ({"from": [{"source": source}]} if source else {})
        policies = [
            DENY,
            ingress("db", {"from": peers("web", "api"), "ports": [{"port": 80}]}),
            egress("web", {"to": peers("db"), "ports": [{"port": 80}]}),
            egress("api", {"to": peers("db"), "ports": [{"port": 80}]}),
            access("a/db", selector=labels(app="db"), rules=[rule]),
        ]
        return measure(policies, *observed, of=world(account=account), mesh="sidecar").by_cause

    def test_a_rule_without_a_source_is_open_to_any_caller(self) -> None:
        seen = [self.get("/x"), self.get("/y"), self.get("/y", "a/api")]
        assert self.both_call("", *seen) == {"any caller": 1}

    def test_requests_are_shared_with_the_account_too(self) -> None:
        seen = [self.get("/x"), self.get("/y"), self.get("/y", "a/api")]
        found = self.both_call("default", *seen, principals=["cluster.local/ns/a/sa/default"])
        assert found == {"shared service account": 1}

    def test_what_a_deny_policy_forbids_is_not_open(self) -> None:
        operation = {"ports": ["80"], "methods": ["GET"], "paths": ["/x", "/admin/*"]}
        rule = {"from": [{"source": {"principals": ["cluster.local/ns/a/sa/web"]}}], "to": [{"operation": operation}]}
        policies = [*exact_pair({"port": 80}), access("a/db", selector=labels(app="db"), rules=[rule])]
        assert measure(policies, self.get("/x"), mesh="sidecar").by_cause == {"path template": 1}
        for forbidden, left in (("/admin/*", {}), ("/admin/secret", {"path template": 1})):
            deny = access("a/no", action="DENY", rules=[{"to": [{"operation": {"paths": [forbidden]}}]}])
            assert measure([*policies, deny], self.get("/x"), mesh="sidecar").by_cause == left

    def test_a_wider_value_covers_a_narrower_one(self) -> None:
        assert self.requests(["/u/*"], self.get("/u/1")) == {"path template": 1}
        assert self.requests(["/u/*", "/u/2", "/u/{*}", "/u/v/*"], self.get("/u/1")) == {"path template": 1}

    def test_an_ambient_tunnel_leads_to_every_port_where_nobody_judges_inside_it(self) -> None:
        policies = [*exact_pair({"port": 80}), *exact_pair({"port": 15008})[1:]]
        found = measure(policies, WEB_TO_DB, mesh="ambient")
        assert set(found.by_cause) == {"mesh tunnel"}
        assert all("a/web → a/db" in text for text in found.examples["mesh tunnel"])

    def test_a_template_counts_itself_and_the_siblings_it_swallows(self) -> None:
        assert self.requests(["/u/{*}"], self.get("/u/1"), self.get("/u/2")) == {"path template": 1}
        swallowed = self.requests(["/u/{*}"], self.get("/u/1"), self.get("/u/admin", "a/api"))
        assert swallowed == {"path template": 2}


def test_the_far_namespace_is_counted_too() -> None:
    found = world()
    found.add_subject(Subject("b", "probe", {"app": "probe"}))
    rule = {"from": [{"namespaceSelector": within("b")}], "ports": [{"port": 80}]}
    by_cause = measure([DENY, ingress("db", rule)], of=found).by_cause
    assert by_cause["namespace-wide rule"] == 1


def test_the_order_of_policies_and_observations_does_not_matter() -> None:
    policies = [*exact_pair({"port": 80, "endPort": 82}), OUT, ingress("api", {})]
    observed = [WEB_TO_DB, Observed("a/api", "a/web", "TCP", 80), Observed("203.0.113.1", "a/api", "TCP", 80)]
    assert measure(policies, *observed) == measure(policies[::-1], *observed[::-1])


@pytest.mark.parametrize(("cni", "pods"), [("generic", 1), ("cilium", 0)])
def test_the_addresses_of_pods_are_no_outside(cni: str, pods: int) -> None:
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in ("10.0.0.1/32", "10.0.0.2/32")]
    out = [egress(name, {"to": peers("db"), "ports": [{"port": 80}]}) for name in ("web", "api")]
    found = measure([DENY, *out, ingress("db", {"from": blocks, "ports": [{"port": 80}]})], WEB_TO_DB, cni=cni)
    assert (found.total, found.addresses) == (pods, 0)
    blocks.append({"ipBlock": {"cidr": "10.0.0.0/28"}})
    found = measure([DENY, *out, ingress("db", {"from": blocks, "ports": [{"port": 80}]})], WEB_TO_DB, cni=cni)
    assert (found.total, found.addresses) == (pods + 1, 16 - 3)
    assert "10.0.0.0-10.0.0.15 (13 addresses) → a/db 80/TCP" in found.examples["CIDR widening"]
