"""A capture that means harm: a scan, a lateral movement, forged text, nulls, unreadable lines and every odd form.

Invariant: beside each oddity the same capture holds ordinary connections that must still become policy;
what an attacker does or forges must not.
"""

from __future__ import annotations

import json
from dataclasses import replace

from tests.simulator import inventory, poison, tables
from tests.simulator.cluster import Party, outside
from tests.simulator.hubble import SECOND, START, Connection, Record, Style, Writer, by_time, mistaken_for_new
from tests.simulator.tables import Edge, Story

SEED = 47
PORTS = (21, 22, 23, 25, 80, 110, 111, 135, 139, 143, 443, 445, 993, 1433, 2379, 3306, 3389, 5432, 5672, 5900)
SCANNED_PORTS = (*PORTS, 6379, 8080, 8443, 9200, 10250, 27017)
FORMS = {"staging/cache": "pretty.json", "staging/queue": "bare.jsonl", "staging/mail": "masked.jsonl"}


def files() -> dict[str, bytes]:
    """File name → content of everything that the simulator makes for this story."""
    story = tables.read("hostile", SEED)
    _dual_stack(story)
    writer = Writer(story.rng, Style(named_ports=True))
    sheets: dict[str, list[Record]] = {"flows.jsonl": [], **{name: [] for name in FORMS.values()}}
    made = [(edge, c) for edge in story.edges for c in story.connections(edge, hours=6)]
    for edge, c in made:
        sheets[FORMS.get(edge.destination, "flows.jsonl")] += _seen(writer, edge, c)
    flows = by_time([*sheets["flows.jsonl"], *_disguised(story, writer, [c for _, c in made])])
    return {
        "flows.jsonl": tables.lines(_torn([json.dumps(r, separators=(",", ":")) for r in flows], made[0][1], writer)),
        "pretty.json": "".join(json.dumps(r, indent=2, sort_keys=True) + "\n" for r in sheets["pretty.json"]).encode(),
        "bare.jsonl": tables.lines(record["flow"] for record in sheets["bare.jsonl"]),
        "masked.jsonl": tables.lines(poison.masked(record) for record in sheets["masked.jsonl"]),
        "inventory.yaml": inventory.to_yaml(inventory.documents(story.cluster)).encode(),
        "truth.jsonl": tables.lines(tables.truth(made)),
        "never.jsonl": tables.lines(tables.never(story.edges)),
    }


def _dual_stack(story: Story) -> None:
    """The namespace `six` speaks IPv6."""
    for key, pods in story.cluster.pods.items():
        if key.startswith("six/"):
            pods[:] = [replace(p, ip=f"fd00:10:244::{int(p.ip.rpartition('.')[2]):x}") for p in pods]


def _seen(writer: Writer, edge: Edge, c: Connection) -> list[Record]:
    if edge.sort == "denied":
        return [writer.drop(c, c.at, c.destination.node)]
    if edge.sort == "scanned":
        return [writer.trace(c, c.at, c.source.node, "TO_OVERLAY", "SYN"), *_knock(writer, c)]
    return writer.connection(c)


def _knock(writer: Writer, c: Connection) -> list[Record]:
    """A SYN that nobody answers."""
    return [writer.trace(c, c.at + 90_000, c.destination.node, "TO_ENDPOINT", "SYN", reason="NEW")]


def _scan(story: Story, writer: Writer) -> list[Record]:
    """One pod knocks at many ports of every pod in reach, within four minutes."""
    scanner = story.cluster.pods["shop/toolbox"][0]
    found: list[Record] = []
    targets = [pod for key in ("shop/api", "shop/db", "shop/web") for pod in story.cluster.pods[key]]
    for number, (target, port) in enumerate((t, p) for t in targets for p in SCANNED_PORTS):
        at = START + 3 * 3600 * SECOND + number * 2 * SECOND
        found += _knock(writer, Connection(scanner, target, "TCP", port, 40_000 + number, at))
    return found


def _disguised(story: Story, writer: Writer, made: list[Connection]) -> list[Record]:
    """Ordinary connections in odd clothes, and an attacker's."""
    calls = [c for c in made if c.source.key == "shop/web" and c.destination.key == "shop/api"]
    found = _scan(story, writer)
    found += [mistaken_for_new(c, writer, c.at + 5_000_000) for c in calls]
    found += [poison.labelled_world(writer, c, path) for c, path in zip(calls, poison.PATHS, strict=False)]
    found += [poison.from_proxy(writer, c, story.cluster.nodes[0].address) for c in calls[:2]]
    found += [r for c in calls[:2] for r in poison.translated(writer, c, story.cluster.cluster_ips["shop/api"], 80)]
    found += [r for c in calls[:1] for r in poison.other_protocols(writer, c)]
    found += [poison.relabelled(writer, calls[0], labels) for labels in poison.LABELS]
    found += [poison.renamed(writer, calls[1], name) for name in poison.NAMES]
    found += [poison.forged_namespace(writer, calls[2], text) for text in poison.NAMES[:2]]
    lookup = next(c for c in made if c.port == 53)
    found += [r for name in poison.NAMES for r in writer.dns(lookup, name, ["192.0.2.44"])]
    return [*found, poison.named(writer, _partner(story), poison.NAMES)]


def _partner(story: Story) -> Connection:
    """The one legitimate external call, whose address an attacker has given names."""
    source: Party = story.cluster.pods["shop/api"][0]
    return Connection(source, outside("192.0.2.44"), "TCP", 443, 45_123, START + 2 * 3600 * SECOND)


def _torn(flows: list[str], c: Connection, writer: Writer) -> list[str]:
    """Put unreadable lines and null-ridden records between the readable ones, at fixed places."""
    record = json.dumps(writer.trace(c, c.at, c.source.node, "TO_ENDPOINT", "SYN", reason="NEW"), separators=(",", ":"))
    odd = [*poison.BAD_LINES, *(json.dumps(r, separators=(",", ":")) for r in poison.nulls(json.loads(record)))]
    step = len(flows) // (len(odd) + 1)
    for number, line in enumerate(odd):
        flows.insert((number + 1) * step + number, line)
    return flows
