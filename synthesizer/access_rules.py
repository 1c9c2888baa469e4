"""The rules of one AuthorizationPolicy: what each caller may do at a workload, or at the waypoint in front of it.

Invariant: every access names ports and never mixes layers: either methods and paths of HTTP, or a TCP port alone. A
rule with an HTTP field on a TCP port would silently allow nothing (Istio, "AuthorizationPolicy", TCP filter chains).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from collector.paths import Request, Templates, templates
from synthesizer.access_review import (
    inexpressible_requests,
    rejected_requests,
    requests_together,
    template_sibling,
    unnamed_requests,
)
from synthesizer.callers import caller_blocks, callers, legitimate_requests, reads_http
from synthesizer.decisions import Decision
from synthesizer.intent import Access, fewest_accesses
from synthesizer.lines import Line, past_waypoint
from synthesizer.options import Options
from synthesizer.party import party_key
from synthesizer.review import ReviewItem

Ports = tuple[int, ...]  # that one rule names
_Clients = dict[str, list[Decision]]  # several decisions of a client if several workloads are behind a Service
_Usage = dict[str, dict[Request, int]]  # numbers of records, by client and request


class AccessRules(NamedTuple):
    """What is allowed, and the questions that came up."""

    accesses: tuple[Access, ...]
    review: list[ReviewItem]


def access_rules(by_ports: Mapping[Ports, list[Decision]], options: Options, at_waypoint: bool = False) -> AccessRules:
    """The fewest accesses that let exactly these callers through, by the ports that their rules name.

    A call whose requests cannot all be allowed has it noted in its decision, by the id of the question about it.
    """
    found: list[Access] = []
    review: list[ReviewItem] = []
    for ports, here in sorted(by_ports.items()):
        web = [decision for decision in here if by_requests(decision.line, options, at_waypoint)]
        found += (_access(decision, options, ports) for decision in here if decision not in web)
        http = _http(ports, web, options)
        found += http.accesses
        review += http.review
    return AccessRules(fewest_accesses(found), review)


def by_requests(line: Line, options: Options, at_waypoint: bool = False) -> bool:
    """Whether rules may name requests: callers past the waypoint reach ztunnel, which sees none."""
    return reads_http(line, options) and (options.mesh == "sidecar" or at_waypoint or not past_waypoint(line))


def _access(
    decision: Decision, options: Options, ports: Ports, methods: tuple[str, ...] = (), paths: tuple[str, ...] = ()
) -> Access:
    """What a decision lets its caller do; a caller without a principal may be named by its address."""
    principals = callers(decision.line, options)
    blocks = () if principals else caller_blocks(decision.line)
    return Access(decision.cause, principals, ports, methods, paths, blocks)


def _http(ports: Ports, called: list[Decision], options: Options) -> AccessRules:
    """What the callers of one HTTP port may ask for, and the questions that come up."""
    by_client, usage = _usage(called)
    chosen = templates(usage)
    review = [
        *_rejected(called),
        *_together(by_client, usage, options),
        *(template_sibling(by_client[found.client][0].line, found) for found in chosen.swallowed),
        *_inexpressible(chosen, by_client),
    ]
    accesses = tuple(
        _access(decision, options, ports, (choice.method,), (choice.path,) if choice.path else ())
        for client, choices in sorted(chosen.per_client.items())
        for choice in choices
        for decision in by_client[client]
    )
    return AccessRules(accesses, review)


def _usage(called: list[Decision]) -> tuple[_Clients, _Usage]:
    """What each client asked for and got; records that several decisions share count once."""
    by_client: _Clients = {}
    usage: _Usage = {}
    for decision in called:
        requests = legitimate_requests(decision.line.own)
        if not requests:
            continue
        client = party_key(decision.line.source)
        others = by_client.setdefault(client, [])
        used = usage.setdefault(client, {})
        if all(decision.line.own.requests is not other.line.own.requests for other in others):
            for request, count in requests.items():
                used[request] = used.get(request, 0) + count
        others.append(decision)
    return by_client, usage


def _rejected(called: list[Decision]) -> Iterator[ReviewItem]:
    """Ask about requests that were only ever refused; a caller that has no others is held."""
    for decision in called:
        used = {f"{request.method} {request.path}" for request in legitimate_requests(decision.line.own)}
        only_rejected = sorted(set(decision.line.own.rejected) - used)
        if only_rejected:
            item = rejected_requests(decision.line, only_rejected)
            decision.access_review = "" if used else item.id
            yield item


def _together(by_client: _Clients, usage: _Usage, options: Options) -> Iterator[ReviewItem]:
    """Ask about callers that are granted each other's requests, because the log does not keep them apart."""
    mixed = [decisions[0].line for _, decisions in sorted(by_client.items()) if decisions[0].line.together]
    several = len({request for used in usage.values() for request in used}) > 1
    if several and len({callers(line, options) for line in mixed}) > 1:  # one identity cannot be split anyway
        yield requests_together(mixed)


def _inexpressible(chosen: Templates, by_client: _Clients) -> Iterator[ReviewItem]:
    """The questions about requests that no rule can name; holds them."""
    refused: dict[str, list[Request]] = {}
    for client, request in chosen.inexpressible:
        refused.setdefault(client, []).append(request)
    for client, listed in refused.items():
        for decision in by_client[client]:
            used = legitimate_requests(decision.line.own)
            unnamed = unnamed_requests(listed, used, chosen.per_client.get(client, ()))
            if unnamed:
                yield inexpressible_requests(decision, unnamed, used)
