"""What the judge answers, and the ends of the connection it is asked about.

Invariant: an answer is allow or deny only if that holds whatever is unknown; every other answer is undefined and says
why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from leastway.verify.world import Address, Subject

Outcome = Literal["allow", "deny", "undefined"]
Tri = bool | None  # None: it depends on something unknown


class Verdict(NamedTuple):
    """`because` names the rule that decides. `layer` is `networkpolicy`, `authorizationpolicy` or "" (no policy is in
    the way), `direction` `ingress`, `egress` or ""; `policies` are the policies that isolate or deny, by name."""

    outcome: Outcome
    because: str
    layer: str = ""
    direction: str = ""
    policies: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """True only for a certain allow."""
        return self.outcome == "allow"


class End(NamedTuple):
    """One end of a connection: a subject, an address outside the pods, or a reserved entity, with its address if known.

    `entity` is `node` for an address of a node, "" for pods and the outside. `family` 4 or 6 narrows a subject without
    a particular address to its addresses of that family; 0 means any.
    """

    subject: Subject | None = None
    address: Address | None = None
    entity: str = ""
    family: int = 0

    @property
    def shown(self) -> str:
        """How messages call it."""
        if self.subject is not None:
            return self.subject.ref
        return f"{self.entity} {self.address or ''}".strip() if self.entity else str(self.address)


def any_of(parts: Iterable[Tri]) -> Tri:
    """Three-valued OR."""
    found: Tri = False
    for part in parts:
        if part:
            return True
        if part is None:
            found = None
    return found


def all_of(parts: Iterable[Tri]) -> Tri:
    """Three-valued AND."""
    found: Tri = True
    for part in parts:
        if part is False:
            return False
        if part is None:
            found = None
    return found


def negate(part: Tri) -> Tri:
    """Three-valued NOT."""
    return None if part is None else not part
