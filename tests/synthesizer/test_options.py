"""What the user may choose: namespaces, and connections that must work although nobody saw them."""

from __future__ import annotations

import msgspec
import pytest

from synthesizer.options import SYSTEM_NAMESPACES, Declared, Options


@pytest.mark.parametrize(
    "namespace", [*sorted(SYSTEM_NAMESPACES), "openshift-monitoring", "gke-connect", "aks-command"]
)
def test_the_clusters_own_namespaces_are_wanted_only_by_name(namespace: str) -> None:
    assert not Options().wants(namespace)
    assert Options(namespaces=(namespace,)).wants(namespace)


def test_named_namespaces_are_the_only_ones() -> None:
    assert Options().wants("shop")
    assert not Options(namespaces=("other",)).wants("shop")


def test_a_declared_connection_is_written_with_from_and_to() -> None:
    read = msgspec.json.decode(b'{"from": "shop/web", "to": "10.0.0.0/8", "port": 443}', type=Declared)
    assert read == Declared("shop/web", "10.0.0.0/8", 443, "TCP")


@pytest.mark.parametrize(
    "text",
    [
        '{"from": "shop/web", "to": "shop/db"}',
        '{"from": "shop/web", "to": "shop/db", "port": "http"}',
        '{"from": "shop/web", "to": "shop/db", "port": 80, "protocol": "ICMP"}',
        '{"from": "shop/web", "to": "shop/db", "port": 80, "ports": [81]}',
        '{"from": "shop/web", "to": "shop/db", "port": 0}',
        '{"from": "shop/web", "to": "shop/db", "port": 65536}',
        '{"from": "shop/web", "to": "shop/db", "port": -1}',
    ],
)
def test_a_declared_connection_that_no_policy_could_say_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Declared)
