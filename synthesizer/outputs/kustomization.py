"""kustomization.yaml: the files of one namespace, so that `kubectl apply -k` takes them all.

Invariant: it lists exactly the manifests that were written beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from synthesizer.manifest import Manifest, checked
from synthesizer.render import Renderer

TEMPLATE = "kustomize.config.k8s.io/kustomization.yaml.j2"


def manifest(namespace: str, manifests: Sequence[Manifest], renderer: Renderer) -> Manifest:
    """Render the kustomization of a namespace's manifests."""
    files = sorted(m.path.rpartition("/")[2] for m in manifests if m.namespace == namespace)
    expected = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": files}
    return checked(f"{namespace}/kustomization.yaml", renderer.render(TEMPLATE, files=files), expected, TEMPLATE)
