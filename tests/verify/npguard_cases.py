"""np-guard/netpol-analyzer's directories of pure NetworkPolicy with a list of connections, re-authored.

A case is named as its directory below `tests/`; the list it is held against is the one in `test_outputs/connlist/`.
Worlds keep what the policies look at and leave out the other workloads. A row is `source => destination : connections`,
`*` is anything, and the first row that fits a pair decides. An address range is asked about at both ends.

Their choices that are not ours: workloads instead of pods; no connection to oneself is listed; blocks never select
pods, so here a block that a policy names holds none; pods in the host's network are judged as any other, so here none
is. A named port that no pod has stays in their list by its name; nothing reaches it. The policies of
`test_with_named_ports` and `ipblockstest` follow from the published difference to the next case; policy a of
`different-topologies`, and `same-topologies-old1` and `new1`, are network-config-analyzer's files of those names.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from leastway.verify.reading import Document
from tests.verify.kit import namespace, pod, policy

Labels = dict[str, str]
WORLD = "0.0.0.0-255.255.255.255"
NOTHING: Mapping[str, Any] = MappingProxyType({})
OPERATORS = {"!=": "NotIn", "=": "In"}


class Case(NamedTuple):
    """`pods` are labels by `namespace/name`, `spaces` labels by namespace, `ports` container ports by pod."""

    name: str
    pods: dict[str, Labels]
    policies: list[Document]
    rows: str
    spaces: Mapping[str, Labels] = NOTHING
    ports: Mapping[str, str] = NOTHING
    ranges: tuple[str, ...] = (WORLD,)

    def things(self) -> list[Document]:
        """The case's namespaces and pods."""
        names = sorted({ref.partition("/")[0] for ref in self.pods})
        found = [namespace(name, **self.spaces.get(name, {})) for name in names]
        for number, (ref, labels) in enumerate(self.pods.items(), 1):
            parts = [part.split() for part in self.ports.get(ref, "").split(",") if part]
            ports = [{"name": name, "protocol": how, "containerPort": int(port)} for name, how, port in parts]
            found.append(pod(ref, labels, f"172.30.0.{number}", ports=ports))
        return found


def chosen(*requirements: str) -> Document:
    """A selector: `key:value` is a label; `key`, `!key`, `key=a|b` and `key!=a|b` are expressions."""
    found: dict[str, Any] = {}
    for text in requirements:
        key, colon, value = text.partition(":")
        if colon:
            found.setdefault("matchLabels", {})[key] = value
            continue
        sign = next((sign for sign in OPERATORS if sign in text), "")
        key, _, values = text.partition(sign) if sign else (text.lstrip("!"), "", "")
        operator = OPERATORS[sign] if sign else "DoesNotExist" if text.startswith("!") else "Exists"
        more = {"values": values.split("|")} if sign else {}
        found.setdefault("matchExpressions", []).append({"key": key, "operator": operator} | more)
    return found


def peer(pods: Document | None = None, spaces: Document | None = None) -> Document:
    found = {"podSelector": pods, "namespaceSelector": spaces}
    return {key: value for key, value in found.items() if value is not None}


def block(cidr: str, *excepts: str) -> Document:
    return {"ipBlock": {"cidr": cidr} | ({"except": list(excepts)} if excepts else {})}


def rule(side: str, connections: str, *peers: Document) -> Document:
    """A rule of `from` or `to`; `connections` are `protocol port`, `port`, or a span of ports, with commas between."""
    found: Document = {side: list(peers)} if peers else {}
    for text in filter(None, connections.split(",")):
        *protocol, name = text.split()
        first, _, last = name.partition("-") if name[0].isdigit() else (name, "", "")
        port: Document = {"port": int(first) if first.isdigit() else first}
        port |= {"endPort": int(last)} if last else {}
        found.setdefault("ports", []).append(port | ({"protocol": protocol[0]} if protocol else {}))
    return found


def into(connections: str = "", *peers: Document) -> Document:
    return rule("from", connections, *peers)


