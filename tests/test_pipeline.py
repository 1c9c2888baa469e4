"""Captures in, judged policies out: the wiring, and what the user hands over besides captures."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.errors import InventoryError, RenderError, SourceError
from collector.patterns import Patterns
from leastway import observation, pipeline
from leastway.export.folder import REPORT, REVIEW
from leastway.pipeline import declared, detected_mesh, generate, observe, verify
from leastway.verify.judge import Judge
from leastway.verify.policies import load_policies
from leastway.verify.proof import prove
from synthesizer import synthesize
from synthesizer.inventory import parse
from synthesizer.options import Declared, Options
from tests.goldens import SAMPLES
from tests.synthesizer.objects import deployment, pod
from tests.synthesizer.traffic import Traffic

CAPTURE = str(SAMPLES / "bookinfo" / "access-log.jsonl")
FLOWS = str(SAMPLES / "online-boutique" / "flows.jsonl.gz")
INVENTORY = str(SAMPLES / "online-boutique" / "inventory.yaml")


# -- generate -------------------------------------------------------------------------------------------------------


def test_the_files_are_the_manifests_and_the_two_pages_and_nothing_is_written(tmp_path: Path) -> None:
    run = generate([FLOWS], [INVENTORY], Options())
    manifests = {manifest.path: manifest.text for manifest in run.synthesis.manifests}
    assert run.files.items() >= manifests.items()
    assert set(run.files) - set(manifests) == {REPORT, REVIEW}
    assert list(tmp_path.iterdir()) == []


def test_the_proof_is_of_the_files_as_they_were_written() -> None:
    run = generate([FLOWS], [INVENTORY], Options())
    assert run.sound
    seen = observe([FLOWS], [INVENTORY], Options())
    policies = [yaml.safe_load(text) for path, text in run.files.items() if path.endswith(".yaml")]
    again = verify(load_policies([p for p in policies if p["kind"] != "Kustomization"]), seen)
    kept = {key: again[key] for key in ("sound", "observed", "allowed", "held", "denied")}
    assert kept == {key: run.proof[key] for key in kept}
    assert json.loads(run.files[REPORT])["proof"] == run.proof


def test_the_same_input_gives_the_same_bytes() -> None:
    assert generate([FLOWS], [INVENTORY], Options()).files == generate([FLOWS], [INVENTORY], Options()).files


def test_a_process_that_generates_again_and_again_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    judges: list[weakref.ref[Judge]] = []

    class Noted(Judge):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            judges.append(weakref.ref(self))

    monkeypatch.setattr(pipeline, "Judge", Noted)
    for _ in range(3):
        generate([FLOWS], [INVENTORY], Options())
    gc.collect()
    assert [judge() for judge in judges] == [None] * 3


def test_taking_away_a_rule_makes_the_proof_fail() -> None:
    """The judge is no rubber stamp: it sees the YAML, not the intent."""
    seen = observe([FLOWS], [INVENTORY], Options())
    run = generate([FLOWS], [INVENTORY], Options())
    policies: list[dict[str, Any]] = [
        yaml.safe_load(m.text) for m in run.synthesis.manifests if m.kind == "NetworkPolicy"
    ]
    robbed = next(p for p in policies if p["spec"].get("ingress"))
    robbed["spec"]["ingress"].pop()
    assert not verify(load_policies(policies), seen)["sound"]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was_even_after_an_error(enabled: bool, tmp_path: Path) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(SourceError):
            generate([str(tmp_path / "nothing.jsonl")], [], Options())
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_what_cannot_be_used_is_an_error_with_the_place(tmp_path: Path) -> None:
    broken = tmp_path / "inventory.yaml"
    broken.write_text("kind: [")
    with pytest.raises(InventoryError, match=r"inventory\.yaml"):
        generate([CAPTURE], [str(broken)], Options())
    with pytest.raises(RenderError, match="no such folder"):
        generate([CAPTURE], [], Options(), templates=str(tmp_path / "nowhere"))


def test_a_users_template_is_used_and_checked(tmp_path: Path) -> None:
    own = tmp_path / "networking.k8s.io"
    own.mkdir()
    text = (SAMPLES.parent / "templates" / "networking.k8s.io" / "networkpolicy.yaml.j2").read_text()
    (own / "networkpolicy.yaml.j2").write_text("# the platform team's\n" + text)
    run = generate([FLOWS], [INVENTORY], Options(), templates=str(tmp_path))
    assert all(m.text.startswith("# the platform team's\n") for m in run.synthesis.manifests if "network" in m.path)
    (own / "networkpolicy.yaml.j2").write_text(text.replace("{{ port.number | yaml }}", "80"))
    with pytest.raises(RenderError, match="does not say what was decided"):
        generate([FLOWS], [INVENTORY], Options(), templates=str(tmp_path))


# -- the mesh -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "mesh"),
    [
        ({}, "none"),
        ({"hubble": 5}, "none"),
        ({"hubble": 5, "istio-json": 1}, "sidecar"),
        ({"envoy-als": 1}, "sidecar"),
        ({"ztunnel": 1}, "ambient"),
        ({"ztunnel": 1, "istio-json": 9}, "ambient"),
        ({"hubble": 5, "istio-json": 0}, "none"),
    ],
)
def test_the_mesh_is_what_the_sources_give_away(records: dict[str, int], mesh: str) -> None:
    patterns = Patterns()
    patterns.quality.records = dict(records)
    assert detected_mesh(patterns) == mesh


def test_the_user_knows_better() -> None:
    assert generate([CAPTURE], [], Options(), mesh="none").options.mesh == "none"
    assert generate([CAPTURE], [], Options()).options.mesh == "sidecar"


# -- declared intents -----------------------------------------------------------------------------------------------


def test_declared_intents_are_read_from_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("- {from: shop/web, to: 10.0.0.0/8, port: 1521, because: month end}\n")
    (tmp_path / "d.json").write_text('[{"from": "shop/web", "to": "10.0.0.0/8", "port": 1521, "because": "month end"}]')
    expected = (Declared("shop/web", "10.0.0.0/8", 1521, because="month end"),)
    assert declared(str(tmp_path / "d.yaml")) == declared(str(tmp_path / "d.json")) == expected


@pytest.mark.parametrize(
    "text",
    [
        "from: shop/web",
        "- from: shop/web",
        "- {from: a/b, to: c/d, port: 99999}",
        "- {from: a/b, to: c/d, port: 80, por: 81}",
        "[",
        "",
        "- \udcff",
    ],
)
def test_a_file_that_is_no_list_of_intents_is_an_error_that_says_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "declared.yaml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SourceError, match=r"declared\.yaml"):
        declared(str(file))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        declared(str(tmp_path / "nothing.yaml"))


# -- the world ------------------------------------------------------------------------------------------------------


def test_two_kinds_of_one_name_are_two_workloads_to_author_and_judge_alike() -> None:
    traffic = Traffic()
    web = traffic.pod("shop/web", owner="Deployment/web")
    one = traffic.pod("shop/api", {"app": "api", "role": "web"}, owner="Deployment/api")
    two = traffic.pod("shop/api", {"app": "api", "role": "store"}, owner="StatefulSet/api")
    traffic.talk(web, one, 8080)
    traffic.talk(one, two, 5432)
    inventory = parse(
        [
            deployment("web", {"app": "web"}),
            deployment("api", {"app": "api", "role": "web"}),
            deployment("api", {"app": "api", "role": "store"}, kind="StatefulSet"),
        ]
    )
    result = synthesize(traffic.patterns, inventory, Options())
    world = observation.world(inventory, result.workloads, result.decisions, Options())
    proof = prove(
        Judge(world, [m.document for m in result.manifests]),
        observation.observed(result.decisions, inventory, Options()),
    )
    assert proof["denied"] == []
    assert proof["allowed"] == 2


def test_pods_of_a_workload_that_a_proxy_was_heard_of_are_in_the_mesh_like_it() -> None:
    traffic = Traffic()
    gateway = traffic.proxied("edge/gateway", "gateway", pod="gateway-0", address="10.1.0.7")
    api = traffic.proxied("shop/api", "api", address="10.1.0.8")
    traffic.call(gateway, api, 8080, "GET /", principal="cluster.local/ns/edge/sa/gateway")
    traffic.call(api, gateway, 8443, "GET /", principal="cluster.local/ns/shop/sa/api")
    running = pod("gateway-0", {"app": "gateway"}, owner=("StatefulSet", "gateway"), ip="10.1.0.7")
    running["metadata"]["namespace"] = "edge"
    owner = deployment("gateway", {"app": "gateway"}, namespace="edge", kind="StatefulSet")
    inventory, options = parse([owner, running]), Options(mesh="sidecar")
    result = synthesize(traffic.patterns, inventory, options)
    world = observation.world(inventory, result.workloads, result.decisions, options)
    known = {ref: subject.meshed for ref, subject in world.subjects.items() if subject.namespace == "edge"}
    assert known == {"edge/gateway": True, "edge/gateway-0": True}
