"""`leastway observe`: the live collector.

Invariant: whatever ends it, everything that it reported as stored is in the store, and the store says what is missing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from collector import store
from collector.quality import Quality
from collector.sessions import breaks
from collector.transport import TLS, parse_address
from leastway.cli.exit_codes import FAILED
from leastway.cli.options import not_empty, read_duration, read_size, read_time
from leastway.cli.output import moment
from leastway.cli.talk import talking
from leastway.observing import metrics
from leastway.observing.journal import note, warn
from leastway.observing.merging import Merging
from leastway.observing.metrics_server import Answer, MetricsServer
from leastway.observing.plan import PEER_STREAMS, Plan, build
from leastway.observing.recording import Recorder
from leastway.observing.session import Session, resume_points
from leastway.observing.status import summary
from leastway.observing.stopping import Stop, deadline

PATIENCE = 4.5  # seconds from a signal to the end, whatever a store or a source does
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("observe")
@click.option(
    "--store",
    "place",
    required=True,
    metavar="DIR",
    callback=not_empty,
    help="Where the patterns go: a folder or an fsspec URL.",
)
@click.option("--hubble", metavar="ADDRESS", help="Hubble Relay or an agent: host:port or unix:///path.")
@click.option("--als", metavar="LISTEN", help="Listen here for Envoy's access log service.")
@click.option("--otlp", metavar="LISTEN", help="Listen here for access logs over OpenTelemetry (gRPC).")
@click.option("--name", metavar="NAME", help="This collector's name in the store.  [default: the addresses]")
@click.option("--for", "seconds", callback=read_duration, metavar="DURATION", help="Stop after this time.")
@click.option(
    "--flush", "interval", callback=read_duration, default="1m", show_default=True, help="Time between two flushes."
)
@click.option("--since", callback=read_time, metavar="TIME", help="Also ask Hubble for its flows since then.")
@click.option("--until", callback=read_time, metavar="TIME", help="Ask Hubble for its flows up to then, and end.")
@click.option(
    "--namespace", "namespaces", multiple=True, metavar="NS", help="Ask Hubble only for flows of this one. Repeatable."
)
@click.option(
    "--peer-streams",
    type=click.IntRange(0),
    default=PEER_STREAMS,
    show_default=True,
    help="Open streams of one sender's address; 0 is no limit.",
)
@click.option(
    "--merge-every",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="Merge parts after so many flushes; 0: never.",
)
@click.option("--record", type=_FILE, metavar="FILE", help="Also write the raw messages (zstd) to this file.")
@click.option(
    "--record-limit", callback=read_size, default="1GiB", show_default=True, help="End the recording at this size."
)
@click.option("--metrics", "scrape", metavar="LISTEN", help="Serve /metrics, /healthz and /readyz here.")
@click.option("--hubble-tls", is_flag=True, help="TLS to Hubble, with the system's authorities.")
@click.option("--hubble-ca", type=_FILE, metavar="FILE", help="TLS to Hubble, with this authority.")
@click.option("--hubble-cert", type=_FILE, metavar="FILE", help="Our certificate for Hubble (mutual TLS).")
@click.option("--hubble-key", type=_FILE, metavar="FILE", help="Its key.")
@click.option("--hubble-server-name", metavar="NAME", help="The name that Hubble's certificate must carry.")
@click.option("--server-cert", type=_FILE, metavar="FILE", help="Our certificate: serve senders of logs over TLS.")
@click.option("--server-key", type=_FILE, metavar="FILE", help="Its key.")
@click.option("--server-ca", type=_FILE, metavar="FILE", help="Senders of logs need a certificate of this authority.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="auto: text on a terminal.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    place: str,
    name: str | None,
    seconds: float | None,
    interval: float,
    merge_every: int,
    scrape: str | None,
    log_format: str,
    **sources: Any,
) -> None:
    """Gather patterns from live traffic until it is stopped, for weeks if need be.

    SIGTERM or an interrupt ends it cleanly within five seconds; a second one at once. A collector that starts again
    with the same name goes on where the one before it stopped.

    \b
    leastway observe --store patterns --hubble localhost:4245 --metrics :9090
    leastway generate patterns --inventory cluster.yaml -o policies
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its talk about broken peers is no log of ours
    plan = _plan(sources)
    name = _named(name, plan)
    with _signals() as stop, talking(log_format) as status, deadline(stop, PATIENCE):
        earlier = store.quality(place) if store.is_store(place) else Quality()
        _tell_breaks(earlier, name)
        plan.resume = resume_points(earlier, name)
        live, recorders = build(plan)
        merging = Merging(place, merge_every) if merge_every else None
        session = Session(live, place, name=name, interval=interval, merging=merging)
        if plan.namespaces:
            warn("only flows of some namespaces are asked for; no other gets a policy", namespaces=[*plan.namespaces])
        session.on_tick = lambda: status.draw(summary(session))
        with _serving(session, recorders, scrape), _recording(recorders):
            _look_rarely_for_cycles()
            complete = session.run(stop, seconds)
    if not complete:
        ctx.exit(FAILED)


