"""More small ways in which a judge can be wrong: about Cilium's entities, and in what it counts in a mesh."""

from __future__ import annotations

from tests.verify.mutations import PODS, WAYS, Mutation

CILIUM = "test_cilium.py"
REQUESTS = "test_request_by_request.py"

MORE = [
    # Cilium's entities
    Mutation(
        "every CNI enforces Cilium's policies",
        "networkpolicy",
        'if policy.kind != CILIUM or cni == "cilium"',
        "if True",
        (CILIUM,),
    ),
    Mutation(
        "an end is no other entity than its own name says",
        "entities",
        "return None if perhaps.intersection(names) else False",
        "return False",
        (CILIUM,),
    ),
    Mutation(
        "what is not modelled in a policy is passed over",
        "cilium_schema",
        "if not isinstance(value, dict) or not value.keys() <= allowed:",
        "if not isinstance(value, dict):",
        (CILIUM,),
    ),
    Mutation(
        "entities make no difference",
        "entity_sets",
        "return bits_of([name for rule in rules for name in rule.entities])",
        "return 0",
        (CILIUM,),
    ),
    Mutation(
        "pods that are not in the mesh are as those that are",
        "variants",
        "(mesh.meshed(subject), mesh.behind(subject)) for mesh in self._meshes",
        "() for mesh in self._meshes",
        (f"{PODS}::test_pods_in_the_mesh_and_outside_it_are_told_apart",),
    ),
    Mutation(
        "a caller outside the mesh has no address",
        "mesh_callers",
        "p.version == block.version and first <= p.first and p.last <= last",
        "first > p.first > last",
        (f"{PODS}::test_over_permission_is_what_asking_about_everything_finds",),
    ),
    Mutation(
        "a DENY rule counts where it matches for certain",
        "mesh_rules",
        "refused |= self.matching(policy, rule, at, lenient=True)",
        "refused |= self.matching(policy, rule, at, lenient=False)",
        (REQUESTS,),
    ),
    Mutation(
        "addresses of pods are outside as well",
        "outside",
        "part.size - measure.universe.occupied(part)",
        "part.size",
        ("test_overpermission.py",),
    ),
    Mutation(
        "of a workload whose pods are not known all addresses are one",
        "variants",
        "or _by_address(subject)",
        "",
        (f"{PODS}::test_addresses_of_a_workload_that_only_traffic_knows_are_told_apart_as_pods_are",),
    ),
    Mutation(
        "nobody calls past a waypoint",
        "mesh_sets",
        "return direct, through",
        "return 0, through",
        (REQUESTS,),
    ),
    Mutation(
        "of several Services in front of a pod one is a way to it",
        "mesh_sets",
        "through |= everyone",
        "through = everyone",
        (WAYS, REQUESTS),
    ),
    Mutation(
        "a waypoint passes on what the destination does not admit from it",
        "mesh_sets",
        'seen, "ztunnel").outcome == "allow"',
        'seen, "ztunnel").outcome',
        (REQUESTS,),
    ),
    Mutation(
        "a waypoint's rules are unseen where another has none",
        "mesh_sets",
        "return all(any(policy.action",
        "return any(any(policy.action",
        (REQUESTS,),
    ),
    Mutation(
        "a rule without methods and paths opens no request beyond those sent",
        "requests",
        "admitted[EVERYTHING] = admitted.get(EVERYTHING, 0) & known | direct",
        "admitted[EVERYTHING] = direct",
        (REQUESTS,),
    ),
    Mutation(
        "of two values that match the same none counts",
        "requests",
        "and (wider < request or not _wider(request, wider, option))",
        "",
        (REQUESTS,),
    ),
    Mutation(
        "a request has one segment in a template's place, or several",
        "languages",
        "found += [_Step(_SEGMENT, False), _Step(_SEGMENT, True)]",
        'found += [_Step(_SEGMENT, False), _Step(_SEGMENT | {"/"}, True)]',
        ("test_languages.py",),
    ),
    Mutation(
        "another pod like the caller is the caller itself",
        "variants",
        "return one.subject is not source.subject or other.subject is not destination.subject",
        "return one.subject is not source.subject and other.subject is not destination.subject",
        (f"{PODS}::test_a_workload_has_the_answer_that_all_of_its_pods_have",),
    ),
    Mutation(
        "behind a waypoint nothing needs the rule that lets it in",
        "gates",
        'yield from _granted(own, authorization.at_ztunnel(way, request), ("ztunnel",), holds)',
        "pass",
        ("test_minimality_by_removal.py",),
    ),
    Mutation(
        "one pod of a workload is enough for a rule to go",
        "gates",
        "told = [(one, other) for _, one, other in judge.variants.pairs(source, destination)]",
        "told = [(one, other) for _, one, other in judge.variants.pairs(source, destination)][:1]",
        ("test_minimality_by_removal.py",),
    ),
]
