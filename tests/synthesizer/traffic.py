"""Traffic in a few words, and what the synthesizer makes of it.

`Traffic` counts flows as a source would; `made` runs the synthesizer over them; the rest reads its answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from collector.endpoints import ADDRESS, Endpoint, entity, stable_labels
from collector.flow import Flow, Signal
from collector.patterns import Patterns
from synthesizer import Options, Synthesis, synthesize
from synthesizer.decisions import Decision
from synthesizer.inventory import Inventory, parse
from synthesizer.lines import Line, conclude, lines
from synthesizer.review import ReviewItem
from synthesizer.rules.view import View
from synthesizer.workload import Workload
from synthesizer.workloads import Workloads


class End(NamedTuple):
    """An end of a connection as one record shows it."""

    endpoint: Endpoint
    pod: str = ""
    address: str = ""


class Traffic:
    """What was observed. Each party gets an address of its own unless it is told one."""

    def __init__(self) -> None:
        self.patterns = Patterns()
        self.pods = 0

    def pod(
        self,
        ref: str,
        labels: dict[str, str] | None = None,
        *,
        pod: str | None = None,
        address: str | None = None,
        owner: str = "",
        ports: Sequence[str] = (),
        **identity: str,
    ) -> End:
        """A pod of `namespace/name` as Hubble shows it: labels (`app: name`), pod name, address."""
        namespace, _, name = ref.partition("/")
        self.pods += 1
        pairs = {"app": name} if labels is None else labels
        stable = stable_labels(pairs.items())
        endpoint = Endpoint("pod", namespace=namespace, labels=stable, workload="" if stable else name, **identity)
        sighting = self.patterns.sighting(endpoint)
        if owner:
            sighting.owners.add(owner, 1)
        for port in ports:
            sighting.ports.add(port, 1)
        shown = f"{name}-6b746f74dc-9rcxx" if pod is None else pod
        return End(endpoint, shown, f"10.1.{self.pods // 250}.{self.pods % 250 + 1}" if address is None else address)

    def proxied(self, ref: str, account: str = "", *, pod: str = "", address: str = "") -> End:
        """A workload as an Envoy access log names it."""
        namespace, _, name = ref.partition("/")
        return End(Endpoint("pod", namespace=namespace, workload=name, service_account=account), pod, address)

    def talk(
        self, source: End, destination: End, port: int, protocol: str = "TCP", *, times: int = 3, **more: Any
    ) -> None:
        """`times` connections that were opened and answered."""
        self.add(source, destination, port, protocol, Signal.OPENED, times, point="to-endpoint", **more)
        self.add(source, destination, port, protocol, Signal.ANSWERED, times, **more)

    def call(self, source: End, destination: End, port: int, *requests: str, status: int = 200, **more: Any) -> None:
        """HTTP requests ("GET /path") as the destination's proxy logs them."""
        told = {"origin": "istio-json", "mtls": True, "status": status, **more}
        for request in requests:
            method, _, path = request.partition(" ")
            for signal in (Signal.OPENED, Signal.ANSWERED):
                self.add(source, destination, port, "TCP", signal, 3, method=method, path=path, **told)

    def add(
        self,
        source: End,
        destination: End,
        port: int,
        protocol: str = "TCP",
        signal: Signal = Signal.OPENED,
        records: int = 3,
        **more: Any,
    ) -> None:
        """Count records of one kind."""
        told: dict[str, Any] = {"origin": "hubble", "time": "2026-03-02T08:00:00Z", **more}
        flow = Flow(
            source=source.endpoint,
            destination=destination.endpoint,
            protocol=protocol,
            port=port,
            signal=signal,
            source_pod=source.pod,
            destination_pod=destination.pod,
            source_address=source.address,
            destination_address=destination.address,
            **told,
        )
        self.patterns.add(flow, records)


def at(address: str) -> End:
    """An address whose owner the source does not know."""
    return End(ADDRESS, address=address)


def place(name: str, address: str = "") -> End:
    """A reserved entity: `host`, `remote-node`, `kube-apiserver`, ..."""
    return End(entity(name), address=address)


def workloads(traffic: Traffic, *objects: dict[str, Any]) -> dict[str, Workload]:
    """The workloads by "namespace/name"."""
    return {str(found): found for found in Workloads(traffic.patterns, parse(objects)).all}


def drawn(traffic: Traffic, *objects: dict[str, Any]) -> list[Line]:
    """The lines between workloads and places."""
    inventory = parse(objects)
    return _lines(traffic, Workloads(traffic.patterns, inventory), inventory)


def view(traffic: Traffic, *objects: dict[str, Any], cni: str = "generic") -> View:
    """What the rules are asked with; its lines are those of `drawn`."""
    inventory = parse(objects)
    found = Workloads(traffic.patterns, inventory)
    return View(_lines(traffic, found, inventory), found, cni)


def _lines(traffic: Traffic, found: Workloads, inventory: Inventory) -> list[Line]:
    return lines(conclude(traffic.patterns, found), traffic.patterns.sightings, found, inventory)


def shown(found: Iterable[Line]) -> list[tuple[str, str, int]]:
    """Lines as (source, destination, port)."""
    return [(str(line.source), str(line.destination), line.port) for line in found]


def made(traffic: Traffic, *objects: dict[str, Any], options: Options | None = None) -> Synthesis:
    """The whole synthesis."""
    return synthesize(traffic.patterns, parse(objects) if objects else Inventory.empty(), options or Options())


def document(result: Synthesis, path: str) -> dict[str, Any]:
    """One written object's spec, by path."""
    found: dict[str, Any] = next(m.document for m in result.manifests if m.path == path)["spec"]
    return found


def paths(result: Synthesis) -> list[str]:
    """The written files, kustomizations apart."""
    return [m.path for m in result.manifests if m.kind != "Kustomization"]


def items(result: Synthesis, kind: str) -> list[ReviewItem]:
    """The review items of one kind."""
    return [item for item in result.review if item.kind == kind]


def decisions(result: Synthesis) -> dict[tuple[str, str, int], Decision]:
    """Decisions by (source, destination, port)."""
    return {(str(d.line.source), str(d.line.destination), d.line.port): d for d in result.decisions.decisions}
