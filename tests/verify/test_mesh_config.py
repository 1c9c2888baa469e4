"""The mesh's settings in the inventory: trust domains, path normalisation and the root namespace (Istio, "Global Mesh
Options")."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from leastway.verify.errors import PolicyError
from leastway.verify.judge import Judge
from leastway.verify.reading import Document
from tests.verify.kit import access, judge, labels, namespace, outcome, peers, pod

ALL = {
    "trustDomain": "td-1",
    "trustDomainAliases": ["old"],
    "rootNamespace": "mesh",
    "pathNormalization": {"normalization": "MERGE_SLASHES"},
}


def config(settings: object, ref: str = "istio-system/istio", **more: str) -> Document:
    where, _, name = ref.partition("/")
    written = settings if isinstance(settings, str) else yaml.safe_dump(settings)
    meta = {"name": name, "namespace": where}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"mesh": written, **more}}


def of(*policies: Document, configs: list[Document], **options: Any) -> Judge:
    things = [
        namespace("a"),
        pod("a/web", {"app": "web"}, "10.0.0.1"),
        pod("a/db", {"app": "db"}, "10.0.0.2", serviceAccountName="db"),
    ]
    return judge([*things, *configs], policies, mesh="sidecar", **options)


def admits(source: dict[str, list[str]], path: str = "/a/b") -> Document:
    rule = {"from": [{"source": source}], "to": [{"operation": {"paths": [path]}}]}
    return access("a/p", selector=labels(app="web"), rules=[rule])


def test_identities_are_of_the_meshs_trust_domain_and_its_aliases_stand_for_it() -> None:
    for named, expected in (("td-1", "allow"), ("old", "allow"), ("cluster.local", "allow"), ("other", "deny")):
        found = of(admits({"principals": [f"{named}/ns/a/sa/db"]}), configs=[config(ALL)])
        assert outcome(found, "a/db", "a/web", method="GET", path="/a/b") == expected, named
    assert found.mesh.trust_domains == ("td-1", "old")


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [("MERGE_SLASHES", "allow"), ("DECODE_AND_MERGE_SLASHES", "allow"), ("BASE", "deny"), ("DEFAULT", "deny")],
)
def test_paths_are_normalised_as_the_mesh_does(normalization: str, expected: str) -> None:
    settings = {"pathNormalization": {"normalization": normalization}}
    found = of(admits({"namespaces": ["a"]}), configs=[config(settings)])
    assert outcome(found, "a/db", "a/web", method="GET", path="/a//b") == expected


def test_mesh_wide_policies_are_those_of_the_root_namespace() -> None:
    strict = peers("mesh/default", mtls={"mode": "STRICT"})
    for configs, expected in (([config(ALL)], "deny"), ([], "allow")):
        assert outcome(of(strict, configs=configs), "203.0.113.1", "a/web") == expected


def test_what_is_given_goes_before_the_inventory() -> None:
    chosen = of(
        configs=[config(ALL)], trust_domain="td-2", aliases=[], normalization="NONE", root_namespace="root"
    ).mesh
    assert (chosen.trust_domains, chosen.normalization, chosen.root_namespace) == (("td-2",), "NONE", "root")
    assert of(configs=[config(ALL)], trust_domain="td-2").mesh.trust_domains == ("td-2", "old")
    assert of(configs=[config(ALL)]).under("calico").mesh.trust_domains == ("td-1", "old")


def test_of_several_revisions_the_one_without_a_name_counts_then_the_first() -> None:
    later, first = (
        config({"trustDomain": "b"}, "istio-system/istio-b"),
        config({"trustDomain": "a"}, "istio-system/istio-a"),
    )
    assert of(configs=[later, first]).mesh.trust_domain == "a"
    assert of(configs=[later, config({"trustDomain": "c"}), first]).mesh.trust_domain == "c"


def test_other_config_maps_say_nothing() -> None:
    """A tenant may call its own as it likes."""
    for other in ("shop/istio", "istio-system/istiod-values", "istio-system/other"):
        assert of(configs=[config(ALL, other)]).mesh.trust_domains == ("cluster.local",)
    empty = {**config(ALL), "data": None}
    assert of(configs=[empty]).mesh.trust_domains == ("cluster.local",)
    assert of(configs=[config("")]).mesh.trust_domains == ("cluster.local",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("a: [", "not YAML"),
        ("- a", "expected a mapping"),
        ({"pathNormalization": {"normalization": "SOME"}}, "'SOME' is no normalisation"),
        ({"trustDomain": 1}, "expected text, got a number"),
        ({"trustDomainAliases": "old"}, "expected a list"),
    ],
)
def test_settings_that_cannot_be_read_are_an_error_that_names_them(settings: object, said: str) -> None:
    with pytest.raises(PolicyError, match=said) as raised:
        of(configs=[config(settings)])
    assert "ConfigMap istio-system/istio data.mesh" in str(raised.value)
