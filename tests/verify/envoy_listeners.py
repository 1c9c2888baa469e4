"""One Envoy configuration for all policy sets: HTTP with a virtual host each, TCP with a filter chain each.

HTTP listens once with mutual TLS and once in plaintext for every path normalisation; set N is virtual host `sN.test`
and its ports and sub-hosts. TCP listens with mutual TLS, where the server name sN.test chooses the set, and in
plaintext, where the caller's own loopback address 127.SET/256.SET%256.X does.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from leastway.verify.httppath import Normalization
from leastway.verify.reading import Document
from tests.certificates import Authority
from tests.verify.envoy_rbac import TYPE, Json, rbac

NORMALIZATIONS: tuple[Normalization, ...] = ("BASE", "NONE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")


class PolicySet(NamedTuple):
    """Policies of one destination, with the mesh's trust domains (the first is its own)."""

    documents: list[Document]
    trust_domains: tuple[str, ...] = ("cluster.local",)


class Ports(NamedTuple):
    """Where Envoy listens. `plain` has one port for each of NORMALIZATIONS."""

    secured: int
    plain: tuple[int, ...]
    tcp_secured: int
    tcp_plain: int

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody listens on now."""
        with ExitStack() as stack:
            found = []
            for _ in range(3 + len(NORMALIZATIONS)):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", 0))
                found.append(probe.getsockname()[1])
        return cls(found[0], tuple(found[3:]), found[1], found[2])

    def open(self) -> bool:
        """True once Envoy accepts on all of them."""
        for port in (self.secured, *self.plain, self.tcp_secured, self.tcp_plain):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return False
        return True


def source_of(number: int, host: int = 1) -> str:
    """The loopback address that chooses set `number` on plaintext TCP."""
    return f"127.{1 + number // 250}.{number % 250}.{host}"


def configuration(http: Sequence[PolicySet], tcp: Sequence[PolicySet], ports: Ports, folder: Path) -> Json:
    """The whole static configuration."""
    security = _security(folder)
    listeners = [_listener(ports.secured, [_http_chain(http, "BASE") | security])]
    listeners += [
        _listener(port, [_http_chain(http, option)]) for port, option in zip(ports.plain, NORMALIZATIONS, strict=True)
    ]
    by_name, by_source = [], []
    for number, one in enumerate(tcp):
        chain = _tcp_chain(one)
        by_name.append(chain | security | {"filter_chain_match": {"server_names": [f"s{number}.test"]}})
        prefix = {"address_prefix": source_of(number, 0), "prefix_len": 24}
        by_source.append(chain | {"filter_chain_match": {"source_prefix_ranges": [prefix]}})
    inspector = {
        "name": "inspector",
        "typed_config": {"@type": TYPE + "filters.listener.tls_inspector.v3.TlsInspector"},
    }
    listeners.append(_listener(ports.tcp_secured, by_name) | {"listener_filters": [inspector]})
    listeners.append(_listener(ports.tcp_plain, by_source))
    return {"static_resources": {"listeners": listeners}}


def _listener(port: int, chains: list[Json]) -> Json:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"name": f"l{port}", "address": {**address}, "filter_chains": chains}


def _http_chain(sets: Sequence[PolicySet], option: Normalization) -> Json:
    filters: list[Json] = [
        {"name": name, "typed_config": {"@type": TYPE + "filters.http.rbac.v3.RBAC"}} for name in ("deny", "allow")
    ]
    filters.append({"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}})
    decoded = option == "DECODE_AND_MERGE_SLASHES"
    manager = {
        "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "normalize_path": option != "NONE",
        "merge_slashes": option in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"),
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD" if decoded else "KEEP_UNCHANGED",
        "route_config": {"name": "r", "virtual_hosts": [_host(n, one) for n, one in enumerate(sets)]},
        "http_filters": filters,
    }
    return {"filters": [{"name": "hcm", "typed_config": manager}]}


def _host(number: int, one: PolicySet) -> Json:
    overrides: Json = {}
    for action in ("DENY", "ALLOW"):
        found = rbac(one.documents, action, one.trust_domains)
        if found is not None:
            overrides[action.lower()] = {"@type": TYPE + "filters.http.rbac.v3.RBACPerRoute", "rbac": found}
    name = f"s{number}.test"
    return {
        "name": name,
        "domains": [name, f"{name}:*", f"*.{name}", f"{name}."],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
        "typed_per_filter_config": overrides,
    }


def _tcp_chain(one: PolicySet) -> Json:
    filters: list[Json] = []
    for action in ("DENY", "ALLOW"):
        found = rbac(one.documents, action, one.trust_domains, tcp=True)
        if found is not None:
            typed = {"@type": TYPE + "filters.network.rbac.v3.RBAC", "stat_prefix": action.lower(), **found}
            filters.append({"name": action.lower(), "typed_config": typed})
    filters.append({"name": "echo", "typed_config": {"@type": TYPE + "filters.network.echo.v3.Echo"}})
    return {"filters": filters}


def _security(folder: Path) -> Json:
    certificate = {
        "certificate_chain": {"filename": str(folder / "server.pem")},
        "private_key": {"filename": str(folder / "server-key.pem")},
    }
    tls = {
        "@type": TYPE + "transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificates": [certificate],
            "validation_context": {"trusted_ca": {"filename": str(folder / "authority.pem")}},
        },
    }
    return {"transport_socket": {"name": "tls", "typed_config": tls}}


def certificates(folder: Path, clients: Sequence[str]) -> None:
    """An authority, a server and one client for each SPIFFE name: `authority`, `server`, `c0`, `c1`, ... `.pem`, and
    their keys as `-key.pem`."""
    authority = Authority(folder)
    authority.issue("server", "spiffe://server")
    for number, client in enumerate(clients):
        authority.issue(f"c{number}", f"spiffe://{client}")
