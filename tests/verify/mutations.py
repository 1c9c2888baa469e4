"""Small ways in which a judge of policies can be wrong, each with the tests that must notice it.

The old text must occur once in its module: a mutation that no longer applies is a failing test, to be written anew.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """A change of one module of leastway.verify. `tests` are files of this folder, or node ids in them."""

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]


NETWORK = "test_networkpolicy.py"
SELECTORS = "test_selectors.py"
E2E = "test_kubernetes_e2e.py"
ISTIO = "test_authorizationpolicy.py"
SOUND = "test_soundness.py"
BEYOND = "test_overpermission.py"
PODS = "test_pod_by_pod.py"
PATHS = "test_httppath.py"
WAYS = "test_ways.py"
PEERS = "test_peerauthentication.py"

MUTATIONS = [
    # Label selectors
    Mutation(
        "NotIn needs the key",
        "selectors",
        "self.key not in found or found[self.key] not in self.values",
        "self.key in found and found[self.key] not in self.values",
        (SELECTORS, f"{NETWORK}::TestPeers"),
    ),
    Mutation(
        "In looks at the key only",
        "selectors",
        "self.key in found and found[self.key] in self.values",
        "self.key in found",
        (E2E,),
    ),
    Mutation(
        "DoesNotExist means Exists",
        "selectors",
        '(self.key in found) == (self.operator == "Exists")',
        "self.key in found",
        (SELECTORS,),
    ),
    Mutation(
        "an empty value is an absent key",
        "selectors",
        "found.get(key) != value",
        'found.get(key, "") != value',
        (SELECTORS,),
    ),
    Mutation(
        "an empty selector selects nothing",
        "selectors",
        "return not self.requirements or all(",
        "return not self.empty and all(",
        (E2E,),
    ),
    Mutation(
        "a namespace's name label can be faked",
        "world",
        "known[NAMESPACE_NAME] = name",
        "known.setdefault(NAMESPACE_NAME, name)",
        (f"{NETWORK}::TestPeers",),
    ),
    # NetworkPolicy, as it is read
    Mutation(
        "egress rules alone isolate egress only",
        "networkpolicy_schema",
        '("Ingress", "Egress") if egress else ("Ingress",)',
        '("Egress",) if egress else ("Ingress",)',
        (f"{NETWORK}::TestDefaults",),
    ),
    Mutation(
        "both directions are isolated by default",
        "networkpolicy_schema",
        '("Ingress", "Egress") if egress else ("Ingress",)',
        '("Ingress", "Egress")',
        (f"{NETWORK}::TestDefaults", E2E),
    ),
    Mutation(
        "egress rules count without the Egress type",
        "networkpolicy_schema",
        'egress=egress if "Egress" in types else None',
        'egress=egress if egress or "Egress" in types else None',
        (f"{NETWORK}::TestDefaults",),
    ),
    Mutation(
        "an empty list of peers admits nobody",
        "networkpolicy_schema",
        "Rule(peers or None, ports or None)",
        "Rule(None if found.get(side) is None else peers, ports or None)",
        (f"{NETWORK}::TestPeers",),
    ),
    Mutation(
        "an empty list of ports admits none",
        "networkpolicy_schema",
        "Rule(peers or None, ports or None)",
        'Rule(peers or None, None if found.get("ports") is None else ports)',
        (f"{NETWORK}::TestPorts",),
    ),
    Mutation(
        "endPort is ignored",
        "networkpolicy_schema",
        'high = low if end is None else _number(end, f"{where}.endPort")',
        "high = low",
        (f"{NETWORK}::TestPorts",),
    ),
    Mutation(
        "SCTP is treated as TCP",
        "networkpolicy_schema",
        '"TCP" if protocol is None else',
        '"TCP" if protocol in (None, "SCTP") else',
        (E2E,),
    ),
    Mutation(
        "a protocol without port means one port",
        "networkpolicy_schema",
        "return Ports(protocol, 1, 65535)",
        "return Ports(protocol, 1, 1024)",
        (f"{NETWORK}::TestPorts",),
    ),
    # NetworkPolicy, as it decides
    Mutation(
        "except is ignored",
        "networkpolicy",
        "ip in block.network and not any(ip in inner for inner in block.excepts)",
        "ip in block.network",
        (f"{NETWORK}::TestBlocks", E2E),
    ),
    Mutation(
        "namespaceSelector and podSelector are ORed",
        "networkpolicy",
        "return candidate.pods.matches(subject.labels)",
        "return candidate.namespaces is not None or candidate.pods.matches(subject.labels)",
        (f"{NETWORK}::TestPeers", E2E),
    ),
    Mutation(
        "named ports are resolved whatever their protocol",
        "networkpolicy",
        "p.name == entry.name and p.protocol == protocol",
        "p.name == entry.name",
        (f"{NETWORK}::TestPorts",),
    ),
    Mutation(
        "a range ends before its end",
        "networkpolicy",
        "entry.low <= port <= entry.high",
        "entry.low <= port < max(entry.high, entry.low + 1)",
        (f"{NETWORK}::TestPorts",),
    ),
    Mutation(
        "the own node is a node like others",
        "networkpolicy",
        'direction == "ingress" and self.own_node(own, peer)',
        "False",
        (f"{NETWORK}::TestNodes",),
    ),
    Mutation(
        "every node is the own node",
        "networkpolicy",
        "return self.world.same_node(peer.address, node)",
        'return peer.entity == "node"',
        (f"{NETWORK}::TestNodes",),
    ),
    Mutation(
        "a pod does not reach itself",
        "networkpolicy",
        "if loopback(source, destination):",
        "if False:",
        (f"{NETWORK}::TestNodes",),
    ),
    Mutation(
        "Cilium's ipBlock selects pods",
        "networkpolicy",
        'self.cni == "cilium" and inside',
        'self.cni == "none" and inside',
        (f"{NETWORK}::TestBlocks",),
    ),
    Mutation(
        "only the destination's policies count",
        "networkpolicy",
        '(("egress", source, destination), ("ingress", destination, source))',
        '(("ingress", destination, source),)',
        (E2E,),
    ),
    Mutation(
        "host network pods are pods",
        "networkpolicy",
        "if len(self.readings(source, destination)) == 1:",
        "if True:",
        (f"{NETWORK}::TestNodes",),
    ),
    # AuthorizationPolicy, as it is read
    Mutation(
        "any dry-run annotation turns a policy off",
        "istio_attachment",
        "return found in TRUE",
        "return found is not None",
        (f"{ISTIO}::TestDecision",),
    ),
    # AuthorizationPolicy, as it decides
    Mutation(
        "ALLOW goes before DENY",
        "authorizationpolicy",
        '        for action in ("CUSTOM", "DENY"):\n',
        '        granting = [p for p in policies if p.action == "ALLOW"]\n'
        "        if granting and self._allow(granting, subject, request, place).allowed:\n"
        "            return self._allow(granting, subject, request, place)\n"
        '        for action in ("CUSTOM", "DENY"):\n',
        (f"{ISTIO}::TestDecision",),
    ),
    Mutation(
        "a policy without rules does not count",
        "authorizationpolicy",
        "        if not allowing:\n",
        "        if not any(policy.rules for policy in allowing):\n",
        (f"{ISTIO}::TestDecision",),
    ),
    Mutation(
        "an empty rule matches nothing",
        "compilation",
        "    if entries is None:\n        return True\n    return any_of",
        "    if entries is None:\n        return False\n    return any_of",
        (f"{ISTIO}::TestDecision",),
    ),
    Mutation(
        "policies of the root namespace are only its own",
        "authorizationpolicy",
        "sorted({subject.namespace, self.mesh.root_namespace})",
        "[subject.namespace]",
        (f"{ISTIO}::TestAttachment",),
    ),
    Mutation(
        "of a selector one label is enough",
        "authorizationpolicy",
        "[p for p in near if labels.issuperset(p.selector)]",
        "near",
        (f"{ISTIO}::TestAttachment",),
    ),
    Mutation(
        "on TCP an HTTP field removes a DENY rule too",
        "compilation",
        '    if foreign and action == "ALLOW":\n        return None\n',
        "    if foreign:\n        return None\n",
        (f"{ISTIO}::TestTcp",),
    ),
    Mutation(
        "on TCP an HTTP field is dropped from an ALLOW rule",
        "compilation",
        '    if foreign and action == "ALLOW":\n        return None\n',
        "    if False:\n        return None\n",
        (f"{ISTIO}::TestTcp",),
    ),
    Mutation(
        "all Services in front of a pod are one",
        "authorizationpolicy",
        'request.service in ("", w.service) and',
        "",
        (WAYS,),
    ),
    Mutation(
        "of the ways to a pod the first decides",
        "authorizationpolicy",
        "if verdict.outcome != found[0].outcome), None)",
        "if False), None)",
        (WAYS,),
    ),
    Mutation(
        "a Service has the waypoint of its namespace",
        "mesh",
        "self._named(service.namespace, places)",
        "self._named(service.namespace, places[1:])",
        (WAYS,),
    ),
    Mutation(
        "every waypoint serves Services",
        "mesh",
        'if self.world.gateways.get(waypoint, "service") in (what, "all") else',
        "if True else",
        (WAYS,),
    ),
    Mutation(
        "no waypoint serves workloads",
        "mesh",
        'Way("", self._serving(waypoint, "workload"), port',
        'Way("", "", port',
        (WAYS,),
    ),
    Mutation(
        "behind a waypoint the destination sees the client",
        "authorizationpolicy",
        "request = request._replace(principal=self.mesh.hop(way), address=None)",
        "pass",
        (f"{ISTIO}::TestWaypoint",),
    ),
    Mutation(
        "STRICT admits plaintext",
        "authorizationpolicy",
        'if mode != "STRICT":',
        "if True:",
        (PEERS,),
    ),
    # Values of fields
    Mutation(
        "a negated field matches everything",
        "identity",
        "return negate(found) if field.negated else found",
        "return True if field.negated else found",
        (f"{ISTIO}::TestOperations",),
    ),
    Mutation(
        "trust domains have no aliases",
        "identity",
        'if rest.count("/") != 3 or domain == "*":',
        "if True:",
        (f"{ISTIO}::TestSources",),
    ),
    Mutation(
        "cluster.local is a trust domain like others",
        "identity",
        ' and domain != "cluster.local":',
        ":",
        (f"{ISTIO}::TestSources",),
    ),
    Mutation(
        "a service account without namespace is of any",
        "identity",
        "namespace, account = policy_namespace, value",
        'namespace, account = "default", value',
        (f"{ISTIO}::TestSources",),
    ),
    Mutation(
        "hosts are compared with case",
        "identity",
        "httppath.string_matches(value.lower(), request.host.lower())",
        "httppath.string_matches(value, request.host)",
        (f"{ISTIO}::TestOperations",),
    ),
    Mutation(
        "*x is no suffix",
        "httppath",
        "return found.endswith(value[1:])",
        "return found == value",
        (PATHS, f"{ISTIO}::TestSources"),
    ),
    Mutation(
        "x* is no prefix",
        "httppath",
        "return found.startswith(value[:-1])",
        "return found == value[:-1]",
        (PATHS, f"{ISTIO}::TestSources"),
    ),
    Mutation(
        "* inside a path is a wildcard",
        "httppath",
        "    return found == value\n",
        '    return re.fullmatch(re.escape(value).replace(r"\\*", "[^/]*"), found) is not None\n',
        (PATHS,),
    ),
    Mutation("{*} spans segments", "httppath", '_SEGMENT + "+"', '_SEGMENT.replace("[", "[/", 1) + "+"', (PATHS,)),
    Mutation("{*} matches nothing too", "httppath", '_SEGMENT + "+"', '_SEGMENT + "*"', (PATHS,)),
    Mutation("{**} is one segment", "httppath", '_SEGMENT.replace("[", "[/", 1) + "*"', '_SEGMENT + "*"', (PATHS,)),
    Mutation(
        "{**} may be followed by operators",
        "httppath",
        'if deep and segment in ("{*}", "{**}"):',
        "if False:",
        (PATHS,),
    ),
    Mutation(
        "the query is part of the path",
        "httppath",
        'path = re.split(r"[?#]", path, maxsplit=1)[0]',
        "path = str(path)",
        (PATHS,),
    ),
    Mutation("dot segments stay", "httppath", "    path = _without_dots(path)\n", "", (PATHS,)),
    # The mesh
    Mutation(
        "a port's own mutual TLS mode is ignored",
        "mesh",
        "found = self._own_mode(policy, port, mode)",
        'found = "UNSET"',
        (PEERS,),
    ),
    Mutation(
        "the root namespace's PeerAuthentication goes before the workload's",
        "mesh",
        "(self._root(), self._namespace(subject.namespace), self._workload(subject))",
        "(self._workload(subject), self._namespace(subject.namespace), self._root())",
        (PEERS,),
    ),
    Mutation(
        "who opted out of the mesh is in it",
        "mesh",
        'return namespace["istio-injection"] == "enabled"',
        "return True",
        (f"{ISTIO}::TestMembership", PEERS),
    ),
    # The judge
    Mutation(
        "NetworkPolicy sees the port inside ambient's tunnel",
        "judge",
        "return HBONE if inside and self.mesh.meshed(destination.subject) else question.port",
        "return question.port",
        (f"{ISTIO}::TestZtunnel",),
    ),
    Mutation(
        "a refused path is judged",
        "judge",
        "if question.path and request.path is None:",
        "if False:",
        (f"{ISTIO}::TestOperations",),
    ),
    # The measures
    Mutation(
        "what is undefined counts as allowed",
        "soundness",
        'if verdict.outcome != "allow":',
        'if verdict.outcome == "deny":',
        (SOUND,),
    ),
    Mutation(
        "declared connections count as observed", "soundness", "elif not item.declared:", "else:", (SOUND, BEYOND)
    ),
    Mutation(
        "a plaintext caller has its account's identity",
        "soundness",
        'item.principal or ("" if item.mtls is False else None)',
        "item.principal or None",
        (SOUND,),
    ),
    Mutation(
        "of several identities one is asked about",
        "soundness",
        "(i.principal, i.mtls, i.source_address, i.destination_address, i.direct, i.service): i for i in items",
        "None: i for i in items[:1]",
        (SOUND,),
    ),
    Mutation(
        "what is held back for review excuses permissions",
        "overpermission",
        "if not i.held and not i.declared",
        "if not i.declared",
        (BEYOND,),
    ),
    Mutation(
        "what was observed is beyond what was observed",
        "overpermission",
        "over &= ~seen.get((port.protocol, port.number), 0)",
        "over &= -1",
        (BEYOND,),
    ),
    Mutation(
        "ambient's tunnel is not looked into",
        "overpermission",
        "network = network & ~mesh.meshed | tunnel & mesh.meshed",
        "network = network | tunnel & 0",
        ("test_sets_and_points.py::test_sets_hold_exactly_the_sources_that_the_judge_allows[ambient-generic]",),
    ),
    Mutation(
        "ports that ranges cover are one class",
        "ports",
        "if span[0] <= low <= span[1]",
        "if span[0] <= LAST",
        ("test_sets_and_points.py::test_port_classes_partition_all_ports",),
    ),
    Mutation(
        "pods that policies tell apart are one",
        "variants",
        "if set(alike) - {self._traits(subject)} else ()",
        "if False else ()",
        (f"{PODS}::test_over_permission_is_what_asking_about_everything_finds",),
    ),
    Mutation(
        "a run of ports ends where a rule says so",
        "ports",
        "ended = before & ~now",
        "ended, now, before = before, now, 0",
        (f"{PODS}::test_over_permission_is_what_asking_about_everything_finds",),
    ),
    Mutation(
        "one address family is enough for two ends that have both",
        "bits",
        "four & six & either",
        "(four | six) & either",
        ("test_ends.py::TestAddressFamilies",),
    ),
]
