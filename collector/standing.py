"""What an observed pattern is good for: the vocabulary of `collector.settlement`, which decides it.

Invariant: a standing says what was seen; what may be allowed is for the synthesizer's rules to say.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from collector.endpoints import Endpoint
from collector.evidence import Evidence
from collector.flow import Signal
from collector.openings import PROXY_POINTS

# Signals of access logs: a proxy knows who called whom, whatever the ports are.
_PROXY_SIGNALS = frozenset({f"answered:{point}" for point in PROXY_POINTS})
# Reasons for a standing that others compare with.
REFUSED = "every attempt was refused"
STOPPED = "it left the source, and a policy stopped it"


class Standing(StrEnum):
    """What an observed pattern is good for."""

    INITIATED = "initiated"  # the initiator was seen, and something answered or answers cannot be seen
    INFERRED = "inferred"  # direction concluded from ports and the rest of the capture, without contradiction
    UNANSWERED = "unanswered"  # attempts only, in a capture that shows these parties' replies
    DENIED = "denied"  # only ever stopped by a policy
    AUDITED = "audited"  # today's policy would stop it, but is in audit mode
    OPEN = "open"  # who opened it is not known


ALIVE = frozenset({Standing.INITIATED, Standing.INFERRED, Standing.AUDITED})  # somebody was let through


class Pattern(msgspec.Struct):
    """`source` talks to `destination` at `port`, with the evidence for it."""

    source: Endpoint
    destination: Endpoint
    protocol: str
    port: int
    principal: str
    standing: Standing
    evidence: Evidence
    because: str = ""
    # By `Evidence.apart`'s keys: those for which what others did says nothing.
    apart: dict[str, tuple[Standing, str]] = {}


class Settled(msgspec.Struct):
    """All patterns of an aggregate, sorted. `mistaken` counts those left out: replies marked as new connections."""

    patterns: list[Pattern]
    mistaken: int


def seen_by_proxy(evidence: Evidence) -> bool:
    """Whether a proxy, which knows who called, reported it too."""
    if evidence.requests or evidence.rejected or evidence.mtls or evidence.plaintext:
        return True
    return not _PROXY_SIGNALS.isdisjoint(evidence.signals)


def stopped(evidence: Evidence) -> bool:
    """Whether a policy stopped the openings on their way, before any arrived at the destination."""
    totals = evidence.totals()
    arrived = not evidence.signals.keys().isdisjoint({"opened:TO_ENDPOINT", "opened:verdict INGRESS"})
    return Signal.DENIED in totals and not (arrived or Signal.CARRIED in totals or Signal.ANSWERED in totals)
