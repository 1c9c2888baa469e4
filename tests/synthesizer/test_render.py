"""Text from traffic in YAML: whatever it is, it comes back as itself and changes nothing around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from collector.errors import RenderError
from synthesizer.intent import (
    Access,
    AccessIntent,
    BlockPeer,
    Cause,
    MutualTLSIntent,
    NetworkIntent,
    PodPeer,
    Port,
    Rule,
    Target,
)
from synthesizer.outputs import authorizationpolicy, networkpolicy, peerauthentication
from synthesizer.render import Renderer, to_comment, to_yaml

RENDERER = Renderer()
PIECES = st.sampled_from(
    [
        "{{ 7 * 7 }}",
        "{% for x in y %}",
        "{#",
        "\n  ingress:\n  - {}",
        "\n---\nkind: ClusterRole\n",
        "...\n",
        "# ",
        ": ",
        "- ",
        "&a *a",
        "!!python/object/apply:os.system",
        "<<",
        '"',
        "'",
        "\\",
        "\\u0041",
        "\\ud83d\\ude00",
        "%",
        "@",
        "`",
        "|",
        ">",
        "~",
        "null",
        "yes",
        "1e3",
        "0x10",
        "1:30",
        "2026-03-02",
        "\x00",
        "\x07",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\xa0",
        "\u2028",
        "\u2029",
        "\ufeff",
        "\ufffe",
        "\uffff",
        "\u202e",
        "\N{GRINNING FACE}",
        "\U0010ffff",
        "\t",
        "\r\n",
    ]
)
HOSTILE = st.text() | st.lists(PIECES | st.text(max_size=4), max_size=5).map("".join)


# -- the filter -----------------------------------------------------------------------------------------------------


@given(HOSTILE)
@example("")
@example("\\\N{GRINNING FACE}\\")
def test_any_text_comes_back_as_itself_in_one_plain_line(text: str) -> None:
    written = to_yaml(text)
    assert written.isascii()
    assert written.isprintable()
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert yaml.load(f"- a: {written}\n  b: [{written}]\n- {written}: c\n", Loader=loader) == [
            {"a": text, "b": [text]},
            {text: "c"},
        ]


@given(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])))
def test_it_is_json_too_as_far_as_json_and_yaml_agree(text: str) -> None:
    assert json.loads(to_yaml(text)) == text


@given(st.lists(HOSTILE, max_size=4))
def test_lists_and_tuples_are_written_alike(texts: list[str]) -> None:
    assert yaml.safe_load(to_yaml(texts)) == texts
    assert to_yaml(tuple(texts)) == to_yaml(texts)


def test_numbers_stay_numbers_and_text_that_looks_like_one_stays_text() -> None:
    assert (to_yaml(443), to_yaml("443"), to_yaml("yes"), to_yaml("")) == ("443", '"443"', '"yes"', '""')


@given(HOSTILE)
def test_a_comment_takes_only_our_own_words(text: str) -> None:
    try:
        written = to_comment(text)
    except RenderError:
        return
    assert written == text
    assert yaml.safe_load(f"# {written}\na: 1\n") == {"a": 1}


def test_every_cause_may_stand_in_a_comment() -> None:
    assert [to_comment(cause) for cause in Cause] == [cause.value for cause in Cause]


# -- whole documents ------------------------------------------------------------------------------------------------


@given(HOSTILE, HOSTILE, HOSTILE, st.dictionaries(HOSTILE, HOSTILE, min_size=1, max_size=3))
def test_a_network_policy_keeps_its_shape_whatever_the_labels_say(
    namespace: str, name: str, peer: str, labels: dict[str, str]
) -> None:
    pairs = tuple(sorted(labels.items()))
    rule = Rule("ingress", Cause.OBSERVED, (PodPeer(peer, pairs), BlockPeer(peer, (name,))), (Port("TCP", 80),))
    intent = NetworkIntent(Target(namespace, name, pairs), ("ingress", "egress"), (rule,))
    made = yaml.load(networkpolicy.manifest(intent, RENDERER).text, Loader=yaml.CSafeLoader)
    expected = networkpolicy.document(intent)
    assert made["metadata"].pop("labels") == {"app.kubernetes.io/managed-by": "leastway"}
    assert made == expected
    assert made["spec"]["podSelector"]["matchLabels"] == labels


@given(HOSTILE, HOSTILE, HOSTILE, st.lists(HOSTILE, min_size=1, max_size=3))
def test_an_authorization_policy_keeps_its_shape_whatever_paths_and_principals_say(
    namespace: str, principal: str, method: str, requested: list[str]
) -> None:
    access = Access(Cause.OBSERVED, (principal,), (8080,), (method,), tuple(requested))
    intent = AccessIntent(Target(namespace, namespace, ((principal, method),)), (access,))
    made = yaml.load(authorizationpolicy.manifest(intent, RENDERER).text, Loader=yaml.CSafeLoader)
    del made["metadata"]["labels"]
    assert made == authorizationpolicy.document(intent)
    (rule,) = made["spec"]["rules"]
    assert rule["to"][0]["operation"]["paths"] == requested


@given(HOSTILE)
def test_a_peer_authentication_keeps_its_shape(namespace: str) -> None:
    made = yaml.load(peerauthentication.manifest(MutualTLSIntent(namespace), RENDERER).text, Loader=yaml.CSafeLoader)
    assert made["metadata"]["namespace"] == namespace
    assert made["spec"] == {"mtls": {"mode": "STRICT"}}


# -- templates that do not work -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"{{ intent.nothing }}",
        b"{{ nothing }}",
        b"{% for x in %}",
        b"{% include 'no-such-template' %}",
        b"{{ 1 / 0 }}",
        b"{{ intent.target.name.nothing() }}",
        b"{{ [1][7] }}",
        b"{{ 'x' + 1 }}",
        b"{{ '%d' | format('x') }}",
        b"{% include 'policy.yaml.j2' %}",
        b"\xff\xfe",
    ],
)
def test_a_broken_template_is_an_error_that_names_it(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "policy.yaml.j2").write_bytes(text)
    values: dict[str, Any] = {"intent": MutualTLSIntent("shop")}
    with pytest.raises(RenderError, match=r"policy\.yaml\.j2"):
        Renderer(str(tmp_path)).render("policy.yaml.j2", **values)


def test_a_missing_template_and_a_missing_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="no template"):
        RENDERER.render("networking.k8s.io/nothing.j2")
    with pytest.raises(RenderError, match="no such folder"):
        Renderer(str(tmp_path / "nowhere"))


def test_a_folder_of_the_users_goes_first_and_ours_fills_in(tmp_path: Path) -> None:
    own = tmp_path / "security.istio.io"
    own.mkdir()
    (own / "peerauthentication.yaml.j2").write_text("mine: {{ intent.namespace | yaml }}")
    renderer = Renderer(str(tmp_path))
    intent = MutualTLSIntent("shop")
    assert renderer.render("security.istio.io/peerauthentication.yaml.j2", intent=intent) == 'mine: "shop"\n'
    assert renderer.render("kustomize.config.k8s.io/kustomization.yaml.j2", files=[]).endswith("resources:\n")
