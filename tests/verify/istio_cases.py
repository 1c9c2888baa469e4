"""Istio's own authorization tables as our fixtures, each named as the test or golden input that it re-authors.

From istio tests/integration/security/authz_test.go (`TestAuthz_*`) and pilot/pkg/security/authz/builder/testdata
(`http/*`, `tcp/*`). World: a/client is whom Istio's tables allow,
b/client whom they deny; a/server is asked, port 8080 is HTTP, 8081 HTTP2 and 9090 TCP. What Istio decides by headers,
tokens, forwarded addresses or server names is undefined here, for no question carries them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from leastway.verify.reading import Document
from tests.verify.kit import access, labels, peers

Policies = list[Document]
HTTP, HTTP2, TCP = 8080, 8081, 9090
ALLOW, DENY, UNDEFINED = "allow", "deny", "undefined"
A, B = "cluster.local/ns/a/sa/client", "cluster.local/ns/b/sa/client"


class Row(NamedTuple):
    """One question, and Istio's answer. `source` None is a/client; `path` "" is a TCP connection."""

    expected: str
    path: str = ""
    method: str = "GET"
    source: str = "a/client"
    to: str = "a/server"
    port: int = HTTP
    host: str = "server"
    principal: str | None = None


class Case(NamedTuple):
    """One table. `options` are the mesh's."""

    name: str
    policies: Policies
    rows: list[Row]
    options: dict[str, Any] = {}  # noqa: RUF012 # never changed


def on(name: str, *rules: dict[str, Any], action: str = "ALLOW", app: str = "server", **more: Any) -> Document:
    """A policy about one app of namespace a."""
    return access(f"a/{name}", selector=labels(app=app), action=action, rules=list(rules), **more)


def rule(to: dict[str, Any] | None = None, of: dict[str, Any] | None = None, *when: dict[str, Any]) -> dict[str, Any]:
    """A rule of at most one operation and one source."""
    found: dict[str, Any] = {}
    if to is not None:
        found["to"] = [{"operation": to}]
    if of is not None:
        found["from"] = [{"source": of}]
    if when:
        found["when"] = list(when)
    return found


def both_ends(path: str, from_a: str, from_b: str, **more: Any) -> list[Row]:
    """The same question from a/client and from b/client, with and without a query."""
    paths = [path, f"{path}?param=value"] if path else [""]
    return [
        Row(answer, p, source=source, **more)
        for p in paths
        for source, answer in (("a/client", from_a), ("b/client", from_b))
    ]


WEB = [str(HTTP), str(HTTP2)]
STRICT = peers("a/mtls", mtls={"mode": "STRICT"})
GLOBAL = access(
    "istio-system/policy-deny-system",
    action="DENY",
    rules=[rule({"ports": WEB, "paths": ["/global-deny*"], "notPaths": ["/global-deny/allow"]})],
)


def allowing(source: dict[str, Any]) -> Policies:
    web = {"ports": WEB, "paths": ["/allow"], "methods": ["GET"]}
    return [STRICT, on("server", rule(web, source), rule({"ports": [str(TCP)]}, source))]


def denying(source: dict[str, Any]) -> Policies:
    web = {"ports": WEB, "paths": ["/deny*"], "notPaths": ["/deny/allow"], "methods": ["GET"]}
    return [STRICT, GLOBAL, on("server", rule(web, source), rule({"ports": [str(TCP)]}, source), action="DENY")]


