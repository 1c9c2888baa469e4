"""The policies that a command is about, and the profile in which they are judged.

Invariant: what the user gives beats the record of the run that wrote the policies, and that beats what is detected.
What was detected is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from leastway.cli.output import counted, say
from leastway.cli.record import Record, beside
from leastway.verify.mesh import Mode
from leastway.verify.networkpolicy import Cni
from leastway.verify.policies import PolicySet, load_policies

if TYPE_CHECKING:
    from leastway.verify.world import World


class Policies(msgspec.Struct, frozen=True):
    """Policies from `path`, and the record of the run that wrote them, if leastway did."""

    path: str
    found: PolicySet
    record: Record | None

    @property
    def istio(self) -> bool:
        """Whether there is anything that only a mesh enforces."""
        return bool(self.found.authorization or self.found.peer)

    def cni(self, given: str | None) -> Cni:
        """The CNI profile."""
        return cast("Cni", given or (self.record and self.record.option("cni")) or "generic")

    def trust_domain(self, given: str | None) -> str:
        """The mesh's trust domain, "" if neither the user nor a record says it."""
        return given or (self.record and self.record.option("trust_domain")) or ""

    def mesh(self, given: str | None) -> Mode | None:
        """The mesh profile, None if neither the user nor a record says it."""
        return cast("Mode | None", given or (self.record and self.record.option("mesh")) or None)


def load(path: str) -> Policies:
    """Policies from a file or folder; tells the user what in it is not judged."""
    found = load_policies(Path(path))
    if not (found.network or found.authorization or found.peer):
        say(f"no policy was found in {path}, so it forbids nothing")
    if found.unjudged:
        shown = ", ".join(found.unjudged[:5]) + (" ..." if len(found.unjudged) > 5 else "")
        say(f"{counted(len(found.unjudged), 'object')} of {path} cannot be judged: {shown}")
    return Policies(path, found, beside(Path(path)))


def mesh_for(policies: Policies, world: World, given: str | None) -> Mode:
    """The mesh profile for policies that are judged without traffic; only Istio policies need a mesh."""
    chosen = policies.mesh(given)
    if chosen is not None:
        return chosen
    mesh = detected(policies, world)
    if mesh != "none":
        say(f"mesh {mesh}: {policies.path} holds Istio policies (--mesh to choose)")
    return mesh


def detected(policies: Policies, world: World) -> Mode:
    """`ambient` if a namespace or workload says so, else `sidecar`, for Istio policies; `none` if there are none."""
    if not policies.istio and not any(
        p.get("kind") in ("AuthorizationPolicy", "PeerAuthentication") for p in world.policies
    ):
        return "none"
    key = "istio.io/dataplane-mode"
    labels = [*world.namespaces.values(), *(subject.labels for subject in world.subjects.values())]
    return "ambient" if any(found.get(key) == "ambient" for found in labels) else "sidecar"
