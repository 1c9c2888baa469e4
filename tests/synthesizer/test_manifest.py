"""A user's own template may change what people see, never what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from collector.errors import RenderError
from synthesizer.intent import BlockPeer, Cause, NetworkIntent, PodPeer, Port, Rule, Target
from synthesizer.manifest import Manifest, checked
from synthesizer.outputs import networkpolicy
from synthesizer.package_data import templates_root
from synthesizer.render import Renderer

OURS = templates_root().joinpath(networkpolicy.TEMPLATE).read_text(encoding="utf-8")
PEERS = (PodPeer("shop", (("app", "web"),)), BlockPeer("9.9.9.9/32"))
INTENT = NetworkIntent(
    Target("shop", "db", (("app", "db"),)),
    ("ingress", "egress"),
    (
        Rule("ingress", Cause.OBSERVED, PEERS, (Port("TCP", 5432),)),
        Rule("egress", Cause.DNS, PEERS[:1], (Port("UDP", 53),)),
    ),
)


@pytest.fixture
def render(tmp_path: Path) -> Callable[[str], Manifest]:
    """Render INTENT with a user's template."""

    def rendered(text: str) -> Manifest:
        own = tmp_path / networkpolicy.TEMPLATE
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(text, encoding="utf-8")
        return networkpolicy.manifest(INTENT, Renderer(str(tmp_path)))

    return rendered


def changed(old: str, new: str) -> str:
    assert old in OURS
    return OURS.replace(old, new, 1)


LABEL = "    app.kubernetes.io/managed-by: leastway\n"


@pytest.mark.parametrize(
    "text",
    [
        OURS,
        changed(LABEL, "    team: checkout\n  annotations:\n    owner: {{ intent.target.name | yaml }}\n"),
        changed("  labels:\n" + LABEL, ""),
        "# our policies\n" + OURS + "# end\n",
        "---\n" + OURS + "\n...\n",
        changed("kind: NetworkPolicy", '"kind": !!str NetworkPolicy'),
    ],
    ids=["ours", "labels", "no-labels", "comments", "markers", "style"],
)
def test_what_only_people_see_may_change(render: Callable[[str], Manifest], text: str) -> None:
    made = render(text)
    assert made.document["spec"] == networkpolicy.document(INTENT)["spec"]
    assert (made.kind, made.namespace, made.name) == ("NetworkPolicy", "shop", "db")
    assert made.path == "shop/networkpolicy-db.yaml"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (changed("{%- for rule in rules %}", "{%- for rule in rules[1:] %}"), "egress"),
        (changed("{%- for direction, ends, rules in sections %}", "{%- for d, e, r in [] %}{% set rules = [] %}"), ""),
        (changed("      ports:\n", "        - podSelector: {}\n      ports:\n"), "entries"),
        (changed("{{ port.number | yaml }}", "{{ port.number + 1 }}"), "is 54 instead of 53"),
        (changed("{{ port.number | yaml }}", '"{{ port.number }}"'), "'53' instead of 53"),
        (changed("{{ peer.cidr | yaml }}", "0.0.0.0/0"), "cidr"),
        (changed("{{ policy_types | yaml }}", '["Ingress"]'), "policyTypes"),
        (changed("  name: {{ intent.target.name | yaml }}", "  name: other"), "name"),
        (changed("  namespace:", "  finalizers: [x]\n  namespace:"), "finalizers was added"),
        (changed("spec:", "status: {}\nspec:"), "status was added"),
        (changed(LABEL, LABEL + "  annotations:\n    istio.io/dry-run: 'true'\n"), "annotations was added"),
        (OURS + "\n---\n" + OURS, "2 documents"),
        (OURS + "\n---\napiVersion: v1\nkind: Secret\n", "2 documents"),
        ("", "0 documents"),
        ("- a list\n", "instead of one"),
        ("{{ '{' }}", "not YAML"),
        (changed("spec:", "spec: &a\n  <<: *a"), ""),
        ("metadata: text\n", ""),
        ("metadata: [1]\n", ""),
        (changed(LABEL, LABEL + "  annotations: text\n"), ""),
        (changed(LABEL, LABEL + "  annotations: [text]\n"), ""),
        ("kind: {{ '1' * 5000 }}", ""),
        ("? [a]\n: b\n", ""),
        (changed("spec:", "spec: {}\nspec:"), "'spec' stands there twice"),
    ],
)
def test_what_would_change_what_is_allowed_is_refused(render: Callable[[str], Manifest], text: str, told: str) -> None:
    with pytest.raises(RenderError) as refused:
        render(text)
    assert told in str(refused.value)
    assert networkpolicy.TEMPLATE in refused.value.where


def test_the_text_is_what_was_checked() -> None:
    made = networkpolicy.manifest(INTENT, Renderer())
    assert yaml.safe_load(made.text) == made.document


def test_equal_numbers_of_another_type_are_not_equal() -> None:
    expected = {"kind": "X", "a": 1}
    assert checked("p", "kind: X\na: 1\n", expected, "t").document == expected
    for wrong in ("1.0", "true", '"1"'):
        with pytest.raises(RenderError):
            checked("p", f"kind: X\na: {wrong}\n", expected, "t")
