"""AuthorizationPolicy documents → Envoy RBAC and a whole Envoy configuration, as Istio would compile them for HTTP.

A translator of its own for tests: it works on the raw documents and shares nothing with the judge.
"""

from __future__ import annotations

import re
from typing import Any

from leastway.verify.reading import Document

TYPE = "type.googleapis.com/envoy.extensions."
Json = dict[str, Any]


def string(value: str, **more: Any) -> Json:
    """A StringMatcher."""
    if value == "*":
        return {"safe_regex": {"regex": ".+"}, **more}
    if value.startswith("*"):
        return {"suffix": value[1:], **more}
    return {"prefix": value[:-1], **more} if value.endswith("*") else {"exact": value, **more}


def authenticated(matcher: Json) -> Json:
    return {"authenticated": {"principal_name": matcher}}


def principal(name: str, value: str, namespace: str) -> Json:
    """One value of a source field."""
    if name == "principals":
        if value != "*" and value.startswith("*"):
            return authenticated({"safe_regex": {"regex": "spiffe://.*" + re.escape(value[1:])}})
        return authenticated(string(value if value == "*" else "spiffe://" + value))
    if name == "namespaces":
        return authenticated({"safe_regex": {"regex": ".*/ns/" + ".*".join(map(re.escape, value.split("*"))) + "/.*"}})
    if name == "serviceAccounts":
        owner, slash, account = value.partition("/")
        owner, account = (owner, account) if slash else (namespace, value)
        return authenticated(
            {"safe_regex": {"regex": f"spiffe://.+/ns/{re.escape(owner)}/(.+/|)sa/{re.escape(account)}(/.+)?"}}
        )
    address, _, length = value.partition("/")
    return {"direct_remote_ip": {"address_prefix": address, "prefix_len": int(length or 32)}}


def permission(name: str, value: str) -> Json:
    """One value of an operation field."""
    if name == "ports":
        return {"destination_port": int(value)}
    if name == "methods":
        return {"header": {"name": ":method", "string_match": string(value)}}
    if name == "hosts":
        return {"header": {"name": ":authority", "string_match": string(value, ignore_case=value != "*")}}
    if "{*}" in value or "{**}" in value:
        template = value.replace("{**}", "**").replace("{*}", "*")
        config = {"@type": TYPE + "path.match.uri_template.v3.UriTemplateMatchConfig", "path_template": template}
        return {"uri_template": {"name": "envoy.path.match.uri_template.uri_template_matcher", "typed_config": config}}
    return {"url_path": {"path": string(value)}}


def every(entries: list[Json], make: Any, kind: str) -> Json:
    """OR over entries, AND over fields, OR over values, NOT for negated fields."""
    ors, ands, negation = f"or_{kind}s", f"and_{kind}s", "not_rule" if kind == "rule" else "not_id"
    list_name = "rules" if kind == "rule" else "ids"
    alternatives = []
    for entry in entries:
        fields = []
        for name, values in sorted(entry.items()):
            negated = name.startswith("not")
            plain = name[3].lower() + name[4:] if negated else name
            found = {ors: {list_name: [make(plain, value) for value in values]}}
            fields.append({negation: found} if negated else found)
        alternatives.append({ands: {list_name: fields}})
    return {ors: {list_name: alternatives}} if entries else {"any": True}


def rbac(documents: list[Document], action: str) -> Json | None:
    """All policies of one action as RBAC rules; None if there are none."""
    policies: dict[str, Json] = {}
    chosen = [d for d in documents if d["spec"].get("action", "ALLOW") == action]
    for document in chosen:
        namespace = document["metadata"]["namespace"]
        for i, rule in enumerate(document["spec"].get("rules", [])):
            sources = [entry["source"] for entry in rule.get("from", [])]
            operations = [entry["operation"] for entry in rule.get("to", [])]
            policies[f"{document['metadata']['name']}-{i}"] = {
                "permissions": [every(operations, permission, "rule")],
                "principals": [every(sources, lambda n, v, ns=namespace: principal(n, v, ns), "id")],
            }
    return {"rules": {"action": action, "policies": policies}} if chosen else None


def configuration(sets: list[list[Document]], ports: tuple[int, int], folder: str) -> Json:
    """Envoy with one virtual host `s<number>.test` per policy set: mutual TLS on the first port only."""
    hosts = []
    for number, documents in enumerate(sets):
        overrides: Json = {}
        for action in ("DENY", "ALLOW"):
            found = rbac(documents, action)
            if found is not None:
                overrides[action.lower()] = {"@type": TYPE + "filters.http.rbac.v3.RBACPerRoute", "rbac": found}
        route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
        hosts.append(
            {
                "name": f"s{number}",
                "domains": [f"s{number}.test"],
                "routes": [route],
                "typed_per_filter_config": overrides,
            }
        )
    rbac_type = TYPE + "filters.http.rbac.v3.RBAC"
    filters: list[Json] = [{"name": name, "typed_config": {"@type": rbac_type}} for name in ("deny", "allow")]
    filters.append({"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}})
    manager = {
        "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "normalize_path": True,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "route_config": {"name": "r", "virtual_hosts": hosts},
        "http_filters": filters,
    }
    chain: Json = {"filters": [{"name": "hcm", "typed_config": manager}]}
    tls = {
        "@type": TYPE + "transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": f"{folder}/server.pem"},
                    "private_key": {"filename": f"{folder}/key.pem"},
                }
            ],
            "validation_context": {"trusted_ca": {"filename": f"{folder}/ca.pem"}},
        },
    }
    secured = chain | {"transport_socket": {"name": "tls", "typed_config": tls}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": f"l{port}",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [filter_chain],
                }
                for port, filter_chain in zip(ports, (secured, chain), strict=True)
            ]
        }
    }