ALLOWED = [
    *both_ends("", ALLOW, DENY, port=TCP),
    *both_ends("/allow", ALLOW, DENY),
    *both_ends("/allow", ALLOW, DENY, port=HTTP2),
    *both_ends("/deny", DENY, DENY),
]
DENIED = [
    *both_ends("", ALLOW, DENY, port=TCP),
    *both_ends("/deny", ALLOW, DENY),
    *both_ends("/deny/allow", ALLOW, ALLOW),
    *both_ends("/allow", ALLOW, ALLOW),
    *both_ends("/global-deny", DENY, DENY),
    *both_ends("/global-deny/allow", ALLOW, ALLOW),
]
PATH = [
    # /allow/admin/{**}
    ("/allow/admin/", ALLOW), ("/allow/admin", DENY), ("/allow/user/", DENY), ("/allow/admin?param=value", DENY),
    ("/allow", DENY), ("/allow/admin/temp", ALLOW), ("/allow/admin/temp.txt", ALLOW),
    ("/allow/admin/foo/temp.txt", ALLOW), ("/allow/admin/?param=value", ALLOW), ("/allow/admin//", ALLOW),
    # /foo/{*}/bar/{**}
    ("/foo/buzz/bar/bat.txt", ALLOW), ("/foo/buzz/bar/bat/fuzz.txt", ALLOW), ("/foo/bar/bat.txt", DENY),
    ("/foo//bar/bat.txt", DENY), ("/foo/buzz/bar/bat", ALLOW), ("/foo/buzz/bar", DENY),
    # /store/{**}/cart
    ("/store//cart", ALLOW), ("/store/cart", DENY),
]  # fmt: skip
NORMALISED = [
    ("/public", ALLOW), ("/public/../public", ALLOW), ("/private", DENY), ("/public/../private", DENY),
    ("/public/./../private", DENY), ("/public/.././private", DENY), ("/public/%2E%2E/private", DENY),
    ("/public/%2e%2e/private", DENY), ("/public/%2E/%2E%2E/private", DENY), ("/public/%2e/%2e%2e/private", DENY),
    ("/public/%2E%2E/%2E/private", DENY), ("/public/%2e%2e/%2e/private", DENY),
]  # fmt: skip
WORKLOAD = [
    on("workload", rule({"paths": ["/policy-ns1-server"]})),
    access(
        "a/workload-bad", selector=labels(app="server", foo="bla"), rules=[rule({"paths": ["/policy-ns1-server-bad"]})]
    ),
    access("a/workload-ns", rules=[rule({"paths": ["/policy-ns1-all"]})]),
    access("b/workload-ns", rules=[rule({"paths": ["/policy-ns2-all"]})]),
    access(
        "istio-system/workload-server",
        selector=labels(app="server"),
        rules=[rule({"paths": ["/policy-system-server"]})],
    ),
    access(
        "istio-system/workload-other", selector=labels(app="other"), rules=[rule({"paths": ["/policy-system-other"]})]
    ),
]
GATEWAY = [
    access(
        "istio-system/policy",
        action="DENY",
        selector=labels(app="istio-ingressgateway"),
        rules=[
            rule({"hosts": ["deny.server.com", "*.suffix.server.com", "prefix.server.*"]}),
            {"to": [{"operation": {"hosts": ["internal.server.com"]}}, {"operation": {"paths": ["/private"]}}]},
            rule({"hosts": ["remoteipblocks.server.com"]}, {"remoteIpBlocks": ["172.17.72.46", "192.168.4.0/23"]}),
            rule({"hosts": ["notremoteipblocks.server.com"]}, {"notRemoteIpBlocks": ["172.23.240.0/22"]}),
            rule({"hosts": ["remoteipattr.server.com"]}, None, {"key": "remote.ip", "values": ["10.242.5.7"]}),
        ],
    )
]
HOSTS = [
    ("deny.server.com", "/", DENY), ("DENY.SERVER.COM", "/", DENY), ("Deny.Server.Com", "/", DENY),
    ("deny.suffix.server.com", "/", DENY), ("DENY.SUFFIX.SERVER.COM", "/", DENY), ("prefix.server.com", "/", DENY),
    ("PREFIX.SERVER.COM", "/", DENY), ("Prefix.Server.Com", "/", DENY), ("www.server.com", "/", ALLOW),
    ("www.server.com", "/private", DENY), ("www.server.com", "/public", ALLOW), ("internal.server.com", "/", DENY),
    ("internal.server.com", "/private", DENY), ("remoteipblocks.server.com", "/", UNDEFINED),
    ("notremoteipblocks.server.com", "/", UNDEFINED), ("remoteipattr.server.com", "/", UNDEFINED),
]  # fmt: skip


def condition(path: str, key: str, *values: str, negated: bool = False) -> dict[str, Any]:
    return rule({"paths": [path]}, None, {"key": key, "notValues" if negated else "values": list(values)})


