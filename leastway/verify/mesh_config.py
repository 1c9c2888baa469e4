"""The settings of a mesh, from the ConfigMap that istiod reads (Istio, "Global Mesh Options").

Invariant: only ConfigMaps in istio-system count, where the mesh's operators write. Missing settings have Istio's
default.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast, get_args

from leastway.verify.errors import PolicyError
from leastway.verify.httppath import Normalization
from leastway.verify.reading import Document, documents, optional, text, texts

NAMESPACE = "istio-system"


class MeshConfig(NamedTuple):
    """`aliases` are further trust domains; `root_namespace` holds mesh-wide policies; `normalization` is of paths."""

    trust_domain: str = "cluster.local"
    aliases: tuple[str, ...] = ()
    root_namespace: str = NAMESPACE
    normalization: Normalization = "BASE"


DEFAULT = MeshConfig()


def read_mesh_config(document: Document, namespace: str, name: str, where: str) -> MeshConfig | None:
    """The settings in a ConfigMap; None if it is not a mesh's (`istio`, or `istio-` and a revision).

    Raises `PolicyError` for settings that cannot be read.
    """
    data = document.get("data")
    written = data.get("mesh") if isinstance(data, dict) else None
    if namespace != NAMESPACE or not (name == "istio" or name.startswith("istio-")) or not isinstance(written, str):
        return None
    where = f"{where} data.mesh"
    found: dict[str, Any] = next(iter(documents(written, where)), {})
    paths = optional(found.get("pathNormalization"), f"{where} pathNormalization").get("normalization")
    normalization = DEFAULT.normalization if paths in (None, "DEFAULT") else paths
    if normalization not in get_args(Normalization):
        raise PolicyError(f"{str(paths)[:40]!r} is no normalisation of paths", f"{where} pathNormalization")
    return MeshConfig(
        text(found.get("trustDomain") or DEFAULT.trust_domain, f"{where} trustDomain"),
        texts(found.get("trustDomainAliases"), f"{where} trustDomainAliases"),
        text(found.get("rootNamespace") or DEFAULT.root_namespace, f"{where} rootNamespace"),
        cast("Normalization", normalization),
    )
