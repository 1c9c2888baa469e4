"""What the API server must reach, observed or not: admission and conversion webhooks, and aggregated APIs.

A webhook that cannot be reached blocks every change to the objects that it guards.

Invariant: only workloads that were observed get such a line; the others get no policy that could be in the way.
"""

from __future__ import annotations

from collections.abc import Iterable

from collector.evidence import Evidence
from collector.standing import Standing
from synthesizer.lines import Line
from synthesizer.party import Outside, Place, party_key
from synthesizer.workloads import Workloads

BECAUSE = "the API server calls this webhook or aggregated API"


def webhook_calls(lines: Iterable[Line], workloads: Workloads) -> list[Line]:
    """Calls that were not seen, to workloads that were: one line per address of the API server.

    If no address is known, the line's source has none; no NetworkPolicy can name that, so it becomes a review item.
    """
    inventory = workloads.inventory
    known = {line.key for line in lines}
    seen = {key for keys in known for key in keys[:2]}
    addresses = {ip for ip, _ in inventory.api_servers()}
    addresses |= {
        party.address
        for line in lines
        for party in (line.source, line.destination)
        if isinstance(party, Outside) and party.place is Place.API_SERVER and party.address
    }
    none = Evidence()
    found: dict[tuple[str, str, str, int], Line] = {}
    for namespace, name, port in sorted(inventory.webhooks):
        service = inventory.service(namespace, name)
        for item, number in inventory.target_ports(service, "TCP", port) if service is not None else ():
            workload = workloads.of_object(item)
            for address in sorted(addresses) or [""]:
                source = Outside(Place.API_SERVER, address)
                line = Line(source, workload, "TCP", number, Standing.INITIATED, none, none, 0, BECAUSE)
                if party_key(workload) in seen and not workload.host_network and line.key not in known:
                    found[line.key] = line
    return [found[key] for key in sorted(found)]
