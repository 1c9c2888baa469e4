"""Which addresses belong to Services, as Hubble reports it on the flows themselves.

Invariant: reports are counted per Service and address, so reading a capture in parts changes nothing.

Before a packet's destination is translated it is the Service's address, which no policy may name: NetworkPolicy sees
the pod behind it. (Kubernetes: network-policies, "Egress ... the behavior is not defined".)
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from collector.endpoints import Endpoint, valid_namespace, valid_object_name
from collector.patterns import Patterns
from collector.sources.hubble_endpoints import canonical_address

HELD = 1 << 12  # distinct reports that are counted before they are handed over
LONGEST = 1024  # bytes of a report; a namespace and a name have 316 at most


class HubbleService(msgspec.Struct):
    """flow.Service."""

    name: str | None = ""
    namespace: str | None = ""


DecodeService = Callable[[bytes], HubbleService | None]  # raises msgspec.MsgspecError

from_json: DecodeService = msgspec.json.Decoder(HubbleService | None).decode


class Services:
    """Counts reports; call `hand_over` before reading the patterns."""

    def __init__(self, decode: DecodeService = from_json) -> None:
        self.decode = decode
        self.met: dict[tuple[bytes, str], int] = {}

    def tell(self, raw: bytes, address: str, patterns: Patterns) -> None:
        """Count that the Service described by `raw` has this address; both come from the traffic."""
        if not raw or not address or len(raw) > LONGEST:
            return
        if len(self.met) >= HELD:
            self.hand_over(patterns)
        self.met[raw, address] = self.met.get((raw, address), 0) + 1

    def hand_over(self, patterns: Patterns) -> None:
        """Note the addresses with their Services, as sightings; what cannot be decoded is dropped."""
        for (raw, text), records in self.met.items():
            try:
                service = self.decode(raw) or HubbleService()
            except msgspec.MsgspecError:
                continue
            name, namespace = service.name or "", service.namespace or ""
            address = canonical_address(text)
            if address and valid_object_name(name) and valid_namespace(namespace):
                endpoint = Endpoint("service", namespace=namespace, workload=name)
                patterns.sighting(endpoint).pods.add(f"|{address}", records)
        self.met.clear()