def _look_rarely_for_cycles() -> None:
    """What is there now stays, and patterns are many small objects without cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@contextlib.contextmanager
def _recording(recorders: dict[str, Recorder]) -> Iterator[None]:
    """Close the recordings in the end, within 0.7 seconds for all of them together."""
    try:
        yield
    finally:
        end = time.monotonic() + 0.7
        for recorder in recorders.values():
            recorder.close(max(0.1, end - time.monotonic()))


def _named(name: str | None, plan: Plan) -> str:
    """The collector's name: the one given, or its addresses."""
    if name is not None and not (name.isprintable() and 0 < len(name) <= 200):
        raise click.UsageError("--name takes up to 200 printable characters")
    return name or " ".join(str(getattr(plan, kind)) for kind in plan.kinds)


def _plan(given: dict[str, Any]) -> Plan:
    """The options, checked. Raises click.UsageError or SourceError."""
    plan = Plan(
        hubble=given["hubble"] or "",
        als=given["als"] or "",
        otlp=given["otlp"] or "",
        since=given["since"],
        until=given["until"],
        namespaces=given["namespaces"],
        peer_streams=given["peer_streams"],
        record=given["record"],
        record_limit=given["record_limit"],
    )
    if not plan.kinds:
        raise click.UsageError("nothing to observe: give --hubble, --als or --otlp")
    _check_request(plan)
    ca, certificate, key = given["hubble_ca"], given["hubble_cert"], given["hubble_key"]
    server_name = given["hubble_server_name"] or ""
    if given["hubble_tls"] or ca or certificate or key or server_name:
        if not plan.hubble:
            raise click.UsageError("the --hubble-... options need --hubble")
        plan.hubble_tls = TLS(ca, certificate, key, server_name)
    own = [given[option] for option in ("server_ca", "server_cert", "server_key")]
    if any(own):
        if not plan.als and not plan.otlp:
            raise click.UsageError("the --server-... options need --als or --otlp")
        plan.server_tls = TLS(*own)
    return plan


def _check_request(plan: Plan) -> None:
    """Check what Hubble is asked for. Raises click.UsageError."""
    if plan.until is not None and plan.kinds != ["hubble"]:
        raise click.UsageError("--until needs --hubble, and no other source: those who send logs send what is new")
    if plan.until is not None and plan.since is not None and plan.until < plan.since:
        raise click.UsageError("--until is before --since")
    if plan.namespaces and not plan.hubble:
        raise click.UsageError("--namespace needs --hubble: those who send logs are not asked for anything")
    for namespace in plan.namespaces:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace, re.ASCII):
            raise click.UsageError(f"--namespace: {namespace[:80]!r} is no namespace's name")


def _tell_breaks(earlier: Quality, name: str) -> None:
    """Warn of what is missing from this collector's earlier sessions, as far as the store knows."""
    for gap in breaks(mark for _, mark in earlier.sessions.items()):
        if gap.name == name and gap.torn and not gap.until:
            warn(
                "an earlier session has no end: one interval may be missing, or it still runs and all counts twice",
                after=moment(gap.since),
                interval_seconds=gap.interval,
            )


@contextlib.contextmanager
def _serving(session: Session, recorders: dict[str, Recorder], scrape: str | None) -> Iterator[None]:
    """Serve metrics and health, if there is an address for them."""
    if not scrape:
        yield
        return
    try:
        version = metadata.version("leastway")
    except metadata.PackageNotFoundError:
        version = "source"

    def health(trouble: str) -> Answer:
        return (503, "text/plain; charset=utf-8", trouble + "\n") if trouble else (200, "text/plain", "ok\n")

    server = MetricsServer(
        parse_address(scrape, listen=True),
        {
            "/metrics": lambda: (200, metrics.CONTENT_TYPE, metrics.exposition(session, recorders, version)),
            "/healthz": lambda: health(metrics.alive(session)),
            "/readyz": lambda: health(metrics.ready(session)),
        },
    )
    server.start()
    note("serving metrics", address=str(server.address))
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def _signals() -> Iterator[Stop]:
    """A stop that the first SIGTERM or SIGINT sets; the second ends the process, and the store is whole even then.

    Enter this before anything that takes time: the first process of a container gets no signal that it has no handler
    for.
    """
    stop = Stop()

    def received(number: int, _: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, received) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()
