"""Patterns as rows of three flat tables (edges, sightings, quality), and back.

Invariant: folding the rows of any number of aggregates gives the merge of these aggregates, exactly. Rows hold only
what Parquet can: text that is no Unicode and counts beyond 64 bits (both possible in hostile input) are made to fit by
`storable` before they are written.

One row of `edges` is one port of one class of one edge; `class_saturated` belongs to the class and is repeated. A
bounded set is a struct of its kept counts and whether its bound was reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, get_args

from msgspec.structs import asdict

from collector.endpoints import Endpoint, Kind, Labels
from collector.evidence import SKETCHES, Evidence
from collector.patterns import Edge, EdgeKey, Patterns, Sighting
from collector.quality import Quality
from collector.sessions import Mark
from collector.sketch import BottomK

Row = dict[str, Any]

# The number that goes into every file. A change to the columns, or to a limit in collector.patterns (sets cut at
# different limits do not merge exactly), needs the next one.
VERSION = 5
LARGEST = (1 << 63) - 1

_EMPTY: Row = {"counts": [], "saturated": False}

CLASSES = ("spoken", "knocked", "open")
KINDS = frozenset(get_args(Kind))
SIGHTING_SETS = ("pods", "owners", "ports", "origins")
QUALITY_SETS = ("skipped", "bad", "lost", "nodes", "masked", "blind", "cursors")


@cache
def schemas() -> Mapping[str, Any]:
    """The Arrow schema of each table, by the table's name. No column may be null."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    tables = {
        "edges": _edge_columns(),
        "sightings": {"endpoint": _end_type(), **{name: _bounded(text) for name in SIGHTING_SETS}},
        "quality": {
            "records": pa.map_(text, number),
            "replies": number,
            "first": number,
            "last": number,
            **{name: _bounded(text) for name in QUALITY_SETS},
            "sessions": _bounded(text, _mark_type()),
        },
    }
    return {
        name: pa.schema([pa.field(column, kind, nullable=False) for column, kind in columns.items()])
        for name, columns in tables.items()
    }


def _edge_columns() -> dict[str, Any]:
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    return {
        "source": _end_type(),
        "destination": _end_type(),
        "protocol": text,
        "principal": text,
        "class": text,
        "class_saturated": pa.bool_(),
        "port": number,
        "source_port": number,
        "first": number,
        "last": number,
        "lowest": text,
        "highest": text,
        "mtls": number,
        "plaintext": number,
        "signals": pa.map_(text, number),
        "samples": pa.map_(text, text),
        "sides": pa.list_(text),
        **{name: _bounded(number if name == "hours" else text) for name in SKETCHES},
    }


def _bounded(key: Any, value: Any = None) -> Any:
    """The Arrow type of a bounded map; its values are counts where no other type is given."""
    import pyarrow as pa

    return pa.struct([("counts", pa.map_(key, value or pa.int64())), ("saturated", pa.bool_())])


def _end_type() -> Any:
    """The Arrow type of an endpoint."""
    import pyarrow as pa

    names = ("kind", "cluster", "namespace", "labels", "workload", "service_account", "entity")
    text = pa.string()
    return pa.struct([(name, pa.map_(text, text) if name == "labels" else text) for name in names])


def _mark_type() -> Any:
    """The Arrow type of a session's mark."""
    import pyarrow as pa

    text, number, flag = pa.string(), pa.int64(), pa.bool_()
    numbers = ("started", "flushed", "interval")
    return pa.struct([("sequence", number), ("name", text), *((name, number) for name in numbers), ("ended", flag)])


def rows(table: str, patterns: Patterns) -> Iterator[Row]:
    """The rows of one table, in the order of their keys: equal patterns have equal rows."""
    if table == "edges":
        for key, edge in patterns.sorted_edges():
            yield from _edge_rows(key, edge)
    elif table == "sightings":
        for endpoint, sighting in sorted(patterns.sightings.items(), key=lambda item: item[0]):
            yield {"endpoint": _end(endpoint), **{name: _set(getattr(sighting, name)) for name in SIGHTING_SETS}}
    else:
        yield _quality_row(patterns.quality)


def fold(table: str, found: Iterable[Row], patterns: Patterns) -> None:
    """Merge rows of one table into an aggregate. Raises ValueError, TypeError or KeyError for rows that are none."""
    into = {"edges": _fold_edge, "sightings": _fold_sighting, "quality": _fold_quality}[table]
    for row in found:
        into(row, patterns)


