"""Patterns as one table to look at: what notebooks, gates, exports and the report start from.

Invariant: equal patterns give equal frames, rows in the order of the keys. It is for reading; nothing is decided per
flow here, and nothing is lost from the patterns themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.endpoints import Endpoint
from collector.evidence import Evidence
from collector.flow import Signal
from collector.patterns import EdgeKey, Patterns
from collector.sketch import BottomK

if TYPE_CHECKING:
    import pandas as pd

Value = str | int | bool | None

_TEXT, _COUNT, _FLAG, _TIME = "str", "int64", "bool", "datetime64[s, UTC]"

# Column: type, in the order of the frame. `frame` says what they mean.
COLUMNS = {
    "source": _TEXT,
    "source_kind": _TEXT,
    "source_cluster": _TEXT,
    "source_namespace": _TEXT,
    "destination": _TEXT,
    "destination_kind": _TEXT,
    "destination_cluster": _TEXT,
    "destination_namespace": _TEXT,
    "protocol": _TEXT,
    "port": _COUNT,
    "source_port": _COUNT,
    "principal": _TEXT,
    **{signal.value: _COUNT for signal in Signal},
    "connections": _COUNT,
    "first": _TIME,
    "last": _TIME,
    "hours": _COUNT,
    "sources": _COUNT,
    "destinations": _COUNT,
    "requests": _COUNT,
    "rejected": _COUNT,
    "asked": _COUNT,
    "mtls": _COUNT,
    "plaintext": _COUNT,
    "names": _TEXT,
    "capped": _FLAG,
}


def frame(patterns: Patterns) -> pd.DataFrame:
    """One row per edge and destination port, plus one per port pair whose direction is open; columns as in `COLUMNS`.

    `source`, `destination`: the endpoint in words (`namespace/workload`), with its kind, cluster and namespace beside
    it. `port`: at the destination pod. `source_port`: 0 unless the direction is open.
    `opened`, `carried`, `answered`, `refused`, `denied`, `audited`, `open`: records by signal.
    `connections`: distinct connections, at least. `first`, `last`: UTC, to the second; NaT when unknown.
    `hours`: distinct hours with a record. `sources`, `destinations`: distinct pods or addresses, estimated past the
    bound. `requests`, `rejected`, `asked`: distinct method and path pairs, answered below 400, answered from 400 on or
    never, and seen before the answer. `mtls`, `plaintext`: records. `names`: host names of the destination, joined by a
    space.
    `capped`: some bound was reached, so that a count is an estimate or a list is a sample.
    """
    import pandas as pd

    rows: list[dict[str, Value]] = []
    for key, edge in patterns.sorted_edges():
        rows += [_row(key, port, 0, evidence) for port, evidence in edge.ports()]
        rows += [_row(key, port, source_port, evidence) for (source_port, port), evidence in edge.open.items()]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in ("first", "last"):
        table[column] = pd.to_datetime(table[column].astype("Int64"), unit="s", utc=True)
    return table.astype(COLUMNS)


def _row(key: EdgeKey, port: int, source_port: int, evidence: Evidence) -> dict[str, Value]:
    bounded: tuple[BottomK[str, int], ...] = (
        evidence.sources,
        evidence.destinations,
        evidence.requests,
        evidence.rejected,
        evidence.asked,
        evidence.names,
    )
    return {
        **_end("source", key.source),
        **_end("destination", key.destination),
        "protocol": key.protocol,
        "port": port,
        "source_port": source_port,
        "principal": key.principal,
        **{signal.value: evidence.count(signal) for signal in Signal},
        "connections": evidence.connections,
        "first": evidence.first or None,
        "last": evidence.last or None,
        "hours": evidence.hours.estimate() - (0 in evidence.hours.kept),  # hour 0 holds the records without a time
        "sources": evidence.sources.estimate(),
        "destinations": evidence.destinations.estimate(),
        "requests": evidence.requests.estimate(),
        "rejected": evidence.rejected.estimate(),
        "asked": evidence.asked.estimate(),
        "mtls": evidence.mtls,
        "plaintext": evidence.plaintext,
        "names": " ".join(evidence.names),
        "capped": evidence.hours.saturated_now or any(sketch.saturated_now for sketch in bounded),
    }


def _end(side: str, endpoint: Endpoint) -> dict[str, Value]:
    return {
        side: str(endpoint),
        f"{side}_kind": endpoint.kind,
        f"{side}_cluster": endpoint.cluster,
        f"{side}_namespace": endpoint.namespace,
    }
