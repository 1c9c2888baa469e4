"""Emojivoto and Istio's TCP example under AuthorizationPolicies as people write them, and what is wrong with each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.known.conftest import Capture
from tests.e2e.known.judging import Broken, Case, access, check
from tests.e2e.known.topologies import emojivoto, tcp_echo

EMOJI = [f"POST /emojivoto.v1.EmojiService/{name}" for name in ("ListAll", "FindByShortcode")]
VOTING = [f"POST /emojivoto.v1.VotingService/{name}" for name in ("VoteDoughnut", "Results")]
PAGES = ["GET /api/list", "GET /api/vote"]


def broken(caller: str, callee: str, requests: list[str], policy: str, nearest: str) -> list[Broken]:
    title = f"AuthorizationPolicy emojivoto/{policy}"
    ends = (f"emojivoto/{caller}", f"emojivoto/{callee}")
    return [Broken(*ends, 8080, title, nearest, request=request) for request in requests]


EMOJIVOTO = [
    Case(
        "an identity of another trust domain",
        access("emojivoto/voting", """
            selector: {matchLabels: {app: voting-svc}}
            rules: [{from: [{source: {principals: [prod.example/ns/emojivoto/sa/web]}}]}]
        """),
        broken("web", "voting", VOTING, "voting", "fails on principals prod.example/ns/emojivoto/sa/web"),
    ),
    Case(
        "an identity with its scheme",
        access("emojivoto/voting", """
            selector: {matchLabels: {app: voting-svc}}
            rules: [{from: [{source: {principals: ["spiffe://cluster.local/ns/emojivoto/sa/web"]}}]}]
        """),
        broken("web", "voting", VOTING, "voting", "fails on principals spiffe://cluster.local/ns/emojivoto/sa/web"),
    ),
    Case(
        "the Service's port instead of the pod's",
        access("emojivoto/web", """
            selector: {matchLabels: {app: web-svc}}
            rules: [{to: [{operation: {ports: ["80"]}}]}]
        """),
        broken("vote-bot", "web", PAGES, "web", "fails on ports 80"),
    ),
    Case(
        "GET for gRPC",
        access("emojivoto/emoji", """
            selector: {matchLabels: {app: emoji-svc}}
            rules:
              - from: [{source: {principals: [cluster.local/ns/emojivoto/sa/web]}}]
                to: [{operation: {methods: [GET]}}]
        """),
        broken("web", "emoji", EMOJI, "emoji", "fails on methods GET"),
        "nearest AuthorizationPolicy emojivoto/emoji rule 0 fails on methods GET",
    ),
    Case(
        "a gRPC service without its methods",
        access("emojivoto/voting", """
            selector: {matchLabels: {app: voting-svc}}
            rules: [{to: [{operation: {paths: [/emojivoto.v1.VotingService, /emojivoto.v1.VotingService/Results]}}]}]
        """),
        broken("web", "voting", VOTING[:1], "voting", "fails on paths /emojivoto.v1.VotingService"),
    ),
    Case(
        "an asterisk inside a path",
        access("emojivoto/emoji", """
            selector: {matchLabels: {app: emoji-svc}}
            rules: [{to: [{operation: {paths: ["/*/ListAll", "/emojivoto.v1.EmojiService/Find*"]}}]}]
        """),
        broken("web", "emoji", EMOJI[:1], "emoji", "fails on paths /*/ListAll"),
    ),
    Case(
        "DENY with notPaths: all but one",
        access("emojivoto/web", """
            selector: {matchLabels: {app: web-svc}}
            action: DENY
            rules: [{to: [{operation: {notPaths: [/api/list]}}]}]
        """),
        broken("vote-bot", "web", PAGES[1:], "web", ""),
        "AuthorizationPolicy emojivoto/web rule 0 (DENY)",
    ),
    Case(
        "DENY for all but one namespace, which is the wrong one",
        access("emojivoto/emoji", """
            action: DENY
            selector: {matchLabels: {app: emoji-svc}}
            rules: [{from: [{source: {notNamespaces: [emoji]}}]}]
        """),
        broken("web", "emoji", EMOJI, "emoji", ""),
    ),
    Case(
        "allows for names of containers, above a deny for all",
        access("emojivoto/deny-all", "{}")
        + access("emojivoto/voting", """
            selector: {matchLabels: {app: voting}}
            rules: [{}]
        """)
        + access("emojivoto/others", """
            selector: {matchLabels: {app: web-svc}}
            rules: [{}]
        """)
        + access("emojivoto/emoji", """
            selector: {matchLabels: {app: emoji-svc}}
            rules: [{from: [{source: {serviceAccounts: [web]}}]}]
        """),
        broken("web", "voting", VOTING, "deny-all", ""),
    ),
    Case(
        "an account of another namespace",
        access("emojivoto/emoji", """
            selector: {matchLabels: {app: emoji-svc}}
            rules: [{from: [{source: {serviceAccounts: [default/web]}}]}]
        """),
        broken("web", "emoji", EMOJI, "emoji", "fails on serviceAccounts default/web"),
    ),
    Case(
        "a rule that wants both of two identities in one source",
        access("emojivoto/emoji", """
            selector: {matchLabels: {app: emoji-svc}}
            rules:
              - from: [{source: {principals: [cluster.local/ns/emojivoto/sa/web], namespaces: [default]}}]
        """),
        broken("web", "emoji", EMOJI, "emoji", "fails on namespaces default"),
    ),
    Case(
        "tokens asked of those who have none",
        access("emojivoto/voting", """
            selector: {matchLabels: {app: voting-svc}}
            rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]
        """),
        broken("web", "voting", VOTING, "voting", ""),
        "whether it matches depends on what is not known of the request",
    ),
]  # fmt: skip


def echo(port: int, nearest: str) -> Broken:
    return Broken("foo/sleep", "foo/tcp-echo", port, "AuthorizationPolicy foo/tcp", nearest)


SELECTED = "selector: {matchLabels: {app: tcp-echo}}"
TCP_ECHO = [
    Case(
        "a method on a TCP port takes the rule away",
        access("foo/tcp", f"""
            {SELECTED}
            rules: [{{to: [{{operation: {{methods: [GET], ports: ["9000", "9001"]}}}}]}}]
        """),
        [echo(port, "rule 0 fails on methods, which a port without HTTP does not have") for port in (9000, 9001)],
    ),
    Case(
        "one port of two",
        access("foo/tcp", f"""
            {SELECTED}
            rules: [{{to: [{{operation: {{ports: ["9000"]}}}}]}}]
        """),
        [echo(9001, "fails on ports 9000")],
    ),
    Case(
        "DENY of a method on a TCP port denies all of it",
        access("foo/tcp", f"""
            {SELECTED}
            action: DENY
            rules: [{{to: [{{operation: {{methods: [GET], ports: ["9000"]}}}}]}}]
        """),
        [echo(9000, "")],
    ),
    Case(
        "DENY of a path denies all TCP ports",
        access("foo/tcp", f"""
            {SELECTED}
            action: DENY
            rules: [{{to: [{{operation: {{paths: [/admin]}}}}]}}]
        """),
        [echo(9000, ""), echo(9001, "")],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", EMOJIVOTO, ids=[case.name for case in EMOJIVOTO])
def test_emojivoto(capture: Capture, case: Case, tmp_path: Path) -> None:
    check(capture(emojivoto), case, tmp_path, "--mesh", "sidecar")


@pytest.mark.parametrize("case", TCP_ECHO, ids=[case.name for case in TCP_ECHO])
def test_tcp_echo(capture: Capture, case: Case, tmp_path: Path) -> None:
    check(capture(tcp_echo), case, tmp_path, "--mesh", "sidecar")
