"""The rules of one AuthorizationPolicy: what each caller may do at a workload, or at the waypoint in front of it.

Invariant: every access names ports and never mixes layers: either methods and paths of HTTP, or a TCP port alone. A
rule with an HTTP field on a TCP port would silently allow nothing (Istio, "AuthorizationPolicy", TCP filter chains).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from collector.paths import Request, templates
from synthesizer.access_review import inexpressible_requests, rejected_requests, requests_together, template_sibling
from synthesizer.callers import caller_blocks, callers, legitimate_requests, reads_http
from synthesizer.decisions import Decision
from synthesizer.intent import Access, fewest_accesses
from synthesizer.lines import Line, past_waypoint
from synthesizer.options import Options
from synthesizer.party import party_key
from synthesizer.review import ReviewItem
from synthesizer.workload import Workload

_Requests = dict[Request, int]  # with their numbers of records


class AccessRules(NamedTuple):
    """What is allowed, and the questions that came up."""

    accesses: tuple[Access, ...]
    review: list[ReviewItem]


def access_rules(
    workload: Workload, called: list[Decision], options: Options, at_waypoint: bool = False
) -> AccessRules:
    """The fewest accesses that let exactly these callers through.

    A call whose requests cannot all be allowed has it noted in its decision, by the id of the question about it.
    """
    by_port: dict[int, list[Decision]] = {}
    for decision in called:
        by_port.setdefault(decision.line.port, []).append(decision)
    found: list[Access] = []
    review: list[ReviewItem] = []
    for port, here in sorted(by_port.items()):
        web = [decision for decision in here if by_requests(decision.line, options, at_waypoint)]
        found += (_access(decision, options, port) for decision in here if decision not in web)
        http = _http(workload, port, web, options)
        found += http.accesses
        review += http.review
    return AccessRules(fewest_accesses(found), review)


def by_requests(line: Line, options: Options, at_waypoint: bool = False) -> bool:
    """Whether rules may name requests: callers past the waypoint reach ztunnel, which sees none."""
    return reads_http(line, options) and (options.mesh == "sidecar" or at_waypoint or not past_waypoint(line))


def _access(
    decision: Decision, options: Options, port: int, methods: tuple[str, ...] = (), paths: tuple[str, ...] = ()
) -> Access:
    """What a decision lets its caller do; a caller without a principal may be named by its address."""
    principals = callers(decision.line, options)
    blocks = () if principals else caller_blocks(decision.line)
    return Access(decision.cause, principals, (port,), methods, paths, blocks)


def _http(workload: Workload, port: int, called: list[Decision], options: Options) -> AccessRules:
    """What the callers of one HTTP port may ask for, and the questions that come up."""
    by_client = {party_key(decision.line.source): decision for decision in called}
    requests = {client: legitimate_requests(decision.line.own) for client, decision in by_client.items()}
    usage = {client: used for client, used in requests.items() if used}
    review = [*_rejected(workload, port, by_client, requests), *_together(workload, port, by_client, usage, options)]
    chosen = templates(usage)
    for swallowed in chosen.swallowed:
        review.append(template_sibling(workload, port, by_client[swallowed.client].line, swallowed))
    refused: dict[str, list[Request]] = {}
    for client, request in chosen.inexpressible:
        refused.setdefault(client, []).append(request)
    for client, unnamed in refused.items():
        review.append(inexpressible_requests(workload, port, by_client[client], unnamed, usage[client], chosen))
    accesses = tuple(
        _access(by_client[client], options, port, (choice.method,), (choice.path,) if choice.path else ())
        for client, choices in sorted(chosen.per_client.items())
        for choice in choices
    )
    return AccessRules(accesses, review)


def _rejected(
    workload: Workload, port: int, by_client: dict[str, Decision], requests: dict[str, _Requests]
) -> Iterator[ReviewItem]:
    """Ask about requests that were only ever refused; a caller that has no others is held."""
    for client, decision in by_client.items():
        used = {f"{request.method} {request.path}" for request in requests[client]}
        only_rejected = sorted(set(decision.line.own.rejected) - used)
        if only_rejected:
            item = rejected_requests(workload, port, decision.line, only_rejected)
            decision.access_review = "" if used else item.id
            yield item


def _together(
    workload: Workload, port: int, by_client: dict[str, Decision], usage: dict[str, _Requests], options: Options
) -> Iterator[ReviewItem]:
    """Ask about callers that are granted each other's requests, because the log does not keep them apart."""
    mixed = [by_client[client].line for client in sorted(usage) if by_client[client].line.together]
    several = len({request for used in usage.values() for request in used}) > 1
    if several and len({callers(line, options) for line in mixed}) > 1:  # one identity cannot be split anyway
        yield requests_together(workload, port, sorted(str(line.source) for line in mixed))