def onto(connections: str = "", *peers: Document) -> Document:
    return rule("to", connections, *peers)


def about(ref: str, of: Document, types: str = "", **rules: list[Document]) -> Document:
    """A policy; `types` are initials of its policyTypes, and "" leaves them out."""
    more = {"policyTypes": [{"I": "Ingress", "E": "Egress"}[letter] for letter in types]} if types else {}
    return policy(ref, podSelector=of, **more, **rules)


ANY: Document = {}
EVERYWHERE = peer(spaces=ANY)
UI, QUERY, COMMAND = (chosen(f"app:{name}") for name in ("ui", "query", "command"))
BANK: dict[str, Labels] = {f"demo/{name}": {"app": name} for name in ("ui", "query", "command")}
KUBE: dict[str, Labels] = {
    "default/agent": {"app": "skydive", "tier": "agent"},
    "kube-system/plugin": {"app": "file-plugin", "tier": "frontend"},
    "kube-system/watcher": {"app": "keepalived-watcher", "tier": "not_frontend_for_demo"},
    "kube-system/fluentd": {"app": "kube-fluentd"},
    "dummy/dns": {"k8s-app": "kube-dns"},
    "dummy/autoscaler": {"k8s-app": "kube-dns-autoscaler"},
    "vendor/barbar": {"provider-ip": "1-1-1-10"},
}
DNS = {"dummy/dns": "dns-local UDP 10053,dns-tcp-local TCP 10053,dns UDP 53,dns-tcp TCP 53,metrics TCP 10054"}
FRONTEND = chosen("tier:frontend")
BLOCKS = tuple(
    f"{first}-{last}"
    for first, last in (
        ("0.0.0.0", "9.255.255.255"), ("10.0.0.0", "10.255.255.255"), ("11.0.0.0", "172.20.255.255"),
        ("172.21.0.0", "172.21.255.255"), ("172.22.0.0", "172.29.255.255"), ("172.30.0.0", "172.30.255.255"),
        ("172.31.0.0", "255.255.255.255"),
    )
)  # fmt: skip
LISTED = [number for number in range(7) if number % 2 == 0]
A_PODS, B_PODS = ({f"default/{n}": {"app": f"app-{n}"} for n in numbers} for numbers in ("0123", "01256"))
FROM_2_TO_1 = about("default/from-2-to-1", chosen("app:app-1"), "I", ingress=[into("", peer(chosen("app:app-2")))])
FROM_1_TO_2 = about("default/from-1-to-2", chosen("app:app-2"), "I", ingress=[into("", peer(chosen("app:app-1")))])
HELLO: dict[str, Labels] = {"hello/a": {"app": "a"}, "hello/b": {"app": "b"}}
NAMED_PORTS = "sctp-port SCTP 8956,newport SCTP 9090"


def outside(connections: str, *excepts: str) -> Document:
    """What the `ipblockstest` cases say about the tier in front."""
    peers = [block("0.0.0.0/0", *excepts)]
    return about("kube-system/outside", FRONTEND, "I", ingress=[into(connections, *peers)])


def outside_rows(connections: str) -> str:
    barred = "".join(f"{BLOCKS[number]} => kube-system/plugin : No Connections\n" for number in (1, 3, 5))
    reached = "".join(f"{BLOCKS[number]} => kube-system/plugin : {connections}\n" for number in LISTED)
    return barred + reached + "* => kube-system/plugin : No Connections\n* => * : All Connections"


def named(*connections: str) -> list[Document]:
    return [about("dummy/by-name", ANY, "I", ingress=[into(",".join(connections))])]


