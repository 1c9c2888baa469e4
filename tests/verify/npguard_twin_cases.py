"""np-guard/netpol-analyzer's directories that come with and without matching pods, or have several subjects.

They are named and read as those of `npguard_exposure_cases`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.verify.connection_lists import ALL, NONE
from tests.verify.npguard_cases import ANY, EVERYWHERE, HELLO, Case, Labels, about, chosen, into, onto, peer
from tests.verify.npguard_exposure_cases import (
    B_OR_MANAGED,
    BACKEND,
    BACKENDS,
    BOTH,
    EIGHT,
    IN_CLUSTER,
    MANAGED,
    NINE,
    PLAIN,
    SPACES,
    A,
    B,
    a,
    differing,
    twice,
)

SHOP: dict[str, Labels] = {f"default/{name}": {"app": name} for name in ("backend", "frontend")}
CLOSED, BACKEND_POD, FRONTEND = about("default/closed", ANY, "IE"), chosen("app:backend"), chosen("app:frontend")
TO_BACKEND = onto("TCP 9090", peer(BACKEND_POD))
IN_ENV = chosen("env=env-1|env-2", "tier")


def by_operator() -> Iterator[Case]:
    """`exposure_test_with_match_expression_*`: what an operator says of a namespace and of a pod."""
    web: dict[str, Labels] = {"qa/pod": {"app": "matching"}, "hello/web": {"app": "web"}}
    for name, where, which, inward, outward, more in (
        (
            "does_not_exist",
            "!env",
            "!app",
            {"*/*": ALL},
            {"hello/web": ALL, "other/pod": NONE},
            {"managed/pod": {"app": "matching"}, "hello/web": {"role": "web"}},
        ),
        ("exists", "env", "app", {"qa/*": ALL}, {"hello/b": ALL, "hello/web": ALL}, web),
        ("not_in", "env!=env-a|env-b", "app!=a|b", {"*/*": ALL}, {"hello/web": ALL}, web),
    ):
        yield from twice(
            f"test_with_match_expression_{name}_op",
            "with_matching_pods",
            more,
            a(ingress=[into("", peer(spaces=chosen(where)))], egress=[onto("", peer(chosen(which)))]),
            inward,
            outward,
        )


TWINS = [
    *twice(
        "test_rule_with_multiple_match_expressions",
        "with_matching_pod",
        {"hello/match": {"role": "frontend", "app": "matching-app", "tier": "frontend"}},
        a(ingress=[into("", peer(chosen("!env", "role=frontend|web|api", "app!=b|c|d", "tier")))]),
        {"hello/match": ALL},
    ),
    *twice(
        "test_with_different_rules_2",
        "with_matching_pod",
        {"hello/x": {"app": "x"}},
        differing(("app=x",), ("app",)),
        {"hello/x": BOTH, "hello/b": EIGHT},
    ),
    *twice(
        "test_with_different_rules_3",
        "with_matching_pod",
        {"hello/web": {"role": "web"}},
        differing(("app!=x",), ("!app",)),
        {"hello/web": BOTH, "hello/b": NINE},
    ),
    *twice(
        "test_with_different_rules_4",
        "with_matching_pods",
        {"hello/two": {"role": "web"}, "hello/one": {"role": "z"}},
        differing(("role!=x|y",), ("role!=w|x|y|z",)),
        {"hello/two": BOTH, "hello/one": NINE, "hello/b": BOTH},
    ),
    *twice(
        "test_with_different_rules_5",
        "with_matching_pods",
        {"hello/two": {"role": "w"}, "hello/one": {"role": "x"}},
        differing(("role!=x|y",), ("role=w|x|y|z",)),
        {"hello/two": BOTH, "hello/one": EIGHT, "hello/b": NINE},
    ),
    *twice(
        "test_with_different_rules_6",
        "with_matching_pods",
        {"x1/one": {"role": "w", "app": "app-x"}, "x2/two": {"role": "api", "app": "app-x"}},
        a(
            ingress=[
                into(
                    NINE, peer(chosen("role!=monitoring|search|web", "app:app-x"), chosen("env", "!app", "foo:managed"))
                ),
                into(EIGHT, peer(chosen("app:app-x", "role=api"), chosen("foo:managed", "env:env-1"))),
            ]
        ),
        {"x1/one": NINE, "x2/two": BOTH},
    ),
    *twice(
        "test_with_match_expression_in_op",
        "with_matching_pod",
        {"env/pod": {"app": "app-1"}},
        a(ingress=[into("", peer(chosen("app=app-1|app-2"), chosen("env=env-1|env-2")))]),
        {"env/pod": ALL},
        pods=PLAIN,
    ),
    *twice(
        "test_with_multiple_policies_1",
        "with_matching_pod",
        {"tiered/pod": {"app": "matching"}},
        [
            about("hello/np-1", A, ingress=[into("TCP 8050", peer(spaces=IN_ENV))]),
            about("hello/np-2", A, "IE", ingress=[into("", peer(spaces=chosen("tier", "env=env-2|env-1")))]),
        ],
        {"tiered/*": ALL},
        {},
        pods=PLAIN,
    ),
    *twice(
        "to_new_namespace_conn_and_entire_cluster",
        "with_matching_pod",
        {"managed/pod": {"app": "matching"}},
        a(ingress=[B_OR_MANAGED[0], into("TCP 8090", peer(spaces=MANAGED)), *IN_CLUSTER]),
        {"hello/b": ALL, "managed/*": "TCP 8050,8090", "*/*": "TCP 8050"},
    ),
]

SEVERAL = [
    Case(
        "exposure_test_minimal_netpol_analysis",
        SHOP | {"other/pod": {}},
        [
            about("default/backend", BACKEND_POD, "IE", ingress=[into("TCP 9090", EVERYWHERE)]),
            about("default/frontend", FRONTEND, "IE", ingress=[into("TCP 8080")], egress=[TO_BACKEND, onto("UDP 53")]),
            CLOSED,
        ],
        "default/backend => * : No Connections\n*/* => default/backend : TCP 9090\n"
        "* => default/backend : No Connections\n* => default/frontend : TCP 8080\n"
        "default/frontend => * : UDP 53\n* => * : All Connections",
    ),
    Case(
        "exposure_test_to_any_namespace_with_podSelector",
        SHOP | {"other/frontend": {"app": "frontend"}, "other/pod": {}},
        [
            about("default/backend", BACKEND_POD, "IE", ingress=[into("TCP 9090", peer(FRONTEND, ANY))]),
            about("default/frontend", FRONTEND, "IE", egress=[TO_BACKEND]),
            CLOSED,
        ],
        "*/frontend => default/backend : TCP 9090\n* => default/* : No Connections\n"
        "default/* => * : No Connections\n* => * : All Connections",
    ),
    Case(
        "exposure_test_to_namespace_except_specific_pod",
        BACKENDS,
        [
            about("backend/denied", chosen("app:backendservice"), "E"),
            a("IE", ingress=[into("TCP 8050", peer(spaces=BACKEND))]),
        ],
        "backend/app => * : No Connections\nhello/a => * : No Connections\nbackend/new => hello/a : TCP 8050\n"
        "* => hello/a : No Connections\n* => * : All Connections",
    ),
    Case(
        "exposure_test_with_multiple_policies_2",
        HELLO | {"tiered/pod": {}, "other/pod": {}},
        [
            about("hello/np1", A, ingress=[into("TCP 8050", peer(spaces=IN_ENV))]),
            about("hello/np2", B, "IE", ingress=[into("", peer(spaces=IN_ENV))]),
        ],
        "hello/b => * : No Connections\ntiered/* => hello/a : TCP 8050\n* => hello/a : No Connections\n"
        "tiered/* => hello/b : All Connections\n* => hello/b : No Connections\n* => * : All Connections",
        spaces=SPACES,
    ),
]

CASES = [*TWINS, *by_operator(), *SEVERAL]
