"""Questions about a Service: its cluster IP is translated to a pod behind it before policy is applied.

Invariant: the answer is one that all pods behind it share, or undefined. For the pod that asked itself it is certain
only if policy allows it: networks differ in whether a connection that comes back through a Service is loopback, which
nothing stops (Kubernetes' own network policy tests leave it out).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from leastway.verify.errors import PolicyError
from leastway.verify.verdict import End, Verdict
from leastway.verify.world import Service, Subject, World

if TYPE_CHECKING:
    from leastway.verify.judge import Judge, Question

ITSELF = "it may lead back to itself"


def through(judge: Judge, question: Question, source: End, service: Service) -> Verdict:
    """The answer for a Service's cluster IP and port."""
    found = [
        verdict for target, to in targets(judge, question, service) for verdict in _asked(judge, target, source, to)
    ]
    shown = f"Service {service.ref}"
    if not found or len({verdict.outcome for verdict in found}) > 1:
        why = "its backends differ" if found else "no backend of this port is known"
        itself = next((v.because for v in found if v.because.startswith(ITSELF)), "")
        because = f"{question.destination} is {shown}, and {why}: ask about a pod behind it"
        return Verdict("undefined", f"{because}; {itself}" if itself else because)
    return found[0]._replace(because=f"{shown}: {found[0].because}")


def check_called(world: World, question: Question, subject: Subject) -> None:
    """Raises `PolicyError` unless the Service that was called may lead to the port. It is not known where one without a
    selector leads, and through a headless one clients may call any port."""
    service = world.find_service(question.service)
    if service.headless or not service.selector:
        return
    protocol, number = question.protocol.upper(), question.service_port
    for found, entry in world.leading(subject, question.port):
        if found is service and entry.protocol == protocol and number in (0, entry.number):
            return
    by = f" from its port {number}" if number else ""
    shown = f"Service {service.ref} leads to no port {question.port}/{protocol} of {subject.ref}{by}"
    raise PolicyError(shown, "inventory")


def targets(judge: Judge, question: Question, service: Service) -> Iterator[tuple[Question, Subject]]:
    """The question for each backend and port that a Service's port stands for."""
    for backend in judge.world.backends(service):
        for entry in service.ports:
            if entry.number != question.port or entry.protocol != question.protocol.upper():
                continue
            for port in entry.targets(backend):
                there = {"destination": backend.ref, "port": port, "destination_address": ""}
                called = {"service": service.ref, "service_port": entry.number}
                yield msgspec.structs.replace(question, **there, **called), backend


def _asked(judge: Judge, target: Question, source: End, backend: Subject) -> Iterator[Verdict]:
    """The verdict for one backend; if the source belongs to it, also for the source itself."""
    own = source.subject
    if own is None or judge.world.workload(own) is not backend:
        yield judge.ask(target)
        return
    one, other = judge.variants.replicas(own)
    back = judge.decide(target, source._replace(subject=one), source._replace(subject=other))
    if back.outcome != "allow":
        because = f"{ITSELF}, where networks differ: {back.outcome} by policy ({back.because})"
        back = back._replace(outcome="undefined", because=because)
    yield back
    if backend.replicas != 1 and not backend.single:
        yield judge.decide(target, source, judge.end(backend.ref))