def storable(value: Any) -> Any:
    """The same rows with every text as valid Unicode and every number within 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if isinstance(value, bool) else max(-LARGEST, min(value, LARGEST))
    if isinstance(value, dict):
        return {key: storable(item) for key, item in value.items()}
    return type(value)(storable(item) for item in value)


def _end(endpoint: Endpoint) -> Row:
    return {
        "kind": endpoint.kind,
        "cluster": endpoint.cluster,
        "namespace": endpoint.namespace,
        "labels": list(endpoint.labels),
        "workload": endpoint.workload,
        "service_account": endpoint.service_account,
        "entity": endpoint.entity,
    }


def _endpoint(row: Row) -> Endpoint:
    if row["kind"] not in KINDS:
        raise ValueError(f"unknown kind of endpoint {row['kind']!r}")
    labels: Labels = tuple((key, value) for key, value in row["labels"])
    return Endpoint(**{**row, "labels": labels})


def _set(tally: BottomK[Any, int]) -> Row:
    kept = tally.kept
    if not kept and not tally.saturated:  # most are
        return _EMPTY
    if len(kept) == 1:
        return {"counts": [*kept.items()], "saturated": tally.saturated}
    return {"counts": tally.items(), "saturated": tally.saturated}  # items() trims first, so the flag is final


def _fill(tally: BottomK[Any, int], row: Row) -> None:
    for key, count in row["counts"]:
        tally.add(key, count)
    tally.saturated |= row["saturated"]


def _edge_rows(key: EdgeKey, edge: Edge) -> Iterator[Row]:
    ends = {"source": _end(key.source), "destination": _end(key.destination)}
    for name in CLASSES:
        ports = getattr(edge, name)
        for port, evidence in ports.items():
            yield {
                **ends,
                "protocol": key.protocol,
                "principal": key.principal,
                "class": name,
                "class_saturated": ports.saturated,
                "port": port[1] if name == "open" else port,
                "source_port": port[0] if name == "open" else 0,
                "first": evidence.first,
                "last": evidence.last,
                "lowest": evidence.lowest,
                "highest": evidence.highest,
                "mtls": evidence.mtls,
                "plaintext": evidence.plaintext,
                "signals": sorted(evidence.signals.items()),
                "samples": sorted(evidence.samples.items()),
                "sides": sorted(evidence.sides),
                **{name: _set(getattr(evidence, name)) for name in SKETCHES},
            }


def _fold_edge(row: Row, patterns: Patterns) -> None:
    if row["class"] not in CLASSES:
        raise ValueError(f"unknown class of ports {row['class']!r}")
    evidence = Evidence()
    evidence.span(row["first"], row["last"])
    evidence.sockets(row["lowest"], row["highest"])
    evidence.mtls, evidence.plaintext = row["mtls"], row["plaintext"]
    for signal, records in row["signals"]:
        evidence.signal(signal, records)
    for signal, flow_id in row["samples"]:
        evidence.sample(signal, flow_id)
    evidence.sides.update(row["sides"])
    for name in SKETCHES:
        if name in row:  # `callers` came with version 4, `outcomes` with 5
            _fill(getattr(evidence, name), row[name])
    key = EdgeKey(_endpoint(row["source"]), _endpoint(row["destination"]), row["protocol"], row["principal"])
    ports = getattr(patterns.edge(key), row["class"])
    ports.add((row["source_port"], row["port"]) if row["class"] == "open" else row["port"], evidence)
    ports.saturated |= row["class_saturated"]


def _fold_sighting(row: Row, patterns: Patterns) -> None:
    sighting: Sighting = patterns.sighting(_endpoint(row["endpoint"]))
    for name in SIGHTING_SETS:
        _fill(getattr(sighting, name), row[name])


def _quality_row(quality: Quality) -> Row:
    return {
        "records": sorted(quality.records.items()),
        "replies": quality.replies,
        "first": quality.first,
        "last": quality.last,
        **{name: _set(getattr(quality, name)) for name in QUALITY_SETS},
        "sessions": {
            "counts": [(session, asdict(mark)) for session, mark in quality.sessions.items()],
            "saturated": quality.sessions.saturated,
        },
    }


def _fold_quality(row: Row, patterns: Patterns) -> None:
    part = Quality()
    part.records.update(row["records"])
    part.replies, part.first, part.last = row["replies"], row["first"], row["last"]
    for name in QUALITY_SETS:
        if name in row:  # `blind` and `cursors` came with version 3
            _fill(getattr(part, name), row[name])
    if "sessions" in row:  # so did they
        for session, mark in row["sessions"]["counts"]:
            part.sessions.add(session, Mark(**mark))
        part.sessions.saturated |= row["sessions"]["saturated"]
    patterns.quality.merge(part)
