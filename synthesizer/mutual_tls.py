"""Whether a namespace may demand mutual TLS (PeerAuthentication STRICT).

Invariant: it is demanded only if every connection that came in showed it; whoever did not show it would be cut off.
"""

from __future__ import annotations

from collector.standing import Standing
from synthesizer.access_review import mutual_tls_optional
from synthesizer.callers import enforced, in_mesh, partly_secured
from synthesizer.decisions import Decisions, Fate
from synthesizer.intent import Cause, MutualTLSIntent
from synthesizer.lines import Line
from synthesizer.options import Options
from synthesizer.review import ReviewItem
from synthesizer.workload import Workload


def mutual_tls(namespace: str, decided: Decisions, options: Options) -> MutualTLSIntent | ReviewItem | None:
    """Demand mutual TLS where every inbound connection used it, and who called is known by an identity of the mesh; ask
    where that holds for some and not for others."""
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
    others = sorted({str(line.source) for line in inbound if not _trusted(line, options)})
    if inbound and not others:
        return MutualTLSIntent(namespace)
    return mutual_tls_optional(namespace, others) if any(line.evidence.mtls for line in inbound) else None


def _trusted(line: Line, options: Options) -> bool:
    """Whether a line's caller used mutual TLS only, with a certificate of the mesh. One of another make (SPIRE's, a
    client's own) has no identity that is known here; whether the mesh trusts it under STRICT, nobody can tell."""
    if partly_secured(line.evidence) or not line.evidence.mtls:
        return False
    return bool(line.principals) or (isinstance(line.source, Workload) and in_mesh(line.source, options))
