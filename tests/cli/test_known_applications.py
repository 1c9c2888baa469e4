"""Hand-written policies of two known applications, right and then wrong in ways that people get them wrong: `verify`
names the traffic that each mistake would break, all of it and nothing else, and the policy that would."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run
from tests.goldens import SAMPLES

Document = dict[str, Any]
Policies = dict[str, Document]
Mistake = Callable[[Policies], None]

# Who calls whom in Online Boutique, with the port of the pod.
PORTS = {
    "frontend": 8080, "checkoutservice": 5050, "productcatalogservice": 3550, "currencyservice": 7000,
    "cartservice": 7070, "recommendationservice": 8080, "shippingservice": 50051, "paymentservice": 50051,
    "emailservice": 8080, "adservice": 9555, "redis-cart": 6379,
}  # fmt: skip
CALLS = {
    "loadgenerator": ["frontend"],
    "frontend": [
        "productcatalogservice", "currencyservice", "cartservice", "recommendationservice", "shippingservice",
        "checkoutservice", "adservice",
    ],
    "checkoutservice": [
        "cartservice", "productcatalogservice", "currencyservice", "shippingservice", "paymentservice", "emailservice",
    ],
    "recommendationservice": ["productcatalogservice"],
    "cartservice": ["redis-cart"],
}  # fmt: skip
ASKING = ["frontend", "checkoutservice", "recommendationservice", "cartservice", "currencyservice", "loadgenerator"]
RATES = "198.51.100.10"
DNS = {("default/" + app, "kube-system/coredns", 53) for app in ASKING}


def pods(app: str) -> Document:
    return {"podSelector": {"matchLabels": {"app": app}}}


def boutique() -> Policies:
    """One policy a service, in and out, as a careful person would write them."""
    found: Policies = {}
    for app in sorted({*PORTS, *CALLS}):
        callers = [pods(caller) for caller, called in CALLS.items() if app in called]
        ingress = [{"from": callers, "ports": [{"port": PORTS[app]}]}] if callers else []
        egress: list[Document] = [
            {"to": [pods(called)], "ports": [{"port": PORTS[called]}]} for called in CALLS.get(app, ())
        ]
        if app == "frontend":
            ingress.append({"ports": [{"port": 8080}]})  # it is published
        if app == "currencyservice":
            egress.append({"to": [{"ipBlock": {"cidr": "198.51.100.0/28"}}], "ports": [{"port": 443}]})
        found[app] = _policy(app, {"app": app}, ingress=ingress, egress=egress, policyTypes=["Ingress", "Egress"])
    system = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    resolver = {"namespaceSelector": system, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    both = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    found["dns"] = _policy("dns", {}, egress=[{"to": [resolver], "ports": both}], policyTypes=["Egress"])
    return found


def _policy(name: str, labels: dict[str, str], **spec: Any) -> Document:
    metadata = {"name": name, "namespace": "default"}
    selector = {"matchLabels": labels} if labels else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": selector, **spec},
    }


def to(app: str, *callers: str) -> set[tuple[str, str, int]]:
    return {(f"default/{caller}", f"default/{app}", PORTS[app]) for caller in callers}


def service_port_of_email(policies: Policies) -> None:
    policies["emailservice"]["spec"]["ingress"][0]["ports"] = [{"port": 5000}]


def service_port_out_of_loadgenerator(policies: Policies) -> None:
    policies["loadgenerator"]["spec"]["egress"][0]["ports"] = [{"port": 80}]


def no_dns(policies: Policies) -> None:
    del policies["dns"]


def dns_over_tcp_only(policies: Policies) -> None:
    policies["dns"]["spec"]["egress"][0]["ports"] = [{"port": 53}]


def namespace_label_that_nobody_sets(policies: Policies) -> None:
    policies["dns"]["spec"]["egress"][0]["to"][0]["namespaceSelector"] = {"matchLabels": {"name": "kube-system"}}


def missing_dash(policies: Policies) -> None:
    """The author wants the cart, and whatever runs in monitoring; without a dash it is the cart in monitoring."""
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policies["redis-cart"]["spec"]["ingress"][0]["from"] = [monitoring | pods("cartservice")]


def label_of_the_chart(policies: Policies) -> None:
    peers = policies["productcatalogservice"]["spec"]["ingress"][0]["from"]
    peers[peers.index(pods("recommendationservice"))] = {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "recommendationservice"}}
    }


def egress_without_types(policies: Policies) -> None:
    """Egress rules alone, without policyTypes, isolate ingress as well."""
    del policies["currencyservice"]["spec"]["policyTypes"], policies["currencyservice"]["spec"]["ingress"]


def only_one_side(policies: Policies) -> None:
    egress = policies["checkoutservice"]["spec"]["egress"]
    egress[:] = [rule for rule in egress if rule["to"] != [pods("paymentservice")]]


def except_that_hits(policies: Policies) -> None:
    block = policies["currencyservice"]["spec"]["egress"][0]["to"][0]["ipBlock"]
    block |= {"cidr": "198.51.100.0/24", "except": ["198.51.100.8/29"]}


def port_name_of_another(policies: Policies) -> None:
    policies["shippingservice"]["spec"]["ingress"][0]["ports"] = [{"port": "http"}]


def not_published(policies: Policies) -> None:
    policies["frontend"]["spec"]["ingress"].pop()


def selector_of_nothing(policies: Policies) -> None:
    """The allow selects nobody, so the namespace's default deny is all that is left."""
    policies["adservice"]["spec"]["podSelector"] = {"matchLabels": {"app": "ads"}}
    policies["deny"] = _policy("deny", {}, policyTypes=["Ingress"])


