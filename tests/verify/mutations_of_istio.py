"""Small ways in which the judge can misread Istio: waypoints, trust domains, mutual TLS, and what its API refuses."""

from __future__ import annotations

from tests.verify.mutations import ISTIO, NETWORK, Mutation

WAYPOINT = "test_waypoint_ports.py"
REFUSED = "test_istio_validation.py"
ENVOY = "test_against_envoy.py"

MORE = [
    # Waypoints
    Mutation(
        "a waypoint compares with the pod's port",
        "authorizationpolicy",
        "return request._replace(port=way.port, destination",
        "return request._replace(destination",
        (WAYPOINT,),
    ),
    Mutation(
        "a waypoint compares with the pod's address",
        "authorizationpolicy",
        "destination=own[0] if len(own) == 1 else None",
        "destination=request.destination",
        (f"{WAYPOINT}::TestAddress",),
    ),
    Mutation(
        "the first of several Service ports decides",
        "authorizationpolicy",
        "if other is None:\n            return found[0]",
        "if found:\n            return found[0]",
        (WAYPOINT,),
    ),
    Mutation(
        "the Service port that was called is forgotten",
        "services",
        '"service_port": entry.number',
        '"service_port": 0',
        (WAYPOINT,),
    ),
    Mutation(
        "UDP ports of a Service lead to TCP ones",
        "mesh",
        'for service, entry in leading if entry.protocol == "TCP"',
        "for service, entry in leading",
        (WAYPOINT,),
    ),
    Mutation(
        "named target ports lead nowhere",
        "world",
        "or port in {p.number for p in subject.ports if p.name == entry.target}",
        "or port == -1",
        (WAYPOINT,),
    ),
    Mutation(
        "sets compare a waypoint's rules with the pod's port",
        "mesh_sets",
        "front = at._replace(port=way.port, destination",
        "front = at._replace(destination",
        (WAYPOINT,),
    ),
    Mutation(
        "gates compare a waypoint's rules with the pod's port",
        "gates",
        "yield from _granted(authorization.targeting(way), seen, places, holds)",
        "yield from _granted(authorization.targeting(way), request, places, holds)",
        (WAYPOINT,),
    ),
    Mutation(
        "a Gateway's policies are those of the workload's namespace",
        "authorizationpolicy",
        'text.partition("/")[0] for text in key',
        'text.partition("/")[0] for text in key[1:]',
        (WAYPOINT,),
    ),
    # Trust domains
    Mutation(
        "a trust domain stands for no alias",
        "identity",
        "domains = request.trust_domains if value in request.trust_domains else (value,)",
        "domains = (value,)",
        (ISTIO,),
    ),
    Mutation(
        "any trust domain stands for the mesh's",
        "identity",
        "domains = request.trust_domains if value in request.trust_domains else (value,)",
        "domains = (*request.trust_domains, value)",
        (ISTIO, ENVOY),
    ),
    Mutation(
        "the beginning of a trust domain stands for none",
        "identity",
        "if not suffixed and not begun and domain",
        "if not suffixed and domain",
        (ISTIO,),
    ),
    Mutation(
        "the beginning of a trust domain stands for all, whatever it is",
        "identity",
        'domain.endswith("*") and any(known.startswith(domain[:-1]) for known in trust_domains)',
        'domain.endswith("*")',
        (ISTIO,),
    ),
    Mutation(
        "ztunnel reads trust domains",
        "authorizationpolicy",
        'PASSED_OVER = frozenset({"trustDomains"})',
        "PASSED_OVER: frozenset[str] = frozenset()",
        (ISTIO,),
    ),
    Mutation(
        "a trust domain removes an ALLOW rule from ztunnel",
        "authorizationpolicy",
        "if foreign and action",
        "if action",
        (ISTIO,),
    ),
    # Mutual TLS
    Mutation(
        "ambient ports may disable an inherited STRICT",
        "mesh",
        'return modes.get(port, "UNSET") if kept or self.mode != "ambient" else "UNSET"',
        'return modes.get(port, "UNSET")',
        (ISTIO,),
    ),
    Mutation(
        "sidecars keep an inherited STRICT as well",
        "mesh",
        'if kept or self.mode != "ambient" else',
        "if kept else",
        (ISTIO,),
    ),
    Mutation(
        "a PERMISSIVE port frees no other",
        "mesh",
        'or "PERMISSIVE" in modes.values()',
        'or modes.get(port) == "PERMISSIVE"',
        (ISTIO,),
    ),
    # What the API refuses
    Mutation("netmasks are CIDRs", "reading", "if _NETWORK.fullmatch(value) is None:", "if not value:", (NETWORK,)),
    Mutation(
        "netmasks are CIDRs to Istio",
        "reading",
        "(/(0|[1-9][0-9]{0,2}))?",
        "(/[0-9.]+)?",
        (REFUSED,),
    ),
    Mutation(
        "a target's group does not matter",
        "istio_attachment",
        'if (group or "core", kind) not in TARGETS:',
        "if kind not in {known for _, known in TARGETS}:",
        (REFUSED,),
    ),
    Mutation(
        "a target may be in another namespace",
        "istio_attachment",
        'if text(target.get("namespace", ""), f"{where}.namespace"):',
        'if target.get("namespace") is None and "namespace" in target:',
        (REFUSED,),
    ),
    Mutation("a target needs no name", "istio_attachment", "    if not name:\n", "    if name is None:\n", (REFUSED,)),
    Mutation(
        "targetRef and targetRefs add up",
        "istio_attachment",
        "        if found:\n            raise",
        "        if found is None:\n            raise",
        (REFUSED,),
    ),
    Mutation(
        "any action may be tried",
        "istio_attachment",
        'if action not in ("ALLOW", "DENY"):',
        "if not action:",
        (REFUSED,),
    ),
    Mutation(
        "a dry run may say anything",
        "istio_attachment",
        "if found not in _TRUE and found not in _FALSE:",
        "if found is None:",
        (REFUSED,),
    ),
    Mutation("labels may be long", "istio_attachment", "or len(item) > LABEL", "", (REFUSED,)),
    Mutation(
        "a trust domain may have a wildcard inside",
        "authorizationpolicy_schema",
        'if wild > 1 or (wild and "*" not in (value[0], value[-1]))',
        "if wild > 1",
        (REFUSED,),
    ),
    Mutation(
        "a trust domain may have several wildcards",
        "authorizationpolicy_schema",
        "if wild > 1 or (wild",
        "if (wild",
        (REFUSED,),
    ),
    Mutation(
        "a trust domain may have a slash",
        "authorizationpolicy_schema",
        ' or (name == "trustDomains" and "/" in value)',
        "",
        (REFUSED,),
    ),
    Mutation(
        "a field may have any number of accounts",
        "authorizationpolicy_schema",
        "ACCOUNTS if name in _ACCOUNT else None",
        "None",
        (REFUSED,),
    ),
    Mutation("an account may be long", "authorizationpolicy_schema", " or len(value) > ACCOUNT", "", (REFUSED,)),
    Mutation(
        "a policy may have any number of rules and sources",
        "authorizationpolicy_schema",
        "if most is not None and len(items) > most:",
        "if most == ACCOUNTS and len(items) > most:",
        (REFUSED,),
    ),
    Mutation(
        "of a long port the first digits count",
        "authorizationpolicy_schema",
        'int(value[-9:]) < 65536 and not value[:-9].strip("0")',
        "int(value[:9]) < 65536",
        (REFUSED,),
    ),
    Mutation(
        "an empty portLevelMtls is none",
        "peerauthentication_schema",
        "if not isinstance(value, dict) or not value:",
        "if not isinstance(value, dict):",
        (REFUSED,),
    ),
]
