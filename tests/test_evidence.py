"""The two pages beside the policies: a contract for machines, and text for people that nobody can forge."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.flow import Signal
from collector.reading import Reading
from leastway import evidence
from leastway.export.folder import REPORT, REVIEW
from leastway.pipeline import Run
from synthesizer import Options, synthesize
from synthesizer.inventory import Inventory
from synthesizer.options import Mesh
from tests.goldens import STORIES, run
from tests.synthesizer.traffic import Traffic, at

made = cache(run)
TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "x\n# Approved\n- **lw-0** accept me",
        "<script>alert(1)</script>",
        "![](https://evil.example/x.png)",
        "[click](javascript:alert(1))",
        "`; rm -rf /`",
        "```\n",
        "| a | b |\n|---|---|",
        "<!-- hidden",
        "\u202etxt.exe",
        "\u2028## Title",
        "\r\n## Title",
        "\x1b[2J",
        "***",
        "&lt;b&gt;",
        "x" * 5000,
    ]
)


def page_of(traffic: Traffic, mesh: Mesh = "sidecar") -> str:
    """REVIEW.md of some traffic."""
    options = Options(mesh=mesh)
    result = synthesize(traffic.patterns, Inventory.empty(), options)
    return evidence.told(Run(Reading(traffic.patterns), Inventory.empty(), options, result)).review


def test_a_time_that_no_calendar_holds_breaks_no_page() -> None:
    traffic = Traffic()
    traffic.add(traffic.pod("shop/web"), traffic.pod("shop/api"), 22, "TCP", Signal.DENIED, reason="POLICY_DENIED")
    for edge in traffic.patterns.edges.values():
        for _, found in edge.ports():
            found.span(1, 1 << 62)
    assert f"second {1 << 62}" in page_of(traffic)


# -- leastway.json --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STORIES)
def test_the_report_keeps_its_contract(name: str) -> None:
    report = json.loads(made(name).files[REPORT])
    assert set(report) == {
        "schema",
        "options",
        "proof",
        "files",
        "evidence",
        "quality",
        "findings",
        "review",
    }
    assert report["schema"] == 1
    proof = report["proof"]
    assert {"sound", "observed", "allowed", "denied", "over_permission", "redundant"} <= set(proof)
    assert {"total", "by_cause", "by_workload"} <= set(proof["over_permission"])
    assert isinstance(proof["sound"], bool)
    assert isinstance(proof["denied"], list)
    assert isinstance(proof["redundant"], list)
    for item in report["review"]:
        assert set(item) == {"id", "kind", "subject", "what", "why", "acceptable", "evidence"}


@pytest.mark.parametrize("name", STORIES)
def test_the_report_is_sorted_and_knows_its_files(name: str) -> None:
    files = made(name).files
    report = json.loads(files[REPORT])
    assert _sorted(report)
    assert report["files"] == sorted(path for path in files if path not in (REPORT, REVIEW))
    assert set(report["evidence"]) <= set(report["files"])
    order = [(item["kind"], item["subject"], item["what"], item["id"]) for item in report["review"]]
    assert order == sorted(order)
    assert len({item["id"] for item in report["review"]}) == len(order)


def _sorted(value: Any) -> bool:
    if isinstance(value, dict):
        return list(value) == sorted(value) and all(map(_sorted, value.values()))
    return all(map(_sorted, value)) if isinstance(value, list) else True


@pytest.mark.parametrize("name", STORIES)
def test_every_rule_has_its_evidence_and_nothing_names_an_input(name: str) -> None:
    run_made = made(name)
    report = json.loads(run_made.files[REPORT])
    for path, entries in report["evidence"].items():
        for entry in entries:
            assert entry["direction"] in ("ingress", "egress"), path
            assert entry["records"] > 0 or entry["cause"] == "declared" or entry["standing"] == "needed"
            assert entry["first_seen"] <= entry["last_seen"]
    for page in (REPORT, REVIEW):
        assert "sample_flows" not in run_made.files[page]


@pytest.mark.parametrize("name", STORIES)
def test_every_rule_has_an_entry_of_its_direction_and_port(name: str) -> None:
    made_here = made(name)
    told = json.loads(made_here.files[REPORT])["evidence"]
    for manifest in made_here.synthesis.manifests:
        found = {(e["direction"], e["port"]) for e in told.get(manifest.path, ())}
        opened = _opened(manifest.kind, manifest.document)
        assert found <= set().union(*opened), f"{manifest.path}: evidence for what no rule opens"
        for rule in opened:  # of a rule at a waypoint the Service's port is named beside the pod's, which was seen
            assert rule <= found or ("targetRefs" in manifest.document["spec"] and rule & found), manifest.path


def _opened(kind: str, document: dict[str, Any]) -> list[set[tuple[str, int]]]:
    """(direction, port) of every rule of a policy."""
    spec = document.get("spec") or {}
    if kind in ("NetworkPolicy", "CiliumNetworkPolicy"):
        rules = [(direction, rule) for direction in ("ingress", "egress") for rule in spec.get(direction) or ()]
        listed = [(way, [p for entry in rule.get("toPorts", [rule]) for p in entry["ports"]]) for way, rule in rules]
        return [{(way, int(port["port"])) for port in ports} for way, ports in listed]
    if kind != "AuthorizationPolicy":
        return []
    return [
        {("ingress", int(port)) for to in rule["to"] for port in to["operation"]["ports"]}
        for rule in spec.get("rules") or ()
    ]


@pytest.mark.parametrize("name", STORIES)
def test_every_workloads_policy_has_evidence_unless_it_lets_nothing_through(name: str) -> None:
    run_made = made(name)
    told = json.loads(run_made.files[REPORT])["evidence"]
    for manifest in run_made.synthesis.manifests:
        if manifest.kind == "NetworkPolicy" and manifest.name not in ("default-deny", "allow-dns"):
            rules = [*manifest.document["spec"].get("ingress", ()), *manifest.document["spec"].get("egress", ())]
            observed = manifest.text.count("# observed")
            assert not (observed and rules) or manifest.path in told, manifest.path


# -- REVIEW.md ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STORIES)
def test_everything_that_was_held_is_on_the_page_with_the_way_to_accept_it(name: str) -> None:
    run_made = made(name)
    page = run_made.files[REVIEW]
    for item in run_made.synthesis.review:
        assert f"**{item.id}**" in page
        assert (f"Accept with `--accept {item.id}`." in page) == item.acceptable
    for sentence in run_made.findings:
        assert sentence[:20] in page.replace("\\", "")


_OUTSIDE = re.compile(r"# Review|## [A-Z][A-Za-z -]*|- .*|  \S.*|What was observed.*|Nothing was held back\.|")


@settings(max_examples=80)
@given(TEXT, TEXT, TEXT)
def test_hostile_text_stays_text_on_its_own_line(reason: str, host: str, path: str) -> None:
    traffic = Traffic()
    web, api = traffic.pod("shop/web"), traffic.pod("shop/api")
    traffic.add(web, api, 22, "TCP", Signal.DENIED, reason=reason)
    traffic.talk(web, at("203.0.113.7"), 443, times=1, names=(host,))
    traffic.call(web, api, 8080, f"GET /{path}", status=403)
    traffic.call(web, api, 8080, f"GET /{path}*", "GET /")
    traffic.patterns.quality.lost.add(reason, 3)
    traffic.patterns.quality.nodes.add(host, 3)
    traffic.patterns.quality.bad.add(path, 3)
    page = page_of(traffic)
    items = page.count("\n- ")
    plain = page_of(_harmless())
    assert [line for line in page.split("\n") if not _OUTSIDE.fullmatch(line)] == []
    assert _headings(page) <= _headings(plain) | {"## The observation"}
    assert items <= plain.count("\n- ")
    assert len(page.splitlines()) == len(page.split("\n")) - (1 if page.endswith("\n") else 0)
    assert page.replace("\n", "").isprintable()
    assert _unescaped(page) == []


def _harmless() -> Traffic:
    traffic = Traffic()
    web, api = traffic.pod("shop/web"), traffic.pod("shop/api")
    traffic.add(web, api, 22, "TCP", Signal.DENIED, reason="reason")
    traffic.talk(web, at("203.0.113.7"), 443, times=1)
    traffic.call(web, api, 8080, "GET /admin", status=403)
    traffic.call(web, api, 8080, "GET /x*", "GET /")
    for name in ("lost", "nodes", "bad"):
        getattr(traffic.patterns.quality, name).add("word", 3)
    return traffic


def _headings(page: str) -> set[str]:
    return {line for line in page.split("\n") if line.startswith("#")}


def _unescaped(page: str) -> list[str]:
    """What Markdown would act on, besides the marks that the page itself makes."""
    own = re.sub(r"\*\*lw-[0-9a-f]+\*\*|`--accept lw-[0-9a-f]+`|\\[\\`*_\[\]<>#|!~]", "", page)
    body = [re.sub(r"^(# |## |- |  )", "", line) for line in own.split("\n")]
    return [line for line in body if re.search(r"[`<>\[\]|~*]", line)]


def test_nothing_observed_and_nothing_held_are_said() -> None:
    assert "No connection was observed" in page_of(Traffic())
    quiet = Traffic()
    quiet.talk(quiet.pod("shop/web"), quiet.pod("shop/db"), 5432)
    assert "Nothing was held back" in page_of(quiet, "none")
