"""np-guard/netpol-analyzer's directories of exposure analysis that are pure NetworkPolicy, re-authored.

A case is named as its directory below `tests/`. Its list has connections, and rows of what a workload is exposed to:
the whole cluster, or pods and namespaces with labels that nothing has. Such a row is a pod here that has them:
`other/pod`, which no label describes, stands for the whole cluster. `seen` writes a case of one subject, whose rows are
`inward` and `outward` by pattern; what they do not fit is denied, None leaves a direction open, all else is open.

Left out are what a pod would be allowed by one of two policies alone (`real_namespace_without_real_pod`), and named
ports of no pod: `egress_to_entire_cluster_with_named_ports` asks about a pod that has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from leastway.verify.reading import Document
from tests.verify.connection_lists import ALL, NONE
from tests.verify.npguard_cases import ANY, EVERYWHERE, HELLO, Case, Labels, about, chosen, into, onto, peer

Rows = Mapping[str, str] | None
A, B, PORTS = chosen("app:a"), chosen("app:b"), {"hello/a": "local-dns TCP 8000,local-dns2 TCP 8050,http TCP 8090"}
MANAGED, BACKEND, IN_HELLO = (
    chosen(text)
    for text in (
        "foo.com/managed-state=managed",
        "kubernetes.io/metadata.name:backend",
        "kubernetes.io/metadata.name:hello",
    )
)
SPACES: dict[str, Labels] = {
    "managed": {"foo.com/managed-state": "managed"}, "stable": {"release": "stable"},
    "tainted": {"effect": "NoSchedule"}, "both": {"release": "stable", "effect": "NoSchedule"},
    "qa": {"env": "qa"}, "env": {"env": "env-1"}, "tiered": {"env": "env-1", "tier": "web"},
    "x1": {"env": "qa", "foo": "managed"}, "x2": {"env": "env-1", "foo": "managed"},
    "ns1": {"x": "xval"}, "twin": {"x": "xval"}, "ns2": {"name": "ns2", "env": "production"},
}  # fmt: skip
ALL_PODS, PLAIN = peer(ANY, ANY), {"hello/a": HELLO["hello/a"]}
MONITOR, IN_CLUSTER = chosen("role:monitoring"), [into("TCP 8050", EVERYWHERE)]
B_OR_MANAGED = [into("", peer(B, IN_HELLO)), into("TCP 8050", peer(spaces=MANAGED)), *IN_CLUSTER]


def seen(
    name: str, pods: Mapping[str, Labels], policies: list[Document] | Document, inward: Rows = None,
    outward: Rows = None, subject: str = "hello/a", ports: Mapping[str, str] = PORTS,
) -> Case:  # fmt: skip
    """A case of one subject."""
    rows = [f"{who} => {subject} : {text}" for who, text in (inward or {}).items()]
    rows += [f"* => {subject} : {NONE}"] if inward is not None else []
    rows += [f"{subject} => {who} : {text}" for who, text in (outward or {}).items()]
    rows += [f"{subject} => * : {NONE}"] if outward is not None else []
    used = policies if isinstance(policies, list) else [policies]
    return Case(f"exposure_{name}", dict(pods) | {"other/pod": {}}, used, "\n".join([*rows, f"* => * : {ALL}"]),
                SPACES, ports)  # fmt: skip


def twice(name: str, suffix: str, more: Mapping[str, Labels], policies: Any, inward: Rows = None, outward: Rows = None,
          pods: Mapping[str, Labels] = HELLO) -> Iterator[Case]:  # fmt: skip
    """A directory, and the one of the same policies with pods that match them."""

    def fitting(rows: Rows) -> Rows:
        present = [*pods, "other/pod"]
        return rows and {who: text for who, text in rows.items() if any(fnmatchcase(ref, who) for ref in present)}

    yield seen(name, pods, policies, fitting(inward), fitting(outward))
    yield seen(f"{name}_{suffix}", {**pods, **more}, policies, inward, outward)


def a(types: str = "", **rules: list[Document]) -> Document:
    return about("hello/exposed", A, types, **rules)


def differing(nine: tuple[str, ...], eight: tuple[str, ...]) -> Document:
    """A rule for port 9090 and one for port 8080."""
    return a(ingress=[into("TCP 9090", peer(chosen(*nine))), into("TCP 8080", peer(chosen(*eight)))])


BOTH, NINE, EIGHT = "TCP 8080,9090", "TCP 9090", "TCP 8080"
BACKENDS: dict[str, Labels] = PLAIN | {"backend/app": {"app": "backendservice"}, "backend/new": {"app": "backend-new"}}
MONITORS: dict[str, Labels] = PLAIN | {f"{space}/monitor": {"role": "monitoring"} for space in ("hello", "tainted")}


def to_backend(where: Document) -> Document:
    return a("IE", ingress=[into("TCP 8050", where)], egress=[onto("", ALL_PODS)])


REAL = [
    about("ns1/first", A, "IE", ingress=[into("TCP 8080", peer(chosen("app:foo"), chosen("x:xval")))]),
    about("ns1/second", A, "IE", ingress=[into("TCP 9090", peer(chosen("app:foo")))]),
]
CASES = [
    seen(
        "allow_all_in_cluster_test",
        PLAIN,
        a("IE", ingress=IN_CLUSTER, egress=[onto("", EVERYWHERE)]),
        {"*/*": "TCP 8050"},
        {"*/*": ALL},
    ),
    seen("allow_all_test", PLAIN, a("IE", ingress=[into()], egress=[onto()])),
    seen("allow_egress_deny_ingress_test", PLAIN, a("IE", egress=[onto()]), {}),
    seen("allow_ingress_deny_egress_test", PLAIN, a("IE", ingress=[into()]), None, {}),
    seen(
        "matched_and_unmatched_rules_test",
        HELLO | {"managed/pod": {}},
        a(ingress=B_OR_MANAGED),
        {"hello/b": ALL, "*/*": "TCP 8050"},
    ),
    seen(
        "multiple_unmatched_rules_test",
        PLAIN | {f"{space}/pod": {} for space in ("stable", "managed", "tainted")},
        a(
            ingress=[
                into("", peer(spaces=chosen("release:stable"))),
                into("TCP 8050", peer(spaces=MANAGED)),
                into("TCP 8050", peer(spaces=chosen("effect:NoSchedule"))),
            ]
        ),
        {"stable/*": ALL, "managed/*": "TCP 8050", "tainted/*": "TCP 8050"},
    ),
    seen(
        "only_matched_rules_test",
        HELLO,
        a(ingress=[into("", peer(B, IN_HELLO))], egress=[onto("", peer(B, IN_HELLO))]),
        {"hello/b": ALL},
        {"hello/b": ALL},
    ),
    seen(
        "test_conn_entire_cluster_with_empty_selectors", PLAIN, to_backend(ALL_PODS), {"*/*": "TCP 8050"}, {"*/*": ALL}
    ),
    seen(
        "test_conn_to_all_pods_in_a_new_ns",
        PLAIN | {"backend/new": {}},
        to_backend(peer(ANY, BACKEND)),
        {"backend/*": "TCP 8050"},
        {"*/*": ALL},
    ),
    seen(
        "test_conn_to_all_pods_in_an_existing_ns",
        BACKENDS,
        to_backend(peer(ANY, BACKEND)),
        {"backend/*": "TCP 8050"},
        {"*/*": ALL},
    ),
    seen(
        "test_conn_to_all_pods_in_an_existing_ns_with_ns_selector_only",
        BACKENDS,
        to_backend(peer(spaces=BACKEND)),
        {"backend/*": "TCP 8050"},
        {"*/*": ALL},
    ),
    seen(
        "test_conn_to_new_pod_in_an_existing_ns",
        BACKENDS,
        to_backend(peer(chosen("app:backend-new"), BACKEND)),
        {"backend/new": "TCP 8050"},
        {"*/*": ALL},
    ),
    seen(
        "test_conn_with_new_pod_selector_and_ns_selector",
        MONITORS | {"tainted/pod": {}},
        a("I", ingress=[into("TCP 8050", peer(MONITOR, chosen("effect:NoSchedule")))]),
        {"tainted/monitor": "TCP 8050"},
    ),
    seen(
        "test_conn_with_only_pod_selector",
        MONITORS,
        a("I", ingress=[into("TCP 8050", peer(MONITOR))]),
        {"hello/monitor": "TCP 8050"},
    ),
    seen(
        "test_conn_with_pod_selector_in_any_ns",
        MONITORS,
        a("I", ingress=[into("TCP 8050", peer(MONITOR, ANY))]),
        {"*/monitor": "TCP 8050"},
    ),
    seen(
        "test_different_but_equiv_rules",
        MONITORS,
        a(ingress=[into("TCP 8050", peer(MONITOR))], egress=[onto("", peer(chosen("role=monitoring")))]),
        {"hello/monitor": "TCP 8050"},
        {"hello/monitor": ALL},
    ),
    seen(
        "test_egress_to_entire_cluster_with_named_ports",
        PLAIN | {"qa/pod": {}},
        a("E", egress=[onto("local-dns,http", EVERYWHERE)]),
        None,
        {"qa/pod": "TCP 5353,9090"},
        ports={"qa/pod": "local-dns TCP 5353,http TCP 9090,local-dns2 TCP 8050"},
    ),
    seen(
        "test_egress_with_named_port",
        PLAIN | {"managed/pod": {}},
        a(ingress=[into("TCP local-dns", EVERYWHERE)], egress=[onto("TCP http", peer(spaces=MANAGED))]),
        {"*/*": "TCP 8000"},
        {},
    ),
    seen(
        "test_egress_with_named_port_with_matching_pod",
        PLAIN | {"managed/pod": {}},
        a(ingress=[into("TCP local-dns", EVERYWHERE)], egress=[onto("TCP http", peer(spaces=MANAGED))]),
        {"*/*": "TCP 8000"},
        {"managed/*": "TCP 8090"},
        ports=PORTS | {"managed/pod": "http TCP 8090"},
    ),
    seen(
        "test_ingress_from_entire_cluster_with_named_ports",
        PLAIN,
        a("I", ingress=[into("local-dns,http", EVERYWHERE)]),
        {"*/*": "TCP 8000,8090"},
    ),
    seen(
        "test_pod_exposed_only_to_representative_peers",
        HELLO | {"managed/pod": {}},
        about(
            "hello/exposed",
            B,
            ingress=[into("TCP 8050", peer(spaces=MANAGED))],
            egress=[onto("TCP 8050", peer(spaces=MANAGED))],
        ),
        {"managed/*": "TCP 8050"},
        {"managed/*": "TCP 8050"},
        subject="hello/b",
    ),
    seen(
        "test_real_namespace_with_matching_pod",
        {"ns1/a": {"app": "a"}, "ns1/foo": {"app": "foo"}},
        REAL,
        {"ns1/foo": BOTH},
        {},
        subject="ns1/a",
    ),
    seen(
        "test_real_namespace_without_real_pod",
        {"ns1/a": {"app": "a"}, "twin/foo": {"app": "foo"}},
        REAL,
        {"twin/foo": EIGHT},
        {},
        subject="ns1/a",
    ),
    seen(
        "test_same_unmatched_rule_in_ingress_egress",
        PLAIN | {"managed/pod": {}},
        a(
            ingress=[into("TCP http", peer(spaces=MANAGED)), into("TCP local-dns", EVERYWHERE)],
            egress=[onto("TCP 8050", peer(spaces=MANAGED))],
        ),
        {"managed/*": "TCP 8000,8090", "*/*": "TCP 8000"},
        {"managed/*": "TCP 8050"},
    ),
    seen(
        "test_with_different_rules_1",
        HELLO | {"hello/none": {}, "hello/x": {"app": "x"}},
        differing(("app!=x",), ("app",)),
        {"hello/b": BOTH, "hello/none": NINE, "hello/x": EIGHT},
    ),
    seen("test_with_no_netpols", PLAIN, []),
    seen(
        "test_with_real_pod_and_namespace",
        PLAIN | {"ns2/b": {"app": "b"}},
        a("IE", ingress=[into("", peer(B, chosen("name:ns2")))]),
        {"ns2/b": ALL},
        {},
    ),
    seen(
        "to_namespace_with_multiple_labels_test",
        PLAIN | {f"{space}/pod": {} for space in ("both", "stable", "tainted")},
        a(ingress=[into("TCP 8050", peer(spaces=chosen("release:stable", "effect:NoSchedule")))]),
        {"both/*": "TCP 8050"},
    ),
]