CASES = [
    Case("test_with_named_ports", KUBE, named("UDP dns-local", "TCP dns-tcp-local"),
         "* => dummy/dns : TCP 10053,UDP 10053\n* => dummy/autoscaler : No Connections\n* => * : All Connections",
         ports=DNS),
    Case("test_with_named_ports_changed_netpol", KUBE, named("UDP dns-local", "TCP dns-tcp-local", "TCP metrics"),
         "* => dummy/dns : TCP 10053-10054,UDP 10053\n* => dummy/autoscaler : No Connections\n* => * : All Connections",
         ports=DNS),
    Case("with_end_port_example", KUBE,
         [about("kube-system/all", ANY, "I", ingress=[into("UDP 1-65535,TCP 1-65535,SCTP 1-65535")])],
         "* => * : All Connections"),
    Case("with_end_port_example_new", KUBE, [about("kube-system/all", FRONTEND, "I", ingress=[into()])],
         "* => * : All Connections"),
    Case("ipblockstest", KUBE, [outside("UDP 53", "10.0.0.0/8", "172.21.0.0/16", "172.30.0.0/16")],
         outside_rows("UDP 53"), ranges=BLOCKS),
    Case("ipblockstest_2", KUBE, [outside("TCP 53", "10.0.0.0/8", "172.21.0.0/16", "172.30.0.0/16")],
         outside_rows("TCP 53"), ranges=BLOCKS),
    Case("ipblockstest_3", KUBE,
         [outside("TCP 53", "10.0.0.0/9", "10.128.0.0/9", "172.21.0.0/16", "172.30.0.0/16")],
         outside_rows("TCP 53"), ranges=BLOCKS),
    Case("minimal_test_in_ns", HELLO,
         [about("hello/b-to-a", chosen("app:a"),
                ingress=[into("TCP 8050", peer(spaces=chosen("kubernetes.io/metadata.name:hello")))])],
         "hello/b => hello/a : TCP 8050\n* => hello/a : No Connections\n* => * : All Connections"),
    Case("netpol_named_port_test", HELLO,
         [about("hello/by-name", chosen("app:a"), "IE", ingress=[into("UDP newport", EVERYWHERE)])],
         "* => hello/a : No Connections\nhello/a => * : No Connections\n* => * : All Connections",
         ports={"hello/a": "newport SCTP 8956,udps UDP 3535"}),
    Case("netpol_named_port_test_2", HELLO,
         [about("hello/by-name", chosen("app:b"), "IE",
                ingress=[into("UDP newport,SCTP sctp-port,SCTP newport,SCTP not-found", EVERYWHERE)])],
         "hello/a => hello/b : SCTP 8956,9090\n* => hello/b : No Connections\nhello/b => * : No Connections\n"
         "* => * : All Connections",
         ports={"hello/a": "newport SCTP 8956", "hello/b": NAMED_PORTS}),
    Case(
        "semanticDiff-same-topologies-old1",
        BANK,
        [
            about("demo/command", COMMAND, "I", ingress=[into("", peer(UI))]),
            about("demo/query", QUERY, "E", egress=[onto("TCP 8080", peer(UI))]),
        ],
        "demo/ui => demo/command : All Connections\n* => demo/command : No Connections\n"
        "demo/query => demo/ui : TCP 8080\ndemo/query => * : No Connections\n* => * : All Connections",
    ),
    Case(
        "semanticDiff-same-topologies-new1",
        BANK,
        [
            about("demo/command", COMMAND, "I", ingress=[into("UDP 8080,TCP 8080,TCP 9090", peer(UI))]),
            about("demo/query", QUERY, "E", egress=[onto("", peer(UI))]),
        ],
        "demo/ui => demo/command : TCP 8080,9090,UDP 8080\n* => demo/command : No Connections\n"
        "demo/query => demo/ui : All Connections\ndemo/query => * : No Connections\n* => * : All Connections",
    ),
    Case("semanticDiff-same-topologies-new1a", BANK,
         [about("demo/command", COMMAND, "I"), about("demo/query", QUERY, "E", egress=[onto("UDP 8080", peer(UI))])],
         "* => demo/command : No Connections\ndemo/query => demo/ui : UDP 8080\ndemo/query => * : No Connections\n"
         "* => * : All Connections"),
    Case("semanticDiff-same-topologies-old2", BANK,
         [about("demo/command", COMMAND, "I", ingress=[into("TCP 8080,TCP 8081,UDP 9090,SCTP 7070", peer(UI))])],
         "demo/ui => demo/command : SCTP 7070,TCP 8080-8081,UDP 9090\n* => demo/command : No Connections\n"
         "* => * : All Connections"),
    Case("semanticDiff-same-topologies-new2", BANK,
         [about("demo/command", COMMAND, "I", ingress=[into("TCP 8082,TCP 8081,UDP 9091", peer(UI))])],
         "demo/ui => demo/command : TCP 8081-8082,UDP 9091\n* => demo/command : No Connections\n"
         "* => * : All Connections"),
    Case("semanticDiff-same-topologies-old3", BANK,
         [about("demo/query", QUERY, "E", egress=[onto("TCP 8080", peer(UI))]),
          about("demo/ui", UI, "I", ingress=[into("", peer(QUERY))])],
         "demo/query => demo/ui : TCP 8080\n* => demo/ui : No Connections\ndemo/query => * : No Connections\n"
         "* => * : All Connections"),
    Case("semanticDiff-same-topologies-new3", BANK,
         [about("demo/ui", UI, "I", ingress=[into("TCP 8080", peer(QUERY))]),
          about("demo/query", QUERY, "E", egress=[onto("", peer(UI))])],
         "demo/query => demo/ui : TCP 8080\n* => demo/ui : No Connections\ndemo/query => * : No Connections\n"
         "* => * : All Connections"),
    Case("multiple_topology_resources_2", BANK | KUBE,
         [about("demo/command", COMMAND, "I", ingress=[into("UDP 8080,TCP 8080,TCP 9090", peer(UI))]),
          about("demo/query", QUERY, "E", egress=[onto("", peer(UI))])],
         "demo/ui => demo/command : TCP 8080,9090,UDP 8080\n* => demo/command : No Connections\n"
         "demo/query => demo/ui : All Connections\ndemo/query => * : No Connections\n* => * : All Connections"),
    Case("multiple_topology_resources_4", BANK | KUBE, [FROM_2_TO_1], "* => * : All Connections"),
    Case("semanticDiff-different-topologies-policy-a", A_PODS, [FROM_2_TO_1],
         "default/2 => default/1 : All Connections\n* => default/1 : No Connections\n* => * : All Connections"),
    Case("semanticDiff-different-topologies-policy-a-with-ipblock", A_PODS,
         [FROM_2_TO_1,
          about("default/block", chosen("app:app-1"), "I", ingress=[into("", block("10.0.0.0/8", "10.10.0.0/16"))])],
         "default/2 => default/1 : All Connections\n10.0.0.0-10.9.255.255 => default/1 : All Connections\n"
         "10.11.0.0-10.255.255.255 => default/1 : All Connections\n* => default/1 : No Connections\n"
         "* => * : All Connections",
         ranges=("0.0.0.0-9.255.255.255", "10.0.0.0-10.9.255.255", "10.10.0.0-10.10.255.255",
                 "10.11.0.0-10.255.255.255", "11.0.0.0-255.255.255.255")),
    Case("semanticDiff-different-topologies-policy-b", B_PODS, [FROM_1_TO_2],
         "default/1 => default/2 : All Connections\n* => default/2 : No Connections\n* => * : All Connections"),
    Case("semanticDiff-different-topologies-policy-b-with-ipblock", B_PODS,
         [FROM_1_TO_2, about("default/block", chosen("app:app-2"), "I",
                             ingress=[into("UDP 53", block("10.0.0.0/8", "10.11.0.0/16"))])],
         "default/1 => default/2 : All Connections\n10.0.0.0-10.10.255.255 => default/2 : UDP 53\n"
         "10.12.0.0-10.255.255.255 => default/2 : UDP 53\n* => default/2 : No Connections\n* => * : All Connections",
         ranges=("0.0.0.0-9.255.255.255", "10.0.0.0-10.10.255.255", "10.11.0.0-10.11.255.255",
                 "10.12.0.0-10.255.255.255", "11.0.0.0-255.255.255.255")),
]  # fmt: skip
