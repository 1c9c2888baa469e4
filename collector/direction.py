"""Who opened the connection, as far as one record can tell.

The first of two phases: `first_look` decides from the record alone, in the fold. What it leaves open is kept with both
ports, and `collector.settlement` decides it at the end, when all listening ports are known.

Invariant: a record yields a pattern at an ephemeral destination port only if the initiator's own SYN names that port,
or if both ends use it (as WireGuard's do, and Memberlist's).

Real captures need this: replies are marked as new connections (cilium#47913, #35535), marked as requests at a
connection's end (retina#1417), or not marked at all (drops and traces without conntrack information).
"""

from __future__ import annotations

from typing import Protocol as Interface

EPHEMERAL = 32768  # Linux' default net.ipv4.ip_local_port_range starts here
PRIVILEGED = 1024  # few clients pick a source port below (NFS and rsh do, and scans)


class _Flags(Interface):
    @property
    def SYN(self) -> bool | None: ...  # noqa: N802  # TCP's own names
    @property
    def ACK(self) -> bool | None: ...  # noqa: N802  # as above
    @property
    def RST(self) -> bool | None: ...  # noqa: N802  # as above


def first_look(
    protocol: str, flags: _Flags | None, sport: int, dport: int, reply: bool | None, verdict: bool
) -> tuple[bool, str]:
    """Judge one record: (is it the reply's direction, the `Signal` value that it gives).

    `reply` is Hubble's `is_reply` (None = unknown). `verdict` is True for a policy verdict, which Cilium reports for
    the first packet of a connection. With "open" the ends are never swapped.
    """
    if flags is not None and flags.SYN:
        if flags.ACK:
            return True, "answered"
        return False, "open" if reply else "opened"
    if reply:
        if sport >= EPHEMERAL > dport:
            return False, "open"
        return True, "refused" if flags is not None and flags.RST else "answered"
    if reply is None or (flags is not None and flags.RST):
        return False, "open"
    if ((sport >= EPHEMERAL or not sport) and dport < EPHEMERAL) or dport < PRIVILEGED or sport == dport:
        # All segments of a connection but the first have ACK set (RFC 9293, 3.1); others are a scan's (FIN, Xmas).
        spoken = protocol == "TCP" and not verdict and (flags is None or flags.ACK)
        return False, "carried" if spoken else "opened"
    return False, "open"
