"""The questions of the identity layer: callers that cannot be named there, and requests that no rule can name.

Invariant: each item says who, what and why, and the decision of a held request names the item.
"""

from __future__ import annotations

from collections.abc import Sequence

from collector.evidence import Evidence
from collector.paths import INEXPRESSIBLE, Choice, Request, Swallowed, covers, normalise
from synthesizer.decisions import Decision
from synthesizer.lines import Line, via_waypoint
from synthesizer.party import party_key
from synthesizer.review import ReviewItem, item_id, listed, summary
from synthesizer.workload import Workload


def unselectable_member(workload: Workload) -> ReviewItem:
    """A workload in the mesh that no selector can pick."""
    return ReviewItem(
        item_id("unselectable", str(workload), "access"),
        "unselectable",
        str(workload),
        f"no AuthorizationPolicy for {workload}",
        "its labels are not known; give --inventory",
    )


def unknown_waypoint(workload: Workload, called: list[Decision]) -> ReviewItem:
    """Calls through a waypoint that the inventory does not have: what the workload itself sees of them is not known."""
    evidence = Evidence()
    for line in (decision.line for decision in called):
        evidence.merge(line.evidence)
    item = ReviewItem(
        item_id("unknown-waypoint", party_key(workload)),
        "unknown-waypoint",
        str(workload),
        f"{listed(sorted({str(decision.line.source) for decision in called}))} → {workload}, through a waypoint",
        "neither the waypoint's identity nor the ports behind it are known; give an --inventory with Services, "
        "Namespaces and Gateways",
        evidence=summary(evidence),
    )
    for decision in called:
        decision.access_review = item.id
    return item


def plaintext_caller(workload: Workload, line: Line) -> ReviewItem:
    """A caller without a principal; all callers of one place (nodes, say) are one question."""
    source = party_key(line.source) if isinstance(line.source, Workload) else f"o/{line.source.place.value}"
    return ReviewItem(
        item_id("plaintext-caller", source, party_key(workload), str(line.port)),
        "plaintext-caller",
        str(workload),
        f"{line.source} → {workload} at TCP {line.port}, in plaintext",
        "it has no principal that a rule could name; accepting opens the port to any caller",
        acceptable=True,
        evidence=summary(line.evidence),
    )


def partly_plaintext(workload: Workload, line: Line) -> ReviewItem:
    """A caller that has a principal in some calls and none in others: its older pods may lack the proxy."""
    return ReviewItem(
        item_id("plaintext-caller", party_key(line.source), party_key(workload), str(line.port), "partly"),
        "plaintext-caller",
        str(workload),
        f"{line.source} → {workload} at TCP {line.port}, partly in plaintext",
        "the rule names its identity, so what it sends in plaintext will be denied; see that all of its pods have "
        "their proxy before this is enforced",
        False,
        summary(line.evidence),
    )


def rejected_requests(line: Line, requests: list[str]) -> ReviewItem:
    """Requests that were only ever refused."""
    return ReviewItem(
        item_id("rejected-requests", party_key(line.source), party_key(line.destination), str(line.port)),
        "rejected-requests",
        str(line.destination),
        f"{line.source} → {line.destination} at {line.port}: {listed(requests, 5)}",
        "these requests were only ever answered with an error or not at all, so they are no evidence of intent",
        evidence=summary(line.evidence),
    )


def template_sibling(line: Line, found: Swallowed) -> ReviewItem:
    """A path that a template admits although this client never used it."""
    workload, port = line.destination, line.port
    method, template, path = found.method, found.template, found.path
    return ReviewItem(
        item_id("template-sibling", party_key(line.source), party_key(workload), str(port), method, template, path),
        "template-sibling",
        str(workload),
        f"{line.source} may {method} {path} on {workload} at {port}, admitted by the template {template}",
        "others use this path and this client never did; Istio's templates cannot leave a sibling out",
    )


