"""The pods of one workload that policies tell apart: a StatefulSet's pods by their names, two versions in a rollout.

Invariant: what holds for every pod given here holds for every pod of the workload.
"""

from __future__ import annotations

from collections import defaultdict

from leastway.verify.networkpolicy_schema import Block
from leastway.verify.policies import PolicySet
from leastway.verify.selectors import Selector
from leastway.verify.verdict import End
from leastway.verify.world import Subject, World, address

Sort = tuple[tuple[str, str | None], ...]  # the labels that selectors ask about; None: some other value


class Variants:
    """The pods of workloads, one of each sort. The labels of a world are read once."""

    def __init__(self, world: World, policies: PolicySet) -> None:
        self._world = world
        self._values: dict[str, set[str]] = defaultdict(set)
        for policy in policies.network:
            self._learn(policy.selector)
            for rule in (*(policy.ingress or ()), *(policy.egress or ())):
                for peer in rule.peers or ():
                    if not isinstance(peer, Block):
                        self._learn(peer.pods)
        for access in policies.authorization:
            self._learn(Selector(access.selector))
        for authentication in policies.peer:
            self._learn(Selector(authentication.selector))
        self._members: dict[str, list[Subject]] | None = None
        self._found: dict[Subject, tuple[Subject, ...]] = {}

    def of(self, end: End) -> list[End]:
        """The end itself, or the pods that stand for its workload where selectors tell them apart."""
        subject = end.subject
        if subject is None or subject.single or end.address is not None:
            return [end]
        found = self._found.get(subject)
        if found is None:
            found = self._found[subject] = self._differing(subject)
        return [End(pod, None, end.entity) for pod in found] if found else [end]

    def addressed(self, end: End) -> list[End]:
        """The pods of a workload by their addresses, for what tells addresses apart; the end itself if it has one
        address or none is known."""
        subject = end.subject
        if subject is None or end.address is not None or subject.host_network:
            return [end]
        found = [ip for text in subject.ips if (ip := address(text)) is not None]
        return [End(self._world.at(str(ip)) or subject, ip) for ip in found] or [end]

    def _differing(self, subject: Subject) -> tuple[Subject, ...]:
        if self._members is None:
            self._members = defaultdict(list)
            for _, pod in sorted(self._world.subjects.items()):
                if pod.member_of:
                    self._members[pod.member_of].append(pod)
        own = self._sort(subject)
        sorts: dict[Sort, Subject] = {}
        for pod in self._members.get(subject.ref, ()):
            sorts.setdefault(self._sort(pod), pod)
        return tuple(sorts.values()) if set(sorts) - {own} else ()

    def _sort(self, subject: Subject) -> Sort:
        labels = subject.labels
        return tuple(
            (key, labels[key] if labels[key] in values else None)
            for key, values in self._values.items()
            if key in labels
        )

    def _learn(self, selector: Selector) -> None:
        for key, value in selector.pairs:
            self._values[key].add(value)
        for requirement in selector.requirements:
            self._values[requirement.key].update(requirement.values)