CONDITIONS = [
    STRICT,
    on(
        "request-headers",
        condition("/request-headers", "request.headers[x-foo]", "foo"),
        condition("/request-headers-notValues", "request.headers[x-foo]", "bar", negated=True),
    ),
    on(
        "source-ip",
        condition("/source-ip", "source.ip", "10.0.1.1"),
        condition("/source-ip-notValues", "source.ip", "10.0.2.1", negated=True),
    ),
    on(
        "source-namespace",
        condition("/source-namespace", "source.namespace", "a"),
        condition("/source-namespace-notValues", "source.namespace", "b", negated=True),
    ),
    on(
        "source-principal",
        condition("/source-principal", "source.principal", A),
        condition("/source-principal-notValues", "source.principal", B, negated=True),
    ),
    on(
        "destination-ip",
        condition("/destination-ip-good", "destination.ip", "10.0.1.2"),
        condition("/destination-ip-bad", "destination.ip", "1.2.3.4"),
        condition("/destination-ip-notValues", "destination.ip", "10.0.1.2", negated=True),
    ),
    on(
        "destination-port",
        condition("/destination-port-good", "destination.port", str(HTTP)),
        condition("/destination-port-bad", "destination.port", "1"),
        condition("/destination-port-notValues", "destination.port", str(HTTP), negated=True),
    ),
    on("connection-sni", condition("/connection-sni-good", "connection.sni", "*.cluster.local")),
]
CONDITION_ROWS = [
    *(Row(UNDEFINED, path) for path in ("/request-headers", "/request-headers-notValues", "/connection-sni-good")),
    *(
        Row(answer, f"/{key}{suffix}", source=source)
        for key in ("source-ip", "source-namespace", "source-principal")
        for suffix in ("", "-notValues")
        for source, answer in (("a/client", ALLOW), ("b/client", DENY))
    ),
    Row(ALLOW, "/destination-ip-good"), Row(DENY, "/destination-ip-bad"), Row(DENY, "/destination-ip-notValues"),
    Row(ALLOW, "/destination-port-good"), Row(DENY, "/destination-port-bad"), Row(DENY, "/destination-port-notValues"),
    Row(DENY, "/other"),
]  # fmt: skip
ID1, ID2, GET = {"requestPrincipals": ["id-1"]}, {"requestPrincipals": ["id-2"]}, {"methods": ["GET"]}
FROM_A: dict[str, Any] = {"namespaces": ["a"]}
EVERY_DENY = {
    "from and to with HTTP fields": (rule(GET, ID1), DENY, DENY),
    "to with an HTTP field": (rule(GET), DENY, DENY),
    "from with an HTTP field": (rule(None, ID1), DENY, DENY),
    "from with a TCP field, to with an HTTP field": (rule(GET, FROM_A), DENY, ALLOW),
    "from with an HTTP field, to with a TCP field": (rule({"ports": ["80"]}, ID1), ALLOW, ALLOW),
    "from and to with TCP fields": (rule({"ports": [str(TCP)]}, FROM_A), DENY, ALLOW),
    "when with an HTTP field": (rule(None, None, {"key": "request.headers[:method]", "values": ["GET"]}), DENY, DENY),
    "when with a TCP field": (rule(None, None, {"key": "destination.port", "values": ["80"]}), ALLOW, ALLOW),
}
TEN: dict[str, Any] = {"principals": ["td1/ns/a/sa/client"]}

