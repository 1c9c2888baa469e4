"""Where the API server is: the endpoints of the Service `default/kubernetes`, which every API server keeps up to date.

Invariant: only valid addresses come out, and only from the endpoints of this Service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leastway.verify.reading import Document, identity
from leastway.verify.world import Address, address

KINDS = frozenset({"Endpoints", "EndpointSlice"})
_SERVICE = "kubernetes.io/service-name"


def api_servers(document: Document) -> Iterator[Address]:
    """The API server's addresses in an Endpoints or EndpointSlice object; none if it belongs to another Service."""
    kind, namespace, name = identity(document)
    labels = _mapping(_mapping(document.get("metadata")).get("labels"))
    owner = name if kind == "Endpoints" else labels.get(_SERVICE, name)
    if (namespace, owner) != ("default", "kubernetes"):
        return
    found = [at for endpoint in _list(document.get("endpoints")) for at in _list(_mapping(endpoint).get("addresses"))]
    for subset in _list(document.get("subsets")):
        found += [_mapping(item).get("ip") for item in _list(_mapping(subset).get("addresses"))]
    yield from filter(None, (address(text) for text in found if isinstance(text, str)))


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
