"""The calls that became policy, by which proxy judges them: the workload's own, or the waypoint of a Service.

Invariant: a call is with each proxy that judges it, and only there; what would shut out an unknown caller is told.
"""

from __future__ import annotations

from typing import NamedTuple

from synthesizer.callers import is_visit, told_by_caller
from synthesizer.decisions import Decision, Decisions, Fate
from synthesizer.inventory import Inventory
from synthesizer.lines import past_waypoint, via_waypoint
from synthesizer.options import Options
from synthesizer.waypoints import has_waypoint
from synthesizer.workload import Workload, WorkloadKey
from synthesizer.workloads import Workloads


class Calls(NamedTuple):
    """Calls to a workload itself, through the waypoint of a Service, and through one that the inventory lacks.

    `visitors`: calls to a gateway whose log does not tell who called, only for whom (X-Forwarded-For).
    """

    itself: dict[WorkloadKey, list[Decision]]
    behind: dict[str, list[Decision]]
    unclear: dict[WorkloadKey, list[Decision]]
    visitors: dict[WorkloadKey, list[Decision]]

    def turned_away(self, workload: Workload, called: list[Decision], workloads: Workloads) -> list[Decision]:
        """The calls to a workload, if a policy for those who are known would cut off others who call it as well.

        `called` are those to itself that its proxy judges.
        """
        unclear, visitors = self.unclear.get(workload.key, []), self.visitors.get(workload.key, [])
        # Where the workload's own proxy was heard, the waypoint is among its callers.
        led = bool(unclear) and not any(past_waypoint(d.line) for d in called)
        # What is published has callers outside, and only the callers inside were heard.
        unheard = bool(workloads.published(workload)) and all(told_by_caller(d.line) for d in called)
        if not workload.selectable or led or visitors or (called and unheard):
            return called + unclear + visitors
        return []


def gathered(decided: Decisions, inventory: Inventory, options: Options) -> Calls:
    """The calls that became policy, by who judges them."""
    calls = Calls({}, {}, {}, {})
    for decision in decided.decisions:
        line = decision.line
        if not isinstance(line.destination, Workload):
            continue
        if decision.fate is Fate.HELD and is_visit(line):
            calls.visitors.setdefault(line.destination.key, []).append(decision)
        if decision.fate is not Fate.POLICY:
            continue
        through = options.mesh == "ambient" and via_waypoint(line)
        gates = [service for service in line.via if has_waypoint(service, inventory)] if through else []
        for service in gates:
            calls.behind.setdefault(service, []).append(decision)
        if past_waypoint(line) or not through:
            calls.itself.setdefault(line.destination.key, []).append(decision)
        elif not gates:
            calls.unclear.setdefault(line.destination.key, []).append(decision)
    return calls