CASES = [
    Case("TestAuthz_Principal", allowing({"principals": [A]}), ALLOWED),
    Case("TestAuthz_DenyPrincipal", denying({"principals": [B]}), DENIED),
    Case("TestAuthz_Namespace", allowing({"namespaces": ["a"]}), ALLOWED),
    Case("TestAuthz_DenyNamespace", denying({"namespaces": ["b"]}), DENIED),
    Case("TestAuthz_ServiceAccount", allowing({"serviceAccounts": ["client"]}), ALLOWED),
    Case(
        "TestAuthz_NotNamespace",
        [STRICT, on("deny", rule(None, {"notNamespaces": ["a"]}), action="DENY")],
        [*both_ends("", ALLOW, DENY, port=TCP), *both_ends("/", ALLOW, DENY)],
    ),
    Case(
        "TestAuthz_NotHost",
        [on("server", rule({"notHosts": ["deny.server.com"]}))],
        [Row(ALLOW, "/", host="allow.server.com"), Row(DENY, "/", host="deny.server.com")],
    ),
    Case(
        "TestAuthz_NotMethod",
        [on("server", rule({"notMethods": ["PUT"]}))],
        [Row(ALLOW, "/"), Row(DENY, "/", "PUT"), Row(ALLOW, "/", port=HTTP2), Row(DENY, "/", "PUT", port=HTTP2)],
    ),
    Case(
        "TestAuthz_NotPort",
        [on("server", rule({"notPorts": [str(HTTP2)]}))],
        [Row(ALLOW, "/"), Row(DENY, "/", port=HTTP2)],
    ),
    Case(
        "TestAuthz_DenyPlaintext",
        [access("a/deny-plaintext", action="DENY", rules=[rule(None, {"notPrincipals": ["*"]})])],
        [Row(ALLOW, "/"), Row(DENY, "/", principal=""), Row(ALLOW, port=TCP), Row(DENY, port=TCP, principal="")],
    ),
    Case(
        "TestAuthz_JWT",
        [
            on(
                "jwt",
                rule({"paths": ["/token1"]}, {"requestPrincipals": ["issuer-1/sub-1"]}),
                condition("/permission", "request.auth.claims[scope]", "read"),
            )
        ],
        [Row(UNDEFINED, "/token1"), Row(UNDEFINED, "/permission"), Row(DENY, "/other"), Row(DENY, port=TCP)],
    ),
    Case(
        "TestAuthz_WorkloadSelector",
        WORKLOAD,
        [
            Row(DENY, "/policy-ns1-server-bad"),
            Row(ALLOW, "/policy-ns1-server-bad", to="a/labelled"),
            Row(ALLOW, "/policy-ns1-all"),
            Row(DENY, "/policy-ns2-all"),
            Row(ALLOW, "/policy-ns1-server"),
            Row(ALLOW, "/policy-system-server"),
            Row(DENY, "/policy-ns1-other"),
            Row(DENY, "/policy-system-other"),
            Row(ALLOW, "/policy-system-other", to="a/other"),
            Row(DENY, "/policy-ns1-server", to="a/other"),
        ],
    ),
    Case(
        "TestAuthz_PathPrecedence",
        [on("deny", rule({"paths": ["/allow/admin"]}), action="DENY"), on("allow", rule({"paths": ["/allow*"]}))],
        [
            Row(DENY, "/allow/admin"),
            Row(DENY, "/allow/admin?param=value"),
            Row(ALLOW, "/allow"),
            Row(ALLOW, "/allow?param=value"),
        ],
    ),
    Case(
        "TestAuthz_PathTemplating",
        [on("server", rule({"paths": ["/allow/admin/{**}", "/foo/{*}/bar/{**}", "/store/{**}/cart"]}))],
        [Row(answer, path, port=port) for path, answer in PATH for port in (HTTP, HTTP2)],
    ),
    Case(
        "TestAuthz_IngressGateway",
        GATEWAY,
        [Row(answer, path, host=host, to="istio-system/gateway") for host, path, answer in HOSTS],
    ),
    Case("TestAuthz_Conditions", CONDITIONS, CONDITION_ROWS),
    Case(
        "TestAuthz_PathNormalization",
        [on("server", rule({"paths": ["/public*"], "methods": ["GET"]}))],
        [Row(answer, path) for path, answer in NORMALISED],
    ),
    Case(
        "TestAuthz_CustomServer",
        [on("ext", rule({"paths": ["/custom"]}), action="CUSTOM", provider={"name": "ext-authz"})],
        [Row(UNDEFINED, "/custom"), Row(ALLOW, "/health")],
    ),
    Case("http/allow-nil-rule", [on("p")], [Row(DENY, "/"), Row(DENY, port=TCP)]),
    Case("http/allow-empty-rule", [on("p", {})], [Row(ALLOW, "/"), Row(ALLOW, port=TCP, principal="")]),
    Case("http/deny-empty-rule", [on("p", {}, action="DENY")], [Row(DENY, "/"), Row(DENY, port=TCP)]),
    Case(
        "http/deny-and-allow",
        [on("d", rule(GET), action="DENY"), on("p", rule({"methods": ["GET", "POST"]}))],
        [Row(DENY, "/"), Row(ALLOW, "/", "POST"), Row(DENY, "/", "PUT")],
    ),
    Case(
        "http/allow-path",
        [
            on(
                "p",
                rule(
                    {"paths": ["/exact", "/prefix/*", "*/suffix", "/{*}/one", "/any/{**}"], "notPaths": ["/prefix/not"]}
                ),
            )
        ],
        [
            Row(ALLOW, "/exact"),
            Row(ALLOW, "/prefix/a/b"),
            Row(DENY, "/prefix/not"),
            Row(ALLOW, "/a/b/suffix"),
            Row(ALLOW, "/x/one"),
            Row(DENY, "/x/y/one"),
            Row(ALLOW, "/any/x/y"),
            Row(DENY, "/any"),
        ],
    ),
    Case(
        "http/multiple-policies",
        [
            access("a/1", selector=labels(app="server", version="v1"), rules=[rule({"methods": ["GET", "POST"]})]),
            on("2", rule({"paths": ["/v1", "/v2"]})),
            access("a/3", selector=labels(version="v1"), rules=[rule({"hosts": ["google.com", "httpbin.org"]})]),
            access("a/4", rules=[rule({"ports": ["80", "90"]})]),
            access("a/5", rules=[rule(None, {"principals": ["principals1", "principals2"]})]),
            access("a/7", rules=[rule(None, {"namespaces": ["namespaces1", "namespaces2"]})]),
            access("a/8", rules=[rule(None, {"ipBlocks": ["1.2.3.4", "5.6.7.0/24"]})]),
        ],
        [
            Row(ALLOW, "/"),
            Row(DENY, "/", "PUT"),
            Row(ALLOW, "/v2", "PUT"),
            Row(ALLOW, "/", "PUT", host="google.com"),
            Row(ALLOW, "/", "PUT", port=90),
            Row(ALLOW, "/", "PUT", principal="principals2"),
            Row(ALLOW, "/", "PUT", principal="td/ns/namespaces2/sa/x"),
            Row(ALLOW, "/", "PUT", source="5.6.7.8"),
            Row(DENY, "/", to="a/other"),
            Row(DENY, "/", "PUT", source="5.6.8.1"),
        ],
    ),
    Case(
        "http/simple-policy-td-aliases",
        [on("p", rule(None, TEN))],
        [Row(ALLOW, "/", principal=f"{domain}/ns/a/sa/client") for domain in ("td1", "cluster.local", "some-td")]
        + [Row(DENY, "/", principal="other/ns/a/sa/client")],
        {"trust_domain": "td1", "aliases": ["cluster.local", "some-td"]},
    ),
    Case(
        "http/simple-policy-principal-with-wildcard",
        [
            on(
                "p",
                rule(
                    None,
                    {
                        "principals": ["*/ns/a/sa/client", "*-suffix", "prefix-*", "*"],
                        "notPrincipals": ["*/ns/b/sa/client"],
                    },
                ),
            )
        ],
        [
            Row(ALLOW, "/"),
            Row(DENY, "/", source="b/client"),
            Row(ALLOW, "/", principal="any"),
            Row(DENY, "/", principal=""),
        ],
    ),
    Case(
        "http/dry-run-mix",
        [
            on("dry-deny", {}, action="DENY", annotations={"istio.io/dry-run": "true"}),
            on("dry-allow", annotations={"istio.io/dry-run": "true"}),
            on("p", rule({"paths": ["/allow"]})),
        ],
        [Row(ALLOW, "/allow"), Row(DENY, "/other")],
    ),
    Case(
        "http/dry-run-allow-and-deny",
        [
            on("d", {}, action="DENY", annotations={"istio.io/dry-run": "true"}),
            on("p", annotations={"istio.io/dry-run": "true"}),
        ],
        [Row(ALLOW, "/"), Row(ALLOW, port=TCP)],
    ),
    Case("http/audit-all", [on("p", {}, action="AUDIT")], [Row(ALLOW, "/")]),
    Case(
        "tcp/allow-only-http",
        [on("p", rule(GET), rule({"paths": ["/x"]}, FROM_A))],
        both_ends("", DENY, DENY, port=TCP),
    ),
    Case(
        "tcp/allow-both-http-tcp",
        [
            on(
                "p",
                rule(GET, ID1),
                rule({"ports": ["8080"], "methods": ["GET"]}, FROM_A),
                rule({"ports": [str(TCP)]}, FROM_A | ID2),
                rule({"ports": ["80"]}, FROM_A),
            )
        ],
        [
            *both_ends("", ALLOW, DENY, port=80),
            *both_ends("", DENY, DENY, port=TCP),
            *both_ends("", DENY, DENY, port=8080),
        ],
    ),
    *(
        Case(
            f"tcp/deny-both-http-tcp: {name}", [on("p", denied, action="DENY")], both_ends("", from_a, from_b, port=TCP)
        )
        for name, (denied, from_a, from_b) in EVERY_DENY.items()
    ),
]