def own_namespace_only(policies: Policies) -> None:
    """A podSelector without namespaceSelector looks in the policy's own namespace."""
    del policies["dns"]["spec"]["egress"][0]["to"][0]["namespaceSelector"]


BOUTIQUE: list[tuple[Mistake, set[tuple[str, str, int]], str]] = [
    (service_port_of_email, to("emailservice", "checkoutservice"), "emailservice"),
    (service_port_out_of_loadgenerator, to("frontend", "loadgenerator"), "loadgenerator"),
    (no_dns, DNS, "frontend"),
    (dns_over_tcp_only, DNS, "dns"),
    (namespace_label_that_nobody_sets, DNS, "dns"),
    (own_namespace_only, DNS, "dns"),
    (missing_dash, to("redis-cart", "cartservice"), "redis-cart"),
    (label_of_the_chart, to("productcatalogservice", "recommendationservice"), "productcatalogservice"),
    (egress_without_types, to("currencyservice", "frontend", "checkoutservice"), "currencyservice"),
    (only_one_side, to("paymentservice", "checkoutservice"), "checkoutservice"),
    (except_that_hits, {("default/currencyservice", RATES, 443)}, "currencyservice"),
    (port_name_of_another, to("shippingservice", "frontend", "checkoutservice"), "shippingservice"),
    (not_published, set(), "frontend"),
    (selector_of_nothing, to("adservice", "frontend"), "deny"),
]


def verify(run: Run, folder: Path, story: str, policies: Policies, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and proof of policies against a story's capture."""
    path = folder / "policies.yaml"
    path.write_text(yaml.safe_dump_all(list(policies.values())))
    sample = SAMPLES / story
    capture = next(iter(sorted((*sample.glob("flows.jsonl.gz"), *sample.glob("access-log.jsonl")))))
    result = run("verify", path, capture, "--inventory", sample / "inventory.yaml", "--format", "json", *options)
    return result.exit_code, json.loads(result.stdout)


def test_the_boutiques_policies_are_right_before_they_are_wrong(run: Run, tmp_path: Path) -> None:
    code, proof = verify(run, tmp_path, "online-boutique", boutique())
    assert (code, proof["sound"], proof["denied"]) == (0, True, [])


@pytest.mark.parametrize(("mistake", "broken", "culprit"), BOUTIQUE, ids=[m.__name__ for m, _, _ in BOUTIQUE])
def test_what_a_mistake_breaks_in_the_boutique_is_named(
    run: Run, tmp_path: Path, mistake: Mistake, broken: set[tuple[str, str, int]], culprit: str
) -> None:
    policies = copy.deepcopy(boutique())
    mistake(policies)
    code, proof = verify(run, tmp_path, "online-boutique", policies)
    denied = {(entry["from"], entry["to"], entry["port"]) for entry in proof["denied"]}
    assert (code, proof["sound"]) == (3, False)
    if mistake is not_published:
        assert denied
        assert {(target, port) for _, target, port in denied} == {("default/frontend", 8080)}
        assert all("/" not in source for source, _, _ in denied)
    else:
        assert denied == broken
    assert any(f"default/{culprit}" in title for entry in proof["denied"] for title in entry["policies"])


GATEWAY = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"
PRODUCTPAGE, REVIEWS = (f"cluster.local/ns/bookinfo/sa/bookinfo-{name}" for name in ("productpage", "reviews"))


def access(app: str, *rules: Document, **spec: Any) -> Document:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": app, "namespace": "bookinfo"},
        "spec": {"selector": {"matchLabels": {"app": app}}, "rules": list(rules), **spec},
    }


def grant(principals: list[str], methods: list[str], paths: list[str]) -> Document:
    operation = {"ports": ["9080"], "methods": methods, "paths": paths}
    return {"from": [{"source": {"principals": principals}}], "to": [{"operation": operation}]}


def bookinfo() -> Policies:
    """ALLOW policies of all four services, as a careful person would write them."""
    products = [
        "/api/v1/products",
        "/api/v1/products/{*}",
        "/api/v1/products/{*}/reviews",
        "/api/v1/products/{*}/ratings",
    ]
    pages = ["/productpage", "/logout", "/static/*", *products]
    scraped = {"to": [{"operation": {"ports": ["9080"], "methods": ["GET"], "paths": ["/metrics"]}}]}
    return {
        "productpage": access(
            "productpage", grant([GATEWAY], ["GET"], pages), grant([GATEWAY], ["POST"], ["/login"]), scraped
        ),
        "details": access("details", grant([PRODUCTPAGE], ["GET"], ["/details/*"])),
        "reviews": access("reviews", grant([PRODUCTPAGE], ["GET"], ["/reviews/*"])),
        "ratings": access("ratings", grant([PRODUCTPAGE, REVIEWS], ["GET"], ["/ratings/*"])),
    }