def requests_together(lines: list[Line]) -> ReviewItem:
    """Callers that a log names only by address, whose requests were too many to keep apart."""
    workload, port = lines[0].destination, lines[0].port
    clients = sorted(str(line.source) for line in lines)
    return ReviewItem(
        item_id("requests-together", party_key(workload), str(port), *clients),
        "requests-together",
        str(workload),
        f"{listed(clients)} → {workload} at {port}: each may ask for what any of them asked for",
        "the access log names these callers by address only, and their requests are too many to keep apart (or come "
        "from an older pattern store, where they are not); log the caller's certificate (%DOWNSTREAM_PEER_URI_SAN%)",
    )


def unnamed_requests(listed: list[Request], used: dict[Request, int], choices: tuple[Choice, ...]) -> list[Request]:
    """The requests of `used` that no rule can name. Where their list is cut, they are what no choice covers."""
    if len(listed) < INEXPRESSIBLE:
        return [request for request in listed if request in used]
    return [
        request
        for request in sorted(used)
        if not any(choice.method == request.method and _covers(choice.path, request.path) for choice in choices)
    ]


def inexpressible_requests(decision: Decision, refused: list[Request], used: dict[Request, int]) -> ReviewItem:
    """One item for all requests of a client that no rule can name; these are held, its other requests are not."""
    line = decision.line
    client, workload, port = party_key(line.source), line.destination, line.port
    name = item_id("inexpressible-path", client, party_key(workload), str(port))
    decision.held_requests = dict.fromkeys(refused, name)
    if len(refused) == len(used):
        decision.access_review = name
    shown = listed([f"{request.method or '(no method)'} {request.path}" for request in refused], 5)
    return ReviewItem(
        name,
        "inexpressible-path",
        str(workload),
        f"{line.source} → {workload} at {port}: {shown}",
        "no rule can name these requests: Istio would read them as patterns, or Envoy refuses or rewrites them",
        evidence={"requests": [f"{request.method} {request.path}" for request in refused[:INEXPRESSIBLE]]},
    )


def held_default_deny(
    namespace: str, unseen: list[str], shut_out: list[Decision], public: Sequence[str] = ()
) -> ReviewItem:
    """A namespace with mesh workloads that were never seen, that were called by who cannot be let in, or that are
    published and were not seen called."""
    called = {d.line.destination for d in shut_out}
    led = {d.line.destination for d in shut_out if via_waypoint(d.line)}
    known = {w for w in called if isinstance(w, Workload) and w.selectable}
    groups = {
        "never_observed": ("{} unseen", unseen),
        "unselectable": ("no selector can pick {}", sorted(w.name for w in called - known if isinstance(w, Workload))),
        "behind_waypoint": ("{} behind an unknown waypoint", sorted(w.name for w in known & led)),
        "callers_unknown": ("who calls {} is not known", sorted({*public, *(w.name for w in known - led)})),
    }
    reasons = [text.format(listed(names)) for text, names in groups.values() if names]
    return ReviewItem(
        item_id("access-default-deny", namespace),
        "default-deny",
        namespace,
        f"no AuthorizationPolicy default deny for {namespace}: {', '.join(reasons)}",
        "a default deny would cut off workloads whose callers are unknown or cannot be let in",
        acceptable=True,
        evidence={what: names for what, (_, names) in groups.items() if names or what == "never_observed"},
    )


def mutual_tls_optional(namespace: str, callers: list[str]) -> ReviewItem:
    """A namespace that some enter with mutual TLS, and these callers without, or with certificates of another make."""
    return ReviewItem(
        item_id("plaintext", namespace),
        "plaintext",
        namespace,
        f"mutual TLS is not made mandatory in {namespace}: {listed(callers)}",
        "these callers were not seen to use mutual TLS with an identity of the mesh; STRICT would cut them off",
        evidence={"callers": callers},
    )


def _covers(choice: str, path: str) -> bool:
    normal = normalise(path)
    return normal is not None and (not choice or covers(choice, normal))
