"""The fields of a Kubernetes object, whatever shape it really has.

Invariant: a value of the wrong type reads as absent; what comes out as a label or an address is one.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any

from collector.endpoints import Labels, valid_label
from collector.errors import InventoryError
from synthesizer.kubernetes_files import Document


def mapping(value: object, *path: str) -> Document:
    """The mapping at a path below a value; empty when there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def sequence(value: object, *path: str) -> list[Any]:
    """The list at a path below a value; empty when there is none."""
    found = mapping(value, *path[:-1]).get(path[-1]) if path else value
    return found if isinstance(found, list) else []


def text(value: object) -> str:
    """A text, or ""."""
    return value if isinstance(value, str) else ""


def number(value: object) -> int:
    """A port number, or 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536 else 0


@lru_cache(maxsize=1 << 16)
def address(value: str) -> str:
    """An IP address in its one canonical form, IPv4 inside IPv6 unwrapped; "" for anything else."""
    try:
        found = ipaddress.ip_address(value.partition("%")[0])
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def addresses(values: list[Any]) -> tuple[str, ...]:
    """The canonical addresses among values, each once, in their order."""
    return tuple(dict.fromkeys(filter(None, (address(text(value)) for value in values))))


def labels(value: object, where: str) -> dict[str, str]:
    """A map of labels. Raises `InventoryError` for one that the API server would refuse, as it would change what is
    selected if it were left out."""
    for key, label in mapping(value).items():
        if not isinstance(label, str) or not valid_label(key, label):
            hint = "put it in quotes" if not isinstance(label, str) else "correct it"
            raise InventoryError(f"the label {key} has a value that Kubernetes refuses", where=where, hint=hint)
    return mapping(value)


def as_selector(found: dict[str, str]) -> Labels:
    """A map of labels, sorted."""
    return tuple(sorted(found.items()))