def source_of(policies: Policies, app: str, rule: int = 0) -> Document:
    found: Document = policies[app]["spec"]["rules"][rule]["from"][0]["source"]
    return found


def operation_of(policies: Policies, app: str, rule: int = 0) -> Document:
    found: Document = policies[app]["spec"]["rules"][rule]["to"][0]["operation"]
    return found


def default_account(policies: Policies) -> None:
    source_of(policies, "details")["principals"] = ["cluster.local/ns/bookinfo/sa/default"]


def account_forgotten(policies: Policies) -> None:
    source_of(policies, "ratings")["principals"] = [PRODUCTPAGE]


def principal_with_scheme(policies: Policies) -> None:
    source_of(policies, "reviews")["principals"] = [f"spiffe://{PRODUCTPAGE}"]


def asterisk_inside_a_path(policies: Policies) -> None:
    """`*` is a wildcard at the end or the start only; here it is an asterisk that nobody sends."""
    operation = operation_of(policies, "productpage")
    operation["paths"] = [p.replace("{*}/", "*/") for p in operation["paths"] if not p.endswith("{*}")]


def method_in_lower_case(policies: Policies) -> None:
    operation_of(policies, "details")["methods"] = ["get"]


def method_forgotten(policies: Policies) -> None:
    operation_of(policies, "productpage", 1)["methods"] = ["GET"]


def service_port(policies: Policies) -> None:
    operation_of(policies, "reviews")["ports"] = ["80"]


def strict_for_all(policies: Policies) -> None:
    policies["strict"] = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": "bookinfo"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }


def deny_that_hits_the_scraper(policies: Policies) -> None:
    """Whoever has no identity matches notPrincipals."""
    only = {"from": [{"source": {"notPrincipals": [GATEWAY]}}]}
    policies["deny"] = access("productpage", only, action="DENY") | {
        "metadata": {"name": "deny", "namespace": "bookinfo"}
    }


BOOKINFO: list[tuple[Mistake, set[tuple[str, str, str]], str]] = [
    (default_account, {("bookinfo/productpage-v1", "bookinfo/details-v1", "GET /details/")}, "details"),
    (
        account_forgotten,
        {(f"bookinfo/reviews-v{v}", "bookinfo/ratings-v1", "GET /ratings/") for v in (2, 3)},
        "ratings",
    ),
    (
        principal_with_scheme,
        {("bookinfo/productpage-v1", f"bookinfo/reviews-v{v}", "GET /reviews/") for v in (1, 2, 3)},
        "reviews",
    ),
    (
        asterisk_inside_a_path,
        {("istio-system/istio-ingressgateway", "bookinfo/productpage-v1", "GET /api/v1/products/")},
        "productpage",
    ),
    (method_in_lower_case, {("bookinfo/productpage-v1", "bookinfo/details-v1", "GET /details/")}, "details"),
    (
        method_forgotten,
        {("istio-system/istio-ingressgateway", "bookinfo/productpage-v1", "POST /login")},
        "productpage",
    ),
    (
        service_port,
        {("bookinfo/productpage-v1", f"bookinfo/reviews-v{v}", "GET /reviews/") for v in (1, 2, 3)},
        "reviews",
    ),
    (strict_for_all, {("monitoring/prometheus", "bookinfo/productpage-v1", "GET /metrics")}, "strict"),
    (deny_that_hits_the_scraper, {("monitoring/prometheus", "bookinfo/productpage-v1", "GET /metrics")}, "deny"),
]


def test_bookinfos_policies_are_right_before_they_are_wrong(run: Run, tmp_path: Path) -> None:
    code, proof = verify(run, tmp_path, "bookinfo", bookinfo(), "--mesh", "sidecar")
    assert (code, proof["sound"], proof["denied"]) == (0, True, [])


@pytest.mark.parametrize(("mistake", "broken", "culprit"), BOOKINFO, ids=[m.__name__ for m, _, _ in BOOKINFO])
def test_what_a_mistake_breaks_in_bookinfo_is_named(
    run: Run, tmp_path: Path, mistake: Mistake, broken: set[tuple[str, str, str]], culprit: str
) -> None:
    policies = copy.deepcopy(bookinfo())
    mistake(policies)
    code, proof = verify(run, tmp_path, "bookinfo", policies, "--mesh", "sidecar")
    assert (code, proof["sound"]) == (3, False)
    shown = {(e["from"], e["to"], f"{e['method']} {e['path']}") for e in proof["denied"]}
    assert {entry for entry in shown if not any(_covers(pattern, entry) for pattern in broken)} == set()
    assert {pattern for pattern in broken if not any(_covers(pattern, entry) for entry in shown)} == set()
    assert any(f"bookinfo/{culprit}" in title for entry in proof["denied"] for title in entry["policies"])


def _covers(pattern: tuple[str, str, str], entry: tuple[str, str, str]) -> bool:
    return entry[:2] == pattern[:2] and entry[2].startswith(pattern[2])
