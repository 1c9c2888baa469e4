"""PeerAuthentication as written: STRICT for the whole of one namespace."""

from __future__ import annotations

from synthesizer.intent import MutualTLSIntent
from synthesizer.outputs import manifest
from synthesizer.render import Renderer


def test_it_is_the_namespaces_one_and_only() -> None:
    made = manifest(MutualTLSIntent("shop"), Renderer())
    assert made.path == "shop/peerauthentication-default.yaml"
    assert made.document == {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {
            "name": "default",
            "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "leastway"},
        },
        "spec": {"mtls": {"mode": "STRICT"}},
    }
