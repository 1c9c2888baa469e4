"""The judge at the size of a large cluster: `make bench`, or `python -m tests.bench_judge [WORKLOADS ...]`.

For each size (1,250, 2,500 and 5,000 workloads unless told) one process on one processor judges two policies and ten
patterns a workload: time of each measure, and the process's peak memory. Growth is what counts; the seconds are those
of this machine at this moment.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from leastway.verify.judge import Judge
from leastway.verify.minimality import redundant_parts
from leastway.verify.overpermission import over_permission
from leastway.verify.policies import load_policies
from leastway.verify.soundness import Observed, replay
from leastway.verify.world import NamedPort, Subject, World

SIZES = (1250, 2500, 5000)
CALLS = 8  # other workloads that each one calls; half of them seen as requests
NEAR = 20  # workloads of a namespace
METHODS, TEMPLATES = ("GET", "POST"), ("/api/items/{*}", "/api/orders/{*}/lines", "/health")
LOOKUPS, WORLD = "kube-system/dns", "198.51.100."
Document = dict[str, Any]
Result = TypeVar("Result")


def name(number: int) -> tuple[str, str]:
    """(namespace, name) of a workload."""
    return f"team-{number // NEAR}", f"svc-{number}"


def ref(number: int) -> str:
    """`namespace/name` of a workload."""
    return "/".join(name(number))


def calls(count: int) -> list[list[int]]:
    """Whom each workload calls: mostly its neighbours, sometimes the popular few."""
    draw = random.Random(1)
    found = []
    for number in range(count):
        first = number - number % NEAR
        near = [other for other in range(first, min(first + NEAR, count)) if other != number]
        popular = [other for other in range(0, count, 50) if other != number and other not in near]
        found.append(sorted(draw.sample(near, CALLS - 2) + draw.sample(popular, 2)))
    return found


def world(count: int) -> World:
    """Workloads with a port, an address and an account of their own, and the cluster's DNS."""
    found = World()
    for number in range(count):
        namespace, called = name(number)
        ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        port = (NamedPort("http", "TCP", 8080),)
        labels = {"app": called, "team": namespace}
        found.add_subject(Subject(namespace, called, labels, called, (ip,), ports=port, kind="Deployment"))
    found.add_subject(Subject("kube-system", "dns", {"k8s-app": "dns"}, "dns", ("10.255.0.53",), meshed=False))
    return found


def policies(count: int, graph: list[list[int]]) -> list[Document]:
    """A NetworkPolicy and an AuthorizationPolicy for each workload: what it needs, and a little more."""
    callers: list[list[int]] = [[] for _ in range(count)]
    for number, called in enumerate(graph):
        for other in called:
            callers[other].append(number)
    found = []
    for number in range(count):
        own = name(number)[1]
        inward = [{"from": [_peer(other) for other in callers[number]], "ports": [{"port": "http"}]}]
        outward = [
            {"to": [_peer(other) for other in graph[number]], "ports": [{"port": 8080}, {"port": 8081}]},
            {"to": [{"ipBlock": {"cidr": f"{WORLD}0/24"}}], "ports": [{"port": 443}]},
            {"to": [_selector("kube-system", {"k8s-app": "dns"})], "ports": [{"port": 53, "protocol": "UDP"}]},
        ]
        types = ["Ingress", "Egress"]
        spec = {
            "podSelector": {"matchLabels": {"app": own}},
            "policyTypes": types,
            "ingress": inward,
            "egress": outward,
        }
        found.append(_document("networking.k8s.io/v1", "NetworkPolicy", number, spec))
        principals = [f"cluster.local/ns/{name(other)[0]}/sa/{name(other)[1]}" for other in callers[number]]
        operation = {"ports": ["8080"], "methods": list(METHODS), "paths": list(TEMPLATES)}
        rules = (
            [{"from": [{"source": {"principals": principals}}], "to": [{"operation": operation}]}] if principals else []
        )
        grant = {"selector": {"matchLabels": {"app": own}}, "action": "ALLOW", "rules": rules}
        found.append(_document("security.istio.io/v1", "AuthorizationPolicy", number, grant))
    return found


def _document(version: str, kind: str, number: int, spec: Document) -> Document:
    namespace, own = name(number)
    return {"apiVersion": version, "kind": kind, "metadata": {"name": own, "namespace": namespace}, "spec": spec}


def _peer(number: int) -> Document:
    namespace, called = name(number)
    return _selector(namespace, {"app": called})


def _selector(namespace: str, labels: dict[str, str]) -> Document:
    where = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return {"namespaceSelector": where, "podSelector": {"matchLabels": labels}}


def patterns(graph: list[list[int]]) -> list[Observed]:
    """Ten a workload: eight requests to others, one look-up, one call to the outside."""
    found = []
    for number, called in enumerate(graph):
        namespace, own = name(number)
        principal = f"cluster.local/ns/{namespace}/sa/{own}"
        for i, other in enumerate(called):
            path = TEMPLATES[i % 3].replace("{*}", str(i))
            found.append(Observed(ref(number), ref(other), "TCP", 8080, METHODS[i % 2], path, principal, mtls=True))
        found.append(Observed(ref(number), LOOKUPS, "UDP", 53))
        found.append(Observed(ref(number), f"{WORLD}{number % 200 + 1}", "TCP", 443))
    return found


def measure(count: int) -> dict[str, float]:
    """Seconds of each measure at one size, and the peak memory of this process in MiB."""
    graph = calls(count)
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "policies.json"  # JSON is YAML; how fast YAML is parsed is not ours
        written.write_text(json.dumps({"kind": "List", "items": policies(count, graph)}))
        judge = _timed(times, "reading", lambda: Judge(world(count), load_policies(written), mesh="sidecar"))
    observed = patterns(graph)
    sound = _timed(times, "soundness", lambda: replay(judge, observed))
    assert sound.sound, sound.denied[:3]
    assert sound.observed == len(observed)
    beyond = _timed(times, "over-permission", lambda: over_permission(judge, observed))
    assert beyond.total > 0
    _timed(times, "minimality", lambda: redundant_parts(judge, observed))
    times["MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)
    return times


def _timed(times: dict[str, float], what: str, run: Callable[[], Result]) -> Result:
    start = time.perf_counter()
    result = run()
    times[what] = time.perf_counter() - start
    return result


def main(sizes: tuple[int, ...]) -> None:
    """A table, one line a size, and how each column grows from the smallest to the largest."""
    print(f"the judge on one processor; two policies and {CALLS + 2} patterns a workload")
    rows: list[dict[str, float]] = []
    for count in sizes:
        command = [sys.executable, "-m", "tests.bench_judge", "--one", str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        if count == sizes[0]:
            print("".join(f"{title:>16}" for title in ("workloads", *rows[0])))
        print(f"{count:16,}" + "".join(f"{value:16,.1f}" for value in rows[-1].values()), flush=True)
    if len(rows) > 1:
        growth = (rows[-1][title] / max(rows[0][title], 1e-9) for title in rows[0])
        print(
            f"{'growth, x ' + format(sizes[-1] / sizes[0], '.1f'):>16}" + "".join(f"{value:16.1f}" for value in growth)
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        json.dump(measure(int(sys.argv[2])), sys.stdout)
    else:
        main(tuple(int(argument.replace(",", "")) for argument in sys.argv[1:]) or SIZES)
