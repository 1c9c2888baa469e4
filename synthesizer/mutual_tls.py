"""Whether a namespace may demand mutual TLS (PeerAuthentication STRICT).

Invariant: it is demanded only if every connection that came in showed it; whoever did not show it would be cut off.
"""

from __future__ import annotations

from collector.settlement import Standing
from synthesizer.access_review import mutual_tls_optional
from synthesizer.callers import enforced, partly_secured
from synthesizer.decisions import Decisions, Fate
from synthesizer.intent import Cause, MutualTLSIntent
from synthesizer.options import Options
from synthesizer.review import ReviewItem
from synthesizer.workload import Workload


def mutual_tls(namespace: str, decided: Decisions, options: Options) -> MutualTLSIntent | ReviewItem | None:
    """Demand mutual TLS where every inbound connection used it; ask where some did and some did not."""
    inbound = [
        d.line
        for d in decided.decisions
        # A caller that is held for review counts too: nobody has decided yet to cut it off.
        if d.fate in (Fate.POLICY, Fate.HELD)
        and d.line.standing not in (Standing.DENIED, Standing.OPEN, Standing.UNANSWERED)
        and isinstance(d.line.destination, Workload)
        and d.line.destination.namespace == namespace
        and enforced(d.line, options)
        and d.cause is not Cause.DECLARED
    ]
    plaintext = sorted(
        {str(line.source) for line in inbound if partly_secured(line.evidence) or not line.evidence.mtls}
    )
    if inbound and not plaintext:
        return MutualTLSIntent(namespace)
    return mutual_tls_optional(namespace, plaintext) if any(line.evidence.mtls for line in inbound) else None
