"""More of Istio's golden inputs (pilot/pkg/security/authz/builder/testdata), as in `istio_cases`: CUSTOM, AUDIT, dry
runs and trust domains.

Not here: `allow-full-rule`, `audit-full-rule`, `single-policy` and rule 5 of `custom-both-http-tcp`, whose rules hang
on headers, tokens and forwarded addresses, so that every answer would be undefined; `allow-host-before-111`, for
proxies that are long gone; and the providers' own settings (`custom-grpc-provider*`, `custom-http-provider*`), which
say how an authoriser is asked, not when.
"""

from __future__ import annotations

from typing import Any

from tests.verify.istio_cases import ALLOW, DENY, TCP, UNDEFINED, Case, Row, on, rule

Rule = dict[str, Any]

FROM: Rule = {"ipBlocks": ["1.2.3.4"]}
GET: Rule = {"methods": ["GET"]}
EXT: Rule = {"action": "CUSTOM", "provider": {"name": "default"}}
OTHER: Rule = {"action": "CUSTOM", "provider": {"name": "another"}}
DRY: Rule = {"annotations": {"istio.io/dry-run": "true"}}
INSIDE, OUTSIDE = "1.2.3.4", "1.2.3.5"


def custom(number: int, written: Rule, *rows: Row) -> Case:
    """A rule of `custom-both-http-tcp` alone; its first row is from `FROM`, on port 80."""
    return Case(f"tcp/custom-both-http-tcp: rule[{number}]", [on("p", written, **EXT)], list(rows))


def both(inside: str, outside: str, port: int = 80) -> list[Row]:
    return [Row(inside, source=INSIDE, port=port), Row(outside, source=OUTSIDE, port=port)]


def by(answers: dict[str, str]) -> list[Row]:
    return [Row(answer, "/", principal=principal) for principal, answer in answers.items()]


BUNDLE: Rule = {"trust_domain": "td1", "aliases": ["cluster.local", "some-td"]}
ALIASED: Rule = {"trust_domain": "some-td", "aliases": ["some-trustdomain"]}
CASES = [
    Case(
        "http/custom-simple-http",
        [on(f"p{i}", rule({"paths": [f"/httpbin{i}"]}), **EXT) for i in (1, 2)],
        [Row(UNDEFINED, "/httpbin1"), Row(UNDEFINED, "/httpbin2"), Row(ALLOW, "/httpbin3")],
    ),
    Case(
        "http/custom-bad-multiple-providers, http/custom-multiple-providers",
        [on("p1", rule({"paths": ["/httpbin1"]}), **EXT), on("p2", rule({"paths": ["/httpbin2"]}), **OTHER)],
        [Row(UNDEFINED, "/httpbin1"), Row(UNDEFINED, "/httpbin2"), Row(ALLOW, "/httpbin3")],
    ),
    custom(0, rule(GET), *both(UNDEFINED, UNDEFINED)),
    custom(1, rule(GET, FROM), *both(UNDEFINED, ALLOW)),
    custom(2, rule({"ports": ["80"]}, FROM), *both(UNDEFINED, ALLOW), *both(ALLOW, ALLOW, TCP)),
    custom(3, rule(None, None, {"key": "request.headers[:method]", "values": ["GET"]}), *both(UNDEFINED, UNDEFINED)),
    custom(
        4,
        rule(None, None, {"key": "destination.port", "values": ["80"]}),
        *both(UNDEFINED, UNDEFINED),
        *both(ALLOW, ALLOW, TCP),
    ),
    Case(
        "tcp/audit-both-http-tcp",
        [on("p", rule(GET, {"principals": ["principal"]}), rule({"ports": ["80"]}, FROM), action="AUDIT")],
        [*both(ALLOW, ALLOW), *both(ALLOW, ALLOW, TCP)],
    ),
    Case("http/dry-run-allow", [on("p", rule({"paths": ["/exact"]}), **DRY)], [Row(ALLOW, "/exact"), Row(ALLOW, "/x")]),
    Case(
        "tcp/dry-run-mix",
        [
            on("p1", rule({"ports": ["80"]}), **DRY),
            on("p2", rule({"ports": ["9000"]}), annotations={"istio.io/dry-run": "false"}),
        ],
        [*both(DENY, DENY, 80), *both(ALLOW, ALLOW, 9000), *both(DENY, DENY, 9001)],
    ),
    Case(
        "http/td-aliases-source-principal",
        [
            on(
                "p",
                rule(
                    None,
                    {"namespaces": ["a"]},
                    {"key": "source.principal", "values": ["*/ns/a/sa/all-td", "*-td/ns/a/sa/prefix-td"]},
                ),
            )
        ],
        by(
            {
                "any/ns/a/sa/all-td": ALLOW,
                "any-td/ns/a/sa/prefix-td": ALLOW,
                "some-trustdomain/ns/a/sa/prefix-td": ALLOW,
                "another/ns/a/sa/prefix-td": DENY,
                "any/ns/b/sa/all-td": DENY,
            }
        ),
        ALIASED,
    ),
    Case(
        "http/simple-policy-multiple-td-aliases",
        [
            on(
                "p",
                {
                    "from": [
                        {"source": {"principals": ["cluster.local/ns/a/sa/one"]}},
                        {
                            "source": {
                                "principals": ["some-td/ns/a/sa/two", "cluster.local/ns/b/sa/three"],
                                "namespaces": ["a"],
                            }
                        },
                    ]
                },
            )
        ],
        by(
            {
                f"{domain}/ns/a/sa/{name}": ALLOW
                for domain in ("td1", "cluster.local", "some-td")
                for name in ("one", "two")
            }
            | {"td1/ns/b/sa/three": DENY, "other/ns/a/sa/one": DENY, "td1/ns/b/sa/one": DENY}
        ),
        BUNDLE,
    ),
    Case(
        "http/trust-domains",
        [
            on(
                "p",
                {
                    "from": [
                        {"source": {"trustDomains": ["cluster.local", "bad-but-named"]}},
                        {"source": {"notTrustDomains": ["bad*", "untrusted"]}},
                    ]
                },
            )
        ],
        by(
            {
                "cluster.local/ns/a/sa/x": ALLOW,
                "bad-but-named/ns/a/sa/x": ALLOW,
                "bad-other/ns/a/sa/x": DENY,
                "untrusted/ns/a/sa/x": DENY,
                "else/ns/a/sa/x": ALLOW,
                "": ALLOW,
            }
        ),
    ),
]
