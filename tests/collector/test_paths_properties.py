"""What must hold for any requests: coverage, order, syntax, bounds, and nothing admitted that is not accounted for."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from collector import paths
from collector.paths import Choice, Request, Templates, covers, normalise, templates
from collector.segments import kind

Usage = dict[str, dict[Request, int]]

WORDS = ["users", "me", "admin", "api", "orders", "v1", "shop.Cart", "a%2Fb", "it's", "", ".", "..", "~x"]
VALUES = ["1", "7", "2024-01-02", "dead1beef", "ann@example.com", "9f1c2d3e-0000-4abc-8def-001122334455"]
ODD = ["*", "{id}", "{*}", "{**}", "a b", "é", "\\", "%2e", "%", "\x00", "\ud800", "?", "#"]
SEGMENT = st.sampled_from(WORDS + VALUES) | st.sampled_from(ODD)
PATH = st.lists(SEGMENT, max_size=5).map(lambda segments: "/" + "/".join(segments)) | st.text(max_size=8)
REQUEST = st.builds(Request, st.sampled_from(["GET", "POST", "CONNECT", "", "*"]), PATH)
PLAIN = st.builds(
    Request,
    st.just("GET"),
    st.lists(st.sampled_from(WORDS[:6] + VALUES), min_size=1, max_size=4).map("/".join).map("/{}".format),
)
SLUG = st.builds(Request, st.just("GET"), st.integers(0, 99).map(lambda n: f"/p/{n}-x" if n else "/p/admin"))


def usages(requests: st.SearchStrategy[Request], size: int = 12) -> st.SearchStrategy[Usage]:
    counted = st.dictionaries(requests, st.integers(1, 40), max_size=size)
    return st.dictionaries(st.sampled_from(["web", "ops", "job"]), counted, max_size=3)


ANYTHING = usages(REQUEST) | usages(PLAIN) | usages(SLUG, 90)
TEMPLATE = re.compile(r"(?:/(?:\{\*\}|[a-zA-Z0-9\-._~%!$&'()+,;:@=]+))+/?")


def admits(choice: Choice, request: Request) -> bool:
    """Istio's decision on a request; an unknown method or path of a choice stands for itself only."""
    authority = request.method == "CONNECT" and not request.path.startswith("/")
    path = "" if authority else normalise(request.path) if request.path else ""
    return choice.method == request.method and path is not None and covers(choice.path, path)


@settings(max_examples=150, deadline=None)
@given(ANYTHING)
def test_each_expressible_request_is_covered_by_its_client(usage: Usage) -> None:
    result = templates(usage)
    for client, requests in usage.items():
        for request in requests:
            known = any(admits(choice, request) for choice in result.per_client[client])
            assert known is ((client, request) not in result.inexpressible)


@settings(max_examples=100, deadline=None)
@given(ANYTHING, st.randoms(use_true_random=False))
def test_order_and_splitting_change_nothing(usage: Usage, random: object) -> None:
    parts = [(client, request, part) for client, r in usage.items() for request, n in r.items() for part in (1, n - 1)]
    random.shuffle(parts)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    merged: dict[str, Counter[Request]] = {client: Counter() for client in reversed(list(usage))}
    for client, request, part in parts:
        merged[client][request] += part
    assert templates(merged) == templates(usage)


@settings(max_examples=100, deadline=None)
@given(ANYTHING)
def test_each_choice_is_valid_istio_syntax(usage: Usage) -> None:
    result = templates(usage)
    for choices in result.per_client.values():
        assert list(choices) == sorted(set(choices))
        for choice in choices:
            assert "*" not in choice.method
            if "{" in choice.path:
                assert TEMPLATE.fullmatch(choice.path)
                assert result.because[choice.method, choice.path]
            else:
                assert not {"*", "}"} & set(choice.path)
                assert choice.path == "" or choice.path.startswith("/")


@settings(max_examples=100, deadline=None)
@given(ANYTHING)
def test_no_choice_is_idle(usage: Usage) -> None:
    result = templates(usage)
    for client, choices in result.per_client.items():
        for choice in choices:
            others = [other for other in choices if other != choice]
            mine = [r for r in usage[client] if admits(choice, r) and not any(admits(o, r) for o in others)]
            assert mine, f"{choice} admits nothing that the rest does not"


def accounted(result: Templates, client: str, choice: Choice, path: str) -> bool:
    """Whether a template admits a path as a value of the same position, or with a report."""
    segments = path.split("/")
    values = all(
        kind(segments[at], segments[at - 1]) for at, part in enumerate(choice.path.split("/")) if part == "{*}"
    )
    return values or any(
        s.client == client and s.method == choice.method and s.template == choice.path and covers(s.path, path)
        for s in result.swallowed
    )


@settings(max_examples=200, deadline=None)
@given(usages(PLAIN))
def test_what_others_used_is_admitted_only_as_a_value_or_with_a_report(usage: Usage) -> None:
    result = templates(usage)
    for client, choices in result.per_client.items():
        foreign = {r for other, requests in usage.items() if other != client for r in requests} - set(usage[client])
        used = {(r.method, normalise(r.path)) for r in usage[client]}
        for request in foreign:
            path = normalise(request.path)
            if path is None or (request.method, path) in used:
                continue
            admitting = [choice for choice in choices if admits(choice, request)]
            assert all(accounted(result, client, choice, path) for choice in admitting)


@settings(max_examples=100, deadline=None)
@given(usages(SLUG, 90))
def test_evidence_never_takes_in_a_protected_word_unnoticed(usage: Usage) -> None:
    result = templates(usage)
    admin = Request("GET", "/p/admin")
    for client, choices in result.per_client.items():
        seen = any(admin in requests for requests in usage.values())
        if seen and admin not in usage[client] and any(admits(choice, admin) for choice in choices):
            assert any(s.client == client and s.path == "/p/admin" for s in result.swallowed)
            assert len(usage[client]) > paths.VALUES


@settings(max_examples=50, deadline=None)
@given(usages(PLAIN), PLAIN)
def test_another_clients_request_never_widens_a_literal(usage: Usage, request: Request) -> None:
    """With too little for evidence, a client's choices depend on its own requests only."""
    before = templates(usage).per_client.get("web", ())
    usage.setdefault("ops", {})[request] = 1
    assert templates(usage).per_client.get("web", ()) == before


@settings(max_examples=200, deadline=None)
@given(PATH)
def test_normalising_twice_is_normalising_once(path: str) -> None:
    once = normalise(path)
    assert once is None or normalise(once) == once
